"""Reading agents, and the door of a call: key and agent name in, one frozen ``Caller`` out."""

import logging
from collections.abc import Callable

from django.conf import settings
from django.db import connection, transaction
from django_tenants.utils import get_public_schema_name, schema_context, tenant_context

from agents.models import Agent
from agents.spec import AgentSpec, Caller
from speech.tts.voices import VOICES
from tenants.keys.operations import touch_key
from tenants.keys.queries import (
    InvalidKey,
    KeyExpired,
    KeyRefused,
    KeyRevoked,
    ScopeMissing,
    find_key,
    find_key_by_id,
    require_scope,
)
from tenants.models import ApiKey
from tenants.permissions import Scope

__all__ = [
    "AgentUnknown",
    "InvalidKey",
    "KeyExpired",
    "KeyRefused",
    "KeyRevoked",
    "ScopeMissing",
    "admit",
    "admit_key_id",
    "find_agent",
    "load_spec",
]

log = logging.getLogger(__name__)

PLAIN = AgentSpec(
    slug="",
    name="Assistant",
    instructions="You are a helpful voice assistant. Your answers are spoken: one or two short sentences, no markdown.",
)


class AgentUnknown(Exception):
    """The tenant has no agent of this name."""

    code = "agent_not_found"

    def __init__(self, slug: str) -> None:
        super().__init__(f"There is no agent {slug!r}.")
        self.message = str(self)
        self.slug = slug


def find_agent(slug: str) -> Agent:
    """Raises AgentUnknown."""
    agent = Agent.objects.filter(slug=slug).first()
    if agent is None:
        raise AgentUnknown(slug)
    return agent


def load_spec(slug: str | None) -> AgentSpec:
    """The agent as a call needs it; None is the tenant's default agent, or a plain assistant when there is none.

    Runs inside the tenant's schema. Raises AgentUnknown.
    """
    if slug:
        agent = find_agent(slug)
    else:
        default = Agent.objects.filter(is_default=True).first()
        if default is None:
            return PLAIN
        agent = default
    return AgentSpec(
        slug=agent.slug,
        name=agent.name,
        instructions=agent.instructions,
        voice=usable_voice(agent),
        speed=agent.speed,
        language=agent.language or None,
        greeting=agent.greeting,
        model=agent.model,
        temperature=agent.temperature,
        turn_detection=agent.turn_detection,
    )


def usable_voice(agent: Agent) -> str:
    """The agent's voice; the default one where an older row names a voice that is not there any more."""
    if agent.voice in VOICES:
        return agent.voice
    log.warning("agent %s has a voice that nobody speaks with; it gets %s", agent.slug, PLAIN.voice)
    return PLAIN.voice


def admit(secret: str, agent_slug: str | None) -> Caller:
    """The door of a call, to be run in a thread at connect and never again during it.

    Raises InvalidKey (KeyRevoked is one), KeyExpired, ScopeMissing — all of them KeyRefused — or AgentUnknown;
    ``django.db.OperationalError`` when PostgreSQL does not answer.
    """
    return _admit(lambda: find_key(secret), agent_slug)


def admit_key_id(key_id: str, agent_slug: str | None) -> Caller:
    """The same for whoever brings what this key once made, such as a client secret: a revoked key opens nothing."""
    return _admit(lambda: find_key_by_id(key_id), agent_slug)


def _admit(find: Callable[[], ApiKey], agent_slug: str | None) -> Caller:
    with schema_context(get_public_schema_name()), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = %s", [settings.POSTGRES_READ_TIMEOUT_MS])
        key = find()
        require_scope(key, Scope.REALTIME)
        touch_key(key=key)
        with tenant_context(key.tenant):
            spec = load_spec(agent_slug)
        return Caller(tenant=key.tenant.schema_name, key_id=key.public_id, agent=spec)
