"""Smart Turn's real file on recorded and on spoken turns, whole and broken off.

How many it must get right leaves room for other processors: eight-bit arithmetic differs among them.
"""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from speech import models
from speech.audio import resample
from speech.engines import STT_HZ, TTS_HZ, EngineError, Pcm
from speech.tts.kokoro import Kokoro
from speech.turn.judge import UNDECIDED, TurnJudge
from speech.turn.mel import log_mel
from speech.turn.smart_turn import SmartTurn
from tests.speech.clips import load_clips

pytestmark = pytest.mark.real_speech

SILENCE = np.zeros(STT_HZ // 5, np.int16)
# Read sentence by sentence from a novel: two of them go on in the next clip, and sound so.
GO_ON = {"librivox-0880.wav", "librivox-0930.wav"}
# Lists and commands, which might be over after almost any word.
LISTS = {"cards-005.wav", "goforward.wav"}
FINISHED = (
    "What time do you open on Sunday?",
    "I would like to book a table for two people.",
    "My order number is four five seven two.",
    "Yes, that would be great, thank you.",
    "No, I have not received it yet.",
    "It was delivered to the wrong address.",
)
UNFINISHED = (
    "What time do you open on, um,",
    "I would like to book a table for",
    "Can you tell me the price of the",
    "Yes, that would be great, but",
    "No, I have not received, uh,",
    "It was delivered to the wrong address and",
)


@pytest.fixture(scope="module")
def engine() -> SmartTurn:
    return SmartTurn(models.path("smart-turn-v3.2"))


def complete(engine: SmartTurn, turns: list[Pcm]) -> int:
    return sum(engine.probability_complete(np.concatenate([pcm, SILENCE])) > 0.5 for pcm in turns)


def test_whole_clips_are_complete_and_those_that_go_on_are_not(engine: SmartTurn) -> None:
    probabilities = {
        clip.file: engine.probability_complete(np.concatenate([clip.pcm_16khz, SILENCE])) for clip in load_clips()
    }
    print("\n" + "\n".join(f"{file:<18} {probability:.2f}" for file, probability in probabilities.items()))
    wrong = [file for file, probability in probabilities.items() if (probability > 0.5) == (file in GO_ON)]
    assert len(wrong) <= 1, wrong


def test_clips_cut_anywhere_are_mostly_incomplete(engine: SmartTurn) -> None:
    cuts = {
        (clip.file, share): engine.probability_complete(clip.pcm_16khz[: int(len(clip.pcm_16khz) * share)])
        for clip in load_clips()
        if clip.file not in LISTS
        for share in np.arange(0.2, 0.86, 0.08).round(2).tolist()
    }
    wrong = [cut for cut, probability in cuts.items() if probability > 0.5]
    print(f"\n{len(wrong)} of {len(cuts)} cuts taken for complete: {wrong}")
    assert len(cuts) == 54
    assert len(wrong) <= len(cuts) * 0.4


def test_finished_and_unfinished_sentences_are_told_apart(engine: SmartTurn) -> None:
    kokoro = Kokoro(models.path("kokoro-v1.0.int8"), models.path("kokoro-voices"), device="cpu", threads=2)

    def speak(text: str) -> Pcm:
        pcm = resample(np.concatenate(list(kokoro.synthesise(text, voice="alloy"))), TTS_HZ, STT_HZ)
        return pcm[: np.flatnonzero(np.abs(pcm.astype(np.int32)) > 200)[-1] + 1]

    finished = complete(engine, [speak(text) for text in FINISHED])
    unfinished = complete(engine, [speak(text) for text in UNFINISHED])
    print(f"\ncomplete: {finished} of {len(FINISHED)} finished, {unfinished} of {len(UNFINISHED)} unfinished sentences")
    assert finished >= 4
    assert unfinished <= 2


def test_a_long_turn_is_judged_by_its_last_eight_seconds(engine: SmartTurn) -> None:
    clips = [clip.pcm_16khz for clip in load_clips()]
    long = np.concatenate(clips)
    assert len(long) > 40 * STT_HZ
    assert engine.probability_complete(long) == engine.probability_complete(long[-8 * STT_HZ :])


@pytest.mark.parametrize("samples", [0, 1, 320, STT_HZ, 8 * STT_HZ, 20 * STT_HZ])
def test_silence_of_any_length_is_judged(engine: SmartTurn, samples: int) -> None:
    assert engine.probability_complete(np.zeros(samples, np.int16)) > 0.5


@pytest.mark.parametrize("samples", [1, 320, 127_999, 128_000, 128_001])
def test_sound_of_any_length_and_level_is_a_probability(engine: SmartTurn, samples: int) -> None:
    speech = np.tile(load_clips()[-1].pcm_16khz, 2)[40_000 : 40_000 + samples]
    loudest = np.where(speech < 0, -32768, 32767).astype(np.int16)
    for pcm in (speech, loudest):
        assert 0 <= engine.probability_complete(pcm) <= 1


def test_the_same_turn_gets_the_same_answer(engine: SmartTurn) -> None:
    pcm = load_clips()[1].pcm_16khz
    assert len({engine.probability_complete(pcm) for _ in range(5)}) == 1


def test_features_put_a_tone_into_its_band_and_silence_at_the_floor() -> None:
    at_s = np.arange(8 * STT_HZ) / STT_HZ
    tones = {hz: np.sin(2 * np.pi * hz * at_s).astype(np.float32) for hz in (440, 1000, 4000)}
    # Slaney's scale, 80 bands up to 8 kHz: 45.25 mel in 81 steps; 1 kHz is 15 mel, 4 kHz 15 + 27 ln 4 / ln 6.4.
    expected = {440: 6.6, 1000: 15.0, 4000: 15 + 27 * np.log(4) / np.log(6.4)}
    for hz, sound in tones.items():
        features = log_mel(sound)
        assert features.shape == (80, 800)
        assert features.dtype == np.float32
        band = int(features[:, 400].argmax())
        assert abs((band + 1) * 45.2456 / 81 - expected[hz]) < 45.2456 / 81
        # Eight powers of ten below the loudest nothing is told apart any more.
        assert features.max() - features.min() == pytest.approx(2.0, abs=1e-5)
    assert np.unique(log_mel(np.zeros(8 * STT_HZ, np.float32))).tolist() == [-1.5]


def test_features_are_the_published_ones() -> None:
    """Against the spectrum written out from its definition, for one frame of a tone with a falling level."""
    at = np.arange(8 * STT_HZ)
    sound = (np.cos(at / 7) * np.exp(-at / 40_000)).astype(np.float32)
    frame = sound[300 * 160 - 200 : 300 * 160 + 200].astype(np.float64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(201), np.arange(400)) / 400)
    power = np.abs(turns @ (frame * window)) ** 2

    def to_hz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else float(1000 * 6.4 ** ((mel - 15) / 27))

    top = 15 + 27 * np.log(8) / np.log(6.4)
    corners = [to_hz(top * step / 81) for step in range(82)]
    levels = []
    for low, centre, high in zip(corners, corners[1:], corners[2:], strict=False):
        rise = [min((hz - low) / (centre - low), (high - hz) / (high - centre)) for hz in range(0, 8001, 40)]
        levels.append(np.log10(max(np.maximum(rise, 0) @ power * 2 / (high - low), 1e-10)))
    features = log_mel(sound)
    loudest = features.max() * 4 - 4
    expected = (np.maximum(levels, loudest - 8) + 4) / 4
    assert np.abs(features[:, 300] - expected).max() < 1e-5


