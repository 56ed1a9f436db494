"""What a published version keeps of its tools, and what a call gets of that."""

import logging
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_tenants.utils import tenant_context

from agents.toolbox.errors import ToolsInvalid
from agents.toolbox.models import Credential, McpServer, Tool
from agents.toolbox.operations import (
    create_credential,
    create_mcp_server,
    create_tool,
    delete_credential,
    delete_tool,
    update_credential,
    update_mcp_server,
    update_tool,
)
from agents.toolbox.queries import freeze_tools, resolve_tools
from agents.tools.credentials import ApiKey, BearerToken, ClientCredentials
from agents.tools.http import HttpTool
from agents.tools.types import McpServer as LiveServer
from tests.record.world import House, World

SECRET = "k-9f8e7d6c5b4a"
REFS: list[dict[str, Any]] = [
    {"type": "function", "name": "open_door", "description": "Opens it.", "parameters": {"type": "object"}},
    {"type": "http", "name": "order_status"},
    {"type": "mcp", "server": "calendar", "allowed_tools": ["find_slot"]},
    {"type": "builtin", "name": "end_call"},
    {"type": "builtin", "name": "collect", "form": "address", "fields": {"city": {"type": "string"}}},
    {"type": "builtin", "name": "collect", "form": "wish", "fields": {"what": {"type": "string"}}},
]  # fmt: skip


