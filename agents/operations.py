"""What can be done to agents. Runs inside the tenant's schema; each function is one transaction."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from agents.models import Agent
from tenants.audit.operations import changes, record

FIELDS = {
    "slug", "name", "instructions", "greeting", "voice", "speed", "language", "model", "temperature", "turn_detection",
    "record", "is_default",
}  # fmt: skip


class AgentInvalid(Exception):
    """A field is wrong: ``errors`` maps each field at fault to what is wrong with it."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__("; ".join(f"{name}: {' '.join(words)}" for name, words in errors.items()))
        self.errors = errors


class SlugTaken(AgentInvalid):
    """Another agent of the tenant has this slug."""

    def __init__(self, slug: str) -> None:
        super().__init__({"slug": [f"An agent {slug!r} exists already."]})


def create_agent(**fields: Any) -> Agent:
    """Raises AgentInvalid or SlugTaken."""
    return _save(Agent(), fields)


def update_agent(*, agent: Agent, **fields: Any) -> Agent:
    """Change the named fields only. Raises AgentInvalid or SlugTaken."""
    return _save(agent, fields)


@transaction.atomic
def delete_agent(*, agent: Agent) -> None:
    """Its conversations stay."""
    before = _shown(agent)
    agent.delete()
    record(action="agent.deleted", target=agent.slug, before=before, tenant=connection.schema_name)


def _save(agent: Agent, fields: dict[str, Any]) -> Agent:
    if unknown := sorted(fields.keys() - FIELDS):
        raise AgentInvalid({unknown[0]: ["There is no such field."]})
    for name, value in fields.items():
        setattr(agent, name, value)
    try:
        # Uniqueness is the database's to decide: asking first would only race.
        agent.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        raise AgentInvalid(error.message_dict) from error
    try:
        with transaction.atomic():
            # As it stands in the database: a caller's object may have been changed already.
            known = Agent.objects.select_for_update().filter(pk=agent.pk).first()
            others = list(Agent.objects.filter(is_default=True).exclude(pk=agent.pk)) if agent.is_default else []
            Agent.objects.filter(pk__in=[other.pk for other in others]).update(is_default=False)
            agent.save()
            _record(known, agent, others)
    except IntegrityError as error:
        raise SlugTaken(agent.slug) from error
    return agent


def _record(known: Agent | None, agent: Agent, no_longer_default: list[Agent]) -> None:
    schema = connection.schema_name
    for other in no_longer_default:
        before, after = {"is_default": True}, {"is_default": False}
        record(action="agent.updated", target=other.slug, before=before, after=after, tenant=schema)
    if known is None:
        record(action="agent.created", target=agent.slug, after=_shown(agent), tenant=schema)
        return
    before, after = changes(_shown(known), _shown(agent))
    if after:
        record(action="agent.updated", target=agent.slug, before=before, after=after, tenant=schema)


def _shown(agent: Agent) -> dict[str, Any]:
    return {name: getattr(agent, name) for name in sorted(FIELDS)}
