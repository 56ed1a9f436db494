"""Judges, off the event loop, whether callers have finished their turns: all calls of a process share one thread.

A judgement is advice, and soon worth nothing: a caller who waits for the answer waits for that too. So there is no long
queue. When ``waiting_max`` judgements wait already, the next is answered ``UNDECIDED`` at once, and so is one whose
engine breaks: nobody is cut off for want of advice, and the length of the silence ends the turn, as it would with no
such engine. Both are counted, and nothing is ever raised, because a call must not end for want of advice either.
"""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import soxr
from prometheus_client import Counter, Histogram

from speech.audio import to_float, to_pcm
from speech.engines import STT_HZ, TTS_HZ, TURN_WINDOW_S, EndOfTurn, Pcm

log = logging.getLogger(__name__)

# Low enough that no threshold takes it for the end of a turn.
UNDECIDED = 0.0
# At 30 ms each the last of them waits for about half a second: longer than that, silence itself answers the question.
WAITING_MAX = 16
WINDOW_SAMPLES = int(TURN_WINDOW_S * TTS_HZ)

SECONDS = Histogram(
    "agentvoicebox_turn_judge_seconds",
    "From the question whether a turn is over to the answer, the wait for the thread included",
    buckets=(0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.35, 0.5, 1.0, 2.5),
)
OVERLOADS = Counter("agentvoicebox_turn_overloads", "Judgements answered as undecided because too many waited")
FAILURES = Counter("agentvoicebox_turn_failures", "Judgements answered as undecided because the engine broke")


class TurnJudge:
    """Implements the runtime's ``Judging``. One per process; ``stop`` ends its thread."""

    def __init__(self, engine: EndOfTurn, *, waiting_max: int = WAITING_MAX) -> None:
        """``waiting_max``: judgements that may wait behind the one at work. ValueError when it is negative."""
        if waiting_max < 0:
            raise ValueError(f"waiting_max must be 0 or more, not {waiting_max}")
        self._engine = engine
        self._waiting_max = waiting_max
        self._asked = 0
        self._stopping = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turn")

    async def judge(self, pcm_24khz: Pcm) -> float:
        """The probability that the turn is over; ``UNDECIDED`` (0.0) when it cannot be told. Never raises.

        ``pcm_24khz``: the turn so far, which must not be changed meanwhile; only its last ``TURN_WINDOW_S`` count.
        Cancelling the task drops a judgement that has not begun.
        """
        if self._stopping:
            return UNDECIDED
        if self._asked > self._waiting_max:
            OVERLOADS.inc()
            return UNDECIDED
        self._asked += 1
        begun = time.perf_counter()
        try:
            window = pcm_24khz[-WINDOW_SAMPLES:]
            probability = await asyncio.get_running_loop().run_in_executor(self._thread, self._judge, window)
        finally:
            self._asked -= 1
        SECONDS.observe(time.perf_counter() - begun)
        return probability

    def stop(self) -> None:
        """End the thread after the judgement at work; those that wait are answered ``UNDECIDED``. Blocks meanwhile."""
        self._stopping = True
        self._thread.shutdown()

    def _judge(self, pcm_24khz: Pcm) -> float:
        if self._stopping:
            return UNDECIDED
        try:
            # In floats: soxr adds dither to integers, which would be heard where there is silence.
            samples = soxr.resample(to_float(pcm_24khz), TTS_HZ, STT_HZ, quality="HQ")
            return self._engine.probability_complete(to_pcm(samples))
        except Exception:
            FAILURES.inc()
            log.exception("a turn could not be judged; silence alone decides")
            return UNDECIDED
