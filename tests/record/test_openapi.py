"""The OpenAPI document: what the code says, complete, with an example of everything that is sent and answered."""

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from jsonschema import Draft202012Validator

from tenants.api.resources import RESOURCES, resource_of
from tenants.openapi import SINGLE

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.yaml"
JSON = "application/json"


def read_document(**options: bool) -> str:
    out = StringIO()
    call_command("spectacular", stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


WRITTEN = read_document()
DOCUMENT: dict[str, Any] = yaml.safe_load(WRITTEN)
OPERATIONS = [
    pytest.param(path, method, operation, id=operation["operationId"])
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]


def test_the_document_is_up_to_date() -> None:
    assert COMMITTED.read_text() == WRITTEN, "run: ./avb manage spectacular --file docs/openapi.yaml"


def test_the_document_is_valid_and_made_without_warnings() -> None:
    assert read_document(fail_on_warn=True, validate=True) == WRITTEN


def test_it_says_who_may_call_and_what_belongs_together() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert {"apiKey", "oauth2", "session"} <= DOCUMENT["components"]["securitySchemes"].keys()
    described = {tag["name"]: tag["description"] for tag in DOCUMENT["tags"]}
    for operation in (case.values[2] for case in OPERATIONS):
        for tag in operation["tags"]:
            assert described[tag] != tag, f"describe the tag {tag!r} in tenants/openapi.py"


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_an_operation_names_its_errors_headers_and_reasons(path: str, method: str, operation: dict) -> None:
    answers = operation["responses"]
    assert {"400", "401", "403", "406", "429", "503"} <= answers.keys()
    assert ("404" in answers) is ("{" in path or path in SINGLE)
    assert operation["summary"][0].isupper()
    assert "_" not in operation["summary"]
    assert "inside the schema" not in operation.get("description", ""), "that is about the code"
    headers = {each["$ref"].rpartition("/")[2] for each in operation["parameters"] if "$ref" in each}
    assert "RequestId" in headers
    assert ("IdempotencyKey" in headers) is (method == "post")
    assert ("IfNoneMatch" in headers) is (method == "get")
    for status, answer in answers.items():
        if status.startswith("2") and JSON in answer.get("content", {}):
            assert answer["content"][JSON]["schema"]["required"] == ["status", "data"]


def bodies(operation: dict) -> list[tuple[str, dict[str, Any]]]:
    found = [("request", body) for body in operation.get("requestBody", {}).get("content", {}).values()]
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            answer = DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        found += [(status, body) for body in answer.get("content", {}).values()]
    return found


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_an_operation_shows_an_example_of_all_it_takes_and_answers(path: str, method: str, operation: dict) -> None:
    for where, body in bodies(operation):
        assert body.get("examples"), (where, "no example")
        shape = body["schema"] | {"components": DOCUMENT["components"]}
        for example in body["examples"].values():
            faults = list(Draft202012Validator(shape).iter_errors(example["value"]))
            assert not faults, (where, [(list(fault.path), fault.message) for fault in faults])
    for parameter in operation["parameters"]:
        if parameter.get("in") == "path":
            assert not list(Draft202012Validator(parameter["schema"]).iter_errors(parameter["example"]))


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_nothing_that_may_be_left_out_is_filled_in_for_who_tries_it(path: str, method: str, operation: dict) -> None:
    shared = DOCUMENT["components"]["parameters"]
    for parameter in operation["parameters"]:
        parameter = shared[parameter["$ref"].rpartition("/")[2]] if "$ref" in parameter else parameter
        if parameter["in"] == "path":
            continue
        assert not parameter.get("required")
        assert not {"example", "examples"} & (parameter.keys() | parameter["schema"].keys()), parameter["name"]


def filler(value: Any, name: str = "") -> list[str]:
    """Of an example, the fields that say nothing but their own name."""
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in filler(inner, key)]
    if isinstance(value, list):
        return [found for inner in value for found in filler(inner, name)]
    return [name] if isinstance(value, str) and value in (name.replace("_", " "), "text") and name else []


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_an_example_is_of_something_real(path: str, method: str, operation: dict) -> None:
    for where, body in bodies(operation):
        for example in body["examples"].values():
            assert example["value"] != "text"
            assert not filler(example["value"]), (where, "say it in tenants/api/resources.py")
            assert "example.org" not in str(example["value"])


def test_every_resource_with_an_example_of_its_own_is_there_with_its_fields() -> None:
    shapes: dict[str, set[str]] = {}
    for component, schema in DOCUMENT["components"]["schemas"].items():
        shapes.setdefault(resource_of(component), set()).update(schema.get("properties", ()))
    assert RESOURCES.keys() <= shapes.keys()
    assert all(shapes[resource] & fields.keys() for resource, fields in RESOURCES.items())


LISTS = [case for case in OPERATIONS if case.id and case.id.startswith("list_")]


@pytest.mark.parametrize(("path", "method", "operation"), LISTS)
def test_a_list_has_pages(path: str, method: str, operation: dict) -> None:
    body = operation["responses"]["200"]["content"][JSON]
    schema = body["schema"]["properties"]["data"]
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    assert schema["properties"].keys() == {"next", "previous", "results"}
    for example in body["examples"].values():
        address, known = example["value"]["data"]["next"], re.sub(r"\{\w+\}", r"[^{/]+", path)
        assert address is None or re.fullmatch(rf"https://voice\.example\.com{known}\?cursor=\w+", address)


def test_no_list_is_called_otherwise() -> None:
    for case in OPERATIONS:
        content = case.values[2]["responses"].get("200", {}).get("content", {}).get(JSON, {})
        data = content.get("schema", {}).get("properties", {}).get("data", {})
        assert data.get("type") != "array", case.id
