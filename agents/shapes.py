"""What the JSON columns of an agent look like: JSON Schemas, which the OpenAPI document shows too, and what they cannot
say."""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jsonschema import Draft202012Validator, SchemaError, ValidationError

from agents.dialogue.template import check_name
from agents.guard.detectors import KINDS
from speech.tts.voices import OPENAI_VOICES, VOICES

COLUMN_BYTES = 262_144
DEPTH = 32
VALUE_CHARACTERS = 1_000
Faults = Iterator[tuple[str, str]]
"""The path of what is wrong, such as ``tools[2].name``, and what would be right."""
Schema = dict[str, Any]


def _object(needed: str = "", **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": needed.split(), "additionalProperties": False}


def _text(longest: int, shortest: int = 1, **more: Any) -> Schema:
    return {"type": "string", "minLength": shortest, "maxLength": longest, **more}


def _array(items: Schema, longest: int) -> Schema:
    return {"type": "array", "items": items, "maxItems": longest}


def _whole(least: int, most: int, *, null: bool = False) -> Schema:
    return {"type": ["integer", "null"] if null else "integer", "minimum": least, "maximum": most}


LANGUAGE = {"type": "string", "pattern": "^[a-z]{2}$", "description": "A two-letter ISO 639-1 code such as 'en'."}
TOOL_NAME = {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]{1,64}$",
    "description": "1 to 64 letters, digits, '_' and '-'.",
}
TOOL_FILTER = {
    "type": "object",
    "properties": {"tool_names": _array(_text(128), 128), "read_only": {"type": "boolean"}},
    "additionalProperties": False,
}
TOOLS: dict[str, Schema] = {
    "function": _object(
        "type name",
        type={"const": "function"},
        name=TOOL_NAME,
        description=_text(4_000, 0),
        parameters={"type": "object"},
    ),
    "http": _object("type name", type={"const": "http"}, name=TOOL_NAME),
    "mcp": _object(
        "type server",
        type={"const": "mcp"},
        server=TOOL_NAME,
        allowed_tools={"anyOf": [_array(_text(128), 128), TOOL_FILTER]},
        require_approval={
            "anyOf": [{"enum": ["always", "never"]}, _object(always=TOOL_FILTER, never=TOOL_FILTER)],
            "description": '"always", "never", or {"always": …, "never": …} as OpenAI\'s.',
        },
    ),
    "python": _object("type name", type={"const": "python"}, name=TOOL_NAME),
    # The settings of a built-in are its own; the toolbox checks them when the agent is published.
    "builtin": {
        "type": "object",
        "properties": {"type": {"const": "builtin"}, "name": TOOL_NAME},
        "required": ["type", "name"],
    },
}
SCHEMAS: dict[str, Schema] = {
    "variables": _array(
        _object(
            "name",
            name=_text(64),
            default={"type": ["string", "null"], "maxLength": VALUE_CHARACTERS},
            description=_text(500, 0),
        ),
        64,
    ),
    "voices": {
        "type": "object",
        "propertyNames": LANGUAGE,
        "additionalProperties": _text(64),
        "maxProperties": 64,
    },
    "languages": _array(LANGUAGE, 64),
    "fallback_models": _array(_text(200), 8),
    "tools": _array(
        {
            "type": "object",
            "required": ["type"],
            "oneOf": list(TOOLS.values()),
        },
        64,
    ),
    "colleagues": _array(
        _object(
            "agent",
            agent=_text(63),
            mode={"enum": ["hand_off", "consult"]},
            when=_text(1_000, 0),
            returns={"type": "boolean"},
        ),
        16,
    ),
    "filler": _object(after_ms=_whole(200, 60_000), phrases=_array(_text(200), 16)),
    "limits": _object(
        duration_s=_whole(1, 86_400, null=True), turns=_whole(1, 10_000, null=True), tool_rounds=_whole(1, 64)
    ),
    "guard_rails": _array(
        _object(
            "name on say",
            name=_text(64),
            on={"enum": ["input", "output"]},
            say=_text(1_000),
            phrases=_array(_text(200), 256),
            detects=_array({"enum": sorted(KINDS)}, 16),
            then={"enum": ["go_on", "end_call"]},
        ),
        32,
    ),
}

ANY_TOOL = {"type": "object", "properties": {"type": {"enum": list(TOOLS)}}, "required": ["type"]}
CHECKED = SCHEMAS | {"tools": _array(ANY_TOOL, 64)}


def find_faults(column: str, value: Any) -> Faults:
    """What is wrong with the value of a column of ``SCHEMAS``."""
    if fault := _unfit(value):
        yield column, fault
        return
    found = list(_check(CHECKED[column], value, column))
    yield from found
    if not found and (more := MORE.get(column)):
        yield from more(value)


def _unfit(value: Any) -> str:
    """Why no column can hold it, whatever it should be."""
    if _is_deeper(value, DEPTH):
        return f"It is nested more than {DEPTH} deep."
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError):
        return "It has something in it that JSON cannot hold: a number that is none, or half a character."
    if len(written) > COLUMN_BYTES:
        return f"It may have at most {COLUMN_BYTES} bytes of JSON; there are {len(written)}."
    return "Null characters are not allowed." if rb"\u0000" in written else ""


