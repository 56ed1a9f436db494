"""Everything that is kept of an end user, as one ZIP file of JSON and audio, sealed by the tenant's data key.

The file is written as it is read: neither all of it nor all of a recording is ever in memory. It lies beside the
recordings in parts, and is removed when its time is over.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.db.models import Model, QuerySet
from django.forms.models import model_to_dict
from django.utils import timezone

from agents.trials.models import CallOutcome
from realtime.archive.models import Conversation
from realtime.privacy.cold import thaw
from realtime.privacy.jobs import LEASE, LeaseLost, renew_lease, take_job
from realtime.privacy.models import OPEN, Export, JobState, LegalHold
from realtime.privacy.subjects import check_end_user, subject_of
from realtime.recordings.models import Recording
from realtime.recordings.playback import Playback, RecordingDamaged
from realtime.recordings.storage import storage
from tenants.audit.operations import record
from tenants.encryption.sealing import seal_stream, unseal_stream
from tenants.limits.models import EndUserLimits
from tenants.usage.models import Entry

PURPOSE = "end user export"
PART_BYTES = 8 * 1024 * 1024
PAGE = 500
ATTEMPTS = 5
"""A fault that comes back so often is told instead of tried again."""
ITEM_FIELDS = [
    "item_id", "previous_item_id", "type", "role", "status", "text", "content", "agent", "agent_version", "receipt",
    "audio_ms", "created_at",
]  # fmt: skip

log = logging.getLogger(__name__)


class ExportGone(Exception):
    """There is no file: not yet, or not any more."""


@transaction.atomic
def request_export(*, end_user: str) -> Export:
    """The export to run; the one that is under way already, where there is one. Raises EndUserInvalid."""
    check_end_user(end_user)
    subject = subject_of(end_user)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"export:{connection.schema_name}"])
    under_way = Export.objects.filter(subject=subject, state__in=OPEN).first()
    if under_way is not None:
        return under_way
    export = Export.objects.create(subject=subject, end_user=end_user, requested_at=timezone.now())
    record(
        action="end_user.export_requested", target=subject, after={"export": str(export.pk)},
        tenant=connection.schema_name,
    )  # fmt: skip
    return export


def run_export(*, export_id: UUID) -> Export:
    """Write the file anew from its beginning. Runs inside the tenant's schema and outside of a transaction. Raises
    LeaseLost, and what the storage, the keys' source and PostgreSQL raise."""
    export = take_job(Export, export_id)
    export.done, export.total, export.counts, export.bytes = 0, _conversations(export).count(), {}, 0
    try:
        parts = _write(export)
        _make_ready(export, parts)
    except LeaseLost:
        if Export.objects.filter(pk=export.pk, state=JobState.EXPIRED).exists():
            _remove_file(export)  # it was removed while this was written
        raise
    return export


def _write(export: Export) -> int:
    """The number of parts. Raises LeaseLost when somebody else is at it, or has removed it."""
    parts = 0
    for part in _parts(seal_stream(connection.schema_name, _counted(export), purpose=PURPOSE)):
        storage().put(_part_key(export, parts), part)
        parts += 1
    return parts


@transaction.atomic
def _make_ready(export: Export, parts: int) -> None:
    renew_lease(export)
    now = timezone.now()
    export.state, export.parts, export.ended_at, export.lease_until = JobState.READY, parts, now, None
    export.expires_at, export.fault = now + timedelta(hours=settings.EXPORT_HOURS), ""
    export.save()
    record(
        action="end_user.exported", target=export.subject,
        after={"export": str(export.pk), "counts": export.counts, "bytes": export.bytes},
        tenant=connection.schema_name,
    )  # fmt: skip


@transaction.atomic
def open_export(*, export: Export) -> Iterator[bytes]:
    """The ZIP file, for somebody who downloads it now. The first piece is there when this returns; later ones need no
    transaction. Raises ExportGone, and what unsealing and the storage raise."""
    if export.state != JobState.READY or export.expires_at is None or export.expires_at <= timezone.now():
        raise ExportGone
    tenant = connection.schema_name
    keys = [_part_key(export, part) for part in range(export.parts)]
    opened = unseal_stream(tenant, (storage().get(key) for key in keys), purpose=PURPOSE)
    first = next(opened, b"")
    record(action="end_user.export_downloaded", target=export.subject, after={"export": str(export.pk)}, tenant=tenant)
    return _chain(first, opened)


@transaction.atomic
def remove_export(export: Export) -> None:
    """The file and the name; the row stays, with what was in it. Raises StorageUnavailable."""
    _remove_file(export)
    export.state, export.end_user, export.lease_until, export.parts = JobState.EXPIRED, "", None, 0
    export.save(update_fields=["state", "end_user", "lease_until", "parts"])


@transaction.atomic
def withdraw_export(*, export: Export) -> None:
    """Somebody takes it back before its time. Raises StorageUnavailable."""
    remove_export(export)
    record(
        action="end_user.export_removed", target=export.subject, after={"export": str(export.pk)},
        tenant=connection.schema_name,
    )  # fmt: skip


