"""Voice activity of many calls on one thread, with a scripted engine and with Silero's real file where marked."""

import asyncio
import logging
import threading
from collections.abc import Sized
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from speech import models
from speech.audio import read_wav, resample
from speech.engines import TTS_HZ
from speech.scripted import tone
from speech.vad.listening import BatchedListening, ListeningFailed
from speech.vad.silero import Silero
from tests.speech.clips import CLIPS


class Loudness:
    """Scores a window by its peak, and counts each stream's windows in its state; may be held up, or broken."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.broken = False

    def score(
        self, windows: NDArray[np.float32], states: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.go.wait(5)
        if self.broken:
            raise RuntimeError("no more")
        assert windows.shape[1] == 576
        assert states.shape == (2, len(windows), 128)
        self.batches.append(len(windows))
        return np.abs(windows[:, 64:]).max(axis=1), states + 1


async def until(heard: Sized, count: int) -> None:
    """Wait up to 5 s for so many results."""
    for _ in range(1000):
        if len(heard) >= count:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{len(heard)} of {count} windows were heard")


async def test_each_stream_hears_its_own_windows_in_order() -> None:
    listening = BatchedListening(Loudness())
    heard: list[list[tuple[int, float]]] = [[], []]
    quiet, loud = (listening.open(lambda at, p, row=row: row.append((at, p))) for row in heard)
    for _ in range(50):
        quiet.push(np.zeros(480, np.int16))
        loud.push(tone(480, TTS_HZ))
    for row in heard:
        await until(row, 30)
        assert [at for at, _ in row] == [512 * (place + 1) for place in range(len(row))]
    assert max(p for _, p in heard[0]) == 0
    assert min(p for _, p in heard[1]) > 0.05
    listening.stop()


async def test_what_waits_while_the_thread_is_busy_is_scored_as_one_batch() -> None:
    engine = Loudness()
    listening = BatchedListening(engine)
    heard: list[int] = []
    streams = [listening.open(lambda at, _: heard.append(at)) for _ in range(40)]
    engine.go.clear()
    for stream in streams:
        stream.push(tone(1200, TTS_HZ))
    engine.go.set()
    await until(heard, 40)
    assert max(engine.batches) > 20
    listening.stop()


async def test_nothing_is_heard_after_closing() -> None:
    engine = Loudness()
    listening = BatchedListening(engine)
    heard: list[int] = []
    stream = listening.open(lambda at, _: heard.append(at))
    engine.go.clear()
    stream.push(tone(4800, TTS_HZ))
    stream.close()
    engine.go.set()
    await asyncio.sleep(0.1)
    stream.push(tone(4800, TTS_HZ))
    await asyncio.sleep(0.1)
    assert heard == []
    listening.stop()


async def test_a_full_backlog_is_a_named_error() -> None:
    engine = Loudness()
    listening = BatchedListening(engine, backlog_s=1.0)
    heard: list[int] = []
    stream = listening.open(lambda at, _: heard.append(at))
    engine.go.clear()
    stream.push(tone(TTS_HZ, TTS_HZ))
    with pytest.raises(ListeningFailed, match="more than 1 s") as failure:
        stream.push(tone(480, TTS_HZ))
    assert failure.value.code == "listening_overloaded"
    engine.go.set()
    await until(heard, 30)
    stream.push(tone(TTS_HZ // 2, TTS_HZ))
    listening.stop()


async def test_what_the_thread_has_taken_but_not_scored_counts_as_backlog() -> None:
    engine = Loudness()
    listening = BatchedListening(engine, backlog_s=600)
    stream = listening.open(lambda at, p: None)
    engine.go.clear()
    for _ in range(6):
        stream.push(np.zeros(100 * TTS_HZ, np.int16))
        await asyncio.sleep(0.05)
    with pytest.raises(ListeningFailed, match="more than 600 s"):
        stream.push(np.zeros(100 * TTS_HZ, np.int16))
    stream.close()
    engine.go.set()
    listening.stop()


async def test_a_caller_with_minutes_waiting_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once: list[int] = []
    real = soxr.ResampleStream

    class Watched:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.real = real(*args, **kwargs)

        def resample_chunk(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
            at_once.append(len(samples))
            resampled: NDArray[np.float32] = self.real.resample_chunk(samples)
            return resampled

    monkeypatch.setattr(soxr, "ResampleStream", Watched)
    engine = Loudness()
    listening = BatchedListening(engine, backlog_s=600)
    order: list[str] = []
    greedy = listening.open(lambda at, _: order.append("greedy"))
    modest = listening.open(lambda at, _: order.append("modest"))
    engine.go.clear()
    for _ in range(2):
        greedy.push(np.zeros(10 * TTS_HZ, np.int16))
    modest.push(np.zeros(4800, np.int16))
    engine.go.set()
    await until(order, 600)
    assert max(at_once) <= TTS_HZ // 10
    # Its five windows went out beside the first ones of the other.
    assert order[:16].count("modest") == 5
    listening.stop()


async def test_a_long_backlog_gives_the_same_windows_as_small_pieces() -> None:
    listening = BatchedListening(Loudness(), backlog_s=60)
    pcm = np.concatenate([tone(TTS_HZ, TTS_HZ), np.zeros(TTS_HZ, np.int16)] * 5)
    whole: list[tuple[int, float]] = []
    pieces: list[tuple[int, float]] = []
    listening.open(lambda at, p: whole.append((at, p))).push(pcm)
    stream = listening.open(lambda at, p: pieces.append((at, p)))
    for start in range(0, len(pcm), 480):
        stream.push(pcm[start : start + 480])
    for row in (whole, pieces):
        await until(row, 311)
        assert [at for at, _ in row] == [512 * (place + 1) for place in range(len(row))]
    np.testing.assert_allclose([p for _, p in whole], [p for _, p in pieces], atol=1e-6)
    listening.stop()


async def test_a_call_that_does_not_take_its_window_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    engine = Loudness()
    listening = BatchedListening(engine)
    heard: list[list[int]] = [[], []]

    said = "the words of the caller"

    def refuse(at: int, probability: float) -> None:
        raise RuntimeError(said)

    before = counted("telling")
    engine.go.clear()
    first = listening.open(lambda at, _: heard[0].append(at))
    faulty = listening.open(refuse)
    last = listening.open(lambda at, _: heard[1].append(at))
    for stream in (first, faulty, last):
        stream.push(tone(4800, TTS_HZ))
    engine.go.set()
    for row in heard:
        await until(row, 5)
        assert row == [512, 1024, 1536, 2048, 2560]
    with pytest.raises(ListeningFailed, match="RuntimeError") as failure:
        faulty.push(tone(480, TTS_HZ))
    assert failure.value.code == "listening_failed"
    assert counted("telling") == before + 1
    assert "RuntimeError" in caplog.text
    assert "in refuse" in caplog.text
    assert said not in caplog.text
    first.push(tone(4800, TTS_HZ))
    await until(heard[0], 10)
    listening.stop()


async def test_audio_that_cannot_be_resampled_ends_its_own_stream_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    listening = BatchedListening(Loudness())
    heard: list[int] = []
    before = counted("resampling")
    faulty = listening.open(lambda at, p: None)
    well = listening.open(lambda at, _: heard.append(at))
    faulty.push(np.zeros((1200, 2), np.int16))
    well.push(tone(4800, TTS_HZ))
    await until(heard, 5)
    with pytest.raises(ListeningFailed) as failure:
        faulty.push(tone(480, TTS_HZ))
    assert failure.value.code == "listening_failed"
    assert counted("resampling") == before + 1
    later: list[int] = []
    listening.open(lambda at, _: later.append(at)).push(tone(4800, TTS_HZ))
    await until(later, 5)
    listening.stop()


async def test_an_engine_that_breaks_is_told_to_the_stream_and_harms_no_later_one() -> None:
    engine = Loudness()
    listening = BatchedListening(engine)
    stream = listening.open(lambda at, p: None)
    engine.broken = True
    stream.push(tone(4800, TTS_HZ))
    await asyncio.sleep(0.2)
    with pytest.raises(ListeningFailed) as failure:
        stream.push(tone(480, TTS_HZ))
    assert failure.value.code == "listening_failed"
    engine.broken = False
    heard: list[int] = []
    listening.open(lambda at, _: heard.append(at)).push(tone(4800, TTS_HZ))
    await until(heard, 5)
    listening.stop()


def counted(step: str) -> float:
    return REGISTRY.get_sample_value("agentvoicebox_vad_breaks_total", {"step": step}) or 0


@pytest.mark.real_speech
def test_silero_scores_a_stream_in_a_batch_bit_for_bit_as_alone() -> None:
    silero = Silero(models.path("silero-vad"))
    streams = np.stack([read_wav(CLIPS / "jfk.wav")[0][start : start + 32_000] for start in range(0, 99_000, 3_000)])
    samples = streams.astype(np.float32) / 32768

    def run(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        states, context = np.zeros((2, len(rows), 128), np.float32), np.zeros((len(rows), 64), np.float32)
        scores = []
        for start in range(0, rows.shape[1] - 511, 512):
            windows = np.concatenate([context, rows[:, start : start + 512]], axis=1)
            probabilities, states = silero.score(windows, states)
            scores.append(probabilities)
            context = windows[:, -64:]
        return np.stack(scores, axis=1)

    alone = np.concatenate([run(samples[row : row + 1]) for row in range(len(samples))])
    assert np.array_equal(run(samples), alone)


@pytest.mark.real_speech
async def test_silero_finds_speech_and_the_silence_around_it() -> None:
    listening = BatchedListening(Silero(models.path("silero-vad")))
    for name in ("jfk.wav", "goforward.wav", "librivox-0880.wav"):
        pcm, hz = read_wav(CLIPS / name)
        pad = np.zeros(TTS_HZ, np.int16)
        padded = np.concatenate([pad, resample(pcm, hz, TTS_HZ), pad])
        heard: list[tuple[float, float]] = []
        stream = listening.open(lambda at, p, heard=heard: heard.append((at / 16_000, p)))
        for start in range(0, len(padded), 480):
            stream.push(padded[start : start + 480])
            if start % 24_000 == 0:
                await asyncio.sleep(0.01)
        await until(heard, len(padded) * 2 // 3 // 512 - 2)
        end_s = len(padded) / TTS_HZ
        assert max(p for at, p in heard if at < 0.9) < 0.3, name
        assert max(p for at, p in heard if at > end_s - 0.5) < 0.3, name
        spoken = [p > 0.5 for at, p in heard if 1.0 < at < end_s - 1.0]
        assert sum(spoken) / len(spoken) > 0.4, name
        stream.close()
    listening.stop()