def _is_deeper(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth < 0 or any(_is_deeper(part, depth - 1) for part in inner)


def _check(schema: Schema, value: Any, path: str) -> Faults:
    for error in sorted(Draft202012Validator(schema).iter_errors(value), key=lambda error: list(map(str, error.path))):
        yield from _explain(error, path + "".join(_step(step) for step in error.absolute_path))


def _step(step: str | int) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{step}"


def _explain(error: ValidationError, path: str) -> Faults:
    wanted, schema, got = error.validator_value, error.schema, error.instance
    match error.validator:
        case "required":
            for name in wanted:
                if name not in got:
                    yield f"{path}.{name}", "This is needed."
        case "additionalProperties" if wanted is False:
            known = ", ".join(schema["properties"])
            for name in got:
                if name not in schema["properties"]:
                    yield (
                        f"{path}.{name[:64]}",
                        f"There is no such field; there are {known}.{nearest(name, wanted=schema['properties'])}",
                    )
        case "enum" | "const":
            known = ", ".join(map(str, wanted if error.validator == "enum" else [wanted]))
            yield path, f"Use one of {known}; got {_cut(got)}."
        case "type":
            known = " or ".join(NOUNS[kind] for kind in ([wanted] if isinstance(wanted, str) else wanted))
            yield path, f"This is {known}; got {_cut(got)}."
        case "minimum" | "maximum":
            yield path, f"Use a number from {schema['minimum']} to {schema['maximum']}; got {_cut(got)}."
        case "minLength" | "maxLength":
            least, most = schema.get("minLength", 0), schema["maxLength"]
            yield path, f"It has {least} to {most} characters; got {len(got)}."
        case "maxItems" | "maxProperties":
            yield path, f"There may be at most {wanted}; got {len(got)}."
        case "pattern" | "anyOf":
            yield path, f"{schema.get('description', error.message)} Got {_cut(got)}."
        case _:
            yield path, error.message[:500]


def nearest(name: str, *, wanted: Iterable[str]) -> str:
    """`` Did you mean …?``, or nothing where none of them is like ``name``."""
    found = difflib.get_close_matches(name[:64], list(wanted), 1)
    return f" Did you mean {found[0]!r}?" if found else ""


def _cut(value: Any) -> str:
    written = json.dumps(value, ensure_ascii=False)
    return written if len(written) <= 80 else f"{written[:80]}…"


NOUNS = {
    "string": "a text", "integer": "a whole number", "array": "a list", "object": "an object",
    "boolean": "true or false", "null": "null",
}  # fmt: skip


def _more_of_variables(variables: list[dict[str, Any]]) -> Faults:
    for number, variable in enumerate(variables):
        if fault := check_name(variable["name"]):
            yield f"variables[{number}].name", fault
    yield from _repeated("variables", [variable["name"] for variable in variables], ".name")


def _more_of_voices(voices: dict[str, str]) -> Faults:
    for language, voice in voices.items():
        if voice not in VOICES:
            known = ", ".join(sorted(OPENAI_VOICES))
            yield f"voices.{language}", f"There is no voice {voice!r}. Use one of {known}, or a Kokoro voice."


def _more_of_tools(tools: list[dict[str, Any]]) -> Faults:
    found = []
    for number, tool in enumerate(tools):
        path = f"tools[{number}]"
        found += _check(TOOLS[tool["type"]], tool, path)
        if tool["type"] == "function" and not found:
            try:
                Draft202012Validator.check_schema(tool.get("parameters", {}))
            except SchemaError as error:
                place = "".join(_step(step) for step in error.absolute_path)
                found.append((f"{path}.parameters{place}", f"This is no JSON Schema: {error.message[:300]}"))
    if not found:
        found += _repeated("tools", [_offered_name(tool) for tool in tools], ".name")
        found += _repeated("tools", [tool.get("server") for tool in tools], ".server")
    yield from found


def _offered_name(tool: dict[str, Any]) -> str | None:
    """Forms are many, and each has a name of its own."""
    return f"collect_{tool['form']}" if tool.get("name") == "collect" and "form" in tool else tool.get("name")


def _more_of_rails(rails: list[dict[str, Any]]) -> Faults:
    for number, rail in enumerate(rails):
        if not rail.get("phrases") and not rail.get("detects"):
            yield f"guard_rails[{number}].phrases", "A guard rail looks for phrases, or for what it detects."
    yield from _repeated("guard_rails", [rail["name"] for rail in rails], ".name")


def _repeated(column: str, names: list[str | None], field: str = "") -> Faults:
    for number, name in enumerate(names):
        if name is not None and name in names[:number]:
            yield f"{column}[{number}]{field}", f"{name!r} is there twice."


MORE: dict[str, Callable[[Any], Faults]] = {
    "variables": _more_of_variables,
    "voices": _more_of_voices,
    "languages": lambda languages: _repeated("languages", languages),
    "fallback_models": lambda models: _repeated("fallback_models", models),
    "tools": _more_of_tools,
    "colleagues": lambda colleagues: _repeated("colleagues", [one["agent"] for one in colleagues], ".agent"),
    "guard_rails": _more_of_rails,
}
