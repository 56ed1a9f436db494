"""Noise suppression: as many samples out as in, each in its place, and less noise among them."""

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech import models
from speech.audio import resample
from speech.engines import STT_HZ, TTS_HZ, Pcm
from speech.noise import HELD_MS, Field, NoiseSuppressor
from speech.stt.whisper import Whisper
from tests.speech.clips import load_clips, plain_words

CLIP = resample(load_clips()[-1].pcm_16khz, STT_HZ, TTS_HZ)
FIELDS: tuple[Field, ...] = ("near_field", "far_field")


def noise(colour: str, samples: int, level: float) -> np.ndarray:
    """White, or with as much power in each octave; ``level`` is its RMS."""
    drawn = np.random.default_rng(1).normal(size=samples)
    if colour == "pink":
        spectrum = np.fft.rfft(drawn)
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        drawn = np.fft.irfft(spectrum, samples)
    return drawn / drawn.std() * level


def noisy(colour: str, snr_db: float) -> Pcm:
    added = noise(colour, len(CLIP), CLIP.std() / 10 ** (snr_db / 20))
    return (CLIP + added).clip(-32768, 32767).astype(np.int16)


def suppress(pcm: Pcm, field: Field = "near_field", strength: float = 1.0, chunk: int = 480) -> Pcm:
    suppressor = NoiseSuppressor(field, strength)
    pieces = [suppressor.push(pcm[start : start + chunk]) for start in range(0, len(pcm), chunk)]
    return np.concatenate([*pieces, suppressor.flush()])


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.one_of(st.integers(0, 3_000), st.just("flush")), max_size=40), field=st.sampled_from(FIELDS))
def test_as_many_samples_come_out_as_went_in(steps: list[int | str], field: Field) -> None:
    suppressor, taken, given = NoiseSuppressor(field), 0, 0
    for step in [*steps, "flush"]:
        if isinstance(step, int):
            given += len(suppressor.push(CLIP[taken : taken + step]))
            taken += step
            assert 0 <= taken - given < HELD_MS * TTS_HZ // 1000
        else:
            given += len(suppressor.flush())
            assert given == taken


@settings(max_examples=25, deadline=None)
@given(chunks=st.lists(st.integers(1, 5_000), min_size=1, max_size=30))
def test_how_audio_is_cut_into_chunks_changes_nothing(chunks: list[int]) -> None:
    suppressor, cuts = NoiseSuppressor("far_field"), np.cumsum(chunks)
    pieces = [suppressor.push(piece) for piece in np.split(CLIP[: cuts[-1]], cuts[:-1])]
    assert np.array_equal(np.concatenate([*pieces, suppressor.flush()]), suppress(CLIP[: cuts[-1]], "far_field"))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("flush_every", [0, 5])
def test_each_sample_stays_in_its_place(field: Field, flush_every: int) -> None:
    """Also after flushes in the middle: the loudness of 5 ms stretches follows that of the input, without a shift."""
    suppressor, pieces = NoiseSuppressor(field), []
    for number, start in enumerate(range(0, len(CLIP), 4_800)):
        pieces.append(suppressor.push(CLIP[start : start + 4_800]))
        if flush_every and number % flush_every == 0:
            pieces.append(suppressor.flush())
    cleaned = np.concatenate([*pieces, suppressor.flush()])
    before, after = CLIP.astype(np.float64), cleaned.astype(np.float64)
    likeness = {shift: float(np.dot(before[500:-500], np.roll(after, -shift)[500:-500])) for shift in range(-48, 49)}
    assert abs(max(likeness, key=lambda shift: likeness[shift])) <= 2


def snr_db(pcm: Pcm) -> float:
    """Power where the clip is loud over power where it is silent."""
    frames = CLIP[: len(CLIP) // 480 * 480].reshape(-1, 480).astype(np.float64).std(axis=1)
    power = pcm[: len(frames) * 480].reshape(-1, 480).astype(np.float64).var(axis=1)[25:]
    loudness = frames[25:]
    silent, loud = np.quantile(loudness, [0.15, 0.5])
    return float(10 * np.log10(power[loudness > loud].mean() / power[loudness < silent].mean()))


@pytest.mark.parametrize("colour", ["white", "pink"])
@pytest.mark.parametrize(("field", "gain_db"), [("near_field", 10), ("far_field", 15)])
def test_speech_stands_out_of_noise_by_so_much_more(colour: str, field: Field, gain_db: float) -> None:
    heard = noisy(colour, 10)
    gained = snr_db(suppress(heard, field)) - snr_db(heard)
    print(f"\n{field}, {colour} noise: {gained:.1f} dB")
    assert gained > gain_db


@pytest.mark.parametrize("colour", ["white", "pink"])
def test_far_field_takes_more_than_near_field_and_less_strength_less(colour: str) -> None:
    hiss = noise(colour, 3 * TTS_HZ, 500).astype(np.int16)
    left = [
        float(suppress(hiss, field, strength)[TTS_HZ:].std())
        for field, strength in (("far_field", 1.0), ("near_field", 1.0), ("near_field", 0.5), ("near_field", 0.0))
    ]
    print("\nof 500:", [round(level) for level in left])
    assert left == sorted(left)
    assert left[0] < 0.75 * left[1]
    assert np.array_equal(suppress(hiss, "near_field", 0.0), hiss)


def test_silence_stays_silent() -> None:
    assert not suppress(np.zeros(TTS_HZ, np.int16), "far_field").any()


@pytest.mark.real_speech
@pytest.mark.parametrize("field", FIELDS)
def test_words_under_noise_are_understood(field: Field) -> None:
    whisper = Whisper(models.path("whisper-tiny.en"), device="cpu", threads=2)
    cleaned = suppress(noisy("pink", 12), field)
    heard = whisper.transcribe(resample(cleaned, TTS_HZ, STT_HZ)).text
    error_rate = jiwer.wer(plain_words(load_clips()[-1].text), plain_words(heard))
    print(f"\n{field}: word error rate {error_rate:.3f}")
    assert error_rate <= 0.15
