"""Agents other than the one that answers, for calls in progress: rows are read in threads, each time anew."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from channels.db import database_sync_to_async
from django.db import Error as DatabaseError
from django.db import transaction
from django_tenants.utils import schema_context

from agents.dialogue.intent import choose_rule
from agents.dialogue.overheard import Overheard
from agents.llm.types import Finished, LanguageModel
from agents.loading import load_spec
from agents.prompts import CANNOT, PromptInvalid, fill_prompt
from agents.queries import limit_statements
from agents.spec import AgentSpec, Rule
from realtime.runtime.active_agents import ActiveAgent, ActiveAgents
from realtime.runtime.ports import AgentUnavailable, PromptRefused
from speech.logs import kind_and_place
from tenants.encryption.errors import EncryptionError

READ_S = 5.0
"""What a call waits for rows, the thread's other work before it included: a database that hangs answers no time-out of
its own."""

Found = TypeVar("Found")

log = logging.getLogger(__name__)


class AgentDirectory:
    """``route_s``: how long a model may take to say what a caller's first words mean."""

    def __init__(self, model: LanguageModel, active: ActiveAgents, *, route_s: float) -> None:
        self._model = model
        self._active = active
        self._route_s = route_s

    async def load(self, tenant: str, slug: str, values: Mapping[str, str], *, subject: str) -> AgentSpec:
        try:
            return await _in_thread(_load, tenant, slug, values, subject)
        except CANNOT as error:
            raise AgentUnavailable(str(error)) from error
        except (DatabaseError, EncryptionError, TimeoutError) as error:
            log.warning("an agent cannot be read: %s", kind_and_place(error))
            raise AgentUnavailable(f"{slug} cannot be reached at the moment.") from error

    async def prompt(
        self, tenant: str, prompt: dict[str, Any], values: Mapping[str, str], param: str, *, subject: str
    ) -> str:
        try:
            return await _in_thread(_fill, tenant, prompt, values, subject)
        except PromptInvalid as invalid:
            raise PromptRefused(invalid.code, invalid.message, f"{param}.{invalid.part}") from invalid
        except (DatabaseError, EncryptionError, TimeoutError) as error:
            log.warning("a prompt cannot be read: %s", kind_and_place(error))
            message = "The prompt cannot be read at the moment. Please try again."
            raise PromptRefused("service_unavailable", message, param) from error

    async def route(
        self,
        tenant: str,
        rules: tuple[Rule, ...],
        text: str,
        language: str,
        agent: AgentSpec,
        values: Mapping[str, str],
        *,
        subject: str,
        spend: Callable[[Finished], None],
    ) -> AgentSpec | None:
        model = Overheard(self._model, spend)
        rule = await choose_rule(rules, text, language, model=model, models=agent.models, timeout_s=self._route_s)
        if rule is None or rule.agent == agent.slug:
            return None
        try:
            return await self.load(tenant, rule.agent, values, subject=subject)
        except AgentUnavailable as error:
            log.warning("the rule %r chooses an agent that cannot take the call: %s", rule.name, error)
            return None

    def remember(self, tenant: str, end_user: str, channel: str, entry: str, agent: str) -> None:
        self._active.remember(tenant, channel, end_user, ActiveAgent(entry, agent))


async def _in_thread(read: Callable[..., Found], *arguments: object) -> Found:
    """Raises TimeoutError, and what ``read`` does."""
    async with asyncio.timeout(READ_S):
        found: Found = await database_sync_to_async(read)(*arguments)
        return found


def _load(tenant: str, slug: str, values: Mapping[str, str], subject: str) -> AgentSpec:
    with schema_context(tenant), transaction.atomic():
        limit_statements()
        return load_spec(slug, subject=subject, values=values)


def _fill(tenant: str, prompt: dict[str, Any], values: Mapping[str, str], subject: str) -> str:
    with schema_context(tenant), transaction.atomic():
        limit_statements()
        return fill_prompt(prompt, subject=subject, values=values)
