"""Where events wait while Redis is away: files in the state directory, one per chunk.

A chunk is written whole, synced, and renamed into place; so a file that is there is complete. Sending one twice changes
nothing (the archive is idempotent), so processes that share the directory need no lock.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

Entry = tuple[str, bytes]
"""A tenant's schema name and one encoded archive event."""

SUFFIX = ".events"


class _Line(msgspec.Struct, array_like=True):
    tenant: str
    event: msgspec.Raw


class Spill:
    """``directory`` is made when the first chunk is written; only its owner may read what callers said."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._numbers = itertools.count()

    def write(self, entries: Iterable[Entry]) -> Path:
        """One chunk, durable when this returns. Raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(self._numbers)}"
        fresh = self.directory / (name + ".new")
        encode = msgspec.json.Encoder().encode
        final = fresh.with_suffix(SUFFIX)
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                for tenant, event in entries:
                    stream.write(encode(_Line(tenant, msgspec.Raw(event))) + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            fresh.rename(final)
        except BaseException:
            # On a full disk each try would leave its half behind and keep it full.
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return final

    def files(self) -> list[Path]:
        """Complete chunks, oldest first."""
        return sorted(self.directory.glob("*" + SUFFIX)) if self.directory.is_dir() else []

    def read(self, file: Path) -> Iterator[Entry]:
        """The entries of one chunk; nothing when another process has sent and removed it meanwhile."""
        decode = msgspec.json.Decoder(_Line).decode
        try:
            lines = file.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            entry = decode(line)
            yield entry.tenant, bytes(entry.event)

    def remove(self, file: Path) -> None:
        file.unlink(missing_ok=True)
