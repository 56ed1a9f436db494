"""Adapters that are ready to be asked, with the connections that they keep: one set for each provider as it is
configured, so that changed credentials are another one's."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx2

from agents.egress.config import EgressConfig
from agents.llm.adapter import Adapter, open_client, open_guarded_client
from agents.llm.anthropic import Anthropic
from agents.llm.bedrock import Bedrock
from agents.llm.openai_compatible import OpenAiCompatible
from agents.llm.providers import Provider
from agents.llm.types import LlmError

PROVIDERS = 256
IDLE_S = 300.0
MODELS = 64
"""Adapters of one provider; they hold next to nothing."""
BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "groq": "https://api.groq.com/openai/v1",
    "anthropic": "https://api.anthropic.com",
}


def make_client(provider: Provider, egress: EgressConfig) -> httpx2.AsyncClient:
    """Where a tenant says which address is asked, it is asked through the guard."""
    return open_guarded_client(egress) if provider.tenant and provider.base_url else open_client()


def make_adapter(provider: Provider, model: str, client: httpx2.AsyncClient) -> Adapter:
    """Raises LlmError where the provider cannot be asked as it is configured."""
    model = model or provider.model
    if not model:
        raise LlmError("llm_refused", f"Which model of {provider.name} to ask? Write {provider.name}/model.")
    adapter = _make_adapter(provider, model, client)
    adapter.answers_as = provider.answers_as
    return adapter


def _make_adapter(provider: Provider, model: str, client: httpx2.AsyncClient) -> Adapter:
    if provider.kind == "bedrock":
        return Bedrock(provider, model, client=client)
    base_url = provider.base_url or BASE_URLS.get(provider.kind, "")
    if not base_url:
        raise LlmError("llm_refused", f"{provider.name} has no address.")
    key = provider.credential("api_key")
    if provider.kind == "anthropic":
        return Anthropic(provider.name, base_url, key, model, sees=provider.sees, client=client)
    # OpenAI has renamed it, and its newer models refuse the old name; others know only that.
    limit = "max_completion_tokens" if provider.kind == "openai" else "max_tokens"
    return OpenAiCompatible(provider.name, base_url, key, model, sees=provider.sees, limit=limit, client=client)


@dataclass(slots=True)
class _Line:
    client: httpx2.AsyncClient
    adapters: dict[str, Adapter] = field(default_factory=dict)
    users: int = 0
    idle_since: float = 0.0


class Pool:
    """At most ``providers`` of those that nobody uses are kept, and none longer than ``idle_s``."""

    def __init__(self, egress: EgressConfig, *, providers: int = PROVIDERS, idle_s: float = IDLE_S) -> None:
        self._egress = egress
        self._providers = providers
        self._idle_s = idle_s
        self._lines: OrderedDict[Provider, _Line] = OrderedDict()
        self._sweeper: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._lines)

    async def start(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep(), name="llm-pool")

    async def aclose(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        while self._lines:
            _, line = self._lines.popitem()
            await line.client.aclose()

    @asynccontextmanager
    async def lend(self, provider: Provider, model: str) -> AsyncGenerator[Adapter, None]:
        """Raises LlmError."""
        line = self._lines.get(provider)
        if line is None:
            line = self._lines[provider] = _Line(make_client(provider, self._egress))
        self._lines.move_to_end(provider)
        line.users += 1
        try:
            adapter = line.adapters.get(model)
            if adapter is None:
                if len(line.adapters) >= MODELS:
                    line.adapters.clear()
                adapter = line.adapters[model] = make_adapter(provider, model, line.client)
            yield adapter
        finally:
            line.users -= 1
            line.idle_since = time.monotonic()
            await self._close_idle(len(self._lines) - self._providers)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._idle_s / 4)
            await self._close_idle(0)

    async def _close_idle(self, surplus: int) -> None:
        """Whoever was idle for too long, and the ``surplus`` of those that were used longest ago."""
        before = time.monotonic() - self._idle_s
        idle = [(provider, line) for provider, line in self._lines.items() if not line.users]
        gone = [each for place, each in enumerate(idle) if place < surplus or each[1].idle_since < before]
        for provider, _ in gone:
            del self._lines[provider]
        for _, line in gone:
            await line.client.aclose()
