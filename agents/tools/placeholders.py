"""``{{…}}`` in an HTTP tool's request: ``{{arguments.order_id}}`` is what the model gave, ``{{caller.name}}`` a
variable of the call.

This is less than the templates of instructions: a place names a value and nothing more, so there is nothing to escape
from and nothing to compute. What is put in is never read again.

1. A JSON string that is one place and nothing else becomes the value itself, with its type.
2. A place inside other text becomes text: numbers and booleans as JSON writes them, lists and objects as JSON.
3. What names nothing, or null in text, is ABSENT: whoever fills decides what that means there.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

PLACE = re.compile(r"\{\{\s*([A-Za-z][A-Za-z0-9_.-]*)\s*\}\}")
ARGUMENTS = "arguments"


class Absent:
    """That there is no value."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()


class PlaceInvalid(Exception):
    """Braces that name nothing."""


def names_in(template: Any) -> set[str]:
    """All that a JSON template names. Raises PlaceInvalid."""
    if isinstance(template, str):
        if "{{" in PLACE.sub("", template):
            raise PlaceInvalid(
                f"{template[:80]!r} has '{{{{' without a name and '}}}}': write {{{{arguments.order_id}}}} for what "
                "the model gives, {{caller.name}} for a variable of the call."
            )
        return set(PLACE.findall(template))
    if isinstance(template, dict):
        return set().union(*(names_in(name) | names_in(part) for name, part in template.items()))
    if isinstance(template, list):
        return set().union(*(names_in(part) for part in template))
    return set()


def look_up(name: str, arguments: Mapping[str, Any], values: Mapping[str, str]) -> Any:
    """The value of that name, or ABSENT."""
    if name == ARGUMENTS:
        return dict(arguments)
    space, _, rest = name.partition(".")
    if space != ARGUMENTS:
        return values.get(name, ABSENT)
    found: Any = arguments
    if rest in arguments:
        return arguments[rest]
    for part in rest.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return ABSENT
        found = found[part]
    return found


def fill(template: Any, look: Callable[[str], Any]) -> Any:
    """The template with its values; members and entries whose value is absent are left out. ABSENT when all is."""
    if isinstance(template, str):
        if alone := PLACE.fullmatch(template):
            return look(alone[1])
        return fill_text(template, look)
    if isinstance(template, dict):
        filled = {name: fill(part, look) for name, part in template.items()}
        return {name: part for name, part in filled.items() if part is not ABSENT}
    if isinstance(template, list):
        return [part for part in (fill(part, look) for part in template) if part is not ABSENT]
    return template


def fill_text(template: str, look: Callable[[str], Any], write: Callable[[str], str] = str) -> str | Absent:
    """As text, each value through ``write``; ABSENT where one of them is."""
    pieces, end = [], 0
    for place in PLACE.finditer(template):
        value = look(place[1])
        if value is ABSENT or value is None:
            return ABSENT
        pieces += [template[end : place.start()], write(to_text(value))]
        end = place.end()
    return "".join([*pieces, template[end:]])


def to_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
