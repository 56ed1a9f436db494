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
    """``agent_version`` 0: no published one. ``trial``: the A/B trial that chose it."""

    conversation_id: str
    agent: str
    channel: str
    key_id: str
    end_user: str
    model: str
    agent_version: int = 0
    trial: str = ""


class ItemStored(ArchiveEvent, frozen=True, kw_only=True, tag="item.stored"):
    """The item as the protocol shows it now (``content`` with transcripts, without audio bytes).

    Sent again when it changes: a late transcript, a truncation. ``timings_ms`` holds stage times of the turn,
    ``audio_ms`` the item's spoken length. ``agent`` and ``agent_version`` made the item, or were there when it was
    said; ``receipt`` is that of a tool call (``agents.tools.types.Receipt``).
    """

    item: dict[str, Any]
    previous_item_id: str | None
    response_id: str | None = None
    audio_ms: int = 0
    timings_ms: dict[str, float] = {}
    agent: str = ""
    agent_version: int = 0
    receipt: dict[str, Any] | None = None


class ItemDeleted(ArchiveEvent, frozen=True, kw_only=True, tag="item.deleted"):
    item_id: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """``answers`` completed; ``failed``: one could not be given, or only the degraded one; ``hung_up``: the caller left
    before a first answer was complete, or in the middle of one."""

    agent: str
    agent_version: int
    trial: str = ""
    turns: int = 0
    answers: int = 0
    failed: bool = False
    hung_up: bool = False


class CallEnded(ArchiveEvent, frozen=True, kw_only=True, tag="call.ended"):
    """``reason``: client_closed, agent_ended, server_drained, expired, error, broken, overloaded.

    ``outcomes``: what came of each agent version that took part; the one that began the call is the first.
    """

    reason: str
    duration_s: float
    outcomes: tuple[Outcome, ...] = ()


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
