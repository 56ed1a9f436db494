"""What is done to recordings. Runs inside the tenant's schema; each function is one transaction.

An object and the rows that name it are changed under one advisory lock, so that what one recording still names is not
deleted with another. Objects go before rows and come before them: a fault in between leaves an object too many or a row
that a repeated call takes away, never audio that nobody knows of.
"""

import hmac
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from django.db import connection, transaction
from django.db.models import F
from prometheus_client import Counter

from realtime.archive.models import Conversation
from realtime.privacy.holds import held, held_sessions, serialise_with_deletion
from realtime.recordings import flac
from realtime.recordings.journal import Stereo
from realtime.recordings.models import Part, Policy, Recording, RecordingState, Whose
from realtime.recordings.storage import storage
from realtime.runtime.recorder import HZ, CallSheet
from tenants.audit.operations import record
from tenants.encryption.sealing import seal_stream, sealed_version

CHANNELS = 2
PURPOSE = "recording"

STORED_PARTS = Counter("agentvoicebox_recording_parts_total", "Parts of recordings, by what was done", ["outcome"])
STORED_BYTES = Counter("agentvoicebox_recording_stored_bytes_total", "Sealed bytes put into the storage of recordings")

log = logging.getLogger(__name__)


class PolicyInvalid(ValueError):
    """There is no such policy."""

    def __init__(self, value: str) -> None:
        super().__init__(f"'record' is one of {', '.join(Whose.values)}; got {value!r}.")


class RecordingHeld(Exception):
    """A legal hold keeps it."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"A legal hold keeps the recording of {session_id!r}. Release the hold first.")
        self.message = str(self)


@dataclass(frozen=True, slots=True)
class Deleted:
    recordings: int = 0
    objects: int = 0


@transaction.atomic
def store_part(*, sheet: CallSheet, index: int, pcm: Stereo, part_samples: int) -> Part:
    """One part of a call's recording, sealed and in its storage; a part that is there already stays as it is.

    Raises StorageUnavailable, EncryptionError.
    """
    started_at = datetime.fromtimestamp(sheet.started_at, UTC)
    recording, _ = Recording.objects.get_or_create(
        conversation_id=sheet.session_id,
        defaults={
            "started_at": started_at, "sample_rate_hz": HZ, "channels": CHANNELS, "part_samples": part_samples,
        },
    )  # fmt: skip
    if present := recording.parts.filter(index=index).first():
        return present
    file = flac.encode(pcm, HZ)
    digest = sha256(file).digest()
    key = _object_key(digest)
    _lock_object(key)
    twin = Part.objects.filter(object_key=key).first()
    if twin is not None and storage().has(key):
        version = twin.key_version
        STORED_PARTS.labels("shared").inc()
    else:
        sealed = b"".join(seal_stream(connection.schema_name, [file], purpose=PURPOSE))
        storage().put(key, sealed)
        version = sealed_version(sealed)
        Part.objects.filter(object_key=key).update(key_version=version)
        STORED_PARTS.labels("stored").inc()
        STORED_BYTES.inc(len(sealed))
    part = Part.objects.create(
        recording=recording, index=index, samples=len(pcm), bytes=len(file), sha256=digest.hex(), object_key=key,
        key_version=version,
    )  # fmt: skip
    Recording.objects.filter(pk=recording.pk).update(samples=F("samples") + part.samples, bytes=F("bytes") + part.bytes)
    return part


@transaction.atomic
def end_recording(*, session_id: str, state: RecordingState) -> None:
    """All of it that there will be is stored. Nothing, where it was deleted meanwhile."""
    Recording.objects.filter(pk=session_id).update(state=state)


@transaction.atomic
def delete_recording(*, session_id: str) -> None:
    """At somebody's wish. Raises RecordingHeld, StorageUnavailable."""
    serialise_with_deletion()
    if held_sessions([session_id]) or held(Conversation.objects.filter(pk=session_id)).exists():
        raise RecordingHeld(session_id)
    delete_recordings(session_ids=[session_id])


@transaction.atomic
def delete_recordings(*, session_ids: Iterable[str]) -> Deleted:
    """The recordings of these calls, and every object that no other recording names. Unknown ones are no error; legal
    holds are the caller's to respect.

    Of a call that goes on, what comes later is not stored either. Raises StorageUnavailable: then no row has gone, and
    a repeated call finds what is left.
    """
    wanted = Recording.objects.select_for_update().filter(pk__in=list(session_ids)).order_by("pk")
    recordings = list(wanted)
    if not recordings:
        return Deleted()
    parts = Part.objects.filter(recording__in=recordings)
    keys = sorted(set(parts.values_list("object_key", flat=True)))
    for key in keys:
        _lock_object(key)
    shared = set(
        Part.objects.filter(object_key__in=keys).exclude(recording__in=recordings).values_list("object_key", flat=True)
    )
    alone = [key for key in keys if key not in shared]
    for key in alone:
        storage().delete(key)
    Recording.objects.filter(pk__in=[recording.pk for recording in recordings]).delete()
    for recording in recordings:
        record(
            action="recording.deleted",
            target=recording.pk,
            before={"duration_ms": recording.duration_ms, "state": recording.state},
            tenant=connection.schema_name,
        )
    return Deleted(len(recordings), len(alone))


@transaction.atomic
def note_listening(*, recording: Recording, form: str, span: str) -> None:
    """Somebody listens; ``span`` is the Range that was asked for."""
    record(
        action="recording.listened", target=recording.pk, after={"format": form, "range": span},
        tenant=connection.schema_name,
    )  # fmt: skip


@transaction.atomic
def change_policy(*, record_calls: str) -> Policy:
    """Which calls are recorded from now on: one of ``Whose``. Raises PolicyInvalid."""
    if record_calls not in Whose.values:
        raise PolicyInvalid(record_calls)
    policy = ensure_policy()
    before, policy.record = policy.record, record_calls
    policy.save(update_fields=["record"])
    if before != record_calls:
        record(
            action="recording_policy.changed", target="recording_policy", before={"record": before},
            after={"record": record_calls}, tenant=connection.schema_name,
        )  # fmt: skip
    return policy


def ensure_policy() -> Policy:
    """The tenant's row, made when it is first needed."""
    policy, _ = Policy.objects.get_or_create(pk=1)
    return policy


def _object_key(digest: bytes) -> str:
    """The same audio of the same tenant has the same one. Its first part is the tenant's schema name."""
    address = hmac.new(bytes.fromhex(ensure_policy().address_key), digest, sha256).hexdigest()
    return f"{connection.schema_name}/{address[:2]}/{address}"


def _lock_object(key: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"recording:{key}"])
