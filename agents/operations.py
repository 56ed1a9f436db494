"""What can be done to agents. Runs inside the tenant's schema; each function is one transaction.

Nothing here touches a call in progress: it keeps the version that it began with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from agents.checks import AgentInvalid, freeze
from agents.loading import AgentUnknown
from agents.models import NOTE_CHARACTERS, Agent, AgentVersion
from agents.routing.models import RoutingRule
from agents.trials.operations import end_trials
from agents.versions import VERSIONED, as_draft, definition_of
from tenants.audit.operations import changes, record
from tenants.principal import acting

__all__ = [
    "FIELDS",
    "AgentInUse",
    "AgentInvalid",
    "Applied",
    "NothingToRollBack",
    "SlugTaken",
    "activate_version",
    "apply_agent",
    "create_agent",
    "delete_agent",
    "publish_agent",
    "refuse_in_use",
    "reset_draft",
    "roll_back_agent",
    "update_agent",
]

FIELDS = ("slug", *VERSIONED, "is_default")


class SlugTaken(AgentInvalid):
    """Another agent of the tenant has this slug."""

    def __init__(self, slug: str) -> None:
        super().__init__({"slug": [f"An agent {slug!r} exists already."]})


class AgentInUse(Exception):
    """Calls come to it: without it they would fail, or be answered by somebody else."""

    code = "agent_in_use"

    def __init__(self, slug: str, message: str) -> None:
        super().__init__(f"The agent {slug!r} {message}")
        self.message = str(self)


class NothingToRollBack(Exception):
    """No other version took calls before the live one."""

    code = "nothing_to_roll_back"

    def __init__(self, slug: str) -> None:
        super().__init__(f"The agent {slug!r} has no earlier version to go back to.")
        self.message = str(self)


def create_agent(**fields: Any) -> Agent:
    """A draft: it takes calls once it is published. Raises AgentInvalid or SlugTaken."""
    return _save(Agent(), fields)


def update_agent(*, agent: Agent, **fields: Any) -> Agent:
    """Change the named fields of the draft only. Raises AgentInvalid or SlugTaken."""
    return _save(agent, fields)


@dataclass(frozen=True, slots=True)
class Applied:
    """``changed`` names the fields of the draft that are not as they were, of a new agent those unlike the defaults."""

    agent: Agent
    created: bool
    changed: list[str]


def apply_agent(*, slug: str, **fields: Any) -> Applied:
    """The draft with these fields and, in all others but ``is_default``, what a new agent has; the agent is made where
    there is none. Done again, it changes nothing. Raises AgentInvalid or SlugTaken."""
    known = Agent.objects.filter(slug=slug).first()
    agent = known or Agent(slug=slug)
    before = _shown(agent)
    fresh = {name: Agent._meta.get_field(name).get_default() for name in VERSIONED}
    wanted = {**before, **fresh, **fields}
    changed = [name for name in FIELDS if wanted[name] != before[name]]
    if known is None or changed:
        agent = _save(agent, wanted)
    return Applied(agent, known is None, changed)


@transaction.atomic
def delete_agent(*, agent: Agent) -> None:
    """With all its versions. Its conversations stay. Raises AgentInUse."""
    agent = _hold(agent)
    refuse_in_use(agent)
    before = _shown(agent)
    agent.delete()
    record(action="agent.deleted", target=agent.slug, before=before, tenant=connection.schema_name)


@transaction.atomic
def publish_agent(*, agent: Agent, note: str = "", activate: bool = True) -> AgentVersion:
    """The draft as a version with the next number; new calls get it at once, unless ``activate`` is false.

    Raises AgentInvalid with everything that keeps the draft from taking calls.
    """
    if len(note) > NOTE_CHARACTERS:
        raise AgentInvalid({"note": [f"A note has at most {NOTE_CHARACTERS} characters; got {len(note)}."]})
    agent = _hold(agent)
    definition = freeze(agent.slug, definition_of(agent))
    last = agent.versions.order_by("-number").values_list("number", flat=True).first() or 0
    version = AgentVersion.objects.create(
        agent=agent, number=last + 1, definition=definition, note=note, published_by=acting().name[:300]
    )
    if activate:
        _switch(agent, live=version, standby=agent.live, reason="published")
    after = {"version": version.number, "note": note, "live": activate}
    record(action="agent.published", target=agent.slug, after=after, tenant=connection.schema_name)
    return version


@transaction.atomic
def activate_version(*, version: AgentVersion) -> Agent:
    """New calls get this version; the one that took them stands by. One that is live already stays as it is."""
    agent = _hold(version.agent)
    if agent.live_id == version.pk:
        return agent
    before = _taking_calls(agent)
    _switch(agent, live=version, standby=agent.live, reason="activated")
    _record_switch("agent.version_activated", agent, before)
    return agent


@transaction.atomic
def roll_back_agent(*, agent: Agent) -> Agent:
    """New calls get the version that took them before; done twice, it is taken back. Raises NothingToRollBack."""
    agent = _hold(agent)
    if agent.standby is None:
        raise NothingToRollBack(agent.slug)
    before = _taking_calls(agent)
    _switch(agent, live=agent.standby, standby=agent.live, reason="rolled_back")
    _record_switch("agent.rolled_back", agent, before)
    return agent


def reset_draft(*, agent: Agent, version: AgentVersion) -> Agent:
    """The draft as this version was when it was published; what else was changed in it is lost."""
    return _save(agent, as_draft(version.definition))


def refuse_in_use(agent: Agent) -> None:
    """Colleagues in drafts, and in versions that take calls or would after a rollback; routing rules; the default.
    Raises AgentInUse."""
    others = list(Agent.objects.exclude(pk=agent.pk).select_related("live", "standby"))
    using = []
    for other in others:
        versions = [version.definition for version in (other.live, other.standby) if version]
        listed = [other.colleagues, *(definition.get("colleagues", []) for definition in versions)]
        if any(colleague["agent"] == agent.slug for colleagues in listed for colleague in colleagues):
            using.append(f"the agent {other.slug!r}")
    using += [f"the routing rule {name!r}" for name in _rules_of(agent)]
    if using:
        raise AgentInUse(agent.slug, f"is named by {', '.join(using)}: change these first.")
    if agent.is_default and others:
        raise AgentInUse(
            agent.slug, "is the default, who answers callers that name nobody: make another the default first."
        )


def _rules_of(agent: Agent) -> list[str]:
    return list(RoutingRule.objects.filter(agent=agent.slug).values_list("name", flat=True))


def _hold(agent: Agent) -> Agent:
    """As it stands in the database, and nobody else publishes or switches it until the transaction ends."""
    # Without a join: whoever waits for the row would get the joined rows as they were before.
    held = Agent.objects.select_for_update().filter(pk=agent.pk).first()
    if held is None:
        raise AgentUnknown(agent.slug)
    return held


def _switch(agent: Agent, *, live: AgentVersion, standby: AgentVersion | None, reason: str) -> None:
    agent.live, agent.standby = live, standby
    agent.save(update_fields=["live", "standby"])
    end_trials(agent=agent, reason=reason)


def _taking_calls(agent: Agent) -> dict[str, int | None]:
    return {"live": agent.live and agent.live.number, "standby": agent.standby and agent.standby.number}


def _record_switch(action: str, agent: Agent, before: Mapping[str, Any]) -> None:
    record(action=action, target=agent.slug, before=before, after=_taking_calls(agent), tenant=connection.schema_name)


def _save(agent: Agent, fields: dict[str, Any]) -> Agent:
    if unknown := sorted(fields.keys() - set(FIELDS)):
        raise AgentInvalid({unknown[0]: ["There is no such field."]})
    try:
        with transaction.atomic():
            # As it stands in the database: the caller's object may be of yesterday, or changed already.
            known = Agent.objects.select_for_update().filter(pk=agent.pk).first()
            for name in FIELDS:
                if name in fields:
                    setattr(agent, name, fields[name])
                elif known is not None:
                    setattr(agent, name, getattr(known, name))
            # Uniqueness is the database's to decide: asking first would only race.
            agent.full_clean(validate_unique=False, validate_constraints=False)
            others = list(Agent.objects.filter(is_default=True).exclude(pk=agent.pk)) if agent.is_default else []
            Agent.objects.filter(pk__in=[other.pk for other in others]).update(is_default=False)
            if known is not None:
                # Who takes calls is decided by publishing, whatever the caller's object remembers.
                agent.live_id, agent.standby_id = known.live_id, known.standby_id
            agent.save()
            _record(known, agent, others)
    except ValidationError as error:
        raise AgentInvalid(_by_place(error)) from error
    except IntegrityError as error:
        raise SlugTaken(agent.slug) from error
    return agent


def _by_place(error: ValidationError) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    for field, faults in error.error_dict.items():
        for fault in faults:
            params = fault.params or {}
            # One that names its place says it within its message too, for forms.
            words = [str(params["words"])] if "path" in params else fault.messages
            errors.setdefault(str(params.get("path", field)), []).extend(words)
    return errors


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
