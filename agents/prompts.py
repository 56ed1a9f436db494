"""Stored prompts, as OpenAI's ``prompt`` names them: an agent's published instructions with variables filled in.

Runs inside the tenant's schema, in a thread.
"""

from collections.abc import Mapping
from typing import Any

from agents.dialogue.template import RESERVED
from agents.loading import (
    AgentRefused,
    AgentUnknown,
    AgentUnpublished,
    RenderedTooLong,
    VariableMissing,
    VersionUnknown,
    load_spec,
)

PREFIX = "agent:"
VARIABLES = 64
VALUE_CHARACTERS = 1_000
CALLER, CALLER_ID = "caller.", "caller.id"
CODES: dict[type[Exception], str] = {
    AgentUnknown: "agent_not_found",
    AgentUnpublished: "agent_not_published",
    VersionUnknown: "version_not_found",
    VariableMissing: "missing_variable",
    RenderedTooLong: "prompt_too_long",
}
"""What a caller is told when an agent cannot be had."""
CANNOT = (AgentRefused, VariableMissing, RenderedTooLong)
PARTS = {"version_not_found": "version", "missing_variable": "variables", "prompt_too_long": "variables"}


class PromptInvalid(Exception):
    """It cannot be used. ``part`` is what is wrong with it: id, version, or variables."""

    def __init__(self, code: str, message: str, part: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.part = part


def refusal_code(error: Exception) -> str:
    """Of one of ``CANNOT``."""
    known = next((code for kind, code in CODES.items() if isinstance(error, kind)), None)
    return known or getattr(error, "code", "agent_refused")


def fill_prompt(prompt: Mapping[str, Any], *, subject: str, values: Mapping[str, str]) -> str:
    """The instructions. ``prompt`` as clients send it: id (an agent's slug), version (a number), variables; these go
    before ``values``, the call's own. Raises PromptInvalid."""
    slug, version = str(prompt["id"]).removeprefix(PREFIX), str(prompt.get("version") or "")
    if version and not (version.isascii() and version.isdecimal()):
        raise PromptInvalid("version_not_found", f"A prompt's version is a number; got {version[:20]!r}.", "version")
    if "\0" in slug:
        raise PromptInvalid("agent_not_found", "A prompt's id is the name of an agent; it holds no NUL.", "id")
    given = {**values, **read_variables(prompt)}
    try:
        return load_spec(slug, subject=subject, values=given, version=version).instructions
    except CANNOT as error:
        code = refusal_code(error)
        raise PromptInvalid(code, str(error), PARTS.get(code, "id")) from error


def read_variables(prompt: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a prompt as text. Raises PromptInvalid."""
    variables = prompt.get("variables") or {}
    if len(variables) > VARIABLES:
        raise PromptInvalid(
            "invalid_variable", f"A prompt takes at most {VARIABLES} variables; got {len(variables)}.", "variables"
        )
    read: dict[str, str] = {}
    for name, value in variables.items():
        if isinstance(value, dict) and value.get("type") == "input_text":
            value = value.get("text")
        if name.partition(".")[0] in RESERVED:
            fault = f"The variable {name[:64]!r} is set by the server."
        elif not isinstance(value, str):
            fault = f"The variable {name[:64]!r} must be a text (or an input_text): images and files cannot be used."
        elif len(value) > VALUE_CHARACTERS or "\0" in value:
            fault = f"The variable {name[:64]!r} has at most {VALUE_CHARACTERS} characters; got {len(value)}."
        else:
            read[name] = value
            continue
        raise PromptInvalid("invalid_variable", fault, "variables")
    return read


def caller_values(session: Mapping[str, Any]) -> dict[str, str]:
    """What a session's prompt says of its caller: these variables go with the agent too. Raises PromptInvalid."""
    prompt = session.get("prompt")
    if not prompt:
        return {}
    return {
        name: value
        for name, value in read_variables(prompt).items()
        if name.startswith(CALLER) and name != CALLER_ID  # that is the end user
    }