def expire_exports() -> int:
    """Remove the files whose time is over; how many. Raises StorageUnavailable."""
    over = list(Export.objects.exclude(state=JobState.EXPIRED).filter(expires_at__lte=timezone.now()))
    for export in over:
        remove_export(export)
    return len(over)


def _remove_file(export: Export) -> None:
    storage().delete_all(f"{connection.schema_name}/exports/{export.pk}/")


def _part_key(export: Export, part: int) -> str:
    return f"{connection.schema_name}/exports/{export.pk}/{part:06d}"


# --- what is in it ---


def _conversations(export: Export) -> QuerySet[Conversation]:
    return Conversation.objects.filter(end_user=export.end_user).order_by("started_at", "pk")


def _counted(export: Export) -> Iterator[bytes]:
    for piece in zip_pieces(_files(export)):
        export.bytes += len(piece)
        yield piece


def _files(export: Export) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Name and content of each file; what is counted is in ``export.counts`` when the last one has been read."""
    counts = export.counts = {"conversations": 0, "items": 0, "recordings": 0, "usage_entries": 0}
    for session_id in list(_conversations(export).values_list("pk", flat=True)):
        yield from _conversation_files(session_id, counts)
        export.done += 1
        _note_progress(export)
    yield "usage.json", _usage(export, counts)
    with transaction.atomic():
        limits = EndUserLimits.objects.filter(end_user=export.end_user).first()
        holds = list(LegalHold.objects.filter(end_user=export.end_user))
    yield (
        "settings.json",
        [_json({"limits": limits.limits if limits else None, "legal_holds": [_shown(h) for h in holds]})],
    )
    about = {
        "end_user": export.end_user, "tenant": connection.schema_name, "requested_at": export.requested_at,
        "made_at": timezone.now(), "counts": counts,
    }  # fmt: skip
    yield "export.json", [_json(about)]


def _conversation_files(session_id: str, counts: dict[str, int]) -> Iterator[tuple[str, Iterable[bytes]]]:
    with transaction.atomic():
        conversation = Conversation.objects.filter(pk=session_id).first()
        if conversation is None:
            return
        thaw(conversation)
        items = [{name: getattr(item, name) for name in ITEM_FIELDS} for item in conversation.items.all()]
        outcomes = [_shown(outcome) for outcome in CallOutcome.objects.filter(session_id=session_id)]
        recording = Recording.objects.filter(pk=session_id).first()
        playback = Playback.of(recording) if recording else None
    counts["conversations"] += 1
    counts["items"] += len(items)
    yield f"conversations/{session_id}.json", [_json(_shown(conversation) | {"items": items, "outcomes": outcomes})]
    if playback is not None:
        counts["recordings"] += 1
        yield f"recordings/{session_id}.flac", _audio(playback)


def _audio(playback: Playback) -> Iterator[bytes]:
    try:
        yield from playback.flac(0, playback.flac_bytes or 0)
    except RecordingDamaged as error:
        # The rest of the person's data is theirs all the same; the damage is reported where it was found.
        log.error("an export lacks the rest of a recording: %s", error)


def _usage(export: Export, counts: dict[str, int]) -> Iterator[bytes]:
    """A JSON list, a page at a time."""
    yield b"["
    last, comma = 0, b""
    while True:
        with transaction.atomic():
            page = list(Entry.objects.filter(end_user=export.end_user, pk__gt=last).order_by("pk")[:PAGE])
        if not page:
            break
        for entry in page:
            yield comma + _json(_shown(entry))
            comma = b",\n"
        counts["usage_entries"] += len(page)
        last = page[-1].pk
    yield b"]"


def _note_progress(export: Export) -> None:
    """As often as the lease needs it, and for whoever waits."""
    if export.lease_until is None or export.lease_until - timezone.now() > LEASE * 0.95:
        return
    with transaction.atomic():
        renew_lease(export)
        Export.objects.filter(pk=export.pk).update(done=export.done, total=export.total)


def _shown(row: Model) -> dict[str, Any]:
    return {"id": str(row.pk)} | model_to_dict(row, exclude=["id", "seq", "started_seq", "ended_seq"])


def _json(value: Any) -> bytes:
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, indent=1).encode()


# --- the file ---


class _Sink:
    """What ``ZipFile`` writes to; it cannot seek, so sizes stand behind the files."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self._held.append(bytes(piece))
        return len(piece)

    def flush(self) -> None: ...

    def take(self) -> bytes:
        held, self._held = b"".join(self._held), []
        return held


def zip_pieces(files: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    """A ZIP file as it is written."""
    sink = _Sink()
    with ZipFile(sink, "w") as file:  # type: ignore[arg-type]
        for name, content in files:
            info = ZipInfo(name, timezone.now().timetuple()[:6])
            info.compress_type = ZIP_STORED if name.endswith(".flac") else ZIP_DEFLATED
            with file.open(info, "w", force_zip64=True) as entry:
                for piece in content:
                    entry.write(piece)
                    yield sink.take()
            yield sink.take()
    yield sink.take()


def _parts(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Of at most ``PART_BYTES`` and one chunk."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= PART_BYTES:
            yield bytes(held)
            held.clear()
    yield bytes(held)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
