"""Asking a provider for one word, to see whether it answers."""

import asyncio
import time
from dataclasses import dataclass

from django.conf import settings

from agents.egress.config import EgressConfig
from agents.llm.attempt import Attempt, Patience
from agents.llm.failover import label_of
from agents.llm.pool import make_adapter, make_client
from agents.llm.providers import Provider
from agents.llm.types import LlmError, Message, Request
from tenants.api.places import Places

CHECK_S = 10.0
ASKED = Request((Message("user", "Say: ok."),), max_tokens=16)
"""One token is what some models refuse to be limited to."""


@dataclass(frozen=True, slots=True)
class Checked:
    """``first_token_ms`` is None where there was none; then ``code`` and ``message`` say why, as an LlmError does."""

    model: str
    first_token_ms: int | None
    code: str = ""
    message: str = ""


_places = Places(lambda: settings.PROVIDER_CHECKS)


def check_provider(provider: Provider, model: str = "") -> Checked:
    """Whether it answers now; no breaker is asked or told. Blocks for ``CHECK_S`` at most. Raises TooBusy."""
    with _places.take():
        return asyncio.run(_check(provider, model or provider.model))


async def _check(provider: Provider, model: str) -> Checked:
    began = time.monotonic()
    async with make_client(provider, EgressConfig.from_environ()) as client:
        try:
            attempt = Attempt(make_adapter(provider, model, client), ASKED, Patience(CHECK_S), label_of(provider))
            try:
                await attempt.begin(None)
            finally:
                await attempt.aclose()
        except LlmError as error:
            return Checked(model, None, error.code, error.message)
    return Checked(model, round((time.monotonic() - began) * 1000))
