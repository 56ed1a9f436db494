"""Writing a tool in Python: a typed function, and an entry point of the group ``agentvoicebox.tools``.

    from typing import Annotated

    from agents.tools.sdk import Meta, ToolContext, ToolFailed, tool

    @tool
    async def find_order(number: Annotated[str, Meta(pattern="[0-9]{6}")], context: ToolContext) -> dict:
        \"\"\"Looks up an order of the caller.

        Args:
            number: the six digits on the invoice
        \"\"\"

The signature is the JSON Schema: what has no default is required, any type that msgspec reads can be used. A parameter
of type ToolContext is not the model's: it tells for whom the tool runs. What is returned is read by the model, as text
or as JSON. ToolFailed is told to the model; of any other exception it only hears that the tool failed.

Functions that are not ``async`` run in threads. Those that are run in an event loop of their own, which all such tools
share: they must not block it.
"""

import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, overload

import msgspec
from msgspec import Meta

from agents.tools.types import TIMEOUT_S, JsonObject, ToolContext, ToolSpec

__all__ = ["Meta", "PythonTool", "ToolContext", "ToolFailed", "ToolInvalid", "tool"]

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ARGUMENT = re.compile(r"(\w+)\s*(?:\([^)]*\))?:\s*(.*)")
SECTIONS = ("Args:", "Arguments:", "Parameters:", "Returns:", "Raises:", "Yields:", "Example:", "Examples:")


class ToolFailed(Exception):
    """Raised by a tool: the message is for the model, and so for the caller."""


class ToolInvalid(Exception):
    """A function that can be no tool; the message says why."""


@dataclass(frozen=True)
class PythonTool:
    """Made by ``tool``. Calling it calls the function."""

    function: Callable[..., Any] = field(repr=False)
    spec: ToolSpec
    arguments: type[msgspec.Struct] = field(repr=False)
    context_name: str | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    def bind(self, arguments: JsonObject, context: ToolContext) -> dict[str, Any]:
        """The function's keyword arguments. Raises msgspec.ValidationError."""
        read = msgspec.convert(arguments, self.arguments)
        bound = {name: getattr(read, name) for name in self.arguments.__struct_fields__}
        return bound if self.context_name is None else {**bound, self.context_name: context}


@overload
def tool(function: Callable[..., Any], /) -> PythonTool: ...


@overload
def tool(
    *,
    name: str = "",
    timeout_s: float = TIMEOUT_S,
    integration: str = "",
    calls_per_minute: int | None = None,
    needs_approval: bool = False,
) -> Callable[[Callable[..., Any]], PythonTool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    timeout_s: float = TIMEOUT_S,
    integration: str = "",
    calls_per_minute: int | None = None,
    needs_approval: bool = False,
) -> Any:
    """``name`` is the function's where none is given. Tools of one ``integration`` share a circuit breaker, and
    ``calls_per_minute``. Raises ToolInvalid."""

    def decorate(decorated: Callable[..., Any]) -> PythonTool:
        own_name = name or decorated.__name__
        if not NAME.fullmatch(own_name):
            raise ToolInvalid(f"{own_name!r} cannot name a tool: use up to 64 of a-z, A-Z, 0-9, _ and -.")
        description, told = _read_docstring(inspect.getdoc(decorated) or "")
        arguments, context_name = _read_signature(decorated, own_name, told)
        spec = ToolSpec(
            name=own_name,
            description=description,
            parameters=_schema_of(arguments, own_name),
            kind="python",
            server_label="python",
            integration=integration,
            timeout_s=timeout_s,
            calls_per_minute=calls_per_minute,
            needs_approval=needs_approval,
        )
        return PythonTool(decorated, spec, arguments, context_name)

    return decorate if function is None else decorate(function)


def _read_signature(
    function: Callable[..., Any], name: str, told: dict[str, str]
) -> tuple[type[msgspec.Struct], str | None]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise ToolInvalid(f"The types of {name} cannot be read: {error}") from error
    fields: list[Any] = []
    context_name = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ToolInvalid(f"{name} takes {parameter}: a model gives arguments by name only.")
        if parameter.name not in hints:
            raise ToolInvalid(f"{parameter.name} of {name} has no type.")
        kind = hints[parameter.name]
        if kind is ToolContext:
            context_name = parameter.name
            continue
        if parameter.name in told:
            kind = typing.Annotated[kind, Meta(description=told[parameter.name])]
        default = () if parameter.default is parameter.empty else (parameter.default,)
        fields.append((parameter.name, kind, *default))
    try:
        return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True), context_name
    except TypeError as error:
        raise ToolInvalid(f"The arguments of {name} are no JSON: {error}") from error


def _schema_of(arguments: type[msgspec.Struct], name: str) -> JsonObject:
    try:
        (_,), parts = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    except TypeError as error:
        raise ToolInvalid(f"The arguments of {name} are no JSON: {error}") from error
    schema = parts.pop(arguments.__name__)
    schema.pop("title", None)
    return {**schema, "$defs": parts} if parts else schema


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """What stands before the first section, and what ``Args:`` says of each argument."""
    lines = text.splitlines()
    first = next((at for at, line in enumerate(lines) if line.strip() in SECTIONS), len(lines))
    told: dict[str, str] = {}
    if first < len(lines) and lines[first].strip() in SECTIONS[:3]:
        last, depth = "", 0
        for line in lines[first + 1 :]:
            if line.strip() and not line.startswith((" ", "\t")):
                break
            found = ARGUMENT.fullmatch(line.strip())
            if found and (not last or _indent(line) <= depth):
                last, depth = found[1], _indent(line)
                told[last] = found[2]
            elif last and line.strip():
                told[last] = f"{told[last]} {line.strip()}".strip()
    return "\n".join(lines[:first]).strip(), told


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