def furnish(house: House) -> None:
    """Two tenants with tools of the same names, and secrets of their own."""
    with tenant_context(house.tenant):
        name = house.tenant.slug
        key = create_credential(
            name="key", kind="api_key", config={"name": "X-Api-Key"}, secret={"value": f"{SECRET}-{name}"}
        )
        create_tool(
            name="order_status", description=f"Orders of {name}", credential=key, calls_per_minute=7, timeout_ms=2_500,
            parameters={"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
            request={"method": "GET", "url": f"https://{name}.example/{{{{arguments.id}}}}",
                     "query": {"tier": "{{caller.tier}}"}},
        )  # fmt: skip
        login = create_credential(
            name="login", kind="oauth2_client_credentials", secret={"client_secret": f"{SECRET}-{name}"},
            config={"token_url": f"https://{name}.example/token", "client_id": name},
        )  # fmt: skip
        create_mcp_server(
            label="calendar", url=f"https://{name}.example/mcp", headers={"X-Token": f"{SECRET}-{name}"},
            credential=login, allowed_tools=["find_slot", "book_slot"], require_approval="never",
        )  # fmt: skip


@pytest.fixture
def furnished(world: World) -> World:
    furnish(world.alpha)
    furnish(world.beta)
    return world


def frozen(house: House, refs: list[dict[str, Any]] = REFS) -> list[dict[str, Any]]:
    with tenant_context(house.tenant):
        return freeze_tools(refs)


def test_a_version_keeps_what_a_tool_was_and_no_secret(furnished: World) -> None:
    kept = frozen(furnished.alpha)
    assert SECRET not in repr(kept)
    assert [ref["type"] for ref in kept] == [ref["type"] for ref in REFS]
    assert kept[1]["definition"]["credential"] == "key"
    assert kept[1]["definition"]["request"]["url"] == "https://alpha.example/{{arguments.id}}"
    assert kept[2]["definition"]["url"] == "https://alpha.example/mcp"
    assert [("definition" in ref) for ref in kept] == [False, True, True, False, False, False]
    assert frozen(furnished.alpha, kept) == kept, "what was frozen before is frozen anew"


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_a_call_gets_its_own_tenants_tools_with_credentials(furnished: World, name: str) -> None:
    house = getattr(furnished, name)
    kept = frozen(house)
    with tenant_context(house.tenant):
        resolve_tools(kept)  # opens the tenant's data key, once per process
        with CaptureQueriesContext(connection) as asked:
            found = resolve_tools(kept, time_zone="Europe/Berlin")
    assert len(asked) <= 2, [query["sql"] for query in asked]
    assert [function["name"] for function in found.functions] == ["open_door"]
    assert [tool.name for tool in found.tools] == ["order_status", "end_call", "collect_address", "collect_wish"]
    tool = found.tools[0]
    assert isinstance(tool.config, HttpTool)
    assert tool.config.credential == ApiKey("key", "X-Api-Key", f"{SECRET}-{name}")
    assert (tool.integration, tool.timeout_s, tool.calls_per_minute) == ("order_status", 2.5, 7)
    (server,) = found.mcp_servers
    assert isinstance(server, LiveServer)
    assert server.headers == (("X-Token", f"{SECRET}-{name}"),)
    assert isinstance(server.credential, ClientCredentials)
    assert server.credential.client_secret == f"{SECRET}-{name}"
    assert server.allowed is not None
    assert server.allowed.names == {"find_slot"}, "what the agent says of it is narrower"
    assert not server.by_client
    assert SECRET not in repr(found)


def test_changes_do_not_reach_a_version_but_secrets_do(furnished: World) -> None:
    kept = frozen(furnished.alpha)
    with tenant_context(furnished.alpha.tenant):
        tool = Tool.objects.get(name="order_status")
        update_tool(tool=tool, description="Another", request={"method": "GET", "url": "https://new.example/"})
        update_credential(credential=Credential.objects.get(name="key"), secret={"value": "another-key"})
        found = resolve_tools(kept).tools[0]
        assert found.description == "Orders of alpha"
        assert found.config.request.url == "https://alpha.example/{{arguments.id}}"
        assert found.config.credential.value == "another-key"
        delete_tool(tool=tool)
        assert resolve_tools(kept).tools[0].name == "order_status"


def test_what_cannot_be_had_is_left_out_and_logged(furnished: World, caplog: pytest.LogCaptureFixture) -> None:
    kept = frozen(furnished.alpha)

    def offered() -> list[str]:
        found = resolve_tools(kept)
        return [*(tool.name for tool in found.tools[:1]), *(server.label for server in found.mcp_servers)]

    caplog.set_level(logging.WARNING)
    with tenant_context(furnished.alpha.tenant):
        assert offered() == ["order_status", "calendar"]
        tool, server = Tool.objects.get(name="order_status"), McpServer.objects.get(label="calendar")
        update_tool(tool=tool, is_enabled=False)
        assert offered() == ["end_call", "calendar"]
        assert "without order_status of type http: it is disabled" in caplog.text
        update_tool(tool=tool, is_enabled=True, credential=None)
        delete_credential(credential=Credential.objects.get(name="key"))
        assert offered() == ["end_call", "calendar"]
        assert "its credential 'key' is not there any more" in caplog.text
        update_mcp_server(server=server, url="https://alpha.example/v2/mcp", headers={"X-Token": "b"})
        assert offered() == ["end_call", "calendar"], "another path on the same host"
        update_mcp_server(server=server, url="https://moved.example/mcp", headers={"X-Token": "c"})
        assert offered() == ["end_call"]
        assert "it has moved to another host" in caplog.text
        update_mcp_server(server=server, url="https://alpha.example/mcp", headers={}, is_enabled=False)
        assert offered() == ["end_call"]
    assert SECRET not in caplog.text


def test_a_draft_that_cannot_be_published_is_tried_without(world: World) -> None:
    with tenant_context(world.alpha.tenant):
        found = resolve_tools([*REFS, {"type": "python", "name": "nothing"}])
    assert [tool.name for tool in found.tools] == ["end_call", "collect_address", "collect_wish"]
    assert found.mcp_servers == ()
    assert len(found.functions) == 1


def test_a_secret_that_does_not_open_leaves_the_tool_out(furnished: World, caplog: pytest.LogCaptureFixture) -> None:
    kept = frozen(furnished.alpha)
    with tenant_context(furnished.alpha.tenant), connection.cursor() as cursor:
        cursor.execute("UPDATE toolbox_credential SET secret = set_byte(secret, 30, 1) WHERE name = 'key'")
        cursor.execute("UPDATE toolbox_credential SET secret = set_byte(secret, 31, 255 - get_byte(secret, 31))")
        found = resolve_tools(kept)
    assert [tool.name for tool in found.tools] == ["end_call", "collect_address", "collect_wish"]
    assert found.mcp_servers == ()


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "http", "name": "nothing"}, "tools[1].name", "There is no tool 'nothing'."),
    ({"type": "http"}, "tools[1].name", "needed"),
    ({"type": "http", "name": ["a"]}, "tools[1].name", "needed"),
    ({"type": "http", "name": "order_status"}, "tools[1].name", "twice"),
    ({"type": "function", "name": "order_status"}, "tools[1].name", "twice"),
    ({"type": "mcp", "server": "nothing"}, "tools[1].server", "There is no MCP server 'nothing'."),
    ({"type": "mcp", "server": "calendar", "allowed_tools": 5}, "tools[1].allowed_tools", "list of names"),
    ({"type": "mcp", "server": "calendar", "require_approval": "?"}, "tools[1].require_approval", "always"),
    ({"type": "python", "name": "nothing"}, "tools[1].name", "There is no Python tool 'nothing'"),
    ({"type": "builtin", "name": "nothing"}, "tools[1].name", "no built-in tool"),
    ({"type": "builtin", "name": "transfer_call", "destinations": {"a": {"to": "nowhere"}}},
     "tools[1].destinations.a.to", "neither a number"),
    ({"type": "magic", "name": "a"}, "tools[1].type", "function, http, mcp, python or builtin"),
]  # fmt: skip


