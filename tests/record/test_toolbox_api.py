"""``/api/v1/tools/``, ``mcp-servers/``, ``tool-credentials/``: two tenants, and nothing secret anywhere."""

import json
from typing import Any

import pytest
from django_tenants.utils import tenant_context

from agents.toolbox.models import Credential, McpServer, Tool
from tenants.audit.models import Entry
from tenants.keys.operations import issue_key
from tenants.permissions import Scope
from tests.record.world import Api, House, World

SECRET = "k-9f8e7d6c5b4a"
CREDENTIAL = {"name": "shop_key", "kind": "api_key", "config": {"in": "header", "name": "X-Api-Key"},
              "secret": {"value": SECRET}}  # fmt: skip
TOOL = {
    "name": "order_status",
    "description": "Reads an order.",
    "parameters": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
    "request": {"method": "GET", "url": "https://shop.example.com/orders/{{arguments.id}}"},
    "response": {"select": "$.status"},
    "credential": "shop_key",
}
SERVER = {"label": "calendar", "url": "https://calendar.example.com/mcp", "headers": {"X-Token": SECRET},
          "allowed_tools": ["find_slot"], "require_approval": "never"}  # fmt: skip


def entries(house: House, action: str) -> list[Entry]:
    with tenant_context(house.tenant):
        return list(Entry.objects.filter(action=action))


def test_a_tool_with_its_credential_lives_and_dies(world: World, alpha_api: Api, beta_api: Api) -> None:
    status, answer = alpha_api("POST", "tool-credentials/", CREDENTIAL)
    assert status == 201, answer
    assert "secret" not in answer["data"]
    status, answer = alpha_api("POST", "tools/", TOOL)
    assert status == 201, answer
    assert answer["data"]["credential"] == "shop_key"
    assert answer["data"]["timeout_ms"] == 10_000
    status, answer = alpha_api("PATCH", "tools/order_status/", {"timeout_ms": 500, "integration": "shop"})
    assert (status, answer["data"]["timeout_ms"]) == (200, 500)
    assert [tool["name"] for tool in alpha_api("GET", "tools/?integration=shop")[1]["data"]["results"]] == [
        "order_status"
    ]
    for way in ("tools/order_status/", "tool-credentials/shop_key/"):
        assert alpha_api("GET", way)[0] == 200
        for method, body in (("GET", None), ("PATCH", {"config": {}}), ("DELETE", None)):
            assert beta_api(method, way, body)[0] == 404
    assert beta_api("GET", "tools/")[1]["data"]["results"] == []
    status, answer = beta_api("POST", "tools/", TOOL)
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, "credential", "does_not_exist")
    status, answer = alpha_api("DELETE", "tool-credentials/shop_key/")
    assert (status, answer["error"]["code"]) == (400, "credential_in_use")
    assert "order_status" in answer["error"]["message"]
    assert alpha_api("DELETE", "tools/order_status/") == (204, None)
    assert alpha_api("DELETE", "tool-credentials/shop_key/") == (204, None)
    assert alpha_api("GET", "tools/order_status/")[0] == 404
    actions = [
        entry.action
        for action in ("tool.created", "tool.updated", "tool.deleted")
        for entry in entries(world.alpha, action)
    ]
    assert actions == ["tool.created", "tool.updated", "tool.deleted"]
    assert entries(world.beta, "tool.created") == []


def test_no_secret_is_shown_or_kept_in_the_clear(world: World, alpha_api: Api) -> None:
    alpha_api("POST", "tool-credentials/", CREDENTIAL)
    alpha_api("POST", "mcp-servers/", SERVER)
    alpha_api("PATCH", "tool-credentials/shop_key/", {"secret": {"value": SECRET + "2"}})
    alpha_api("PATCH", "mcp-servers/calendar/", {"headers": {"X-Token": SECRET + "3"}})
    shown = [alpha_api("GET", way) for way in ("tool-credentials/", "mcp-servers/", "mcp-servers/calendar/")]
    assert SECRET not in json.dumps(shown)
    with tenant_context(world.alpha.tenant):
        assert SECRET not in json.dumps([[entry.before, entry.after] for entry in Entry.objects.all()])
        assert Credential.objects.get().secret == {"value": SECRET + "2"}
        assert McpServer.objects.get().headers == {"X-Token": SECRET + "3"}
        raw = [bytes(row["secret"].value) for row in Credential.objects.values("secret")]
        assert all(SECRET.encode() not in sealed for sealed in raw)
    (changed,) = entries(world.alpha, "tool_credential.updated")
    assert list(changed.after) == ["secret_replaced"]


