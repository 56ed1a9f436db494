"""From an agent's rows to the frozen ``AgentSpec`` of one call. Runs inside the tenant's schema, in a thread."""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection
from django.utils import timezone
from django.utils.translation import get_language_info

from agents.checks import AgentInvalid, freeze
from agents.dialogue.template import RenderedTooLong, VariableMissing, call_values, parse
from agents.models import Agent
from agents.providers.queries import resolve_models
from agents.spec import DRAFT, AgentLimits, AgentSpec, Colleague, Filler, GuardRail
from agents.toolbox.queries import resolve_tools
from agents.trials.queries import assign
from agents.versions import DRAFT as DRAFT_NAME
from agents.versions import Definition, definition_of
from speech.tts.voices import VOICES
from tenants.features.flags import Feature
from tenants.features.queries import is_enabled

__all__ = [
    "PLAIN",
    "AgentRefused",
    "AgentUnknown",
    "AgentUnpublished",
    "DraftInvalid",
    "RenderedTooLong",
    "VariableMissing",
    "VersionUnknown",
    "load_spec",
]


log = logging.getLogger(__name__)

PLAIN = AgentSpec(
    slug="",
    name="Assistant",
    instructions="You are a helpful voice assistant. Your answers are spoken: one or two short sentences, no markdown.",
)


class AgentRefused(Exception):
    """Why no call can begin with this agent. ``code`` is for programs, ``message`` for people."""

    code = "agent_refused"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class AgentUnknown(AgentRefused):
    """The tenant has no agent of this name."""

    code = "agent_not_found"

    def __init__(self, slug: str) -> None:
        super().__init__(f"There is no agent {slug[:64]!r}.")
        self.slug = slug


class AgentUnpublished(AgentRefused):
    """It has no version that takes calls."""

    code = "agent_unpublished"

    def __init__(self, slug: str) -> None:
        super().__init__(f"The agent {slug!r} has no live version: publish it first.")
        self.slug = slug


class VersionUnknown(AgentRefused):
    """It has no version of this number."""

    code = "version_not_found"

    def __init__(self, slug: str, version: str) -> None:
        super().__init__(f"The agent {slug!r} has no version {version[:20]!r}.")
        self.slug = slug


class DraftInvalid(AgentRefused):
    """A call asked for the draft, and the draft cannot take calls."""

    code = "draft_invalid"

    def __init__(self, slug: str, error: AgentInvalid) -> None:
        super().__init__(f"The draft of the agent {slug!r} cannot take calls: {error}")
        self.slug = slug


def load_spec(
    slug: str | None, *, subject: str = "", values: Mapping[str, str] | None = None, version: str = ""
) -> AgentSpec:
    """``slug`` None is the tenant's default agent, or a plain assistant where there is none that takes calls.

    ``subject`` (the end user, else the session's id) decides on which side of a running trial the call is. ``values``
    holds ``call.id``, ``call.channel`` and what the caller brought (``caller.name``). ``version`` is a number or
    ``draft``; empty is the live one, or the trial's.

    Raises AgentUnknown, AgentUnpublished, VersionUnknown, DraftInvalid, VariableMissing, RenderedTooLong.
    """
    found = Agent.objects.select_related("live").filter(**({"slug": slug} if slug else {"is_default": True})).first()
    if found is None or (not slug and not version and found.live is None):
        if slug:
            raise AgentUnknown(slug)
        return PLAIN
    number, definition, trial = _choose(found, subject, version)
    return _make_spec(found.slug, number, definition, trial, values or {})


