"""The input audio buffer: what the caller has said and nobody has committed, by samples since the session began."""

from collections import deque

import numpy as np

from speech.audio import Resampler, decode_alaw, decode_ulaw, from_bytes
from speech.engines import TTS_HZ, Pcm
from speech.opus import OpusDecoder, packet_ms

HZ = TTS_HZ
SAMPLES_PER_MS = HZ // 1000
PHONE_HZ = 8_000
BLOCK = HZ


class InputAudio:
    """PCM at 24 kHz in blocks of a second, so that neither many small appends nor a long read cost much."""

    def __init__(self) -> None:
        self._blocks: deque[Pcm] = deque()
        self._first = 0
        self.start = 0
        self.end = 0

    def __len__(self) -> int:
        """Samples that are held."""
        return self.end - self.start

    def append(self, pcm: Pcm) -> None:
        done = 0
        while done < len(pcm):
            place = (self.end - self._first) % BLOCK
            if place == 0 and self.end - self._first == len(self._blocks) * BLOCK:
                self._blocks.append(np.empty(BLOCK, np.int16))
            count = min(BLOCK - place, len(pcm) - done)
            self._blocks[-1][place : place + count] = pcm[done : done + count]
            done += count
            self.end += count

    def discard_before(self, sample: int) -> None:
        """Forget what lies before ``sample``."""
        self.start = max(self.start, min(sample, self.end))
        while self._blocks and self._first + BLOCK <= self.start:
            self._blocks.popleft()
            self._first += BLOCK
        if not self._blocks:
            self._first = self.end

    def read(self, start: int, end: int) -> Pcm:
        """A copy of what is still held of ``start`` to ``end``."""
        low, high = max(start, self.start) - self._first, min(end, self.end) - self._first
        if low >= high:
            return np.empty(0, np.int16)
        blocks = [
            self._blocks[at][max(low - at * BLOCK, 0) : high - at * BLOCK]
            for at in range(low // BLOCK, (high - 1) // BLOCK + 1)
        ]
        return np.concatenate(blocks)


class InputDecoder:
    """What clients append, in the session's input format, as PCM at 24 kHz. Keeps half a sample for the next chunk; of
    Opus each append is one packet, and what is none is a ValueError."""

    def __init__(self, format: str) -> None:  # noqa: A002 - the wire's word
        self.format = format
        self._decode = {"audio/pcmu": decode_ulaw, "audio/pcma": decode_alaw}.get(format)
        self._resampler = Resampler(PHONE_HZ, HZ) if self._decode is not None else None
        self._opus = OpusDecoder() if format == "audio/opus" else None
        self._half = b""
        self._bytes_per_s = 2 * HZ if self._decode is None else PHONE_HZ

    def decode(self, audio: bytes) -> Pcm:
        if self._opus is not None:
            return self._opus.decode(audio)
        if self._decode is not None and self._resampler is not None:
            return self._resampler.push(self._decode(audio))
        if self._half or len(audio) % 2:
            audio = self._half + audio
            whole = len(audio) & ~1
            self._half, audio = audio[whole:], audio[:whole]
        return from_bytes(audio)

    def decode_all(self, audio: bytes) -> Pcm:
        """A whole recording: what resampling holds back comes too. The decoder is at its end."""
        pcm = self.decode(audio)
        return pcm if self._resampler is None else np.concatenate([pcm, self._resampler.flush()])

    def seconds(self, audio: bytes) -> float:
        """How long such audio lasts."""
        if self._opus is not None:
            return packet_ms(audio) / 1000
        return len(audio) / self._bytes_per_s

    def bytes_of(self, ms: int) -> int:
        """How many bytes such audio has, of the formats that can be cut anywhere."""
        return self._bytes_per_s * ms // 1000