def test_what_a_secret_is_for_changes_only_with_it(alpha_api: Api) -> None:
    config = {"token_url": "https://login.example.com/token", "client_id": "us", "scope": "a"}
    body = {"name": "oauth", "kind": "oauth2_client_credentials", "config": config, "secret": {"client_secret": SECRET}}
    assert alpha_api("POST", "tool-credentials/", body)[0] == 201
    assert alpha_api("PATCH", "tool-credentials/oauth/", {"config": config | {"scope": "b"}})[0] == 200
    status, answer = alpha_api(
        "PATCH", "tool-credentials/oauth/", {"config": config | {"token_url": "https://evil.example/"}}
    )
    assert (status, answer["error"]["param"]) == (400, "secret")
    status, answer = alpha_api("PATCH", "tool-credentials/oauth/", {"kind": "bearer", "config": {}})
    assert (status, answer["error"]["param"]) == (400, "secret")
    moved = {"kind": "bearer", "config": {}, "secret": {"token": "another"}}
    assert alpha_api("PATCH", "tool-credentials/oauth/", moved)[0] == 200
    alpha_api("POST", "mcp-servers/", SERVER)
    status, answer = alpha_api("PATCH", "mcp-servers/calendar/", {"url": "https://evil.example/mcp"})
    assert (status, answer["error"]["param"]) == (400, "headers")
    moved = {"url": "https://other.example/mcp", "headers": {}}
    assert alpha_api("PATCH", "mcp-servers/calendar/", moved)[0] == 200
    assert alpha_api("PATCH", "mcp-servers/calendar/", {"url": SERVER["url"]})[0] == 200, (
        "there is no header to be lost"
    )


BAD_TOOLS: list[tuple[dict[str, Any], str, str]] = [
    ({"name": "two words"}, "name", "invalid"),
    ({"name": "n" * 65}, "name", "invalid"),
    ({"name": "import"}, "name", "invalid"),
    ({"name": "there_already"}, "name", "name_taken"),
    ({"description": "d" * 1_025}, "description", "max_length"),
    ({"parameters": {"type": "array"}}, "parameters", "invalid"),
    ({"parameters": {"type": "object", "properties": {"id": {"type": "strin"}}}}, "parameters.properties.id.type",
     "invalid"),
    ({"parameters": {"type": "object", "properties": {"id": {"$ref": "http://169.254.169.254/x"}}}}, "parameters",
     "invalid"),
    ({"parameters": {"type": "object", "$id": "http://evil.example/"}}, "parameters", "invalid"),
    ({"parameters": {"type": "object", "properties": {}}}, "request.url", "invalid"),
    ({"parameters": {"type": "object", "title": "x" * 33_000}}, "parameters", "invalid"),
    ({"parameters": []}, "parameters", "invalid"),
    ({"request": {"method": "GET", "url": "https://{{arguments.id}}/"}}, "request.url", "invalid"),
    ({"request": {"method": "GET", "url": "file:///etc/passwd"}}, "request.url", "invalid"),
    ({"request": {"method": "GET", "url": "https://a.example/", "query": {"a": "{{ 7*7 }}"}}}, "request.query",
     "invalid"),
    ({"request": {"method": "GET", "url": "https://a.example/", "query": {"a": "{{arguments.id.__class__.__mro__}}"}}},
     None, None),
    ({"request": {"method": "GET", "url": "https://a.example/", "headers": {"Authorization": "x"}}},
     "request.headers.Authorization", "invalid"),
    ({"request": {"url": "https://a.example/"}}, "request", "invalid"),
    ({"request": {"method": "POST", "url": "https://a.example/", "body": {"a": "\0"}}}, "request", "invalid"),
    ({"response": {"select": "status"}}, "response.select", "invalid"),
    ({"response": {"select": "$[?match(@.a, '(a+)+$')]"}}, "response.select", "invalid"),
    ({"response": {"chose": "$"}}, "response", "invalid"),
    ({"timeout_ms": 99}, "timeout_ms", "min_value"),
    ({"timeout_ms": 30_001}, "timeout_ms", "max_value"),
    ({"calls_per_minute": 0}, "calls_per_minute", "min_value"),
    ({"calls_per_minute": 10_001}, "calls_per_minute", "max_value"),
    ({"integration": "a b"}, "integration", "invalid"),
    ({"tenant": "beta"}, "tenant", "unknown_parameter"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "param", "code"), BAD_TOOLS, ids=lambda value: str(value)[:60])