def test_one_judgement_takes_one_core_and_a_few_hundredths_of_a_second(engine: SmartTurn) -> None:
    pcm = np.concatenate([load_clips()[-1].pcm_16khz, SILENCE])
    wall_ms, thread_ms, process_ms = [], [], []
    for _ in range(20):
        began = time.perf_counter(), time.thread_time(), time.process_time()
        engine.probability_complete(pcm)
        wall_ms.append((time.perf_counter() - began[0]) * 1000)
        thread_ms.append((time.thread_time() - began[1]) * 1000)
        process_ms.append((time.process_time() - began[2]) * 1000)
    print(
        f"\none judgement: {np.median(wall_ms):.1f} ms, CPU {np.median(thread_ms):.1f} ms on its thread, "
        f"{np.median(process_ms):.1f} ms in the process"
    )
    assert np.median(thread_ms) < 150
    # No other thread helps, nor spins.
    assert np.median(process_ms) < 1.3 * np.median(thread_ms)


async def test_the_event_loop_goes_on_while_turns_are_judged(engine: SmartTurn) -> None:
    judge = TurnJudge(engine, waiting_max=16)
    turn = np.concatenate([resample(load_clips()[0].pcm_16khz, STT_HZ, TTS_HZ), np.zeros(4800, np.int16)])
    assert await judge.judge(turn) > 0.5
    pending = [asyncio.create_task(judge.judge(turn)) for _ in range(17)]
    lags_ms = []
    await asyncio.sleep(0)
    refused = [await judge.judge(turn) for _ in range(10)]
    while not all(task.done() for task in pending):
        begun = time.perf_counter()
        await asyncio.sleep(0.002)
        lags_ms.append((time.perf_counter() - begun) * 1000 - 2)
    print(f"\n17 judgements; event loop late by {np.median(lags_ms):.2f} ms, p99 {np.quantile(lags_ms, 0.99):.2f} ms")
    assert refused == [UNDECIDED] * 10
    assert all(task.result() > 0.5 for task in pending)
    assert np.median(lags_ms) < 5
    judge.stop()


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(EngineError, match=r"Smart Turn does not load from broken\.onnx"):
        SmartTurn(tmp_path / "broken.onnx")


def test_another_model_is_refused_by_name() -> None:
    with pytest.raises(EngineError, match="does not take input_features alone; use smart-turn"):
        SmartTurn(models.path("silero-vad"))
