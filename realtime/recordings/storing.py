"""From the spool to the storage: every call that this machine's gateways have recorded, part by part.

Whoever stores a call holds a lock (flock) on its directory. The kernel lifts it when the process is gone, so the next
one goes on where it stood: parts have fixed borders on the call's clock, and one that is stored stays as it is.

A part of a call that goes on is stored ``SETTLED`` after its end, when no truncation changes it any more, and where
words are to be silent that much later than ``hold_s`` says; then the files that hold nothing newer are removed. The
rest of them goes when all of the call is stored.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django_tenants.utils import get_public_schema_name, schema_context, schema_exists
from prometheus_client import Counter, Gauge, Histogram

from realtime.privacy.forgetting import is_erased
from realtime.recordings.journal import (
    Journal,
    SheetUnreadable,
    drop_pages,
    has_writer,
    read_journal,
    read_sheet,
)
from realtime.recordings.models import Recording, RecordingState
from realtime.recordings.operations import end_recording, store_part
from realtime.runtime.recorder import HZ, SUFFIX, CallSheet
from speech.logs import kind_and_place, log_context

FRAME_BYTES = 4
SETTLED = 10 * HZ
LOOK_S = 5.0
"""How often the journal of a call that goes on is read, while nothing of it is due."""
ORPHAN_S = 300.0
FIRST_PAGE = f"{0:06d}{SUFFIX}"
PASSED_FIRST_PAGE = f"{0:06d}.passed{SUFFIX}"
"""The first page, once a part is stored. Where there is neither a first page nor a row, the row was deleted."""
BACK_OFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)

FAILURES = Counter("agentvoicebox_recording_failures_total", "Tries to store a call that failed", ["kind"])
OLDEST = Gauge(
    "agentvoicebox_recording_unstored_age_seconds",
    "Age of the oldest recording that cannot be stored",
)
PART_DURATION = Histogram(
    "agentvoicebox_recording_part_seconds",
    "Rendering, encoding, sealing and storing one part",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """What a look at one call came to. ``due_at``: the Unix time at which a call that goes on wants the next one."""

    parts: int = 0
    due_at: float = 0.0


@dataclass
class _Trouble:
    failures: int = 0
    until: float = 0.0


class Storer:
    """Looks after one spool directory. Any number of processes may do so at once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._troubles: dict[Path, _Trouble] = {}
        self._due_at: dict[Path, float] = {}

    def round(self) -> int:
        """Everything that is due; the number of parts that were stored. Raises nothing."""
        directories = list(self._directories())
        for path in (self._troubles.keys() | self._due_at.keys()) - set(directories):
            self._troubles.pop(path, None)
            self._due_at.pop(path, None)
        OLDEST.set(max((time.time() - _touched_at(path) for path in self._troubles), default=0.0))
        return sum(self._try(directory) for directory in directories)

    def _directories(self) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError):
            for tenant in sorted(self._root.iterdir()):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    yield from sorted(path for path in tenant.iterdir() if path.is_dir())

    def _try(self, directory: Path) -> int:
        trouble = self._troubles.get(directory)
        if trouble is not None and time.monotonic() < trouble.until:
            return 0
        with log_context(tenant_id=directory.parent.name, session_id=directory.name):
            try:
                progress = store_call(directory, due_at=self._due_at.get(directory, 0.0))
            except Exception as error:
                # One call's trouble is no other's; the storage, the database or the key's source may be away.
                trouble = self._troubles.setdefault(directory, _Trouble())
                trouble.until = time.monotonic() + BACK_OFF_S[min(trouble.failures, len(BACK_OFF_S) - 1)]
                trouble.failures += 1
                FAILURES.labels(type(error).__name__).inc()
                log.error("a recording waits in the spool: %s", kind_and_place(error))
                return 0
        self._troubles.pop(directory, None)
        self._due_at[directory] = progress.due_at
        return progress.parts


def store_call(directory: Path, *, due_at: float = 0.0) -> Progress:
    """What is due of one call; of one that goes on not before ``due_at``, the last look's.

    Raises StorageUnavailable, EncryptionError, a database's errors.
    """
    with _held(directory) as is_held:
        if not is_held:
            return Progress(due_at=due_at)
        try:
            sheet = read_sheet(directory)
        except SheetUnreadable:
            if time.time() - _touched_at(directory) > ORPHAN_S:
                log.warning("what lay in the spool without a call sheet is removed")
                _purge(directory)
            return Progress()
        is_over = sheet.state != "recording" or not has_writer(directory)
        due_at = max(due_at, sheet.started_at + (part_samples() + _settled(sheet)) / HZ)
        if not is_over and time.time() < due_at:
            return Progress(due_at=due_at)
        if not _has_schema(sheet.tenant):
            log.warning("the recording of a tenant that is gone is removed")
            _purge(directory)
            return Progress()
        return _store(directory, sheet, is_over)


