"""The tables of ``docs/realtime.md``, one for each pair of markers in it."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from docs.reference import notes
from realtime.protocol import contract, contract_beta, wire_beta
from realtime.protocol import events as ev
from realtime.protocol import shapes as sh

MARKED = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Shapes with tables of their own; elsewhere they are named and not repeated.
OBJECTS: dict[str, tuple[str, sh.Shape]] = {
    "session": ("Session of type `realtime`", contract.REALTIME_SESSION),
    "transcription_session": ("Session of type `transcription`", contract.TRANSCRIPTION_SESSION),
    "turn_detection": ("Turn detection", contract.TURN_DETECTION),
    "transcription": ("Transcription", contract.TRANSCRIPTION),
    "tool": ("Tools", contract.TOOLS.shape),
    "item": ("Items", contract.ITEM),
    "response": ("`response` of `response.create`", contract.RESPONSE),
}
BETA_OBJECTS: dict[str, tuple[str, sh.Shape]] = {
    "session": ("`session` of `session.update`", contract_beta.REALTIME_SESSION),
    "response": ("`response` of `response.create`", contract_beta.RESPONSE),
}


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def words(values: Any) -> str:
    return ", ".join(f"`{value}`" for value in values)


def kind(shape: sh.Shape) -> str:
    """What a value is, in a few words."""
    for name, (_, named) in OBJECTS.items():
        if shape is named and name not in ("session", "response"):
            return f"[{name}](#{anchor(OBJECTS[name][0])})"
    match shape:
        case sh.Anything():
            return "any JSON"
        case sh.Flag():
            return "boolean"
        case sh.Text(max_length, pattern):
            return "string" + (f" ≤ {max_length}" if max_length else "") + (f", `{pattern}`" if pattern else "")
        case sh.Choice(values):
            return words(values)
        case sh.Number(minimum, maximum, whole):
            name = "integer" if whole else "number"
            if minimum == maximum and minimum is not None:
                return f"`{minimum:g}`" if minimum < 1e6 else f"`{minimum:.0f}`"
            if maximum is None:
                return name if minimum is None else f"{name} ≥ {minimum:g}"
            return f"{name} {minimum:.10g} to {maximum:.10g}"
        case sh.NumberOrWord(number, word):
            return f"{kind(number)}, or `{word}`"
        case sh.WordOr(choices, other):
            return f"{words(choices)}, or {kind(other)}"
        case sh.TextOr(other, text):
            return f"{kind(text)}, or {kind(other)}"
        case sh.ListOr(members, other):
            return f"{kind(members)}, or {kind(other)}"
        case sh.ListOf(member):
            return f"array of {kind(member)}"
        case sh.MapOf() | sh.MapTo():
            return "object of strings" if isinstance(shape, sh.MapOf) else f"object of {kind(shape.shape)}"
        case contract_beta.Modalities():
            return '`["text"]` or `["audio", "text"]`'
        case sh.Object(fields):
            return "{" + ", ".join(f"`{name}`: {kind(field)}" for name, field in fields.items()) + "}"
        case sh.Tagged(tag, variants):
            return f"object by `{tag}`: {words(variants)}"
    raise TypeError(shape)


def anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def fields(shape: sh.Shape, prefix: str = "", only: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(path, what it is, required or nullable, for which variant) of every field, nested objects laid flat."""
    if isinstance(shape, sh.Tagged):
        for name, variant in shape.shapes.items():
            yield from fields(variant, prefix, f"{only} ({name})" if only else name)
        return
    if not isinstance(shape, sh.Object):
        return
    named = [known for _, known in OBJECTS.values()]
    for name, field in shape.fields.items():
        path = f"{prefix}{name}"
        state = "required" if name in shape.required else "one of these" if name in shape.one_of else ""
        if name in shape.nullable:
            state = f"{state}, null clears".removeprefix(", ")
        if isinstance(field, sh.Object) and field not in named and name not in shape.nullable and not only:
            yield from fields(field, f"{path}.")
        else:
            yield path, kind(field), state, only