def test_a_bad_tool_is_refused_by_name(
    world: World, alpha_api: Api, change: dict[str, Any], param: str | None, code: str | None
) -> None:
    good = TOOL | {"credential": None}
    assert alpha_api("POST", "tools/", good | {"name": "there_already"})[0] == 201
    status, answer = alpha_api("POST", "tools/", good | change)
    if param is None:  # a name like any other, which names nothing
        assert status == 201
        return
    assert status == 400, answer
    assert (answer["error"]["param"], answer["error"]["code"]) == (param, code)
    assert answer["error"]["message"]
    with tenant_context(world.alpha.tenant):
        assert Tool.objects.count() == 1
    status, answer = alpha_api("PATCH", "tools/there_already/", {next(iter(change)): next(iter(change.values()))})
    assert status == 400 or change == {"name": "there_already"}


PEM = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
BAD_CREDENTIALS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "magic"}, "kind"),
    ({"name": "a b"}, "name"),
    ({"secret": {}}, "secret"),
    ({"secret": {"value": ""}}, "secret.value"),
    ({"secret": {"value": "a\r\nX-Admin: 1"}}, "secret.value"),
    ({"secret": {"value": "ü"}}, "secret.value"),
    ({"secret": {"value": "x" * 16_385}}, "secret.value"),
    ({"secret": {"value": "x", "more": "y"}}, "secret"),
    ({"secret": "x"}, "secret"),
    ({"config": {"name": "Host"}}, "config.name"),
    ({"config": {"name": "X Y"}}, "config.name"),
    ({"config": {"name": "a&b", "in": "query"}}, "config.name"),
    ({"config": {"name": "X", "in": "cookie"}}, "config.in"),
    ({"kind": "basic", "config": {"username": "a:b"}, "secret": {"password": "x"}}, "config.username"),
    ({"kind": "oauth2_client_credentials", "config": {"token_url": "file:///x", "client_id": "a"},
      "secret": {"client_secret": "x"}}, "config.token_url"),
    ({"kind": "oauth2_client_credentials", "config": {"token_url": "https://u:p@a.example/", "client_id": "a"},
      "secret": {"client_secret": "x"}}, "config.token_url"),
    ({"kind": "jwt", "config": {"algorithm": "none"}, "secret": {"key": "x"}}, "config.algorithm"),
    ({"kind": "jwt", "config": {"algorithm": "HS256"}, "secret": {"key": "short"}}, "secret.key"),
    ({"kind": "jwt", "config": {"algorithm": "RS256"}, "secret": {"key": PEM}}, "secret.key"),
    ({"kind": "jwt", "config": {"algorithm": "HS256", "claims": {"exp": 1}}, "secret": {"key": "x" * 32}},
     "config.claims.exp"),
    ({"kind": "jwt", "config": {"algorithm": "HS256", "lifetime_s": 5}, "secret": {"key": "x" * 32}},
     "config.lifetime_s"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "param"), BAD_CREDENTIALS, ids=lambda value: str(value)[:60])
def test_a_bad_credential_is_refused_by_name(world: World, alpha_api: Api, change: dict[str, Any], param: str) -> None:
    status, answer = alpha_api("POST", "tool-credentials/", CREDENTIAL | change)
    assert status == 400, answer
    assert answer["error"]["param"] == param
    assert "x" * 40 not in answer["error"]["message"]
    with tenant_context(world.alpha.tenant):
        assert not Credential.objects.exists()


