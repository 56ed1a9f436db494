"""What a version of an agent holds, and how two of them differ. Pure: rows come in, nothing is asked."""

import difflib
from collections.abc import Mapping
from typing import Any

from agents.models import Agent

VERSIONED = (
    "name", "instructions", "greeting", "variables", "voice", "voices", "speed", "language", "languages", "time_zone",
    "model", "fallback_models", "temperature", "turn_detection", "tools", "colleagues", "filler", "limits",
    "guard_rails", "record",
)  # fmt: skip
"""The fields of a draft that a version holds, in the order in which they are shown."""
TEXTS = ("instructions", "greeting")
DIFF_LINES = 1_000
DRAFT = "draft"
Definition = dict[str, Any]


def definition_of(agent: Agent) -> Definition:
    """The draft's."""
    return {name: getattr(agent, name) for name in VERSIONED}


def as_draft(definition: Mapping[str, Any]) -> Definition:
    """The fields that a draft has: tools as references, without what they were when the version was published."""
    tools = [{name: value for name, value in tool.items() if name != "definition"} for tool in definition["tools"]]
    return {**definition, "tools": tools}


def has_changes(agent: Agent) -> bool:
    """Whether the draft says something else than the live version; tools are compared by their references."""
    return agent.live is None or definition_of(agent) != as_draft(agent.live.definition)


def differ(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry for each field that differs: ``field``, and ``before`` and ``after``; for texts ``lines``, a unified
    diff, unless they have more than ``DIFF_LINES`` lines."""
    return [
        {"field": name, **_differ(name, before.get(name), after.get(name))}
        for name in dict.fromkeys((*VERSIONED, *before, *after))
        if before.get(name) != after.get(name)
    ]


def _differ(name: str, before: Any, after: Any) -> dict[str, Any]:
    if name in TEXTS:
        old, new = (before or "").splitlines(), (after or "").splitlines()
        # Comparing takes time with the square of the lines.
        if old != new and max(len(old), len(new)) <= DIFF_LINES:
            return {"lines": list(difflib.unified_diff(old, new, "before", "after", lineterm=""))}
    return {"before": before, "after": after}
