"""Forgetting an end user: everything that is kept of them, wherever it is.

``request_erasure`` writes the row that is also the tombstone; from its commit on, nothing of calls that had begun by
then is stored any more. ``run_erasure`` removes what is there, step by step, each step repeatable, so a run that was
broken off goes on with the next. It is done when no call of the person goes on any more.

What was used stays counted, without the person. What stays of the erasure itself is a keyed hash, counts, and an entry
in the audit log.
"""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID
from zlib import crc32

import msgspec
from django.db import connection, transaction
from django.utils import timezone

from realtime.archive.draining import LOCK_SPACE, dead_letter_key
from realtime.archive.events import decode_event
from realtime.archive.models import Conversation
from realtime.archive.sink import FIELD
from realtime.privacy.export import remove_export
from realtime.privacy.holds import HeldBack, holds_on, serialise_with_deletion
from realtime.privacy.jobs import RETRY, renew_lease, take_job
from realtime.privacy.models import OPEN, ErasedCall, Erasure, Export, JobState
from realtime.privacy.retention import next_batch, remove_conversations, remove_late_recordings
from realtime.privacy.subjects import check_end_user, subject_of
from realtime.runtime import register
from realtime.runtime.secrets import live_key, secret_key
from tenants.audit.operations import record
from tenants.limits.models import EndUserLimits
from tenants.limits.operations import free_end_user
from tenants.usage.operations import forget_end_user

PAGE = 500
SECRET_PREFIX = secret_key("").rpartition(":")[0] + ":"


@transaction.atomic
def request_erasure(*, end_user: str) -> Erasure:
    """The erasure to run; the one that is under way already, where there is one. Raises EndUserInvalid, HeldBack."""
    check_end_user(end_user)
    serialise_with_deletion()
    if holds := holds_on(end_user):
        raise HeldBack(holds)
    subject = subject_of(end_user)
    under_way = Erasure.objects.filter(subject=subject, state__in=OPEN).first()
    if under_way is not None:
        return under_way
    erasure = Erasure.objects.create(subject=subject, end_user=end_user, requested_at=timezone.now())
    record(
        action="end_user.erasure_requested", target=subject, after={"erasure": str(erasure.pk)},
        tenant=connection.schema_name,
    )  # fmt: skip
    return erasure


def run_erasure(*, erasure_id: UUID, client: Any) -> Erasure:
    """Do what is left of it; ``client`` is Redis's, answering in bytes. Runs inside the tenant's schema and outside of
    a transaction. Raises LeaseLost, and what the storage, the keys' source, Redis and PostgreSQL raise."""
    erasure = take_job(Erasure, erasure_id)
    _let_drains_end()
    try:
        _repeat(erasure, _remove_conversations)
        live = _erase_live_calls(erasure, client)
        _remove_dead_letters(erasure, client)
        _remove_client_secrets(erasure, client)
        _repeat(erasure, _remove_exports)
        _repeat(erasure, _remove_late_recordings)
        _forget_elsewhere(erasure)
    except HeldBack as error:
        return _end(erasure, JobState.REFUSED, error.message)
    return _wait(erasure) if live else _end(erasure, JobState.READY)


def _let_drains_end() -> None:
    """A batch of the archive that was read before the tombstone was there is stored before anything is removed."""
    with transaction.atomic(), connection.cursor() as cursor:
        place = crc32(connection.schema_name.encode()) - 2**31
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_SPACE, place])


def _repeat(erasure: Erasure, step: Callable[[Erasure], dict[str, int]]) -> None:
    """Batches of a step, each with its counts in one transaction, until one finds nothing."""
    while True:
        with transaction.atomic():
            serialise_with_deletion()
            if holds := holds_on(erasure.end_user):
                raise HeldBack(holds)
            counts = step(erasure)
            _count(erasure, counts)
        if not any(counts.values()):
            return


def _count(erasure: Erasure, counts: dict[str, int]) -> None:
    renew_lease(erasure)
    for name, count in counts.items():
        if count:
            erasure.counts[name] = erasure.counts.get(name, 0) + count
    erasure.save(update_fields=["counts"])


