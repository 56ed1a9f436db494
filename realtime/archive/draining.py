"""From a tenant's stream into its schema. An event leaves the stream only after its rows are committed."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import msgspec
import redis
from django.conf import settings
from django.db import DataError, IntegrityError, OperationalError, connection, transaction
from django_tenants.utils import get_public_schema_name, schema_context, schema_exists
from prometheus_client import Counter, Gauge, Histogram
from psycopg.errors import QueryCanceled

from realtime.archive.events import (
    TENANTS_KEY,
    AnyArchiveEvent,
    CallEnded,
    CallStarted,
    UsageMetered,
    decode_event,
    stream_key,
)
from realtime.archive.operations import apply_events
from realtime.archive.sink import FIELD
from realtime.privacy.forgetting import drop_erased
from tenants.usage.operations import Use, store_uses

log = logging.getLogger(__name__)

STORED = Counter("agentvoicebox_archive_stored_total", "Archive events in PostgreSQL")
STORED_LAG = Histogram(
    "agentvoicebox_archive_stored_lag_seconds",
    "From an event to its row",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 15, 60, 300),
)
DEAD = Counter("agentvoicebox_archive_dead_letters_total", "Archive events that cannot be stored")
DEAD_WAITING = Gauge("agentvoicebox_archive_dead_letter_depth", "Dead letters kept for inspection", ["tenant"])

LOCK_SPACE = 0x41564241
"""Advisory locks are numbers: this one says 'archive', the second one says which tenant."""

# In one step, so that an event that comes between the look and the removal keeps its tenant on the set.
FORGET_IF_EMPTY = """
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('SREM', KEYS[2], ARGV[1]) return 1 end
return 0
"""

USAGE_TENANTS_KEY = "avb:usage:tenants"
"""Set: the tenants whose ledger has grown since their budgets were last looked at."""
OUTCOME_TENANTS_KEY = "avb:archive:outcomes:tenants"
"""Set: the tenants with calls of published agents since their versions were last judged."""

PAGE_EVENTS = 16
BATCH_BYTES = 8 * 1024 * 1024

Entry = tuple[bytes, dict[bytes, bytes]]
Refused = tuple[bytes, dict[bytes, bytes], str]


class TenantUnknown(Exception):
    """Events came for a schema that does not exist; they stay in their stream."""


def dead_letter_key(tenant: str) -> str:
    """Stream of events that could not be stored, each with ``event`` and ``reason``."""
    return f"avb:{tenant}:archive:dead"


def drain(client: "redis.Redis[bytes]", tenant: str) -> int:
    """Store everything in the tenant's stream; the number of events. Another worker at the same stream is left alone.

    Raises ``django.db.OperationalError`` when PostgreSQL does not answer (the stream is untouched), TenantUnknown.
    """
    stored = 0
    while True:
        entries = _store_batch(client, tenant)
        if entries is None:
            # Whoever holds the lock looks at the stream again after letting go of it, so nothing is left behind.
            return stored
        stored += entries
        if not entries and client.eval(FORGET_IF_EMPTY, 2, stream_key(tenant), TENANTS_KEY, tenant):
            return stored


def _store_batch(client: "redis.Redis[bytes]", tenant: str) -> int | None:
    """One batch; how many events left the stream. None: another worker holds the tenant's lock."""
    with schema_context(get_public_schema_name()), transaction.atomic():
        if not schema_exists(tenant):
            raise TenantUnknown(tenant)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [LOCK_SPACE, crc32(tenant.encode()) - 2**31])
            if not cursor.fetchone()[0]:
                return None
        entries = _read_batch(client, tenant)
        with schema_context(tenant):
            events, refused = _apply(entries)
    if any(isinstance(event, UsageMetered) for event in events):
        # Before the events go: whoever stores them again after a fault says it again.
        client.sadd(USAGE_TENANTS_KEY, tenant)
    if any(_tells_of_a_version(event) for event in events):
        client.sadd(OUTCOME_TENANTS_KEY, tenant)
    if entries:
        _take_off(client, tenant, entries, refused)
    STORED.inc(len(events))
    now = time.time()
    for event in events:
        STORED_LAG.observe(max(0.0, now - event.at))
    return len(entries)


