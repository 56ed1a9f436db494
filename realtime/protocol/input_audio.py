"""The input audio buffer: what the caller has said and nobody has committed, by samples since the session began."""

from collections import deque

import numpy as np

from speech.audio import Resampler, decode_alaw, decode_ulaw, from_bytes
from speech.engines import TTS_HZ, Pcm

HZ = TTS_HZ
SAMPLES_PER_MS = HZ // 1000
PHONE_HZ = 8_000


class InputAudio:
    """PCM at 24 kHz. Holds at most ``limit_samples``; the oldest go first, and ``dropped_samples`` says how many."""

    def __init__(self, limit_samples: int) -> None:
        self._chunks: deque[Pcm] = deque()
        self._limit = limit_samples
        self.start = 0
        self.end = 0
        self.dropped_samples = 0

    def append(self, pcm: Pcm) -> None:
        if len(pcm) == 0:
            return
        self._chunks.append(pcm)
        self.end += len(pcm)
        over = self.end - self.start - self._limit
        if over > 0:
            self.dropped_samples += over
            self.discard_before(self.start + over)

    def discard_before(self, sample: int) -> None:
        """Forget what lies before ``sample``."""
        while self._chunks and self.start + len(self._chunks[0]) <= sample:
            self.start += len(self._chunks.popleft())
        if self._chunks and sample > self.start:
            self._chunks[0] = self._chunks[0][sample - self.start :]
            self.start = sample

    def read(self, start: int, end: int) -> Pcm:
        """A copy of what is still held of ``start`` to ``end``."""
        wanted: list[Pcm] = []
        at = self.start
        for chunk in self._chunks:
            low, high = max(start - at, 0), min(end - at, len(chunk))
            if low < high:
                wanted.append(chunk[low:high])
            at += len(chunk)
            if at >= end:
                break
        return np.concatenate(wanted) if wanted else np.empty(0, np.int16)


class InputDecoder:
    """What clients append, in the session's input format, as PCM at 24 kHz. Keeps half a sample for the next chunk."""

    def __init__(self, format: str) -> None:  # noqa: A002 - the wire's word
        self.format = format
        self._decode = {"audio/pcmu": decode_ulaw, "audio/pcma": decode_alaw}.get(format)
        self._resampler = Resampler(PHONE_HZ, HZ) if self._decode is not None else None
        self._half = b""

    def decode(self, audio: bytes) -> Pcm:
        if self._decode is not None and self._resampler is not None:
            return self._resampler.push(self._decode(audio))
        if self._half or len(audio) % 2:
            audio = self._half + audio
            whole = len(audio) & ~1
            self._half, audio = audio[whole:], audio[:whole]
        return from_bytes(audio)
