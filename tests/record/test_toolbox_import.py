"""Tools from OpenAPI documents: what is made of them, and what a hostile one cannot do."""

import json
from typing import Any

import pytest
from django_tenants.utils import tenant_context

from agents.toolbox.errors import ImportInvalid
from agents.toolbox.models import Tool
from agents.toolbox.openapi import read_document
from agents.tools.http import prepare, read_http_tool
from tests.record.tool_server import ToolServer, tool_server
from tests.record.world import Api, World

__all__ = ["tool_server"]

DOCUMENT = """
openapi: 3.0.3
info: {title: Shop, version: 1.0.0}
servers:
  - url: https://{region}.shop.example/v1
    variables: {region: {default: eu}}
security: [{key: []}]
paths:
  /orders/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: integer}, description: Its number}
    get:
      operationId: getOrder
      summary: Reads an order
      parameters:
        - {name: "filter[state]", in: query, schema: {type: string, nullable: true, enum: [open, closed]}}
        - {name: X-Request-Id, in: header, schema: {type: string}}
        - {name: Authorization, in: header, required: true, schema: {type: string}}
        - {name: session, in: cookie, schema: {type: string}}
        - {name: tags, in: query, explode: false, schema: {type: array, items: {type: string}}}
    put:
      summary: Changes it
      requestBody:
        required: true
        content: {application/json: {schema: {$ref: '#/components/schemas/Order'}}}
      security: [{}]
  /orders:
    post:
      operationId: getOrder
      requestBody:
        required: true
        content: {application/json: {schema: {type: array, items: {$ref: '#/components/schemas/Order'}}}}
  /elsewhere:
    get: {parameters: [{$ref: 'https://evil.example/parameters.json'}]}
    post: {requestBody: {required: true, content: {multipart/form-data: {}}}}
    delete: {parameters: [{name: c, in: cookie, required: true}]}
    patch: {security: [{key: [], other: []}]}
components:
  securitySchemes:
    key: {type: apiKey, in: header, name: X-Key}
    other: {type: openIdConnect, openIdConnectUrl: 'https://a.example'}
  schemas:
    Base:
      type: object
      required: [day]
      properties:
        id: {type: integer, readOnly: true}
        day: {type: string, format: date, example: 2027-01-15, pattern: '(a+)+$', x-internal: secret}
    Order:
      allOf:
        - $ref: '#/components/schemas/Base'
        - type: object
          properties:
            child: {$ref: '#/components/schemas/Order'}
            amount: {type: number, minimum: 0, exclusiveMinimum: true}
"""


def operation(key: str, text: str = DOCUMENT, **options: str) -> Any:
    return next(each for each in read_document(text, **options).operations if each.key == key)


def test_an_operation_becomes_a_request_and_a_schema() -> None:
    read = operation("GET /orders/{id}")
    assert (read.name, read.description, read.security, read.is_open) == ("getOrder", "Reads an order", ("key",), False)
    assert read.request == {
        "method": "GET",
        "url": "https://eu.shop.example/v1/orders/{{arguments.id}}",
        "query": {"filter[state]": "{{arguments.filter_state}}"},
        "headers": {"X-Request-Id": "{{arguments.X-Request-Id}}"},
    }
    assert read.parameters == {
        "type": "object",
        "properties": {
            "id": {"type": "integer", "description": "Its number"},
            "filter_state": {"type": ["string", "null"], "enum": ["open", "closed", None]},
            "X-Request-Id": {"type": "string"},
        },
        "required": ["id"],
    }
    tool = read_http_tool(read.request, parameters=read.parameters)
    made = prepare(tool.request, {"id": 7, "filter_state": "open"}, {})
    assert made.url == "https://eu.shop.example/v1/orders/7?filter%5Bstate%5D=open"


def test_a_body_is_given_by_its_members() -> None:
    change = operation("PUT /orders/{id}")
    assert change.is_open
    assert change.request["body"] == {"child": "{{arguments.child}}", "amount": "{{arguments.amount}}",
                                      "day": "{{arguments.day}}"}  # fmt: skip
    assert change.parameters["required"] == ["id", "day"]
    assert change.parameters["properties"]["day"] == {"type": "string", "format": "date"}, (
        "no pattern, nothing internal"
    )
    assert change.parameters["properties"]["amount"] == {"type": "number", "exclusiveMinimum": 0}
    assert change.parameters["properties"]["child"] == {}, "what refers to itself takes anything"
    whole = operation("POST /orders")
    assert whole.name == "getOrder_2"
    assert whole.request["body"] == "{{arguments.body}}"
    assert whole.parameters["properties"]["body"]["type"] == "array"


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("GET /elsewhere", "'https://evil.example/parameters.json', which is not in the document"),
        ("POST /elsewhere", "only JSON can be sent"),
        ("DELETE /elsewhere", "'c' is needed and is sent in a cookie"),
    ],
)
def test_what_cannot_be_a_tool_says_why(key: str, problem: str) -> None:
    assert problem in operation(key).problem


