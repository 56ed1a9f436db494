"""An answer's audio on its way out: from 24 kHz PCM to the client's format, in deltas of a size that truncates well."""

from collections.abc import Iterator

from speech.audio import Resampler, encode_alaw, encode_ulaw, to_bytes
from speech.engines import TTS_HZ, Pcm
from speech.opus import OpusEncoder

DELTA_MS = 200
PHONE_HZ = 8_000


class OutputAudio:
    """``format`` is audio/pcm, audio/pcmu, audio/pcma or audio/opus. Deltas are at most 200 ms of audio, of Opus one
    packet each."""

    def __init__(self, format: str) -> None:  # noqa: A002 - the wire's word
        self._encode = {"audio/pcmu": encode_ulaw, "audio/pcma": encode_alaw}.get(format)
        self._resampler = Resampler(TTS_HZ, PHONE_HZ) if self._encode is not None else None
        self._opus = OpusEncoder() if format == "audio/opus" else None

    def encode(self, pcm_24khz: Pcm) -> Iterator[bytes]:
        if self._opus is not None:
            yield from self._opus.push(pcm_24khz)
        elif self._encode is None or self._resampler is None:
            step = TTS_HZ * DELTA_MS // 1000
            for start in range(0, len(pcm_24khz), step):
                yield to_bytes(pcm_24khz[start : start + step])
        else:
            yield from self._phone(self._resampler.push(pcm_24khz))

    def flush(self) -> Iterator[bytes]:
        """What resampling, or a codec, still holds."""
        if self._opus is not None:
            yield from self._opus.flush()
        elif self._resampler is not None:
            yield from self._phone(self._resampler.flush())

    def _phone(self, pcm_8khz: Pcm) -> Iterator[bytes]:
        assert self._encode is not None  # noqa: S101 - only phone formats come here
        step = PHONE_HZ * DELTA_MS // 1000
        for start in range(0, len(pcm_8khz), step):
            yield self._encode(pcm_8khz[start : start + step])