def _remove_conversations(erasure: Erasure) -> dict[str, int]:
    # A conversation that began later than the erasure was asked for is none of it.
    theirs = Conversation.objects.filter(end_user=erasure.end_user, started_at__lte=erasure.requested_at)
    sessions = next_batch(theirs.order_by("started_at", "pk"))
    ErasedCall.objects.bulk_create([ErasedCall(session_id=session) for session in sessions], ignore_conflicts=True)
    removed = remove_conversations(sessions)
    return {"conversations": removed.conversations, "items": removed.items, "recordings": removed.recordings}


def _erase_live_calls(erasure: Erasure, client: Any) -> int:
    """Calls in progress go on and leave nothing behind; how many there are."""
    live = []
    tenant = connection.schema_name
    for session_id in client.zrange(register.heartbeats_key(tenant), 0, -1):
        stored = client.get(register.record_key(tenant, session_id.decode()))
        if stored is None:
            continue
        call = register.decode_record(stored)
        if call.end_user == erasure.end_user and call.started_at <= erasure.requested_at.timestamp():
            live.append(call.id)
    with transaction.atomic():
        ErasedCall.objects.bulk_create([ErasedCall(session_id=session) for session in live], ignore_conflicts=True)
        _count(erasure, {})
    return len(live)


def _remove_dead_letters(erasure: Erasure, client: Any) -> None:
    key = dead_letter_key(connection.schema_name)
    begin, removed = "-", 0
    while page := client.xrange(key, min=begin, count=PAGE):
        theirs = [identity for identity, fields in page if _is_theirs(erasure, fields.get(FIELD, b""))]
        if theirs:
            removed += client.xdel(key, *theirs)
        begin = b"(" + page[-1][0]
    with transaction.atomic():
        _count(erasure, {"dead_letters": removed})


def _is_theirs(erasure: Erasure, encoded: bytes) -> bool:
    try:
        event = decode_event(encoded)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # What cannot be read as an event may name them all the same.
        return msgspec.json.encode(erasure.end_user)[1:-1] in encoded
    if getattr(event, "end_user", "") == erasure.end_user:
        return True
    return ErasedCall.objects.filter(pk=event.session_id).exists()


def _remove_client_secrets(erasure: Erasure, client: Any) -> None:
    """Those that would open calls in the person's name."""
    removed = 0
    for live in client.scan_iter(match=live_key(connection.schema_name, "*"), count=PAGE):
        for name in client.zrange(live, 0, -1):
            key = SECRET_PREFIX.encode() + name
            stored = client.get(key)
            if stored is not None and erasure.end_user in _texts(msgspec.json.decode(stored)):
                client.zrem(live, name)
                removed += client.delete(key)
    with transaction.atomic():
        _count(erasure, {"client_secrets": removed})


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)


def _remove_exports(erasure: Erasure) -> dict[str, int]:
    export = Export.objects.filter(subject=erasure.subject).exclude(state=JobState.EXPIRED).first()
    if export is None:
        return {"exports": 0}
    remove_export(export)
    return {"exports": 1}


def _remove_late_recordings(_: Erasure) -> dict[str, int]:
    return {"recordings": remove_late_recordings()}


@transaction.atomic
def _forget_elsewhere(erasure: Erasure) -> None:
    entries = forget_end_user(end_user=erasure.end_user)
    limits = EndUserLimits.objects.filter(end_user=erasure.end_user).first()
    if limits is not None:
        free_end_user(row=limits)
    _count(erasure, {"usage_entries": entries, "limits": int(limits is not None)})


@transaction.atomic
def _wait(erasure: Erasure) -> Erasure:
    erasure.state, erasure.lease_until = JobState.CALLS, timezone.now() + RETRY
    erasure.save(update_fields=["state", "lease_until"])
    return erasure


@transaction.atomic
def _end(erasure: Erasure, state: JobState, refusal: str = "") -> Erasure:
    renew_lease(erasure)
    erasure.state, erasure.refusal, erasure.ended_at = state, refusal, timezone.now()
    erasure.end_user, erasure.lease_until = "", None
    erasure.save(update_fields=["state", "refusal", "ended_at", "end_user", "lease_until"])
    after = {"erasure": str(erasure.pk), "removed": erasure.counts} | ({"refusal": refusal} if refusal else {})
    action = "end_user.erased" if state == JobState.READY else "end_user.erasure_refused"
    record(action=action, target=erasure.subject, after=after, tenant=connection.schema_name)
    return erasure
