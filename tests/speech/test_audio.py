"""Formats: codecs against G.711's own values, resampling, WAV."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from speech import audio
from speech.scripted import tone

PCM = hnp.arrays(np.int16, st.integers(1, 400))


@pytest.mark.parametrize(
    ("sample", "ulaw", "alaw"),
    [
        (0, 0xFF, 0xD5),
        (-1, 0x7E, 0x55),
        (8, 0xFE, 0xD5),
        (1000, 0xCE, 0xFA),
        (-1000, 0x4E, 0x7A),
        (32767, 0x80, 0xAA),
        (-32768, 0x00, 0x2A),
    ],
)
def test_g711_encodes_to_the_standard_s_bytes(sample: int, ulaw: int, alaw: int) -> None:
    pcm = np.array([sample], np.int16)
    assert audio.encode_ulaw(pcm) == bytes([ulaw])
    assert audio.encode_alaw(pcm) == bytes([alaw])


@pytest.mark.parametrize(
    ("code", "ulaw", "alaw"),
    [(0x00, -32124, -5504), (0x7F, 0, -848), (0x80, 32124, 5504), (0xFF, 0, 848), (0xD5, 716, 8), (0x55, -716, -8)],
)
def test_g711_decodes_to_the_standard_s_samples(code: int, ulaw: int, alaw: int) -> None:
    assert audio.decode_ulaw(bytes([code])).tolist() == [ulaw]
    assert audio.decode_alaw(bytes([code])).tolist() == [alaw]


def test_every_g711_code_survives_decoding_and_encoding() -> None:
    codes = bytes(range(256))
    # µ-law has two zeros; the negative one comes back as the positive.
    assert audio.encode_ulaw(audio.decode_ulaw(codes)) == codes.replace(b"\x7f", b"\xff")
    assert audio.encode_alaw(audio.decode_alaw(codes)) == codes


@given(PCM)
def test_pcm_survives_bytes_and_floats(pcm: np.ndarray) -> None:
    assert np.array_equal(audio.from_bytes(audio.to_bytes(pcm)), pcm)
    assert np.array_equal(audio.to_pcm(audio.to_float(pcm)), pcm)


def test_what_is_too_loud_is_clipped() -> None:
    assert audio.to_pcm(np.array([1.5, -1.5], np.float32)).tolist() == [32767, -32768]


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="3 is odd"):
        audio.from_bytes(b"abc")


def test_a_stream_resampled_in_chunks_is_as_long_as_at_once_and_sounds_the_same() -> None:
    pcm = tone(24_000, 24_000)
    resampler = audio.Resampler(24_000, 16_000)
    chunks = [resampler.push(pcm[start : start + 480]) for start in range(0, len(pcm), 480)]
    streamed = np.concatenate([*chunks, resampler.flush()])
    assert len(streamed) == 16_000
    middle = slice(1000, 15_000)
    assert np.abs(streamed[middle].astype(int) - tone(16_000, 16_000)[middle]).max() < 40


def test_resampling_keeps_pitch_and_length() -> None:
    telephone = audio.resample(tone(16_000, 16_000), 16_000, 8_000)
    assert len(telephone) == 8_000
    assert np.abs(telephone[500:-500].astype(int) - tone(8_000, 8_000)[500:-500]).max() < 40


def test_wav_files_come_back(tmp_path: Path) -> None:
    audio.write_wav(tmp_path / "tone.wav", tone(4_000, 8_000), 8_000)
    pcm, hz = audio.read_wav(tmp_path / "tone.wav")
    assert hz == 8_000
    assert np.array_equal(pcm, tone(4_000, 8_000))
    assert np.array_equal(audio.read_wav((tmp_path / "tone.wav").read_bytes())[0], pcm)


def test_what_is_no_wav_file_is_named_so() -> None:
    with pytest.raises(ValueError, match="not a PCM WAV file"):
        audio.read_wav(b"ID3 this is an MP3")
