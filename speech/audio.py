"""Audio formats: PCM16 and float, the two telephone codecs, resampling, and WAV files. All audio is mono."""

import io
import wave
from os import PathLike
from typing import cast

import numpy as np
import soxr
from numpy.typing import NDArray

from speech.engines import Pcm


def to_float(pcm: Pcm) -> NDArray[np.float32]:
    """PCM16 to float32 in -1..1 (exclusive of 1)."""
    return np.multiply(pcm, 1 / 32768, dtype=np.float32)


def to_pcm(samples: NDArray[np.float32]) -> Pcm:
    """Float to PCM16; what lies outside -1..1 is clipped, not wrapped."""
    scaled: NDArray[np.float32] = np.rint(samples * np.float32(32768))
    return scaled.clip(-32768, 32767).astype(np.int16)


def from_bytes(raw: bytes | bytearray | memoryview) -> Pcm:
    """Little-endian PCM16 bytes to samples, without copying. An odd number of bytes is a ValueError."""
    if len(raw) % 2:
        raise ValueError(f"PCM16 comes in pairs of bytes; {len(raw)} is odd")
    return np.frombuffer(raw, dtype="<i2")


def to_bytes(pcm: Pcm) -> bytes:
    """Samples to little-endian PCM16 bytes."""
    return pcm.astype("<i2", copy=False).tobytes()


def duration_s(pcm: Pcm, hz: int) -> float:
    return len(pcm) / hz


# ITU-T G.711 as tables: 256 entries to decode, 65,536 to encode. Encoding is defined on the magnitude: the segment is
# the position of its highest bit, the mantissa the four bits below it.


def _ulaw_tables() -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    code = ~np.arange(256, dtype=np.uint8)
    segment = (code >> 4) & 7
    magnitude = (((code & 15).astype(np.int32) * 8 + 132) << segment) - 132
    decode = np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)

    # µ-law codes 14 bits; the shift rounds a negative value down, as the reference coders do.
    sample = np.arange(-32768, 32768, dtype=np.int32) >> 2
    biased = np.minimum(np.abs(sample), 8158) + 33
    segment = np.floor(np.log2(biased)).astype(np.int32) - 5
    byte = np.where(sample < 0, 0x80, 0) | (segment << 4) | ((biased >> (segment + 1)) & 15)
    return decode, (~byte & 0xFF).astype(np.uint8)


def _alaw_tables() -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    segment = ((code >> 4) & 7).astype(np.int32)
    mantissa = (code & 15).astype(np.int32)
    magnitude = np.where(segment == 0, mantissa * 16 + 8, (mantissa * 16 + 264) << np.maximum(segment - 1, 0))
    decode = np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)

    sample = np.arange(-32768, 32768, dtype=np.int32)
    # A-law codes 13 bits; a negative value is complemented, so that -1 falls into the smallest negative step.
    magnitude = np.where(sample < 0, ~sample, sample) >> 3
    segment = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 4, 0)
    mantissa = np.where(segment < 2, magnitude >> 1, magnitude >> np.maximum(segment, 1)) & 15
    byte = np.where(sample < 0, 0, 0x80) | (segment << 4) | mantissa
    return decode, (byte ^ 0x55).astype(np.uint8)


_ULAW_DECODE, _ULAW_ENCODE = _ulaw_tables()
_ALAW_DECODE, _ALAW_ENCODE = _alaw_tables()


def decode_ulaw(raw: bytes) -> Pcm:
    """G.711 µ-law bytes to PCM16, one sample a byte."""
    return _ULAW_DECODE[np.frombuffer(raw, dtype=np.uint8)]


def encode_ulaw(pcm: Pcm) -> bytes:
    """PCM16 to G.711 µ-law, one byte a sample."""
    return _ULAW_ENCODE[pcm.astype(np.int32) + 32768].tobytes()


def decode_alaw(raw: bytes) -> Pcm:
    """G.711 A-law bytes to PCM16, one sample a byte."""
    return _ALAW_DECODE[np.frombuffer(raw, dtype=np.uint8)]


def encode_alaw(pcm: Pcm) -> bytes:
    """PCM16 to G.711 A-law, one byte a sample."""
    return _ALAW_ENCODE[pcm.astype(np.int32) + 32768].tobytes()


def resample(pcm: Pcm, from_hz: int, to_hz: int) -> Pcm:
    """A whole recording at another rate, in high quality. The same rate gives the same array."""
    if from_hz == to_hz:
        return pcm
    return cast("Pcm", soxr.resample(pcm, from_hz, to_hz, quality="HQ"))


class Resampler:
    """Consecutive chunks of one stream at another rate. Output trails input by a few ms until ``flush``."""

    def __init__(self, from_hz: int, to_hz: int, quality: str = "LQ") -> None:
        self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="int16", quality=quality)

    def push(self, pcm: Pcm) -> Pcm:
        return cast("Pcm", self._stream.resample_chunk(pcm))

    def flush(self) -> Pcm:
        """The last samples; the stream is at its end."""
        return cast("Pcm", self._stream.resample_chunk(np.empty(0, np.int16), last=True))


def read_wav(source: str | PathLike[str] | bytes) -> tuple[Pcm, int]:
    """A 16-bit PCM WAV (path or bytes) as (samples, rate in Hz); several channels are averaged. Raises ValueError."""
    try:
        stream = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")  # noqa: SIM115
        with stream, wave.open(stream) as wav:
            if wav.getsampwidth() != 2:
                raise ValueError(f"WAV has {8 * wav.getsampwidth()}-bit samples; 16-bit PCM is needed")
            pcm = from_bytes(wav.readframes(wav.getnframes()))
            channels, hz = wav.getnchannels(), wav.getframerate()
    except (wave.Error, EOFError) as error:
        raise ValueError(f"not a PCM WAV file: {error}") from error
    if channels > 1:
        pcm = pcm.reshape(-1, channels).mean(axis=1).astype(np.int16)
    return pcm, hz


def write_wav(target: str | PathLike[str], pcm: Pcm, hz: int) -> None:
    with wave.open(str(target), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(hz)
        wav.writeframes(to_bytes(pcm))
