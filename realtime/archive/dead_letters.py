"""Archive events that could not be stored: what a platform operator may see of them, and send again or throw away.

They hold what callers said, which belongs to the tenant: shown are only kind, call, size and the reason.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import transaction

from realtime.archive.draining import dead_letter_key
from realtime.archive.events import TENANTS_KEY, decode_event, stream_key
from realtime.archive.sink import FIELD
from tenants.audit.operations import record

if TYPE_CHECKING:
    import redis

SHOWN = 200


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """``kind`` and ``session_id`` are empty where the event cannot even be read."""

    id: str
    at: datetime
    kind: str
    session_id: str
    size_bytes: int
    reason: str


def count_dead_letters(client: "redis.Redis[bytes]", tenants: list[str]) -> dict[str, int]:
    """How many each tenant has; those that have none are left out."""
    with client.pipeline(transaction=False) as pipe:
        for tenant in tenants:
            pipe.xlen(dead_letter_key(tenant))
        lengths = pipe.execute()
    return {tenant: length for tenant, length in zip(tenants, lengths, strict=True) if length}


def list_dead_letters(client: "redis.Redis[bytes]", tenant: str) -> list[DeadLetter]:
    """The newest ``SHOWN``."""
    return [_describe(identity, fields) for identity, fields in client.xrevrange(dead_letter_key(tenant), count=SHOWN)]


def replay_dead_letters(client: "redis.Redis[bytes]", *, tenant: str, ids: list[str]) -> int:
    """Back to the archive's stream; how many. Ask for a drain afterwards. What fails again comes back here."""
    moved = 0
    for identity in ids:
        for _, fields in client.xrange(dead_letter_key(tenant), min=identity, max=identity):
            with client.pipeline(transaction=True) as pipe:
                pipe.xadd(stream_key(tenant), {name: value for name, value in fields.items() if name != b"reason"})
                pipe.sadd(TENANTS_KEY, tenant)
                pipe.xdel(dead_letter_key(tenant), identity)
                pipe.execute()
            moved += 1
    _record("archive_dead_letters.replayed", tenant, moved)
    return moved


def purge_dead_letters(client: "redis.Redis[bytes]", *, tenant: str, ids: list[str]) -> int:
    """Away for good; how many."""
    purged = client.xdel(dead_letter_key(tenant), *ids) if ids else 0
    _record("archive_dead_letters.purged", tenant, purged)
    return purged


def _record(action: str, tenant: str, count: int) -> None:
    """In both logs: the platform did it, and it was the tenant's."""
    if count:
        with transaction.atomic():
            record(action=action, target=tenant, after={"count": count})
            record(action=action, target=tenant, after={"count": count}, tenant=tenant)


def _describe(identity: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    raw = fields.get(FIELD, b"")
    kind = session_id = ""
    try:
        event: Any = decode_event(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass  # that is why it is here
    else:
        kind, session_id = event.__struct_config__.tag, event.session_id
    name = identity.decode()
    at = datetime.fromtimestamp(int(name.partition("-")[0]) / 1000, UTC)
    return DeadLetter(name, at, kind, session_id, len(raw), fields.get(b"reason", b"").decode(errors="replace"))
