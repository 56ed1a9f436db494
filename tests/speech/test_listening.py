"""Voice activity of many calls on one thread, with a scripted engine and with Silero's real file where marked."""

import asyncio
import threading
from collections.abc import Sized

import numpy as np
import pytest
from numpy.typing import NDArray

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
    stream = listening.open(lambda at, p: None)
    engine.go.clear()
    stream.push(tone(TTS_HZ // 2, TTS_HZ))
    await asyncio.sleep(0.1)
    stream.push(tone(TTS_HZ, TTS_HZ))
    with pytest.raises(ListeningFailed, match="more than 1 s") as failure:
        stream.push(tone(480, TTS_HZ))
    assert failure.value.code == "listening_overloaded"
    engine.go.set()
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
