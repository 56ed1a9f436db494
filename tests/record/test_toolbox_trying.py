"""Tools run for real from the API, and what MCP servers offer."""

import json
import threading
from typing import Any

import pytest
from django_tenants.utils import tenant_context

from agents.toolbox import running
from tenants.audit.models import Entry
from tests.record.tool_server import ToolServer, tool_server
from tests.record.world import Api, World
from tests.tools.test_mcp import Process, shop

__all__ = ["shop", "tool_server"]
SECRET = "k-9f8e7d6c5b4a"


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVB_EGRESS_PRIVATE_NETWORKS", "127.0.0.0/8")


def furnish(api: Api, server: ToolServer, **change: Any) -> None:
    credential = {"name": "key", "kind": "api_key", "config": {"name": "X-Api-Key"}, "secret": {"value": SECRET}}
    assert api("POST", "tool-credentials/", credential)[0] == 201
    tool = {
        "name": "order_status",
        "parameters": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
        "request": {
            "method": "POST", "url": f"{server.url}/orders/{{{{arguments.id}}}}",
            "body": {"id": "{{arguments.id}}", "who": "{{caller.name}}"},
        },
        "response": {"select": "$.status"},
        "credential": "key",
    }  # fmt: skip
    status, answer = api("POST", "tools/", tool | change)
    assert status == 201, answer


def test_a_tool_is_tried_for_real(world: World, alpha_api: Api, beta_api: Api, tool_server: ToolServer) -> None:
    furnish(alpha_api, tool_server)
    tool_server.answers["/orders/7"] = (200, "application/json", json.dumps({"status": "sent", "key": SECRET}))
    body = {"arguments": {"id": 7}, "variables": {"caller.name": "Ann"}}
    assert beta_api("POST", "tools/order_status/try/", body)[0] == 404
    status, answer = alpha_api("POST", "tools/order_status/try/", body)
    assert status == 200, answer
    tried = answer["data"]
    assert (tried["output"], tried["error"]) == ("sent", None)
    ((method, path, headers, sent),) = tool_server.asked
    assert (method, path, headers["x-api-key"]) == ("POST", "/orders/7", SECRET)
    assert json.loads(sent) == {"id": 7, "who": "Ann"}
    receipt = tried["receipt"]
    assert receipt["outcome"] == "completed"
    assert receipt["sent"]["url"] == f"{tool_server.url}/orders/7"
    assert receipt["sent"]["credential"] == "key"
    assert receipt["answered"]["status"] == 200
    assert receipt["took_ms"] > 0
    assert SECRET not in json.dumps(answer)
    with tenant_context(world.alpha.tenant):
        entry = Entry.objects.get(action="tool.tried")
    assert (entry.target, entry.after["outcome"]) == ("order_status", "completed")


def test_a_tool_that_fails_is_an_answer_all_the_same(alpha_api: Api, tool_server: ToolServer) -> None:
    furnish(alpha_api, tool_server)
    tool_server.answers["/orders/7"] = (404, "text/plain", f"no order 7 for {SECRET}")
    status, answer = alpha_api("POST", "tools/order_status/try/", {"arguments": {"id": 7}})
    assert status == 200
    assert answer["data"]["error"] == {
        "type": "http_error", "code": 404, "message": "The service answered 404 Not Found: no order 7 for •••",
    }  # fmt: skip
    status, answer = alpha_api("POST", "tools/order_status/try/", {"arguments": {"id": "seven"}})
    assert answer["data"]["receipt"]["outcome"] == "refused"
    assert "id" in answer["data"]["error"]["message"]
    assert len(tool_server.asked) == 1


def test_a_tool_is_not_asked_inside_our_network(
    alpha_api: Api, tool_server: ToolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(alpha_api, tool_server)
    monkeypatch.delenv("AVB_EGRESS_PRIVATE_NETWORKS")
    status, answer = alpha_api("POST", "tools/order_status/try/", {"arguments": {"id": 7}})
    assert status == 200
    assert answer["data"]["error"]["message"] == "The service's address may not be asked."
    assert "not public" in answer["data"]["receipt"]["answered"]["refused"]
    assert tool_server.asked == []


def test_its_limit_holds_and_is_the_tenants_own(alpha_api: Api, beta_api: Api, tool_server: ToolServer) -> None:
    for api in (alpha_api, beta_api):
        furnish(api, tool_server, calls_per_minute=1)
    body = {"arguments": {"id": 7}}
    outcomes = [api("POST", "tools/order_status/try/", body)[1]["data"]["receipt"]["outcome"]
                for api in (alpha_api, alpha_api, beta_api)]  # fmt: skip
    assert outcomes == ["failed", "refused", "failed"]


@pytest.mark.parametrize("body", [{"arguments": []}, {"variables": {"a": {}}}, {"more": 1}])
def test_a_bad_try_is_refused_by_name(alpha_api: Api, tool_server: ToolServer, body: dict[str, Any]) -> None:
    furnish(alpha_api, tool_server)
    status, answer = alpha_api("POST", "tools/order_status/try/", body)
    assert status == 400
    assert answer["error"]["param"].startswith(next(iter(body)))


def test_only_so_many_are_tried_at_once(alpha_api: Api, tool_server: ToolServer, settings: Any) -> None:
    settings.TOOL_TRIES = 1
    furnish(alpha_api, tool_server)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with running.places.take():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=hold)
    other.start()
    entered.wait(10)
    status, answer = alpha_api("POST", "tools/order_status/try/", {"arguments": {"id": 7}})
    leave.set()
    other.join()
    assert (status, answer["error"]["code"]) == (503, "busy")
    assert alpha_api("POST", "tools/order_status/try/", {"arguments": {"id": 7}})[0] == 200


def test_what_an_mcp_server_offers(alpha_api: Api, beta_api: Api, shop: Process) -> None:
    body = {"label": "shop", "url": shop.url, "allowed_tools": ["find_order", "cancel_order"],
            "require_approval": {"never": {"read_only": True}}}  # fmt: skip
    assert alpha_api("POST", "mcp-servers/", body)[0] == 201
    status, answer = alpha_api("GET", "mcp-servers/shop/tools/")
    assert status == 200, answer
    offered = {tool["name"]: tool["needs_approval"] for tool in answer["data"]["results"]}
    assert offered == {"find_order": False, "cancel_order": True}
    assert beta_api("GET", "mcp-servers/shop/tools/")[0] == 404


def test_an_mcp_server_that_is_not_there(alpha_api: Api, free_port: Any) -> None:
    assert alpha_api("POST", "mcp-servers/", {"label": "gone", "url": f"http://127.0.0.1:{free_port()}/mcp"})[0] == 201
    status, answer = alpha_api("GET", "mcp-servers/gone/tools/")
    assert (status, answer["error"]["code"]) == (502, "mcp_server_failed")
