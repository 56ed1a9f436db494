"""One model asked once. Until it begins nothing of it was said, so that another may answer in its place."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from agents.llm import metrics
from agents.llm.adapter import read_arguments
from agents.llm.types import Delta, Finished, LanguageModel, LlmError, Request, TextDelta, ToolCallDelta

# Ends that promise an answer. One that was cut short or filtered says so to the client, words or none.
ANSWERED = ("stop", "tool_calls")

T = TypeVar("T")


class Unusable(LlmError):
    """The model has answered nothing, or has called a tool in a way that nobody can run. It is well otherwise, and
    seldom does so twice. ``call_anyway`` are the deltas of such a call, for when there is nobody else to ask."""

    def __init__(self, message: str, call_anyway: tuple[Delta, ...] = ()) -> None:
        super().__init__("llm_bad_response", message)
        self.call_anyway = call_anyway


class Patience:
    """The seconds of waiting that one answer may cost. Only waiting for models counts: they may be read slowly, as fast
    as they are spoken."""

    def __init__(self, total_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.total_s = total_s
        self.left_s = total_s
        self._clock = clock

    async def wait(self, awaited: Awaitable[T], limit_s: float | None = None) -> T:
        """Raises TimeoutError. No time-out may span a yield: it would strike whatever the reader is waiting for."""
        began = self._clock()
        try:
            async with asyncio.timeout(self.left_s if limit_s is None else min(limit_s, self.left_s)):
                return await awaited
        finally:
            self.left_s -= self._clock() - began


@dataclass(slots=True)
class _Call:
    call_id: str
    name: str
    arguments: str = ""

    def whole(self, index: int) -> ToolCallDelta:
        blank = self.arguments.strip() in ("", "null")
        return ToolCallDelta(index, "{}" if blank else self.arguments, self.call_id, self.name)

    @property
    def fault(self) -> str:
        if not self.name:
            return "named no function to call"
        return "" if read_arguments(self.arguments) is not None else "called a tool with arguments that are no object"


class Attempt:
    """``begin`` waits for the first word, or for all of the tool calls; ``rest`` then gives everything. Tool calls come
    whole, one delta each, however they were streamed: so one that breaks off is never begun, and two at once do not
    mix."""

    def __init__(self, model: LanguageModel, request: Request, patience: Patience, label: str) -> None:
        self._model = model
        self._label = label
        self._patience = patience
        self._deltas = model.stream(request)
        self._calls: dict[int, _Call] = {}
        self._held: tuple[Delta, ...] = ()
        self._began = time.monotonic()
        self._outcome = "cancelled"

    async def begin(self, first_s: float | None) -> None:
        """``first_s`` bounds the time to the first sign of an answer; None: all that patience has. Raises LlmError."""
        left_s = first_s
        while True:
            asked = time.monotonic()
            delta = await self._next(left_s)
            match delta:
                case TextDelta(text=text):
                    if text.strip():  # blanks in front of the first word are not spoken anyway
                        self._held = (delta,)
                        break
                case ToolCallDelta():
                    self._gather(delta)
                    left_s = None
                case Finished():
                    self._held = self._judge(delta)
                    break
            if left_s is not None:
                left_s = max(0.0, left_s - (time.monotonic() - asked))

    async def rest(self) -> AsyncGenerator[Delta, None]:
        """All deltas, the first ones included; the last is Finished. Raises LlmError."""
        for delta in self._held:
            yield delta
        while not (self._held and isinstance(self._held[-1], Finished)):
            delta = await self._next(None)
            if isinstance(delta, ToolCallDelta):
                self._gather(delta)
            elif isinstance(delta, Finished):
                self._held = self._end(delta)
                for held in self._held:
                    yield held
            else:
                yield delta

    async def aclose(self) -> None:
        async with aclosing(self._deltas):
            metrics.REQUESTS.labels(self._label, self._outcome).inc()
            metrics.DURATION.labels(self._label).observe(time.monotonic() - self._began)

    async def _next(self, limit_s: float | None) -> Delta:
        try:
            delta = await self._patience.wait(anext(self._deltas, None), limit_s)
            if delta is None:
                raise LlmError("llm_bad_response", f"{self._model.name} broke off in the middle of its answer.")
        except LlmError as error:
            self._outcome = error.code
            raise
        except TimeoutError:
            self._outcome = "llm_timeout"
            name, in_all_s = self._model.name, self._patience.total_s
            words = f"did not finish its answer within {in_all_s:g} s" if limit_s is None else "did not begin in time"
            raise LlmError(self._outcome, f"{name} {words}.") from None
        if self._outcome == "cancelled" and not (isinstance(delta, TextDelta) and not delta.text.strip()):
            metrics.FIRST_TOKEN.labels(self._label).observe(time.monotonic() - self._began)
            self._outcome = "interrupted"
        if isinstance(delta, Finished):
            self._outcome = "completed"
            metrics.TOKENS.labels(self._label, "input").inc(delta.input_tokens)
            metrics.TOKENS.labels(self._label, "output").inc(delta.output_tokens)
        return delta

    def _gather(self, delta: ToolCallDelta) -> None:
        call = self._calls.setdefault(delta.index, _Call(delta.call_id, delta.name))
        call.name = call.name or delta.name
        call.arguments += delta.arguments

    def _end(self, finished: Finished) -> tuple[Delta, ...]:
        """What it was about to call when it was cut short is no call."""
        calls = [call for _, call in sorted(self._calls.items()) if finished.reason in ANSWERED or not call.fault]
        return (*(call.whole(index) for index, call in enumerate(calls)), finished)

    def _judge(self, finished: Finished) -> tuple[Delta, ...]:
        """What an answer without a word comes to. Raises Unusable."""
        deltas = self._end(finished)
        if finished.reason in ANSWERED:
            if not self._calls:
                self._outcome = "empty"
                raise Unusable(f"{self._model.name} said nothing.")
            if fault := next((call.fault for call in self._calls.values() if call.fault), ""):
                self._outcome = "malformed_call"
                raise Unusable(f"{self._model.name} {fault}.", deltas)
        return deltas
