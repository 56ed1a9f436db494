"""Opus packet by packet: what goes in comes out, and what is no packet is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.audio import read_wav, resample
from speech.engines import TTS_HZ, Pcm
from speech.opus import MAX_PACKET_BYTES, PACKET_MS, OpusDecoder, OpusEncoder, packet_ms


def clip() -> Pcm:
    pcm, hz = read_wav("tests/clips/jfk.wav")
    return resample(pcm, hz, TTS_HZ)


def likeness(said: Pcm, heard: Pcm, *, within: int = 400) -> float:
    """The best correlation at any delay that a codec may have."""
    length = min(3 * TTS_HZ, len(heard) - within)
    return max(float(np.corrcoef(said[:length], heard[lag : lag + length])[0, 1]) for lag in range(0, within, 2))


@pytest.mark.parametrize("length_ms", [20, 60, PACKET_MS])
def test_speech_survives_at_a_tenth_of_its_bytes(length_ms: int) -> None:
    said = clip()
    encoder, decoder = OpusEncoder(length_ms), OpusDecoder()
    packets = [packet for start in range(0, len(said), 1000) for packet in encoder.push(said[start : start + 1000])]
    packets += encoder.flush()
    heard = np.concatenate([decoder.decode(packet) for packet in packets])
    assert {packet_ms(packet) for packet in packets} == {length_ms}
    assert sum(map(len, packets)) * 10 <= 2 * len(said)
    assert len(said) <= len(heard) <= len(said) + 2 * TTS_HZ * length_ms // 1000 + 480
    assert likeness(said, heard) > 0.9


def test_nothing_said_is_nothing_sent() -> None:
    assert OpusEncoder().flush() == []
    encoder = OpusEncoder()
    assert encoder.push(np.zeros(10, np.int16)) == []
    assert len(encoder.flush()) >= 1


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b"", "at least one byte"),
        (b"\x03", "before the number of its frames"),
        (b"\xff\xff\xff", "at most 120 ms"),
        (b"\xff\x00", "at most 120 ms"),
        (bytes(MAX_PACKET_BYTES + 1), "at most 61300 bytes"),
    ],
)
def test_what_is_no_packet_is_refused_and_the_stream_goes_on(packet: bytes, why: str) -> None:
    decoder = OpusDecoder()
    with pytest.raises(ValueError, match=why):
        decoder.decode(packet)
    assert sum(len(decoder.decode(good)) for good in OpusEncoder().push(clip()[:48_000])) > 24_000


@given(st.binary(max_size=1500))
def test_bytes_of_any_kind_are_a_packet_or_a_clear_refusal(packet: bytes) -> None:
    decoder = OpusDecoder()
    try:
        length_ms = packet_ms(packet)
        pcm = decoder.decode(packet)
    except ValueError:
        with pytest.raises(ValueError, match="packet"):
            decoder.decode(packet)
    else:
        assert len(pcm) <= TTS_HZ * length_ms / 1000