def part_samples() -> int:
    return settings.RECORDING_PART_BYTES // FRAME_BYTES


def _store(directory: Path, sheet: CallSheet, is_over: bool) -> Progress:
    stored = _stored_parts(sheet)
    first_page = directory / FIRST_PAGE
    # Parts were stored, and deleted since: whoever did that did not mean to keep the rest.
    is_deleted = stored is None and not first_page.exists() and any(directory.glob("*" + SUFFIX))
    if is_deleted or _is_erased(sheet):
        if is_over:
            _purge(directory)
        return Progress(due_at=time.time() + LOOK_S)
    index, size = stored or (0, part_samples())
    begun = index
    journal = read_journal(directory)
    if is_over and sheet.hold_s and sheet.state != "complete":
        # The gateway, or its disk, was gone before it was known what of the last words was to be silent.
        journal.silence_from(max(0, journal.length - int(sheet.hold_s * HZ)))
    length = journal.length
    while index * size < length and (is_over or (index + 1) * size + _settled(sheet) <= journal.clock):
        with PART_DURATION.time():
            _store_part(sheet, journal, index, min(size, length - index * size), size)
        index += 1
    if not is_over:
        drop_pages(journal, index * size)
        if index and first_page.exists():
            first_page.rename(directory / PASSED_FIRST_PAGE)
        settled_at = sheet.started_at + ((index + 1) * size + _settled(sheet)) / HZ
        return Progress(index - begun, max(settled_at, time.time() + LOOK_S))
    state = RecordingState.INTERRUPTED if sheet.state == "recording" else RecordingState(sheet.state)
    with schema_context(sheet.tenant), transaction.atomic():
        end_recording(session_id=sheet.session_id, state=state)
    _purge(directory)
    log.info("recording stored: %d ms in %d parts, %s", length * 1000 // HZ, index, state)
    return Progress(index - begun)


def _settled(sheet: CallSheet) -> int:
    """After so many samples nothing changes any more."""
    return SETTLED + int(sheet.hold_s * HZ)


def _store_part(sheet: CallSheet, journal: Journal, index: int, samples: int, size: int) -> None:
    pcm = journal.render(index * size, index * size + samples)
    with schema_context(sheet.tenant), transaction.atomic():
        store_part(sheet=sheet, index=index, pcm=pcm, part_samples=size)


def _stored_parts(sheet: CallSheet) -> tuple[int, int] | None:
    """How many there are, and the length of each, which may have been configured otherwise since."""
    with schema_context(sheet.tenant), transaction.atomic():
        recording = Recording.objects.filter(pk=sheet.session_id).first()
        return None if recording is None else (recording.parts.count(), recording.part_samples)


def _is_erased(sheet: CallSheet) -> bool:
    """Its end user was forgotten while the call went on, or since."""
    with schema_context(sheet.tenant), transaction.atomic():
        return is_erased(sheet.session_id)


def _has_schema(tenant: str) -> bool:
    with schema_context(get_public_schema_name()), transaction.atomic():
        return bool(schema_exists(tenant))


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[bool]:
    """Whether the directory is ours to store. It is not when another process is at it, or has just finished."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # Whoever held it before may have removed it meanwhile.
        yield bool(os.fstat(descriptor).st_nlink)
    finally:
        os.close(descriptor)


def _touched_at(directory: Path) -> float:
    try:
        return directory.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _purge(directory: Path) -> None:
    """The sheet last: a directory with a sheet is stored again, to no effect, by whoever finds what is left of it."""
    for file in sorted(directory.iterdir(), key=lambda file: file.suffix != SUFFIX):
        file.unlink(missing_ok=True)
    shutil.rmtree(directory)


def purge_tenant(root: Path, tenant: str) -> int:
    """Whatever this machine's spool holds of a tenant; how many calls."""
    directories = [path for path in (root / tenant).glob("*") if path.is_dir()]
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        (root / tenant).rmdir()
    return len(directories)