@pytest.mark.parametrize(("ref", "param", "words"), BAD, ids=lambda value: str(value)[:60])
def test_a_wrong_reference_is_refused_by_its_place(furnished: World, ref: Any, param: str, words: str) -> None:
    with tenant_context(furnished.alpha.tenant), pytest.raises(ToolsInvalid) as refused:
        freeze_tools([{"type": "http", "name": "order_status"}, ref])
    assert list(refused.value.errors) == [param]
    assert words in refused.value.errors[param]


def test_all_faults_are_told_at_once(furnished: World) -> None:
    with tenant_context(furnished.alpha.tenant):
        update_tool(tool=Tool.objects.get(name="order_status"), is_enabled=False)
        with pytest.raises(ToolsInvalid) as refused:
            freeze_tools([{"type": "http", "name": "order_status"}, {"type": "mcp", "server": "x"}])
    assert refused.value.errors["tools[0].name"] == "'order_status' is disabled."
    assert list(refused.value.errors) == ["tools[0].name", "tools[1].server"]


def test_a_tool_of_the_other_tenant_is_none(world: World) -> None:
    furnish(world.alpha)
    with tenant_context(world.beta.tenant), pytest.raises(ToolsInvalid, match="There is no tool 'order_status'"):
        freeze_tools([{"type": "http", "name": "order_status"}])


def test_a_request_names_only_variables_of_the_agent(furnished: World) -> None:
    ref = [{"type": "http", "name": "order_status"}]
    with tenant_context(furnished.alpha.tenant):
        assert freeze_tools(ref, {"caller.tier", "call.id"})
        with pytest.raises(ToolsInvalid, match=r"\{\{caller.tier\}\}, which is no variable of the agent"):
            freeze_tools(ref, {"call.id"})


def test_bearer_tokens_reach_a_call_as_they_are(world: World) -> None:
    with tenant_context(world.alpha.tenant):
        row = create_credential(name="b", kind="bearer", config={}, secret={"token": "t"})
        create_tool(name="t", request={"method": "GET", "url": "https://a.example/"}, credential=row)
        found = resolve_tools(freeze_tools([{"type": "http", "name": "t"}]))
    assert found.tools[0].config.credential == BearerToken("b", "t")
