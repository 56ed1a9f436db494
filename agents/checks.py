"""What must hold before an agent takes calls. Reads rows; runs inside the tenant's schema."""

from typing import Any

from agents.dialogue.template import KNOWN, TemplateInvalid, parse
from agents.models import Agent
from agents.providers.queries import check_models
from agents.toolbox import queries as toolbox
from agents.toolbox.errors import ToolsInvalid
from agents.versions import TEXTS, Definition

Errors = dict[str, list[str]]


class AgentInvalid(Exception):
    """``errors`` maps each place at fault, such as ``name`` or ``tools[2].name``, to what is wrong with it."""

    def __init__(self, errors: Errors) -> None:
        super().__init__("; ".join(f"{name}: {' '.join(words)}" for name, words in errors.items()))
        self.errors = errors


def freeze(slug: str, definition: Definition) -> Definition:
    """The definition as a version holds it: each tool with what it is now. Raises AgentInvalid with all that keeps it
    from taking calls."""
    errors: Errors = {}
    _check_texts(definition, errors)
    _check_languages(definition, errors)
    _check_models(definition, errors)
    _check_colleagues(slug, definition, errors)
    tools = freeze_tools(definition, errors)
    if errors:
        raise AgentInvalid(errors)
    return {**definition, "tools": tools}


def _check_texts(definition: Definition, errors: Errors) -> None:
    known = _known_variables(definition)
    for field in TEXTS:
        try:
            used = parse(definition[field]).variables
        except TemplateInvalid as error:
            errors[field] = [str(fault) for fault in error.faults]
            continue
        if missing := [
            f"Line {line}: nobody knows a variable {name!r}; declare it in 'variables', or use one of "
            f"{', '.join(sorted(known))}."
            for name, line in used.items()
            if name not in known
        ]:
            errors[field] = missing


def _check_languages(definition: Definition, errors: Errors) -> None:
    language, languages = definition["language"], definition["languages"]
    if language and languages and language not in languages:
        errors["language"] = [f"It is not among 'languages': {', '.join(languages)}."]


def _check_models(definition: Definition, errors: Errors) -> None:
    chain = {"model": definition["model"]} if definition["model"] else {}
    chain |= {f"fallback_models[{number}]": name for number, name in enumerate(definition["fallback_models"])}
    faults = check_models(list(chain.values()))
    errors.update({path: [faults[name]] for path, name in chain.items() if name in faults})


def _check_colleagues(slug: str, definition: Definition, errors: Errors) -> None:
    wanted = [colleague["agent"] for colleague in definition["colleagues"]]
    if not wanted:
        return
    found = {agent.slug: agent for agent in Agent.objects.filter(slug__in=wanted).only("slug", "live", "colleagues")}
    for number, name in enumerate(wanted):
        agent = found.get(name)
        if agent is None:
            errors[f"colleagues[{number}].agent"] = [f"There is no agent {name!r}."]
        # Of two that name each other one is published first.
        elif agent.live_id is None and slug not in [colleague["agent"] for colleague in agent.colleagues]:
            errors[f"colleagues[{number}].agent"] = [f"The agent {name!r} takes no calls: publish it first."]


def freeze_tools(definition: Definition, errors: Errors) -> list[dict[str, Any]]:
    """The tools with what they are now; the references alone where one cannot be published, and ``errors`` says why."""
    try:
        return toolbox.freeze_tools(definition["tools"], _known_variables(definition))
    except ToolsInvalid as error:
        errors.update({path: [words] for path, words in error.errors.items()})
        return definition["tools"]


def _known_variables(definition: Definition) -> frozenset[str]:
    return KNOWN | {variable["name"] for variable in definition["variables"]}