def object_tables(objects: dict[str, tuple[str, sh.Shape]], note: str = "") -> str:
    parts = []
    for name, (title, shape) in objects.items():
        rows: dict[tuple[str, str, str], list[str]] = {}
        for path, what, state, only in fields(shape):
            rows.setdefault((path, what, state), []).append(only)
        tagged = isinstance(shape, sh.Tagged)
        lines = []
        for (path, what, state), variants in rows.items():
            said = "; ".join(part for part in (state, notes.FIELDS.get(f"{note}{name}.{path}", "")) if part)
            lines.append((f"`{path}`", what, *((", ".join(variants),) if tagged else ()), said))
        head = ("field", "value", *((f"for `{shape.tag}`",) if isinstance(shape, sh.Tagged) else ()), "")
        lead = ""
        if isinstance(shape, sh.Tagged):
            lead = f"`{shape.tag}`: {words(shape.shapes)}" + (
                f"; `{shape.default}` when absent" if shape.default else ""
            )
            lead += ".\n\n"
        parts.append(f"### {title}\n\n{lead}{table(head, lines)}")
    return "\n".join(parts)


def client_events() -> str:
    rows = []
    for name, shape in contract.CLIENT_EVENTS.items():
        optional = [field for field in shape.fields if field not in (*shape.required, "event_id")]
        rows.append((f"`{name}`", words(shape.required) or "–", words(optional) or "–", notes.CLIENT_EVENTS[name]))
    return table(("event", "required", "optional", "answer"), rows)


def said_events() -> dict[str, type[ev.ServerEvent]]:
    """Wire name to type, in the order of their definition."""

    def leaves(parent: type[ev.ServerEvent]) -> Iterator[type[ev.ServerEvent]]:
        for child in parent.__subclasses__():
            if child.__module__ == ev.__name__:
                yield from [child] if child.__struct_config__.tag != child.__name__ else []
                yield from leaves(child)

    order = list(vars(ev))
    found = sorted(leaves(ev.ServerEvent), key=lambda event: order.index(event.__name__))
    return {str(event.__struct_config__.tag): event for event in found}


def server_events() -> str:
    rows = []
    for name, event in said_events().items():
        own = [field.encode_name for field in msgspec.structs.fields(event) if field.name != "event_id"]
        rows.append((f"`{name}`", words(own) or "–", notes.SERVER_EVENTS[name]))
    return table(("event", "fields besides `event_id`", "when"), rows)


def beta_events() -> str:
    rows = [
        (f"`{event.__struct_config__.tag}`", f"`{beta}`")
        for event, beta in sorted(wire_beta.RENAMED.items(), key=lambda pair: pair[1])
    ]
    rows += [(f"`{event.__struct_config__.tag}`", "–") for event in wire_beta.UNSAID]
    rows += [
        ("–", "`conversation.created`, after `session.created`"),
        ("`session.created` of a transcription session", "`transcription_session.created`"),
        ("`session.updated` of a transcription session", "`transcription_session.updated`"),
    ]
    return table(("GA", "beta"), rows)


def errors() -> str:
    return table(("`code`", "when"), [(f"`{code}`", when) for code, when in notes.ERRORS.items()])


def refusals() -> str:
    rows = [(f"`{code}`", close, when) for code, (close, when) in notes.REFUSALS.items()]
    return table(("`code`", "close code", "when"), rows)


def never_said() -> str:
    reasons: dict[str, list[str]] = {}
    for name, reason in notes.NEVER_SAID.items():
        reasons.setdefault(reason, []).append(name)
    return table(("event", "why"), [(words(names), reason) for reason, names in reasons.items()])


TABLES = {
    "client-events": client_events,
    "server-events": server_events,
    "never-said": never_said,
    "objects": lambda: object_tables(OBJECTS),
    "errors": errors,
    "refusals": refusals,
    "beta-events": beta_events,
    "beta-objects": lambda: object_tables(BETA_OBJECTS, "beta."),
}


def build(text: str) -> str:
    """``text`` with what lies between its markers made anew. Raises KeyError on an unknown marker."""
    return MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found['name']]()}\n{found[3]}", text)
