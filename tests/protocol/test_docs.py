"""The reference of the realtime API is what the code says, and what the code says fits it."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from docs.reference import asyncapi, markdown, notes
from realtime.protocol import contract
from realtime.protocol.events import Refused
from realtime.protocol.wire import GA
from tests.protocol import frames
from tests.protocol.call import TestCall
from tests.protocol.test_conformance import CONVERSATIONS, UNSAID

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "realtime.md"
DOCUMENT = REPOSITORY / "docs" / "asyncapi.yaml"
STALE = "run: python -m docs.reference"


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert {found["name"] for found in markdown.MARKED.finditer(text)} == markdown.TABLES.keys()
    assert markdown.build(text) == text, STALE


def test_the_document_is_up_to_date() -> None:
    assert asyncapi.build() == DOCUMENT.read_text(), STALE


# ---- the notes ----


def test_every_event_has_a_note_and_every_note_an_event() -> None:
    assert notes.CLIENT_EVENTS.keys() == contract.CLIENT_EVENTS.keys()
    assert notes.SERVER_EVENTS.keys() == markdown.said_events().keys()
    assert notes.NEVER_SAID.keys() == UNSAID.keys()


def test_every_note_has_its_field() -> None:
    known = {
        f"{note}{name}.{path}"
        for note, objects in (("", markdown.OBJECTS), ("beta.", markdown.BETA_OBJECTS))
        for name, (_, shape) in objects.items()
        for path, *_ in markdown.fields(shape)
    }
    assert notes.FIELDS.keys() <= known


def literals(node: ast.AST) -> Iterator[str]:
    """Whole string constants below ``node``; not the pieces of an f-string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif not isinstance(node, ast.JoinedStr):
        for child in ast.iter_child_nodes(node):
            yield from literals(child)


def live_world() -> Iterator[ast.Module]:
    for folder in ("realtime/protocol", "realtime/runtime", "realtime/transports"):
        for path in (REPOSITORY / folder).glob("*.py"):
            yield ast.parse(path.read_text())


def codes(raised: str) -> set[str]:
    """The literal codes with which the live world raises this."""
    return {
        code
        for tree in live_world()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == raised and node.args
        for code in literals(node.args[0])
    }


def test_every_error_has_a_note_and_every_note_an_error() -> None:
    said = codes("Invalid")
    assert len(said) > 15
    assert said <= notes.ERRORS.keys()
    anywhere = {literal for tree in live_world() for literal in literals(tree)}
    # The bounds of numbers put theirs together: integer or decimal, below or above.
    bounds = {f"{kind}_{side}_value" for kind in ("integer", "decimal") for side in ("below_min", "above_max")}
    assert notes.ERRORS.keys() <= anywhere | bounds


def test_every_refusal_has_a_note() -> None:
    assert codes("Refusal") <= notes.REFUSALS.keys() | notes.ERRORS.keys()


# ---- the document ----


@pytest.fixture(scope="module")
def document() -> Any:
    return yaml.safe_load(DOCUMENT.read_text())


def validate(document: Any, name: str, event: Any) -> None:
    """Raises ValidationError."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(event)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for member in value:
            yield from references(member)


def test_every_reference_leads_somewhere(document: Any) -> None:
    for reference in set(references(document)):
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema, name


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_what_the_server_says_fits_the_document(document: Any, conversation: Callable[[], TestCall]) -> None:
    for event in conversation().said:
        validate(document, f"Server{asyncapi.camel(event['type'])}", event)


@pytest.mark.parametrize("event", frames.GA, ids=lambda event: event["type"])
def test_what_clients_may_send_fits_the_document(document: Any, event: dict[str, Any]) -> None:
    validate(document, f"Client{asyncapi.camel(event['type'])}", event)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "session.update", "session": {}},
        {"type": "session.update", "session": {"type": "realtime", "bogus": 1}},
        {"type": "session.update", "session": {"type": "realtime", "parallel_tool_calls": None}},
        {"type": "session.update", "session": {"type": "realtime", "audio": {"output": {"speed": 2}}}},
        {"type": "session.update", "session": {"type": "realtime", "tools": [{"type": "mcp", "server_label": "x"}]}},
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": []}},
        {"type": "input_audio_buffer.append"},
        {"type": "input_audio_buffer.clear", "event_id": "x" * 513},
    ],
)
def test_what_is_refused_does_not_fit_the_document(document: Any, event: dict[str, Any]) -> None:
    assert isinstance(GA.parse(msgspec.json.encode(event).decode()), Refused)
    with pytest.raises(jsonschema.ValidationError):
        validate(document, f"Client{asyncapi.camel(event['type'])}", event)
