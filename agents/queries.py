"""Reading agents, and the door of a call: key and agent name in, one frozen ``Caller`` out."""

import logging

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet
from django_tenants.utils import get_public_schema_name, schema_context

from agents.models import Agent
from agents.spec import AgentSpec, Caller
from speech.tts.voices import VOICES
from tenants.keys.credential import Credential, Kind
from tenants.keys.operations import touch_key
from tenants.keys.queries import (
    InvalidKey,
    KeyExpired,
    KeyRefused,
    KeyRevoked,
    ScopeMissing,
    credential_of,
    find_key,
    find_key_by_id,
)
from tenants.limits.queries import end_user_limits
from tenants.people.credentials import credential_of_client, find_client_credential, find_member_credential
from tenants.people.oauth.tokens import find_client_principal, looks_like_token
from tenants.permissions import Scope

__all__ = [
    "AgentUnknown",
    "InvalidKey",
    "KeyExpired",
    "KeyRefused",
    "KeyRevoked",
    "ScopeMissing",
    "admit",
    "admit_credential",
    "admit_key_id",
    "find_agent",
    "find_credential",
    "find_maker",
    "list_agents",
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


def list_agents(
    *,
    name: str | None = None,
    voice: str | None = None,
    language: str | None = None,
    model: str | None = None,
    is_default: bool | None = None,
) -> QuerySet[Agent]:
    """By slug; ``name`` may be a part of it, in any case."""
    found = Agent.objects.all()
    if name is not None:
        found = found.filter(name__icontains=name)
    wanted = {"voice": voice, "language": language, "model": model, "is_default": is_default}
    return found.filter(**{field: value for field, value in wanted.items() if value is not None})


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
        record=agent.record,
    )


def usable_voice(agent: Agent) -> str:
    """The agent's voice; the default one where an older row names a voice that is not there any more."""
    if agent.voice in VOICES:
        return agent.voice
    log.warning("agent %s has a voice that nobody speaks with; it gets %s", agent.slug, PLAIN.voice)
    return PLAIN.voice


def admit(secret: str, agent_slug: str | None) -> Caller:
    """The door of a call for whoever brings this key, to be run in a thread at connect and never again during it.

    Raises InvalidKey (KeyRevoked is one), KeyExpired, TenantSuspended, ScopeMissing — all of them KeyRefused — or
    AgentUnknown; ``django.db.OperationalError`` when PostgreSQL does not answer.
    """
    return admit_credential(find_credential(secret, ""), agent_slug)


def admit_key_id(key_id: str, agent_slug: str | None) -> Caller:
    """The same for whoever brings what this key once made, such as a client secret: a revoked key opens nothing."""
    return admit_credential(find_maker("key", key_id, ""), agent_slug)


def admit_credential(credential: Credential, agent_slug: str | None, end_user: str = "") -> Caller:
    """The same where the credential is at hand: only the agent, and what the end user was limited to, is read.

    The credential's own agent is for callers who name none. Raises ScopeMissing and AgentUnknown.
    """
    if Scope.REALTIME not in credential.scopes:
        raise ScopeMissing(Scope.REALTIME, credential.kind)
    with schema_context(credential.tenant), transaction.atomic():
        _limit_statements()
        spec = load_spec(agent_slug or credential.agent or None)
        limits = end_user_limits(end_user)
    return Caller(tenant=credential.tenant, key_id=credential.id, agent=spec, end_user=end_user, limits=limits)


def find_credential(secret: str, address: str) -> Credential:
    """What an API key, or an OAuth client's access token, opens; its use is noted. Raises KeyRefused."""
    with schema_context(get_public_schema_name()), transaction.atomic():
        _limit_statements()
        if looks_like_token(secret):
            return credential_of_client(find_client_principal(secret, address))
        key = find_key(secret)
        touch_key(key=key)
        return credential_of(key)


def find_maker(kind: Kind, maker_id: str, tenant: str) -> Credential:
    """What whoever made a client secret may open now: a secret is worth what its maker is. Raises KeyRefused."""
    with schema_context(get_public_schema_name()), transaction.atomic():
        _limit_statements()
        if kind == "person":
            return find_member_credential(maker_id, tenant)
        if kind == "client":
            return find_client_credential(maker_id)
        key = find_key_by_id(maker_id)
        touch_key(key=key)
        return credential_of(key)


def _limit_statements() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = %s", [settings.POSTGRES_READ_TIMEOUT_MS])