BAD_SERVERS: list[tuple[dict[str, Any], str]] = [
    ({"label": "a b"}, "label"),
    ({"label": "-a"}, "label"),
    ({"url": "ftp://a.example/"}, "url"),
    ({"url": "https://u:p@a.example/"}, "url"),
    ({"headers": {"Host": "x"}}, "headers.Host"),
    ({"headers": {"X-A": "a\nb"}}, "headers.X-A"),
    ({"headers": {"X-A": 5, "X-B": None}}, "headers.X-B"),
    ({"headers": {f"X-{number}": "a" for number in range(33)}}, "headers"),
    ({"allowed_tools": "all"}, "allowed_tools"),
    ({"allowed_tools": [""]}, "allowed_tools"),
    ({"allowed_tools": {"read_only": "yes"}}, "allowed_tools.read_only"),
    ({"require_approval": "sometimes"}, "require_approval"),
    ({"require_approval": {"never": ["a"]}}, "require_approval.never"),
    ({"require_approval": {}}, "require_approval"),
]


@pytest.mark.parametrize(("change", "param"), BAD_SERVERS, ids=lambda value: str(value)[:60])
def test_a_bad_server_is_refused_by_name(world: World, alpha_api: Api, change: dict[str, Any], param: str) -> None:
    status, answer = alpha_api("POST", "mcp-servers/", SERVER | change)
    assert status == 400, answer
    assert answer["error"]["param"] == param
    with tenant_context(world.alpha.tenant):
        assert not McpServer.objects.exists()


def test_names_are_for_good(alpha_api: Api) -> None:
    alpha_api("POST", "tool-credentials/", CREDENTIAL)
    alpha_api("POST", "tools/", TOOL)
    alpha_api("POST", "mcp-servers/", SERVER)
    for way, body in (
        ("tools/order_status/", {"name": "other"}),
        ("mcp-servers/calendar/", {"label": "other"}),
        ("tool-credentials/shop_key/", {"name": "other"}),
    ):
        status, answer = alpha_api("PATCH", way, body)
        assert (status, answer["error"]["param"]) == (400, next(iter(body)))


def test_who_may_only_read_changes_and_tries_nothing(world: World, alpha_api: Api) -> None:
    alpha_api("POST", "tool-credentials/", CREDENTIAL)
    alpha_api("POST", "tools/", TOOL)
    _, secret = issue_key(tenant=world.alpha.tenant, name="reader", scopes=[Scope.AGENTS_READ])
    reader = Api(secret)
    assert reader("GET", "tools/order_status/")[0] == 200
    for way in ("tools/", "tools/order_status/try/", "tools/import/", "tool-credentials/", "mcp-servers/"):
        assert reader("POST", way, {})[0] == 403


def test_the_catalogues_say_what_there_is(alpha_api: Api) -> None:
    builtins = {row["name"]: row for row in alpha_api("GET", "tools/builtin/")[1]["data"]["results"]}
    assert builtins.keys() == {"end_call", "current_time", "transfer_call", "send_dtmf", "collect"}
    assert "destinations" in json.dumps(builtins["transfer_call"]["settings"])
    assert alpha_api("GET", "tools/python/")[0] == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.7:8443", "169.254.169.254"])
def test_an_address_that_is_not_asked_is_refused_at_once(
    alpha_api: Api, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AVB_EGRESS_PRIVATE_NETWORKS", raising=False)
    tool = {"name": "inside", "request": {"method": "GET", "url": f"https://{host}/orders"}}
    server = {"label": "inside", "url": f"https://{host}/mcp"}
    for path, body, param in (("tools/", tool, "request.url"), ("mcp-servers/", server, "url")):
        status, answer = alpha_api("POST", path, body)
        assert (status, answer["error"]["param"]) == (400, param)
        assert "AVB_EGRESS_PRIVATE_NETWORKS" in answer["error"]["message"]
    monkeypatch.setenv("AVB_EGRESS_PRIVATE_NETWORKS", "127.0.0.0/8,::1,10.0.0.0/8,169.254.0.0/16")
    assert alpha_api("POST", "tools/", tool)[0] == 201
    assert alpha_api("POST", "mcp-servers/", server)[0] == 201


def test_a_credential_that_is_not_there_is_named(alpha_api: Api) -> None:
    request = {"method": "GET", "url": "https://shop.example/orders"}
    status, answer = alpha_api("POST", "tools/", {"name": "orders", "request": request, "credential": "shop_key"})
    assert (status, answer["error"]["message"]) == (400, "There is no credential 'shop_key'.")
