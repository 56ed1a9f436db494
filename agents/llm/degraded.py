"""What is said when no language model can think: an honest apology that repeats what was understood."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from agents.llm.metrics import REQUESTS
from agents.llm.types import Delta, Finished, LanguageModel, LlmError, Request, TextDelta

# Ends that promise an answer. One that was cut short or filtered says so to the client, words or none.
ANSWERED = ("stop", "tool_calls")

log = logging.getLogger(__name__)


class Degraded:
    """Echoes the caller's last words. Never fails."""

    name = "degraded"
    model = ""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        said = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
        yield TextDelta("I am sorry, I cannot think at the moment. ")
        if said:
            yield TextDelta(f"I heard you say: {said}")
        yield Finished("stop")


class WithFallback:
    """``first`` answers; where it fails before its first word, ``second`` does. After that a failure is a failure.

    An answer of no words, no tool call and no refusal fails too, for it would leave a caller in silence; ``first`` is
    asked once more then, since models seldom say nothing twice.
    """

    def __init__(self, first: LanguageModel, second: LanguageModel) -> None:
        self.name, self.model = first.name, first.model
        self._first = first
        self._second = second

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        for model in (self._first, self._first):
            begun = False
            try:
                async with aclosing(model.stream(request)) as deltas:
                    async for delta in deltas:
                        if not begun and isinstance(delta, TextDelta) and not delta.text.strip():
                            continue  # blanks in front of the first word are not spoken anyway
                        if not begun and isinstance(delta, Finished) and delta.reason in ANSWERED:
                            break
                        begun = True
                        yield delta
                if begun:
                    return
                REQUESTS.labels(model.name, "empty").inc()
                log.warning("%s said nothing", model.name)
            except LlmError as error:
                if begun:
                    raise
                log.warning("answer comes from %s: %s (%s)", self._second.name, error.message, error.code)
                break
        REQUESTS.labels(self._second.name, "fallback").inc()
        async with aclosing(self._second.stream(request)) as deltas:
            async for delta in deltas:
                yield delta
