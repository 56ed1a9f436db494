"""What is said when no language model can think: an honest apology that repeats what was understood."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from agents.llm.metrics import REQUESTS
from agents.llm.types import Delta, Finished, LanguageModel, LlmError, Request, TextDelta

log = logging.getLogger(__name__)


class Degraded:
    """Echoes the caller's last words. Never fails."""

    name = "degraded"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        said = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
        yield TextDelta("I am sorry, I cannot think at the moment. ")
        if said:
            yield TextDelta(f"I heard you say: {said}")
        yield Finished("stop")


class WithFallback:
    """``first`` answers; where it fails before its first word, ``second`` does. After that a failure is a failure."""

    def __init__(self, first: LanguageModel, second: LanguageModel) -> None:
        self.name = first.name
        self._first = first
        self._second = second

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        begun = False
        try:
            async with aclosing(self._first.stream(request)) as deltas:
                async for delta in deltas:
                    begun = True
                    yield delta
            return
        except LlmError as error:
            if begun:
                raise
            log.warning("answer comes from %s: %s (%s)", self._second.name, error.message, error.code)
        REQUESTS.labels(self._second.name, "fallback").inc()
        async with aclosing(self._second.stream(request)) as deltas:
            async for delta in deltas:
                yield delta