def test_the_server_can_be_named() -> None:
    assert (
        operation("GET /orders/{id}", server_url="https://test.example/")
        .request["url"]
        .startswith("https://test.example/orders/")
    )
    relative = DOCUMENT.replace("https://{region}.shop.example/v1", "/v1")
    assert "give server_url" in operation("GET /orders/{id}", relative).problem
    found = operation("GET /orders/{id}", relative, source_url="https://shop.example/docs/openapi.yaml")
    assert found.request["url"] == "https://shop.example/v1/orders/{{arguments.id}}"


LAUGHS = "\n".join(
    ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)), "openapi: 3.0.0"]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is an object"),
        ("just words", "is an object"),
        ("{", "neither JSON nor YAML"),
        ("a: [", "neither JSON nor YAML"),
        ("swagger: '2.0'", "version 3.0 or 3.1"),
        ("openapi: 3.0.0", "no operations"),
        ("openapi: 3.1.0\npaths: []", "no operations"),
        ("[" * 100_000, "too deeply"),
        ('{"a":' * 100_000, "too deeply"),
        (LAUGHS, "too large"),
        ("a: &a [*a]", "too large"),
        ("openapi: !!python/object/apply:os.system ['true']", "neither JSON nor YAML"),
        ("openapi: 3.0.0\npaths: {" + ", ".join(f"/p{n}: {{get: {{}}}}" for n in range(1_001)) + "}", "at most 1000"),
    ],
    ids=lambda value: value[:30],
)
def test_a_hostile_document_is_refused(text: str, words: str) -> None:
    with pytest.raises(ImportInvalid, match=words):
        read_document(text)


def test_a_huge_schema_is_refused_alone() -> None:
    wide = {f"p{n}": {"$ref": "#/components/schemas/B"} for n in range(30)}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/A"}}}}
    inner = {f"q{n}": {"type": "string"} for n in range(100)}
    schemas = {"A": {"type": "object", "properties": wide}, "B": {"type": "object", "properties": inner}}
    document = {
        "openapi": "3.1.0",
        "servers": [{"url": "https://a.example"}],
        "paths": {"/x": {"post": {"requestBody": body}, "get": {}}},
        "components": {"schemas": schemas},
    }
    assert operation("POST /x", json.dumps(document)).problem == "Its schemas are too large."
    assert operation("GET /x", json.dumps(document)).problem == ""


def test_many_large_schemas_are_read_by_choice(alpha_api: Api) -> None:
    wide = {"type": "object", "properties": {f"q{n}": {"type": "string"} for n in range(300)}}
    post = {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/B"}}}}}
    document = {
        "openapi": "3.1.0",
        "servers": [{"url": "https://a.example"}],
        "paths": {f"/x{n}": {"post": post} for n in range(100)},
        "components": {"schemas": {"B": wide}},
    }
    read = read_document(json.dumps(document)).operations
    assert read[0].problem == ""
    assert read[-1].problem == "The schemas are too large to be read all at once: choose operations."
    body = {"document": json.dumps(document), "operations": ["POST /x99"], "create": True}
    assert alpha_api("POST", "tools/import/", body)[1]["data"]["created"] == ["post_x99"]


def test_a_document_is_looked_at_and_then_imported(world: World, alpha_api: Api, beta_api: Api) -> None:
    status, seen = alpha_api("POST", "tools/import/", {"document": DOCUMENT})
    assert status == 200
    assert seen["data"]["title"] == "Shop"
    assert seen["data"]["schemes"] == {"key": "api_key", "other": ""}
    assert len(seen["data"]["operations"]) == 7
    with tenant_context(world.alpha.tenant):
        assert not Tool.objects.exists()
    chosen = {"document": DOCUMENT, "create": True, "operations": ["GET /orders/{id}", "PUT /orders/{id}"]}
    status, answer = alpha_api("POST", "tools/import/", chosen)
    assert (status, answer["error"]["param"]) == (400, "credentials")
    assert "GET /orders/{id} needs a credential for key" in answer["error"]["message"]
    status, answer = alpha_api("POST", "tools/import/", chosen | {"credentials": {"key": "nothing"}})
    assert (status, answer["error"]["param"]) == (400, "credentials.key")
    for api in (alpha_api, beta_api):
        body = {"name": "shop", "kind": "api_key", "config": {"name": "X-Key"}, "secret": {"value": "abcdef"}}
        assert api("POST", "tool-credentials/", body)[0] == 201
    status, answer = alpha_api(
        "POST", "tools/import/", chosen | {"credentials": {"key": "shop"}, "integration": "shop"}
    )
    assert (status, answer["data"]["created"]) == (201, ["getOrder", "put_orders_id"])
    made = alpha_api("GET", "tools/getOrder/")[1]["data"]
    assert (made["credential"], made["integration"]) == ("shop", "shop")
    assert alpha_api("GET", "tools/put_orders_id/")[1]["data"]["credential"] is None
    assert beta_api("GET", "tools/")[1]["data"]["results"] == []
    # All or none: the second one is there already, so the first is not made either.
    again = chosen | {"operations": ["POST /orders", "PUT /orders/{id}"], "credentials": {"key": "shop"}}
    status, answer = alpha_api("POST", "tools/import/", again)
    assert (status, answer["error"]["code"]) == (400, "name_taken")
    assert alpha_api("GET", "tools/getOrder_2/")[0] == 404


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({}, "document"),
        ({"document": DOCUMENT, "url": "https://a.example/"}, "document"),
        ({"document": "nonsense"}, "document"),
        ({"document": DOCUMENT, "operations": ["GET /nothing"]}, "operations[0]"),
        ({"document": DOCUMENT, "operations": ["GET /elsewhere"], "create": True}, "GET /elsewhere"),
        ({"document": DOCUMENT, "operations": [], "create": True}, "operations"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "https://169.254.169.254/latest/meta-data/"}, "url"),
        ({"url": "http://localhost:1/"}, "url"),
    ],
)
def test_a_bad_import_is_refused_by_name(alpha_api: Api, change: dict[str, Any], param: str) -> None:
    status, answer = alpha_api("POST", "tools/import/", change)
    assert status == 400, answer
    assert answer["error"]["param"] == param


