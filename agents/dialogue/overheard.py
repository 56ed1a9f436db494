"""What a language model took is told as soon as it says so, whatever becomes of what it was asked for."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from agents.llm.types import Delta, Finished, LanguageModel, Request


class Overheard:
    """A language model of which somebody is told what each answer took."""

    def __init__(self, model: LanguageModel, told: Callable[[Finished], None]) -> None:
        self.name, self.model = model.name, model.model
        self._model = model
        self._told = told

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        async with aclosing(self._model.stream(request)) as deltas:
            async for delta in deltas:
                if isinstance(delta, Finished):
                    self._told(delta)
                yield delta
