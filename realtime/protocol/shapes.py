"""What JSON a client may send, as a table of shapes, and OpenAI's words for what does not fit.

A shape checks a decoded value and returns it without the fields whose null means "absent". The first fault raises
``Invalid`` with the code, message and param that OpenAI gives for it (see ``docs/realtime.md``).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

SHOWN_LENGTH = 256
"""An error repeats at most so many characters of what a client sent, so that no answer outgrows its question."""


class Invalid(Exception):
    """A client's event is refused as a whole. ``param`` is the path of what was wrong, or None."""

    def __init__(self, code: str | None, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class Shape(Protocol):
    def check(self, value: Any, path: str) -> Any: ...


def shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN_LENGTH else text[:SHOWN_LENGTH] + "…"


def spoken_list(values: Sequence[str]) -> str:
    """'a', 'b', and 'c' — the way OpenAI lists supported values."""
    quoted = [f"'{value}'" for value in values]
    if len(quoted) < 3:
        return " and ".join(quoted)
    return ", ".join(quoted[:-1]) + ", and " + quoted[-1]


def wrong_type(path: str, expected: str, value: Any) -> Invalid:
    got = {
        type(None): "null", bool: "a boolean", int: "an integer", float: "a decimal",
        str: "a string", list: "an array", dict: "an object",
    }.get(type(value), "something else")  # fmt: skip
    return Invalid("invalid_type", f"Invalid type for '{path}': expected {expected}, but got {got} instead.", path)


def unsupported(path: str, value: Any, supported: Sequence[str]) -> Invalid:
    return Invalid(
        "invalid_value", f"Invalid value: '{shown(value)}'. Supported values are: {spoken_list(supported)}.", path
    )


def missing(path: str) -> Invalid:
    return Invalid("missing_required_parameter", f"Missing required parameter: '{path}'.", path)


@dataclass(frozen=True)
class Anything:
    """Opaque JSON, such as a tool's parameter schema."""

    def check(self, value: Any, path: str) -> Any:
        return value


@dataclass(frozen=True)
class Flag:
    def check(self, value: Any, path: str) -> Any:
        if not isinstance(value, bool):
            raise wrong_type(path, "a boolean", value)
        return value


@dataclass(frozen=True)
class Text:
    max_length: int | None = None
    pattern: str = ""

    def check(self, value: Any, path: str) -> Any:
        if not isinstance(value, str):
            raise wrong_type(path, "a string", value)
        if self.max_length is not None and len(value) > self.max_length:
            raise Invalid(
                "string_above_max_length",
                f"Invalid '{path}': string too long. Expected a string with maximum length {self.max_length}, "
                f"but got a string with length {len(value)} instead.",
                path,
            )
        if self.pattern and re.fullmatch(self.pattern, value) is None:
            raise Invalid(
                "invalid_value",
                f"Invalid '{path}': string does not match pattern. "
                f"Expected a string that matches the pattern '{self.pattern}'.",
                path,
            )
        return value


@dataclass(frozen=True)
class Choice:
    values: tuple[str, ...]

    def check(self, value: Any, path: str) -> Any:
        if not isinstance(value, str):
            raise wrong_type(path, f"one of {spoken_list(self.values)}", value)
        if value not in self.values:
            raise unsupported(path, value, self.values)
        return value


@dataclass(frozen=True)
class Number:
    """``whole`` numbers are integers; bounds are inclusive; None is no bound."""

    minimum: float | None = None
    maximum: float | None = None
    whole: bool = False

    def check(self, value: Any, path: str) -> Any:
        kind = "integer" if self.whole else "decimal"
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            raise wrong_type(path, "an integer" if self.whole else "a decimal", value)
        for bound, breaks, word, code in (
            (self.minimum, self.minimum is not None and value < self.minimum, ">=", "below_min"),
            (self.maximum, self.maximum is not None and value > self.maximum, "<=", "above_max"),
        ):
            if breaks:
                side = "below minimum" if code == "below_min" else "above maximum"
                raise Invalid(
                    f"{kind}_{code}_value",
                    f"Invalid '{path}': {kind} {side} value. "
                    f"Expected a value {word} {bound:g}, but got {shown(value)} instead.",
                    path,
                )
        return value


@dataclass(frozen=True)
class NumberOrWord:
    """An integer in bounds, or one literal word (``max_output_tokens``)."""

    number: Number
    word: str

    def check(self, value: Any, path: str) -> Any:
        if value == self.word:
            return value
        if isinstance(value, str):
            raise unsupported(path, value, (self.word,))
        return self.number.check(value, path)


@dataclass(frozen=True)
class WordOr:
    """One of some literal words, or an object."""

    words: tuple[str, ...]
    other: Shape

    def check(self, value: Any, path: str) -> Any:
        if isinstance(value, str):
            if value not in self.words:
                raise unsupported(path, value, self.words)
            return value
        return self.other.check(value, path)


@dataclass(frozen=True)
class TextOr:
    """A string, or another shape (voices)."""

    other: Shape
    text: Text = Text()

    def check(self, value: Any, path: str) -> Any:
        return (self.text if isinstance(value, str) else self.other).check(value, path)


@dataclass(frozen=True)
class ListOr:
    """A list, or an object (an MCP tool's ``allowed_tools``)."""

    members: Shape
    other: Shape

    def check(self, value: Any, path: str) -> Any:
        return (self.members if isinstance(value, list) else self.other).check(value, path)


@dataclass(frozen=True)
class ListOf:
    shape: Shape
    min_length: int = 0
    max_length: int | None = None

    def check(self, value: Any, path: str) -> Any:
        if not isinstance(value, list):
            raise wrong_type(path, "an array", value)
        if len(value) < self.min_length:
            raise Invalid(
                "array_below_min_length",
                f"Invalid '{path}': array too short. Expected an array with minimum length {self.min_length}, "
                f"but got an array with length {len(value)} instead.",
                path,
            )
        if self.max_length is not None and len(value) > self.max_length:
            raise Invalid(
                "array_above_max_length",
                f"Invalid '{path}': array too long. Expected an array with maximum length {self.max_length}, "
                f"but got an array with length {len(value)} instead.",
                path,
            )
        return [self.shape.check(member, f"{path}[{index}]") for index, member in enumerate(value)]


@dataclass(frozen=True)
class MapOf:
    """String keys to strings, with limits (``metadata``)."""

    max_pairs: int
    max_key_length: int
    max_value_length: int

    def check(self, value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise wrong_type(path, "an object", value)
        if len(value) > self.max_pairs:
            raise Invalid(
                "object_above_max_properties",
                f"Invalid '{path}': too many properties. Expected an object with at most {self.max_pairs} properties, "
                f"but got an object with {len(value)} properties instead.",
                path,
            )
        for key, member in value.items():
            Text(self.max_key_length).check(key, f"{path}.{key[:16]}")
            Text(self.max_value_length).check(member, f"{path}.{key}")
        return value


@dataclass(frozen=True)
class MapTo:
    """Any keys to values of one shape (a prompt's variables, an MCP server's headers)."""

    shape: Shape

    def check(self, value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise wrong_type(path, "an object", value)
        return {key: self.shape.check(member, f"{path}.{shown(key)}") for key, member in value.items()}


@dataclass(frozen=True)
class Object:
    """Named fields. ``nullable`` fields keep an explicit null; elsewhere null means absent, but never for a Flag."""

    fields: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    nullable: frozenset[str] = frozenset()
    one_of: tuple[str, ...] = ()
    """Exactly one of these must be there."""

    def check(self, value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise wrong_type(path or "event", "an object", value)
        kept: dict[str, Any] = {}
        for name, member in value.items():
            where = f"{path}.{shown(name)}" if path else shown(name)
            shape = self.fields.get(name)
            if shape is None:
                raise Invalid("unknown_parameter", f"Unknown parameter: '{where}'.", where)
            if member is None and name in self.nullable:
                kept[name] = None
            elif member is not None or isinstance(shape, Flag):
                kept[name] = shape.check(member, where)
        for name in self.required:
            if name not in kept:
                raise missing(f"{path}.{name}" if path else name)
        if self.one_of:
            given = [name for name in self.one_of if name in kept]
            if len(given) != 1:
                got = spoken_list(given) if given else "none of them"
                message = (
                    f"Invalid '{path}': expected exactly one of {spoken_list(self.one_of)}, but got {got} instead."
                )
                raise Invalid("invalid_value" if given else "missing_required_parameter", message, path)
        return kept


@dataclass(frozen=True)
class Tagged:
    """One of several objects, told apart by a field that each of them has as its literal."""

    tag: str
    shapes: Mapping[str, Shape]
    default: str | None = None
    _values: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_values", tuple(self.shapes))

    def check(self, value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise wrong_type(path or "event", "an object", value)
        where = f"{path}.{self.tag}" if path else self.tag
        tag = value.get(self.tag)
        if tag is None:
            if self.default is None:
                raise missing(where)
            tag = self.default
        if not isinstance(tag, str):
            raise wrong_type(where, "a string", tag)
        shape = self.shapes.get(tag)
        if shape is None:
            raise unsupported(where, tag, self._values)
        kept = shape.check({name: member for name, member in value.items() if name != self.tag}, path)
        return {self.tag: tag, **kept}
