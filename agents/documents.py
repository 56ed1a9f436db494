"""One agent as one YAML document: what ``export`` writes and ``apply`` reads, made to be kept in Git.

The order of the fields is fixed. Plain words are read as YAML 1.2 has them: ``on`` and ``no`` are texts, only ``true``
and ``false`` are not; JSON is read too. References (``&``, ``*``), tags and a name given twice are refused.
"""

import re
from typing import Any

import yaml

from agents.models import Agent
from agents.shapes import SCHEMAS
from agents.versions import VERSIONED

SCHEMA = 1
FIRST_LINE = f"# AgentVoiceBox agent, schema {SCHEMA}\n"
DEPTH = 40
FIRST: dict[str, Any] = {"type": {}}
BREAKS = re.compile("[\r\x85\u2028\u2029\ufeff]")
NODES = 20_000
"""Names and values of a document. A thousand of them take a few milliseconds to read."""


class DocumentInvalid(Exception):
    """The text is no document of an agent. ``field`` is what it is about, empty for the whole."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field


def describe(agent: Agent) -> dict[str, Any]:
    """The draft as a document has it."""
    fields = {name: _in_order(SCHEMAS.get(name, {}), getattr(agent, name)) for name in VERSIONED}
    return {"schema": SCHEMA, "slug": agent.slug, **fields, "is_default": agent.is_default}


def _in_order(schema: Any, value: Any) -> Any:
    """Names as the schema has them, others behind: PostgreSQL keeps no order."""
    if isinstance(value, list):
        return [_in_order(schema.get("items", {}), part) for part in value]
    if not isinstance(value, dict):
        return value
    schema = next((one for one in schema.get("oneOf", ()) if _is_of(one, value)), schema)
    known = schema.get("properties", FIRST)
    names = [*(name for name in known if name in value), *sorted(value.keys() - known.keys())]
    return {name: _in_order(known.get(name) or {}, value[name]) for name in names}


def _is_of(schema: dict[str, Any], value: dict[str, Any]) -> bool:
    return bool(schema["properties"]["type"]["const"] == value.get("type"))


def write_document(agent: Agent) -> str:
    return FIRST_LINE + yaml.dump(
        describe(agent), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=False
    )


def read_document(text: str | bytes) -> dict[str, Any]:
    """The fields of a document, not checked yet but for its schema. Raises DocumentInvalid."""
    return check_document(parse_document(text))


def parse_document(text: str | bytes) -> Any:
    """What is written there, whatever it is. Raises DocumentInvalid."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that takes less
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"Line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise DocumentInvalid(f"{place}{error.problem or error.context}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DocumentInvalid("This is no YAML that can be read.") from error


def check_document(document: Any) -> dict[str, Any]:
    """Its fields without ``schema``. Raises DocumentInvalid."""
    if not isinstance(document, dict):
        raise DocumentInvalid("A document of an agent has fields, such as slug and name.")
    schema = document.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        got = "there is none" if schema is None else f"got {str(schema)[:20]!r}"
        raise DocumentInvalid(f"A document says schema: {SCHEMA}; {got}.", "schema")
    return {name: value for name, value in document.items() if name != "schema"}


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, lists indented."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # What YAML takes for the end of a line, and texts do not, is kept by quotes alone.
    style = '"' if BREAKS.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _write_text)


class _Loader(yaml.SafeLoader):
    """Anchors make a small text a large value, and tags make it something else: neither is needed here."""

    yaml_implicit_resolvers: dict[str, Any] = {}
    depth = nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(problem="references (& and *) are not read", problem_mark=event.start_mark)
        if getattr(event, "tag", None):
            raise yaml.MarkedYAMLError(problem="tags (!) are not read", problem_mark=event.start_mark)
        self.depth, self.nodes = self.depth + 1, self.nodes + 1
        if self.depth > DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {DEPTH} deep", problem_mark=event.start_mark)
        if self.nodes > NODES:
            raise yaml.MarkedYAMLError(problem=f"more than {NODES} names and values", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a field's name is a text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
            # Whatever it looks like: JSON's names are texts.
            key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?", "-+0123456789."),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})\Z"), list(_first))
