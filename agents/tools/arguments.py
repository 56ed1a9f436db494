"""The arguments of a tool as a model wrote them: JSON text, held to the tool's JSON Schema.

What is wrong is told in words by which the model can do better. Schemas come from tenants, so no schema is fetched
from anywhere, and a pattern has a time limit.
"""

import asyncio
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import jsonschema
import msgspec
import phonenumbers
import regex
from jsonschema.validators import Draft202012Validator
from referencing import Registry

from agents.tools.types import JsonObject

ARGUMENTS_BYTES = 64 * 1024
LOOP_BYTES = 8 * 1024
"""Arguments and schema of up to this size together are checked in less than 2 ms; longer ones off the event loop."""
PROBLEMS = 5
PATTERN_S = 0.05
WORDS = 200
FORMATS = jsonschema.FormatChecker(formats=("date", "email", "uuid"))


class ArgumentsInvalid(Exception):
    """The message is for the model."""


class SchemaInvalid(Exception):
    """The tool's own schema cannot be used."""


def _is_phone(value: object) -> bool:
    """With its country: +49 30 123456."""
    return not isinstance(value, str) or phonenumbers.is_possible_number(phonenumbers.parse(value))


def _is_time(value: object) -> bool:
    """As people say it, 19:30, or with seconds."""
    return not isinstance(value, str) or regex.fullmatch(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?", value) is not None


FORMATS.checks("phone", raises=phonenumbers.NumberParseException)(_is_phone)
FORMATS.checks("time")(_is_time)


async def read_arguments(text: str, parameters: JsonObject, *, check: bool = True) -> JsonObject:
    """``check`` False reads the object and no more: an MCP server holds arguments to its schema itself.

    Raises ArgumentsInvalid, SchemaInvalid.
    """
    size = len(text.encode())
    if size > ARGUMENTS_BYTES:
        raise ArgumentsInvalid(f"The arguments are longer than {ARGUMENTS_BYTES} bytes. Call the tool with less.")
    if size > LOOP_BYTES:
        return await asyncio.to_thread(_read, text, parameters, check)
    return _read(text, parameters, check)


def _read(text: str, parameters: JsonObject, check: bool) -> JsonObject:
    try:
        arguments = msgspec.json.decode(text) if text.strip() else {}
    except (msgspec.DecodeError, RecursionError) as error:
        raise ArgumentsInvalid(
            f"The arguments are no JSON ({error}). Call the tool again with one JSON object that fits its parameters."
        ) from error
    if not isinstance(arguments, dict):
        raise ArgumentsInvalid("The arguments are not a JSON object. Call the tool again with an object: {…}.")
    if check:
        problems = find_problems(arguments, parameters)
        if problems:
            raise ArgumentsInvalid(f"The arguments do not fit. {' '.join(problems)} Correct them and call again.")
    return arguments


def find_problems(value: Any, schema: JsonObject) -> list[str]:
    """At most ``PROBLEMS`` sentences. Raises SchemaInvalid."""
    try:
        validator = _Validator(schema, registry=Registry(), format_checker=FORMATS)
        found = sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
    except TimeoutError as error:
        raise SchemaInvalid("a pattern takes too long") from error
    except (RecursionError, regex.error) as error:
        raise SchemaInvalid(type(error).__name__) from error
    except Exception as error:  # jsonschema and referencing raise what they find, of any type, in a broken schema
        raise SchemaInvalid(type(error).__name__) from error
    return [_words(error) for error in found[:PROBLEMS]]


def check_schema(schema: Any) -> None:
    """Raises SchemaInvalid, whose message says what is wrong."""
    try:
        Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise SchemaInvalid(f"{error.json_path}: {error.message[:WORDS]}") from error


def _words(error: jsonschema.ValidationError) -> str:
    place = error.json_path.removeprefix("$").removeprefix(".")
    message = error.message if len(error.message) <= WORDS else f"{error.message[:WORDS]}…"
    return f"{place}: {message}." if place else f"{message}."


@lru_cache(maxsize=1_024)
def _compile(pattern: str) -> Any:
    return regex.compile(pattern)


def _search(pattern: str, text: str) -> bool:
    return _compile(pattern).search(text, timeout=PATTERN_S, concurrent=True) is not None


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    if validator.is_type(instance, "string") and not _search(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: dict[str, Any], instance: Any, schema: Any
) -> Iterator[jsonschema.ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, inner in patterns.items():
            for name, value in instance.items():
                if _search(pattern, name):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)


_Validator: Any = jsonschema.validators.extend(
    Draft202012Validator, {"pattern": _pattern, "patternProperties": _pattern_properties}
)
