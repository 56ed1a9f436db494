"""What leaves a live call for the record: one JSON struct per event, appended to the tenant's archive stream.

Applying events is idempotent: ``seq`` grows by one per call; an event at or below what a row has seen changes nothing.
"""

from decimal import Decimal
from typing import Any

import msgspec

TENANTS_KEY = "avb:archive:tenants"
TASK_DRAIN = "celery_workers.archive.drain"
TASK_SWEEP = "celery_workers.archive.sweep"


def stream_key(tenant: str) -> str:
    return f"avb:{tenant}:archive"


class ArchiveEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """``at`` is Unix time in seconds; ``session_id`` is the call's ``sess_…``."""

    session_id: str
    seq: int
    at: float


class CallStarted(ArchiveEvent, frozen=True, kw_only=True, tag="call.started"):
    conversation_id: str
    agent: str
    channel: str
    key_id: str
    end_user: str
    model: str


class ItemStored(ArchiveEvent, frozen=True, kw_only=True, tag="item.stored"):
    """The item as the protocol shows it now (``content`` with transcripts, without audio bytes).

    Sent again when it changes: a late transcript, a truncation. ``timings_ms`` holds stage times of the turn,
    ``audio_ms`` the item's spoken length.
    """

    item: dict[str, Any]
    previous_item_id: str | None
    response_id: str | None = None
    audio_ms: int = 0
    timings_ms: dict[str, float] = {}


class ItemDeleted(ArchiveEvent, frozen=True, kw_only=True, tag="item.deleted"):
    item_id: str


class CallEnded(ArchiveEvent, frozen=True, kw_only=True, tag="call.ended"):
    """``reason``: client_closed, server_drained, expired, error, broken, overloaded."""

    reason: str
    duration_s: float


class UsageMetered(ArchiveEvent, frozen=True, kw_only=True, tag="usage.metered"):
    """For the ledger (``tenants.usage``), where each meter of a ``source`` (a response, an item, a request) counts once
    however often the event comes. ``session_id`` may be that of a REST request."""

    source: str
    quantities: dict[str, Decimal]
    provider: str = ""
    model: str = ""
    agent: str = ""
    key_id: str = ""
    end_user: str = ""


AnyArchiveEvent = CallStarted | ItemStored | ItemDeleted | CallEnded | UsageMetered

encode_event = msgspec.json.Encoder().encode
decode_event = msgspec.json.Decoder(AnyArchiveEvent).decode
