"""The judge of turns, with the scripted engine: what is answered, when, and what is not."""

import asyncio
import threading
import time

import numpy as np
import pytest
from prometheus_client import REGISTRY

from realtime.protocol.config import EAGERNESS
from speech.audio import resample
from speech.engines import STT_HZ, TTS_HZ, Pcm
from speech.scripted import ScriptedEndOfTurn, spoken_as, trailing_off
from speech.turn.judge import UNDECIDED, TurnJudge


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


class Gated:
    """Answers 0.8 once ``go`` is set; counts what it was asked, and keeps the thread and the lengths."""

    name = "gated"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.threads: set[int] = set()
        self.lengths: list[int] = []

    def probability_complete(self, pcm_16khz: Pcm) -> float:
        self.threads.add(threading.get_ident())
        self.lengths.append(len(pcm_16khz))
        assert self.go.wait(5)
        return 0.8


async def asked(engine: Gated, count: int) -> None:
    """Wait up to 5 s until the engine has been asked so often."""
    for _ in range(1000):
        if len(engine.lengths) >= count:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"the engine was asked {len(engine.lengths)} times, not {count}")


async def test_a_turn_that_trails_off_is_a_pause_and_any_other_is_over() -> None:
    judge = TurnJudge(ScriptedEndOfTurn())
    said = spoken_as("I would like", 900, TTS_HZ)
    silence = np.zeros(TTS_HZ // 2, np.int16)
    assert await judge.judge(np.concatenate([said, silence])) == 0.9
    assert await judge.judge(np.concatenate([trailing_off(said, TTS_HZ), silence])) == 0.1
    assert await judge.judge(silence) == 0.9
    assert await judge.judge(silence[:0]) == 0.9
    judge.stop()


def test_the_scripted_engine_says_the_same_at_either_rate() -> None:
    engine = ScriptedEndOfTurn()
    said = trailing_off(spoken_as("well", 1200, TTS_HZ), TTS_HZ)
    assert engine.probability_complete(resample(said, TTS_HZ, STT_HZ)) == 0.1
    assert engine.probability_complete(trailing_off(spoken_as("well", 1200))) == 0.1
    assert engine.probability_complete(spoken_as("well", 1200)) == 0.9


async def test_judgements_run_one_after_another_on_a_thread_of_their_own() -> None:
    engine = Gated()
    engine.go.set()
    judge = TurnJudge(engine)
    answers = await asyncio.gather(*(judge.judge(np.zeros(2400, np.int16)) for _ in range(8)))
    assert answers == [0.8] * 8
    assert len(engine.threads) == 1
    assert threading.get_ident() not in engine.threads
    judge.stop()


async def test_only_the_last_eight_seconds_reach_the_engine() -> None:
    engine = Gated()
    engine.go.set()
    judge = TurnJudge(engine)
    await judge.judge(np.zeros(60 * TTS_HZ, np.int16))
    await judge.judge(np.zeros(480, np.int16))
    assert engine.lengths == [8 * STT_HZ, 320]
    judge.stop()


async def test_too_many_waiting_are_answered_undecided_at_once() -> None:
    engine = Gated()
    judge = TurnJudge(engine, waiting_max=3)
    overloads = counted("agentvoicebox_turn_overloads_total")
    patient = [asyncio.create_task(judge.judge(np.zeros(2400, np.int16))) for _ in range(4)]
    await asked(engine, 1)
    begun = time.perf_counter()
    assert [await judge.judge(np.zeros(2400, np.int16)) for _ in range(5)] == [UNDECIDED] * 5
    assert time.perf_counter() - begun < 5
    assert counted("agentvoicebox_turn_overloads_total") - overloads == 5
    engine.go.set()
    assert await asyncio.gather(*patient) == [0.8] * 4
    assert await judge.judge(np.zeros(2400, np.int16)) == 0.8
    judge.stop()


def test_undecided_ends_no_turn_at_any_eagerness() -> None:
    assert all(complete > UNDECIDED for _, complete in EAGERNESS.values())


async def test_a_cancelled_judgement_that_waits_is_never_made() -> None:
    engine = Gated()
    judge = TurnJudge(engine, waiting_max=2)
    first, second, third = (asyncio.create_task(judge.judge(np.zeros(240 * n, np.int16))) for n in (1, 2, 3))
    await asked(engine, 1)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    engine.go.set()
    assert await asyncio.gather(first, third) == [0.8, 0.8]
    assert engine.lengths == [160, 480]
    judge.stop()


async def test_a_broken_engine_leaves_the_turn_undecided_and_is_counted() -> None:
    judge = TurnJudge(ScriptedEndOfTurn(fault="raise:*"))
    failures = counted("agentvoicebox_turn_failures_total")
    assert await judge.judge(spoken_as("hello", 500, TTS_HZ)) == UNDECIDED
    assert counted("agentvoicebox_turn_failures_total") - failures == 1
    judge.stop()


async def test_stopping_answers_those_who_wait() -> None:
    engine = Gated()
    judge = TurnJudge(engine)
    tasks = [asyncio.create_task(judge.judge(np.zeros(2400, np.int16))) for _ in range(3)]
    await asked(engine, 1)
    stopping = asyncio.create_task(asyncio.to_thread(judge.stop))
    await asyncio.sleep(0.05)
    engine.go.set()
    await stopping
    assert await asyncio.gather(*tasks) == [0.8, UNDECIDED, UNDECIDED]
    assert await judge.judge(np.zeros(2400, np.int16)) == UNDECIDED
    assert len(engine.lengths) == 1


async def test_the_wait_is_measured() -> None:
    judge = TurnJudge(ScriptedEndOfTurn(delay_ms=50))
    before = counted("agentvoicebox_turn_judge_seconds_sum")
    await judge.judge(spoken_as("hello", 500, TTS_HZ))
    assert counted("agentvoicebox_turn_judge_seconds_sum") - before >= 0.05
    judge.stop()


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="waiting_max must be 0 or more, not -1"):
        TurnJudge(ScriptedEndOfTurn(), waiting_max=-1)