def _choose(agent: Agent, subject: str, version: str) -> tuple[int, Definition, str]:
    """The version's number, what it says, and the trial that chose it."""
    if version == DRAFT_NAME:
        try:
            return DRAFT, freeze(agent.slug, definition_of(agent)), ""
        except AgentInvalid as error:
            raise DraftInvalid(agent.slug, error) from error
    if version:
        number, trial = _read_number(agent, version), ""
    elif agent.live is None:
        raise AgentUnpublished(agent.slug)
    else:
        number, trial = assign(agent, subject) or (agent.live.number, "")
    if agent.live is not None and agent.live.number == number:
        return number, agent.live.definition, trial
    definition = agent.versions.filter(number=number).values_list("definition", flat=True).first()
    if definition is None:
        raise VersionUnknown(agent.slug, str(number))
    return number, definition, trial


def _read_number(agent: Agent, version: str) -> int:
    if not (version.isascii() and version.isdecimal() and len(version) < 10):
        raise VersionUnknown(agent.slug, version)
    return int(version)


def _make_spec(slug: str, number: int, definition: Definition, trial: str, brought: Mapping[str, str]) -> AgentSpec:
    values = _fill(slug, definition, brought)
    found = resolve_tools(definition["tools"], time_zone=definition["time_zone"])
    reaches_out = is_enabled(Feature.SERVER_TOOLS, connection.schema_name)
    rendered = parse(definition["instructions"]).render(values)
    return AgentSpec(
        slug=slug,
        name=definition["name"],
        instructions=_add_languages(rendered, definition),
        voice=_usable_voice(slug, definition["voice"]),
        speed=definition["speed"],
        language=definition["language"] or None,
        greeting=parse(definition["greeting"]).render(values),
        models=resolve_models(filter(None, [definition["model"], *definition["fallback_models"]])),
        temperature=definition["temperature"],
        turn_detection=definition["turn_detection"],
        record=definition["record"],
        version=number,
        trial=trial,
        languages=tuple(definition["languages"]),
        voices={language: voice for language, voice in definition["voices"].items() if voice in VOICES},
        functions=found.functions,
        tools=tuple(tool for tool in found.tools if reaches_out or tool.kind == "builtin"),
        mcp_servers=found.mcp_servers if reaches_out else (),
        colleagues=tuple(Colleague(**colleague) for colleague in definition["colleagues"]),
        filler=Filler(**_with_tuples(definition["filler"])),
        limits=AgentLimits(**definition["limits"]),
        guard_rails=tuple(GuardRail(**_with_tuples(rail)) for rail in definition["guard_rails"]),
        values=values,
    )


def _fill(slug: str, definition: Definition, brought: Mapping[str, str]) -> dict[str, str]:
    """The values of this call. Who calls cannot set what is always known. Raises VariableMissing."""
    values = {variable["name"]: variable.get("default") for variable in definition["variables"]}
    values |= brought
    values |= call_values(
        agent_name=definition["name"],
        agent_slug=slug,
        call_id=brought.get("call.id", ""),
        channel=brought.get("call.channel", ""),
        now=_now(definition["time_zone"]),
    )
    if missing := next((name for name, value in values.items() if value is None), None):
        raise VariableMissing(missing)
    return {name: str(value) for name, value in values.items()}


def _now(time_zone: str) -> datetime:
    return timezone.now().astimezone(ZoneInfo(time_zone))


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _usable_voice(slug: str, voice: str) -> str:
    """The default one where an older version names a voice that is not there any more."""
    if voice in VOICES:
        return voice
    log.warning("agent %s has a voice that nobody speaks with; it gets %s", slug, PLAIN.voice)
    return PLAIN.voice


def _add_languages(instructions: str, definition: Definition) -> str:
    """A line for an agent that may speak several languages; one that has a ``language`` says so itself."""
    names = [_name_language(code) for code in definition["languages"]]
    if definition["language"] or not names:
        return instructions
    if len(names) == 1:
        line = f"Speak {names[0]} only."
    else:
        line = f"Speak the caller's language when it is one of {', '.join(names)}; otherwise speak {names[0]}."
    return f"{instructions}\n\n{line}".lstrip()


def _name_language(code: str) -> str:
    try:
        return get_language_info(code)["name"]
    except KeyError:
        return f"the language with the ISO 639-1 code {code}"
