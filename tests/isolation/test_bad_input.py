"""Bad input to every address that writes: refused with 4xx and the name of what is wrong, and nothing is changed."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from tests.isolation.walk import Route, fill, routes, state_of
from tests.record.test_openapi import DOCUMENT
from tests.record.world import World

WRITES = ("post", "put", "patch", "delete")
SCHEMAS = DOCUMENT["components"]["schemas"]
JSON = "application/json"
TOO_LONG = 100_000


def operation_of(route: Route, method: str) -> dict[str, Any]:
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", "/" + route.address)
    return DOCUMENT["paths"][path][method]


WRITING = [
    pytest.param(route, method, id=f"{method} {route}")
    for route in routes()
    for method in WRITES
    # What is a person's own refuses keys before it reads anything.
    if hasattr(route.view, method) and route.scopes
]
# They name something else that has to be there: an example cannot know what is.
REFERENCES = {"plan", "agent", "tenant", "credential"}


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return SCHEMAS[schema["$ref"].rpartition("/")[2]]
    if "allOf" in schema and len(schema["allOf"]) == 1:
        return resolve(schema["allOf"][0]) | {name: value for name, value in schema.items() if name != "allOf"}
    return schema


def kinds_of(schema: dict[str, Any]) -> set[str]:
    kinds = schema.get("type", [])
    found = {kinds} if isinstance(kinds, str) else set(kinds)
    for choice in (*schema.get("oneOf", ()), *schema.get("anyOf", ())):
        found |= kinds_of(resolve(choice))
    if "enum" in schema and not found:
        found = {"string"}
    return found


def wrong_values(schema: dict[str, Any]) -> Iterator[Any]:
    """Values of one field that its schema does not allow."""
    kinds = kinds_of(schema)
    if not kinds or schema.get("readOnly"):
        return
    if "null" not in kinds:
        yield None
    if "object" not in kinds:
        yield {"wrong": True}
    if "array" not in kinds and "object" not in kinds:
        yield [["wrong"]]
    if "string" in kinds and len(kinds - {"null"}) == 1:
        yield "nul\0"
        if schema.get("maxLength", TOO_LONG) < TOO_LONG or "enum" in schema or "format" in schema:
            yield "x" * TOO_LONG
        if "enum" in schema:
            yield "no such value"
    if kinds & {"integer", "number"}:
        yield "many"
        yield 10**400
        if "minimum" in schema:
            yield schema["minimum"] - 1
        if "maximum" in schema:
            yield schema["maximum"] + 1
    if "boolean" in kinds:
        yield "perhaps"
    if "array" in kinds:
        yield "no list"
        yield [{"wrong": {}}] if "object" not in kinds_of(resolve(schema.get("items", {}))) else ["wrong"]
    if "object" in kinds:
        yield "no object"


def send(secret: str, method: str, path: str, body: Any, kind: str = JSON):
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    client = Client(headers={"Authorization": f"Bearer {secret}"}, raise_request_exception=False)
    return client.generic(method.upper(), path, data, content_type=kind)


@pytest.fixture
def key_for(world: World, operator_key: str, settings):
    settings.LIMITS = settings.LIMITS | {"requests_per_minute": 100_000}
    return lambda route: operator_key if route.is_platforms else world.alpha.key


@pytest.mark.parametrize(("route", "method"), WRITING)
def test_a_wrong_field_is_refused_by_name(world: World, key_for, route: Route, method: str) -> None:
    content = operation_of(route, method).get("requestBody", {}).get("content", {}).get(JSON)
    path, secret = fill(route, world.alpha), key_for(route)
    if content is None:
        # It takes no body: what comes with one is ignored or refused, and never breaks anything.
        assert send(secret, method, path, {"no_such_field": 1}).status_code < 500
        return
    example = next(iter(content["examples"].values()))["value"]
    good = {name: value for name, value in example.items() if name not in REFERENCES}
    if "agent" in resolve(content["schema"]).get("required", ()):
        good["agent"] = world.alpha.agent
    if route.address.endswith("<slug:slug>/apply/"):
        good["slug"] = world.alpha.agent  # the document is about what the address names
    before = state_of(world.alpha.tenant)
    tried = 0
    for name, schema in resolve(content["schema"]).get("properties", {}).items():
        for value in wrong_values(resolve(schema)):
            answer = send(secret, method, path, copy.deepcopy(good) | {name: value})
            told = (name, str(value)[:40], answer.status_code, answer.content[:300])
            assert 400 <= answer.status_code < 500, told
            assert re.split(r"[.[]", answer.json()["error"]["param"] or "")[0] == name, told
            tried += 1
    answer = send(secret, method, path, good | {"no_such_field": 1})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "no_such_field")
    assert tried or not resolve(content["schema"]).get("properties")
    assert state_of(world.alpha.tenant) == before


BODIES = [
    "{",
    "[]",
    '"text"',
    "null",
    "1",
    b"\xff\xfe",
    '{"name": NaN}',
    "[" * 5_000,
    "{" * 5_000,
    '{"a": 1' + "0" * 5_000 + "}",
]


@pytest.mark.parametrize(("route", "method"), WRITING)
def test_what_is_no_json_object_is_refused(world: World, key_for, route: Route, method: str) -> None:
    path, secret = fill(route, world.alpha), key_for(route)
    takes_body = "requestBody" in operation_of(route, method)
    before = state_of(world.alpha.tenant)
    for body in BODIES if takes_body else ():
        answer = send(secret, method, path, body)
        assert answer.status_code == 400, (body[:30], answer.content[:300])
        assert answer.json()["status"] == "error"
    for kind in ("text/csv", "multipart/form-data; boundary=x", "application/xml", "nonsense") if takes_body else ():
        assert send(secret, method, path, "a,b", kind).status_code == 415
    if takes_body:
        assert state_of(world.alpha.tenant) == before
