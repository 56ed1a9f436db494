"""The arguments of a tool as a model wrote them: JSON text, held to the tool's JSON Schema.

What is wrong is told in words by which the model can do better. Schemas come from tenants, and a short one can ask for
more than a computer has time for (references that double, patterns that try everything): so no schema is fetched from
anywhere, each check has so much time, and off the event loop where it needs more than a moment.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
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
"""Longer arguments are read off the event loop from the first."""
LOOP_S = 0.002
CHECK_S = 0.25
"""Of this thread's own time, on the event loop and off it."""
PROBLEMS = 5
PATTERN_S = 0.05
WORDS = 200
FORMATS = jsonschema.FormatChecker(formats=("date", "email", "uuid"))


class ArgumentsInvalid(Exception):
    """The message is for the model."""


class SchemaInvalid(Exception):
    """The tool's own schema cannot be used."""


class SchemaSlow(SchemaInvalid):
    """It cannot be checked in the time that there is."""


_ends_s: ContextVar[float] = ContextVar("ends_s")


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
        return await asyncio.to_thread(_read, text, parameters, check, CHECK_S)
    try:
        return _read(text, parameters, check, LOOP_S)
    except SchemaSlow:
        return await asyncio.to_thread(_read, text, parameters, check, CHECK_S)


def _read(text: str, parameters: JsonObject, check: bool, limit_s: float) -> JsonObject:
    try:
        arguments = msgspec.json.decode(text) if text.strip() else {}
    except (msgspec.DecodeError, RecursionError) as error:
        raise ArgumentsInvalid(
            f"The arguments are no JSON ({error}). Call the tool again with one JSON object that fits its parameters."
        ) from error
    if not isinstance(arguments, dict):
        raise ArgumentsInvalid("The arguments are not a JSON object. Call the tool again with an object: {…}.")
    if check:
        problems = find_problems(arguments, parameters, limit_s)
        if problems:
            raise ArgumentsInvalid(f"The arguments do not fit. {' '.join(problems)} Correct them and call again.")
    return arguments


def find_problems(value: Any, schema: JsonObject, limit_s: float = CHECK_S) -> list[str]:
    """At most ``PROBLEMS`` sentences. Raises SchemaInvalid."""
    _ends_s.set(time.thread_time() + limit_s)
    try:
        validator = _Validator(schema, registry=Registry(), format_checker=FORMATS)
        found = sorted(validator.iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
    except TimeoutError as error:
        raise SchemaSlow("a pattern takes too long") from error
    except SchemaSlow:
        raise
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
    return _compile(pattern).search(text, timeout=min(PATTERN_S, _left_s()), concurrent=True) is not None


def _left_s() -> float:
    """Raises SchemaSlow."""
    left_s = _ends_s.get() - time.thread_time()
    if left_s <= 0:
        raise SchemaSlow("it takes too long to check")
    return left_s


def _timed(check: Callable[..., Any]) -> Callable[..., Any]:
    def timed(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _left_s()
        return check(validator, value, instance, schema)

    return timed


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


def _additional_properties(
    validator: Any, inner: Any, instance: Any, schema: Any
) -> Iterator[jsonschema.ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name in instance:
        if name in known or any(_search(pattern, name) for pattern in patterns):
            continue
        if inner is False:
            yield jsonschema.ValidationError(f"Additional properties are not allowed ({name!r} was unexpected)")
        else:
            yield from validator.descend(instance[name], inner, path=name)


def _unique_items(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    if not unique or not validator.is_type(instance, "array"):
        return
    if len({msgspec.json.encode(item, order="deterministic") for item in instance}) < len(instance):
        yield jsonschema.ValidationError(f"{instance!r} has non-unique elements")


# The library's own of these search by patterns that nothing stops, or compare all with all.
_OWN = {
    "additionalProperties": _additional_properties,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "uniqueItems": _unique_items,
}
# Nor have these a stop; what they would refuse is let through.
_LEFT_OUT = ("unevaluatedItems", "unevaluatedProperties")
_Validator: Any = jsonschema.validators.create(
    Draft202012Validator.META_SCHEMA,
    {
        name: _timed(check)
        for name, check in {**Draft202012Validator.VALIDATORS, **_OWN}.items()
        if name not in _LEFT_OUT
    },
    type_checker=Draft202012Validator.TYPE_CHECKER,
)
