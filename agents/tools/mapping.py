"""What a model reads of an HTTP answer: all of it, or what JSONPath chooses (RFC 9535), always bounded.

A tenant writes the path and a stranger the answer, and both meet in a process that other callers share: so a path is
held to what takes a time in proportion to the answer (rule: one ``..``, one filter, no regular expression, no list of
selectors), nothing is read past ``MATCHES``, and all paths of a mapping together have ``MAP_S``.
"""

import json
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec
from jsonpath import CompoundJSONPath, JSONPath, JSONPathEnvironment, JSONPathError, JSONPathMatch

PATH_CHARACTERS = 300
FIELDS = 32
MAP_S = 0.5
"""Of this thread's own time."""
MATCHES = 200
OUTPUT_CHARACTERS = 8_000
MAX_OUTPUT_CHARACTERS = 32_000
ONCE = {"TOKEN_DDOT": "'..'", "TOKEN_FILTER": "'?'", "TOKEN_ROOT": "'$'"}
NEVER = {
    "TOKEN_COMMA": "a list of selectors",
    "TOKEN_FUNCTION": "a function",
    "TOKEN_UNION": "'|'",
    "TOKEN_INTERSECTION": "'&'",
    "TOKEN_RE": "'=~'",
}  # fmt: skip
CUT = " … (cut: the answer is longer)"
WRITER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class MappingInvalid(Exception):
    """``param`` is the member at fault."""

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class MappingSlow(MappingInvalid):
    """There is not the time for it."""


class ResponseMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``select`` chooses values of a JSON answer, ``fields`` makes of each an object by more paths, which begin at the
    value chosen. A path that can match one value only gives that value, or null; any other gives a list."""

    select: str = ""
    fields: dict[str, str] = {}
    max_characters: int = OUTPUT_CHARACTERS


def check_mapping(mapping: ResponseMapping) -> None:
    """Raises MappingInvalid."""
    if not 1 <= mapping.max_characters <= MAX_OUTPUT_CHARACTERS:
        raise MappingInvalid(f"max_characters is from 1 to {MAX_OUTPUT_CHARACTERS}.", "max_characters")
    if len(mapping.fields) > FIELDS:
        raise MappingInvalid(f"There may be at most {FIELDS} fields.", "fields")
    if mapping.select:
        _compiled(mapping.select, "select")
    for name, path in mapping.fields.items():
        _compiled(path, f"fields.{name}")


def map_answer(mapping: ResponseMapping, answer: Any) -> Any:
    """What is chosen of a decoded JSON answer. Raises MappingInvalid where the answer is nested too deeply for it."""
    try:
        if not mapping.select:
            return _shape(mapping, answer)
        path = compile_path(mapping.select)
        chosen = [_shape(mapping, value) for value in _find(path, answer)]
    except (JSONPathError, RecursionError) as error:
        raise MappingInvalid("The answer does not fit its mapping: it is nested too deeply.", "select") from error
    return (chosen[0] if chosen else None) if path.singular_query() else chosen


def map_body(
    mapping: ResponseMapping, body: bytes, content_type: str, charset: str | None = None, limit_s: float = MAP_S
) -> str:
    """What the model reads of a successful answer's body, in at most ``max_characters``. Raises MappingInvalid when a
    JSON answer was to be mapped and this is none; MappingSlow is one."""
    _ends_s.set(time.thread_time() + limit_s)
    if not body:
        return "Done; the answer has no content."
    wants_json = bool(mapping.select or mapping.fields)
    kind = content_type.partition(";")[0].strip().lower()
    if wants_json or kind.endswith(("/json", "+json")) or not kind:
        try:
            chosen = map_answer(mapping, msgspec.json.decode(body))
            return cut(
                chosen if isinstance(chosen, str) else _write(chosen, mapping.max_characters), mapping.max_characters
            )
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if wants_json:
                raise MappingInvalid("The answer is not JSON, so nothing of it can be chosen.", "select") from error
        except RecursionError as error:
            raise MappingInvalid("The answer is nested too deeply.", "select") from error
    if not is_text(kind):
        return f"The answer is {kind[:100] or 'of no known type'}, {len(body)} bytes, which cannot be read here."
    return cut(decode_text(body, charset), mapping.max_characters)


def _write(chosen: Any, characters: int) -> str:
    """As JSON, and no further than a little past ``characters``: what was chosen may hold the same part many times."""
    pieces, length = [], 0
    for piece in WRITER.iterencode(chosen):
        pieces.append(piece)
        length += len(piece)
        if length > characters:
            break
    return "".join(pieces)


def is_text(kind: str) -> bool:
    """``kind`` is a media type in lower case, without its parameters."""
    known = {"application/xml", "application/x-www-form-urlencoded", "application/yaml", ""}
    return kind.startswith("text/") or kind.endswith(("/json", "+json", "+xml")) or kind in known


def decode_text(body: bytes, charset: str | None) -> str:
    try:
        return body.decode(charset or "utf-8", errors="replace")
    except LookupError:  # a charset that nobody knows
        return body.decode("utf-8", errors="replace")


def cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[:characters] + CUT


@lru_cache(maxsize=1_024)
def compile_path(path: str) -> JSONPath:
    """Raises MappingInvalid."""
    if len(path) > PATH_CHARACTERS:
        raise MappingInvalid(f"A JSONPath may have at most {PATH_CHARACTERS} characters.")
    try:
        kinds = [token.kind for token in ENVIRONMENT.lexer.tokenize(path)]
        compiled = ENVIRONMENT.compile(path)
    except (JSONPathError, RecursionError) as error:
        raise MappingInvalid(f"{path[:80]!r} is no JSONPath such as $.order.status: {_said(error)}.") from error
    for kind, written in NEVER.items():
        if kind in kinds:
            raise MappingInvalid(f"{path[:80]!r} has {written}, which may not be used here.")
    for kind, written in ONCE.items():
        if kinds.count(kind) > 1:
            raise MappingInvalid(f"{path[:80]!r} has {written} more than once.")
    if isinstance(compiled, CompoundJSONPath):  # pragma: no cover  (its operators are refused above)
        raise MappingInvalid(f"{path[:80]!r} is more than one path.")
    return compiled


def _said(error: Exception) -> str:
    """Its first line: under it the library draws the place."""
    return next(iter(str(error).splitlines()), "it is nested too deeply")


def _compiled(path: str, param: str) -> None:
    try:
        compile_path(path)
    except MappingInvalid as error:
        raise MappingInvalid(error.message, param) from error


def _shape(mapping: ResponseMapping, value: Any) -> Any:
    if not mapping.fields:
        return value
    return {name: _value_at(compile_path(path), value) for name, path in mapping.fields.items()}


def _value_at(path: JSONPath, value: Any) -> Any:
    if not isinstance(value, dict | list):
        return value if str(path) == "$" else None
    found = list(_find(path, value))
    return (found[0] if found else None) if path.singular_query() else found


_ends_s: ContextVar[float] = ContextVar("ends_s", default=float("inf"))


def _check_time() -> None:
    """Raises MappingSlow."""
    if time.thread_time() > _ends_s.get():
        raise MappingSlow("The answer is too large for its mapping.", "select")


class _Match(JSONPathMatch):
    """Made for each value that a path comes to, chosen or not."""

    def __init__(self, **parts: Any) -> None:
        _check_time()
        super().__init__(**parts)


def _find(path: JSONPath, value: Any) -> Iterator[Any]:
    """As ``path.finditer``, which makes the first match, and so all that follow from it, one of its own."""
    matches: Iterable[JSONPathMatch] = [
        _Match(filter_context={}, obj=value, parent=None, path="$", parts=(), root=value)
    ]
    for segment in path.segments:
        matches = segment.resolve(matches)
    return (match.obj for match in islice(matches, MATCHES))


class _Environment(JSONPathEnvironment):
    max_recursion_depth = 200

    def is_truthy(self, obj: object) -> bool:
        """What a filter came to, for each value that it is asked of."""
        _check_time()
        return super().is_truthy(obj)

    def setup_function_extensions(self) -> None:
        """None: two of the standard's are regular expressions, and a mapping needs none of the others."""


ENVIRONMENT = _Environment(strict=True, filter_caching=False)
