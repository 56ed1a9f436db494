"""Listening to a recording: the bytes of one WAV or FLAC file, any range of it, without opening more than it needs.

A part is the unit: it is fetched, unsealed, checked against its SHA-256 and decoded as a whole, in some 100 ms.
"""

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from django.db import connection
from prometheus_client import Counter

from realtime.recordings import flac
from realtime.recordings.journal import Stereo
from realtime.recordings.models import Part, Recording
from realtime.recordings.operations import PURPOSE
from realtime.recordings.storage import ObjectMissing, storage
from tenants.encryption.errors import Tampered, WrongKey
from tenants.encryption.sealing import unseal_stream

DAMAGED = Counter("agentvoicebox_recording_damaged_total", "Stored parts that are not what was stored", ["reason"])
WAV_HEADER_BYTES = 44
SAMPLE_BYTES = 2
WAV_MAX_BYTES = 2**32 - 1
SLICE_BYTES = 256 * 1024

log = logging.getLogger(__name__)


class RecordingDamaged(Exception):
    """A stored part is missing, or not what was stored. ``reason`` says which."""

    def __init__(self, session_id: str, index: int, reason: str) -> None:
        super().__init__(f"Part {index} of the recording of {session_id} cannot be played: {reason}.")
        self.message = str(self)


@dataclass(frozen=True)
class Playback:
    """A recording as it was when it was asked for; reads no row later, so that it may outlive the transaction."""

    tenant: str
    session_id: str
    hz: int
    channels: int
    samples: int
    part_samples: int
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, recording: Recording) -> "Playback":
        parts = tuple(recording.parts.all())
        samples = sum(part.samples for part in parts)
        return cls(
            connection.schema_name,
            recording.pk,
            recording.sample_rate_hz,
            recording.channels,
            samples,
            recording.part_samples,
            parts,
        )

    @property
    def etag(self) -> str:
        digest = sha256("".join(part.sha256 for part in self.parts).encode()).hexdigest()
        return f'"{digest[:32]}"'

    # ---- FLAC ----

    @property
    def flac_bytes(self) -> int | None:
        """Its size, which is known where the recording is one stored file."""
        return self.parts[0].bytes if len(self.parts) == 1 else None

    def flac(self, start: int, end: int) -> Iterator[bytes]:
        """Bytes ``start`` to ``end`` of the stored file; where there are several, all of the file that they make."""
        if len(self.parts) == 1:
            yield from _slices(memoryview(self.open_part(0))[start:end])
        else:
            yield from flac.encode_stream((self.decode_part(part.index) for part in self.parts), self.hz)

    # ---- WAV ----

    @property
    def wav_bytes(self) -> int:
        return WAV_HEADER_BYTES + self.samples * self._frame_bytes

    @property
    def _frame_bytes(self) -> int:
        return self.channels * SAMPLE_BYTES

    def wav(self, start: int, end: int) -> Iterator[bytes]:
        """Bytes ``start`` to ``end``. The header comes with the first audio, so that what is wrong with that is known
        before anything is sent."""
        header = self._wav_header()[start:end]
        part_bytes = self.part_samples * self._frame_bytes
        low, high = max(start - WAV_HEADER_BYTES, 0), end - WAV_HEADER_BYTES
        for part in self.parts:
            first = part.index * part_bytes
            last = first + part.samples * self._frame_bytes
            if low < last and first < high:
                pcm = memoryview(self.decode_part(part.index).astype("<i2", copy=False)).cast("B")
                for piece in _slices(pcm[max(low - first, 0) : min(high, last) - first]):
                    yield header + piece
                    header = b""
        if header:
            yield header

    def _wav_header(self) -> bytes:
        body = min(self.samples * self._frame_bytes, WAV_MAX_BYTES - WAV_HEADER_BYTES)
        shape = (1, self.channels, self.hz, self.hz * self._frame_bytes, self._frame_bytes, 8 * SAMPLE_BYTES)
        return struct.pack(
            "<4sI4s4sIHHIIHH4sI", b"RIFF", body + WAV_HEADER_BYTES - 8, b"WAVE", b"fmt ", 16, *shape, b"data", body
        )

    # ---- parts ----

    def open_part(self, index: int) -> bytes:
        """The FLAC file, checked. Raises RecordingDamaged, StorageUnavailable, EncryptionError."""
        part = self.parts[index]
        try:
            sealed = storage().get(part.object_key)
            file = b"".join(unseal_stream(self.tenant, [sealed], purpose=PURPOSE))
        except ObjectMissing:
            raise self._damaged(index, "its object is missing", "missing") from None
        except (Tampered, WrongKey) as error:
            raise self._damaged(index, "its object was changed", error.reason) from error
        if sha256(file).hexdigest() != part.sha256:
            raise self._damaged(index, "its SHA-256 is another", "sha256")
        return file

    def decode_part(self, index: int) -> Stereo:
        try:
            pcm = flac.decode(self.open_part(index))
        except flac.FlacDamaged as error:
            raise self._damaged(index, "its FLAC cannot be decoded", "flac") from error
        if pcm.shape != (self.parts[index].samples, self.channels):
            raise self._damaged(index, "its length is another", "length")
        return pcm

    def _damaged(self, index: int, words: str, reason: str) -> RecordingDamaged:
        DAMAGED.labels(reason).inc()
        names = {"tenant_id": self.tenant, "session_id": self.session_id, "part": index, "reason": reason}
        log.critical("a stored recording is damaged", extra=names)
        return RecordingDamaged(self.session_id, index, words)


def _slices(body: memoryview) -> Iterator[bytes]:
    for start in range(0, len(body), SLICE_BYTES):
        yield bytes(body[start : start + SLICE_BYTES])
