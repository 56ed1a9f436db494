"""Models and chains for tests: adapters to local servers, and one in front of them that keeps no call waiting long."""

from contextlib import aclosing
from typing import Any

from agents.egress.breaker import Breakers, RedisBreakers
from agents.egress.config import EgressConfig
from agents.llm.choice import Platform
from agents.llm.config import FailoverConfig
from agents.llm.failover import Failover
from agents.llm.openai_compatible import OpenAiCompatible
from agents.llm.pool import Pool
from agents.llm.providers import ModelRef, Provider
from agents.llm.types import Delta, Finished, LanguageModel, Message, Request, TextDelta
from tests.llm.server import StreamServer

ASK = Request((Message("system", "Be brief."), Message("user", "Hi")), temperature=0.3)
TOOL = {"type": "function", "name": "add", "parameters": {"type": "object"}}
NOWHERE = "redis://127.0.0.1:9/0"
"""Nobody listens there: the process counts for itself."""


async def read(model: LanguageModel, request: Request = ASK) -> list[Delta]:
    async with aclosing(model.stream(request)) as deltas:
        return [delta async for delta in deltas]


def words(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def end(deltas: list[Delta]) -> Finished:
    assert isinstance(deltas[-1], Finished)
    return deltas[-1]


def connect(server: StreamServer, *, sees: bool = True) -> OpenAiCompatible:
    return OpenAiCompatible("local", server.url, "secret", "small", sees=sees)


def local_breakers(**options: Any) -> Breakers:
    return RedisBreakers(NOWHERE, 0.1, **options)


def provider(name: str, server: StreamServer, **fields: Any) -> Provider:
    return Provider(name, "openai_compatible", server.url, (("api_key", f"key-of-{name}"),), "small", **fields)


class Naps:
    """Sleeps no time at all, and remembers how long it should have been."""

    def __init__(self) -> None:
        self.naps: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.naps.append(seconds)


class Chain:
    """A failover in front of these servers, called ``first``, ``second``, ``third``; ``naps`` are its back-offs."""

    def __init__(self, *servers: StreamServer, breakers: Breakers | None = None, **config: Any) -> None:
        self.naps = Naps()
        self.providers = [
            provider(name, server) for name, server in zip(("first", "second", "third"), servers, strict=False)
        ]
        self.chain = tuple(ModelRef(each, "small") for each in self.providers)
        config = {"first_token_s": 0.3, "total_s": 3.0} | config
        self.breakers = breakers or local_breakers()
        self.pool = Pool(EgressConfig())
        platform = Platform({each.name: each for each in self.providers}, self.chain)
        self.model = Failover(platform, self.breakers, self.pool, FailoverConfig(**config), sleep=self.naps)

    async def __aenter__(self) -> "Chain":
        await self.model.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.model.aclose()

    async def ask(self, request: Request = ASK) -> list[Delta]:
        return await read(self.model, request)