def test_a_document_is_fetched_through_the_guard(
    alpha_api: Api, tool_server: ToolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool_server.answers["/openapi.yaml"] = (
        200,
        "application/yaml",
        DOCUMENT.replace("https://{region}.shop.example", ""),
    )
    tool_server.answers["/gone"] = (404, "text/plain", "secret words of a server inside")
    status, answer = alpha_api("POST", "tools/import/", {"url": f"{tool_server.url}/openapi.yaml"})
    assert (status, answer["error"]["param"]) == (400, "url")
    assert tool_server.asked == []
    monkeypatch.setenv("AVB_EGRESS_PRIVATE_NETWORKS", "127.0.0.0/8")
    status, answer = alpha_api("POST", "tools/import/", {"url": f"{tool_server.url}/openapi.yaml"})
    assert status == 200, answer
    assert answer["data"]["operations"][0]["request"]["url"] == f"{tool_server.url}/v1/orders/{{{{arguments.id}}}}"
    status, answer = alpha_api("POST", "tools/import/", {"url": f"{tool_server.url}/gone"})
    assert "answered 404" in answer["error"]["message"]
    assert "secret words" not in answer["error"]["message"]


def test_a_document_may_be_sent_as_the_object_it_is(alpha_api: Api) -> None:
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Shop"},
        "servers": [{"url": "https://shop.example"}],
        "paths": {"/orders": {"get": {"operationId": "orders"}}},
    }
    status, answer = alpha_api("POST", "tools/import/", {"document": document})
    assert (status, answer["data"]["operations"][0]["name"]) == (200, "orders")
    assert alpha_api("POST", "tools/import/", {"document": json.dumps(document)})[1]["data"] == answer["data"]
    for wrong in (7, [document], "", None):
        status, answer = alpha_api("POST", "tools/import/", {"document": wrong})
        assert (status, answer["error"]["param"]) == (400, "document"), wrong


BODIES = """
openapi: 3.1.0
info: {title: Shop}
servers: [{url: 'https://shop.example'}]
paths:
  /photos:
    post: {operationId: upload, requestBody: {content: {multipart/form-data: {schema: {type: object}}}}}
  /orders:
    post:
      operationId: order
      requestBody:
        content:
          application/json:
            schema:
              type: object
              required: [item]
              properties: {item: {type: string}, note: {type: string}}
"""


def test_a_form_is_a_problem_also_where_it_may_be_left_out(alpha_api: Api) -> None:
    assert "multipart/form-data; only JSON" in operation("POST /photos", BODIES).problem
    status, answer = alpha_api("POST", "tools/import/", {"document": BODIES, "create": True})
    assert (status, answer["data"]["created"]) == (201, ["order"])


def test_members_that_are_required_stay_so_where_the_body_does_not_say_it() -> None:
    assert operation("POST /orders", BODIES).parameters["required"] == ["item"]


def test_an_operation_on_an_address_that_is_not_asked_says_so(alpha_api: Api) -> None:
    document = BODIES.replace("https://shop.example", "https://127.0.0.1:8443")
    answer = alpha_api("POST", "tools/import/", {"document": document})[1]
    problems = {each["operation"]: each["problem"] for each in answer["data"]["operations"]}
    assert "127.0.0.1 is not public" in problems["POST /orders"]
