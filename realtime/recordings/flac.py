"""Stereo PCM16 to FLAC files and back, bit for bit, by FFmpeg's libraries. A part (109 s) takes 60 to 90 ms."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from realtime.recordings.journal import Stereo

BLOCK = 1 << 16


class FlacDamaged(Exception):
    """The bytes are no FLAC file."""


def encode(pcm: Stereo, hz: int) -> bytes:
    """A whole file; its header says how long it is and what its audio's MD5 is."""
    file = io.BytesIO()
    for _ in _encode([pcm], hz, file):
        pass
    return file.getvalue()


def encode_stream(pieces: Iterable[Stereo], hz: int) -> Iterator[bytes]:
    """A file while it comes into being. Its header says nothing of its length: that has been sent already."""
    sink = _Sink()
    for _ in _encode(pieces, hz, sink):
        yield sink.take()
    yield sink.take()


def _encode(pieces: Iterable[Stereo], hz: int, file: Any) -> Iterator[None]:
    """Yields after each piece."""
    container: Any = av.open(file, "w", format="flac", options={"flush_packets": "1"})
    stream: Any = container.add_stream("flac", rate=hz, layout="stereo")
    samples = 0
    for pcm in pieces:
        for start in range(0, len(pcm), BLOCK):
            block = np.ascontiguousarray(pcm[start : start + BLOCK])
            frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), "s16", "stereo")
            frame.sample_rate, frame.pts = hz, samples
            samples += len(block)
            container.mux(stream.encode(frame))
        yield
    container.mux(stream.encode(None))
    container.close()


class _Sink:
    """A file that can only be written, so that FFmpeg never goes back in it."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


def decode(flac: bytes) -> Stereo:
    """Raises FlacDamaged."""
    try:
        with av.open(io.BytesIO(flac), "r", format="flac") as container:
            frames = [np.asarray(frame.to_ndarray()).reshape(-1, 2) for frame in container.decode(audio=0)]
    except FFmpegError as error:
        raise FlacDamaged(type(error).__name__) from error
    if not frames:
        raise FlacDamaged("no audio in it")
    return np.concatenate(frames)
