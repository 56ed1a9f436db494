"""Reading agents, and the door of a call: key and agent name in, one frozen ``Caller`` out."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from django.conf import settings
from django.db import connection, transaction
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context

from agents.checks import freeze_tools
from agents.loading import AgentRefused, AgentUnknown, RenderedTooLong, VariableMissing, VersionUnknown, load_spec
from agents.models import Agent, AgentVersion
from agents.routing.matching import Choice
from agents.routing.queries import choose_agent
from agents.spec import AgentSpec, Caller
from agents.versions import DRAFT, Definition, definition_of
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
    "VersionUnknown",
    "admit",
    "admit_credential",
    "admit_key_id",
    "find_agent",
    "find_caller",
    "find_credential",
    "find_maker",
    "find_version",
    "limit_statements",
    "list_agents",
    "list_versions",
    "load_spec",
    "read_definition",
]

log = logging.getLogger(__name__)


def list_agents(
    *,
    name: str | None = None,
    voice: str | None = None,
    language: str | None = None,
    model: str | None = None,
    is_default: bool | None = None,
) -> QuerySet[Agent]:
    """By slug; ``name`` may be a part of it, in any case."""
    found = _agents()
    if name is not None:
        found = found.filter(name__icontains=name)
    wanted = {"voice": voice, "language": language, "model": model, "is_default": is_default}
    return found.filter(**{field: value for field, value in wanted.items() if value is not None})


def _agents() -> QuerySet[Agent]:
    """With the numbers of the versions that take calls, not with what these say."""
    return Agent.objects.select_related("live", "standby").defer("live__definition", "standby__definition")


def find_agent(slug: str) -> Agent:
    """Raises AgentUnknown."""
    agent = _agents().filter(slug=slug).first()
    if agent is None:
        raise AgentUnknown(slug)
    return agent


def list_versions(agent: Agent) -> QuerySet[AgentVersion]:
    """Each with ``is_live`` and ``is_standby``."""
    live, standby = Q(agent__live=F("pk")), Q(agent__standby=F("pk"))
    return agent.versions.select_related("agent").annotate(
        is_live=Coalesce(ExpressionWrapper(live, BooleanField()), False),
        is_standby=Coalesce(ExpressionWrapper(standby, BooleanField()), False),
    )


def find_version(agent: Agent, number: int) -> AgentVersion:
    """Raises VersionUnknown."""
    version = list_versions(agent).filter(number=number).first()
    if version is None:
        raise VersionUnknown(agent.slug, str(number))
    return version


def read_definition(agent: Agent, name: str) -> Definition:
    """Of a version by its number, or of the ``draft`` as it would be published now. Raises VersionUnknown."""
    if name != DRAFT:
        return find_version(agent, int(name)).definition
    definition = definition_of(agent)
    # What cannot be published can be compared all the same.
    return {**definition, "tools": freeze_tools(definition, {})}


def admit(secret: str, agent_slug: str | None) -> Caller:
    """The door of a call for whoever brings this key, to be run in a thread at connect and never again during it.

    Raises InvalidKey (KeyRevoked is one), KeyExpired, TenantSuspended, ScopeMissing — all of them KeyRefused — or what
    ``load_spec`` raises; ``django.db.OperationalError`` when PostgreSQL does not answer.
    """
    return admit_credential(find_credential(secret, ""), agent_slug)


def admit_key_id(key_id: str, agent_slug: str | None) -> Caller:
    """The same for whoever brings what this key once made, such as a client secret: a revoked key opens nothing."""
    return admit_credential(find_maker("key", key_id, ""), agent_slug)


def admit_credential(credential: Credential, agent_slug: str | None, end_user: str = "") -> Caller:
    """The same where the credential is at hand."""
    with schema_context(credential.tenant), transaction.atomic():
        limit_statements()
        return find_caller(credential, agent_slug, end_user)


def find_caller(
    credential: Credential,
    agent_slug: str | None,
    end_user: str = "",
    *,
    version: str = "",
    session_id: str = "",
    channel: str = "",
    values: Mapping[str, str] | None = None,
    active: tuple[str, str] | None = None,
) -> Caller:
    """Inside the schema of the credential's tenant, and a transaction: only the agent, and what the end user was
    limited to, is read.

    Who answers: the agent that is named, else the credential's own, else whom the tenant's routing rules choose, else
    the default agent, else a plain assistant. ``active`` is (whom this end user called, who serves them since): the
    same call again goes to the same colleague, unless it names a ``version``. ``values`` are the caller's variables.

    Raises ScopeMissing and what ``load_spec`` raises.
    """
    for scope in (Scope.REALTIME, *([Scope.AGENTS_READ] if version else ())):
        if scope not in credential.scopes:
            raise ScopeMissing(scope, credential.kind)
    known = {**(values or {}), "call.id": session_id, "call.channel": channel}
    if end_user:
        known["caller.id"] = end_user
    limits = end_user_limits(end_user)
    named = agent_slug or credential.agent
    if named:
        choice = Choice(named)
    else:
        choice = choose_agent(channel=channel, attributes=known, now=timezone.now())
    subject = end_user or session_id
    spec = _load(choice.agent, subject, known, version)
    entry, rules = spec.slug, choice.rules
    if active is not None and active[0] == entry and active[1] != entry and not version:
        try:
            spec, rules = replace(_load(active[1], subject, known), greeting=""), ()
        except (AgentRefused, VariableMissing, RenderedTooLong) as error:
            log.info("a call goes to %r again: %s", entry, type(error).__name__)
    return Caller(
        tenant=credential.tenant,
        key_id=credential.id,
        agent=spec,
        end_user=end_user,
        limits=limits,
        rules=rules,
        entry=entry,
        values=known,
    )


def _load(slug: str | None, subject: str, values: Mapping[str, str], version: str = "") -> AgentSpec:
    if slug and "\0" in slug:  # an address may hold what PostgreSQL's text may not
        raise AgentUnknown(slug)
    return load_spec(slug, subject=subject, values=values, version=version)


def find_credential(secret: str, address: str) -> Credential:
    """What an API key, or an OAuth client's access token, opens; its use is noted. Raises KeyRefused."""
    with schema_context(get_public_schema_name()), transaction.atomic():
        limit_statements()
        if looks_like_token(secret):
            return credential_of_client(find_client_principal(secret, address))
        key = find_key(secret)
        touch_key(key=key)
        return credential_of(key)


def find_maker(kind: Kind, maker_id: str, tenant: str) -> Credential:
    """What whoever made a client secret may open now: a secret is worth what its maker is. Raises KeyRefused."""
    with schema_context(get_public_schema_name()), transaction.atomic():
        limit_statements()
        if kind == "person":
            return find_member_credential(maker_id, tenant)
        if kind == "client":
            return find_client_credential(maker_id)
        key = find_key_by_id(maker_id)
        touch_key(key=key)
        return credential_of(key)


def limit_statements() -> None:
    """What a call waits for is read in time or not at all: until the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = %s", [settings.POSTGRES_READ_TIMEOUT_MS])