def _read_batch(client: "redis.Redis[bytes]", tenant: str) -> list[Entry]:
    """The oldest events: as many as one transaction shall store, and no more bytes than memory bears."""
    entries: list[Entry] = []
    size, begin = 0, b"-"
    while len(entries) < settings.ARCHIVE_BATCH_EVENTS and size < BATCH_BYTES:
        count = min(PAGE_EVENTS, settings.ARCHIVE_BATCH_EVENTS - len(entries))
        page: list[Entry] = client.xrange(stream_key(tenant), min=begin, count=count)
        if not page:
            break
        entries += page
        size += sum(len(value) for _, fields in page for value in fields.values())
        begin = b"(" + page[-1][0]
    return entries


def _apply(entries: list[Entry]) -> tuple[list[AnyArchiveEvent], list[Refused]]:
    """The whole batch at once; when that fails for its content, one by one, so that one bad event stops no other."""
    decoded: list[tuple[Entry, AnyArchiveEvent]] = []
    refused: list[Refused] = []
    for entry in entries:
        try:
            decoded.append((entry, decode_event(entry[1][FIELD])))
        except (KeyError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            refused.append((*entry, _reason(error)))
    if _try(lambda: _store([event for _, event in decoded])) is None:
        return [event for _, event in decoded], refused
    events: list[AnyArchiveEvent] = []
    for entry, event in decoded:
        error = _try(lambda event=event: _store([event]))
        if error is None:
            events.append(event)
        else:
            refused.append((*entry, _reason(error)))
    return events, refused


@transaction.atomic
def _store(events: list[AnyArchiveEvent]) -> None:
    """Usage to the ledger, everything else to the archive, nothing of who was erased; all or nothing."""
    events = drop_erased(events)
    apply_events([event for event in events if not isinstance(event, UsageMetered)])
    store_uses(_use(event) for event in events if isinstance(event, UsageMetered))


def _use(event: UsageMetered) -> Use:
    return Use(
        at=datetime.fromtimestamp(event.at, UTC),
        session_id=event.session_id,
        source=event.source,
        quantities=event.quantities,
        provider=event.provider,
        model=event.model,
        agent=event.agent,
        key_id=event.key_id,
        end_user=event.end_user,
    )


def _tells_of_a_version(event: AnyArchiveEvent) -> bool:
    match event:
        case CallStarted():
            return event.agent_version > 0
        case CallEnded():
            return any(outcome.agent_version for outcome in event.outcomes)
    return False


def _try(write: Callable[[], Any]) -> Exception | None:
    """What is wrong with the content, if anything. A database that does not answer is not the content's fault, but
    one that answers that a statement took too long is: the same events would take as long again."""
    try:
        write()
    except (DataError, IntegrityError, ValueError, OverflowError) as error:
        return error
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            return error
        raise
    return None


def _reason(error: Exception) -> str:
    """The kind of fault, and its first line only: the next ones of PostgreSQL's messages quote the data."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _take_off(client: "redis.Redis[bytes]", tenant: str, entries: list[Entry], refused: list[Refused]) -> None:
    oldest_ms = int((time.time() - settings.ARCHIVE_DEAD_LETTER_DAYS * 86_400) * 1000)
    with client.pipeline(transaction=True) as pipe:
        for _, fields, reason in refused:
            pipe.xadd(dead_letter_key(tenant), {**fields, b"reason": reason}, minid=oldest_ms, approximate=True)
        pipe.xdel(stream_key(tenant), *(identity for identity, _ in entries))
        pipe.execute()
    if refused:
        DEAD.inc(len(refused))
        DEAD_WAITING.labels(tenant).set(client.xlen(dead_letter_key(tenant)))
        log.error(
            "%d archive events of tenant %s cannot be stored; kept in %s",
            len(refused),
            tenant,
            dead_letter_key(tenant),
            extra={"reason": refused[0][2]},
        )
