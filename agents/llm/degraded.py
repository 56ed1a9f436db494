"""What is said when no language model can think: an honest apology that repeats what was understood."""

import logging
from collections.abc import AsyncGenerator

from agents.llm.types import Delta, Finished, Request, TextDelta

NAME = "degraded"

log = logging.getLogger(__name__)


class Degraded:
    """Echoes the caller's last words. Never fails. Its answers are known by ``Finished.provider``."""

    name = NAME
    model = ""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        said = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
        yield TextDelta("I am sorry, I cannot think at the moment. ")
        if said:
            yield TextDelta(f"I heard you say: {said}")
        yield Finished("stop", provider=NAME)
