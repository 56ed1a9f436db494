"""MCP servers: those of the official package as processes of their own, and a scripted one of the older protocol."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from agents.egress.client import EgressClient, open_client
from agents.egress.config import EgressConfig
from agents.tools import mcp, mcp_sessions
from agents.tools.credentials import BearerToken, Tokens
from agents.tools.mcp import McpServers, NotListed
from agents.tools.mcp_wire import EVERYTHING, allowed_from_wire, approval_from_wire, server_from_wire
from agents.tools.types import McpFilter, McpServer, ToolContext, ToolSpec
from tests.tools.legacy_mcp import LegacyServer
from tests.tools.servers import Asked, HttpServer, http_server, reply

ROOT = Path(__file__).parents[2]
CONFIG = EgressConfig(private_networks=(ip_network("127.0.0.1/32"),), max_bytes=200_000, connect_s=2, total_s=10)
CONTEXT = ToolContext(tenant="alpha", session_id="sess_1", call_id="item_1", agent="desk", agent_version=1)


class Process:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/mcp"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.tools.mcp_server", str(port)], cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the MCP server did not start")

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module")
def shop() -> Iterator[Process]:
    from agentvoicebox.stack import ports

    process = Process(ports.find_free_port())
    yield process
    process.kill()


@pytest.fixture
async def client() -> AsyncIterator[EgressClient]:
    async with open_client(CONFIG) as found:
        yield found


@pytest.fixture
async def servers(client: EgressClient) -> AsyncIterator[McpServers]:
    found = McpServers(CONFIG, client, Tokens())
    yield found
    await found.stop()


def server_at(url: str, **options: Any) -> McpServer:
    return replace(server_from_wire({"server_label": "shop", "server_url": url}), **options)


async def tools_of(servers: McpServers, server: McpServer) -> dict[str, ToolSpec]:
    return {tool.name: tool for tool in await servers.list_tools(server, tenant="alpha")}


async def test_what_a_server_offers(servers: McpServers, shop: Process) -> None:
    tools = await tools_of(servers, server_at(shop.url, timeout_s=3.0, calls_per_minute=7))
    found = tools["find_order"]
    assert set(tools) >= {"find_order", "cancel_order", "wait", "show_headers", "talk"}
    assert (found.kind, found.server_label, found.description) == ("mcp", "shop", "Looks up an order.")
    assert found.parameters["required"] == ["number"]
    assert (found.timeout_s, found.calls_per_minute, found.needs_approval) == (3.0, 7, True)


@pytest.mark.parametrize(
    ("written", "allowed"),
    [
        (None, {"find_order", "cancel_order"}),
        (["cancel_order", "nosuch"], {"cancel_order"}),
        ([], set()),
        ({"read_only": True}, {"find_order"}),
        ({"tool_names": ["find_order", "cancel_order"], "read_only": False}, {"cancel_order"}),
    ],
)
async def test_allowed_tools(servers: McpServers, shop: Process, written: Any, allowed: set[str]) -> None:
    server = server_from_wire({"server_label": "shop", "server_url": shop.url, "allowed_tools": written})
    assert set(await tools_of(servers, server)) & {"find_order", "cancel_order"} == allowed


@pytest.mark.parametrize(
    ("written", "needing"),
    [
        (None, {"find_order", "cancel_order"}),
        ("always", {"find_order", "cancel_order"}),
        ("never", set()),
        ({"never": {"read_only": True}}, {"cancel_order"}),
        ({"never": {"tool_names": ["cancel_order"]}}, {"find_order"}),
        ({"always": {"tool_names": ["cancel_order"]}}, {"find_order", "cancel_order"}),
        (
            {"always": {"read_only": True}, "never": {"tool_names": ["find_order", "cancel_order"]}},
            {"find_order"},
        ),
    ],
)
async def test_who_needs_approval(servers: McpServers, shop: Process, written: Any, needing: set[str]) -> None:
    server = server_from_wire({"server_label": "shop", "server_url": shop.url, "require_approval": written})
    tools = await tools_of(servers, server)
    assert {name for name in ("find_order", "cancel_order") if tools[name].needs_approval} == needing


def test_how_clients_write_a_server() -> None:
    read = server_from_wire({
        "type": "mcp", "server_label": "shop", "server_url": "https://shop.example/mcp", "authorization": "t0ken",
        "headers": {"X-Shop": "7", "authorization": "Basic old"}, "allowed_tools": ["a"], "require_approval": "never",
    })  # fmt: skip
    assert dict(read.headers) == {"X-Shop": "7", "Authorization": "Bearer t0ken"}
    assert (read.allowed, read.always, read.never) == (McpFilter(frozenset({"a"})), None, EVERYTHING)
    assert read.by_client
    assert "t0ken" not in repr(read)
    assert allowed_from_wire(None) is None
    assert approval_from_wire(None) == (EVERYTHING, None)


async def call(servers: McpServers, server: McpServer, name: str, **arguments: Any) -> Any:
    tools = await tools_of(servers, server)
    return await servers.call(tools[name], arguments, CONTEXT)


async def test_an_answer_becomes_text(servers: McpServers, shop: Process) -> None:
    outcome = await call(servers, server_at(shop.url), "find_order", number=7)
    assert json.loads(outcome.output) == {"number": 7, "status": "sent"}
    assert (outcome.error, outcome.healthy) == (None, True)
    assert outcome.sent == {"server": shop.url, "tool": "find_order", "arguments": {"number": 7}}
    assert "sent" in outcome.answered["content"]


async def test_a_tool_that_says_no(servers: McpServers, shop: Process) -> None:
    outcome = await call(servers, server_at(shop.url), "cancel_order", number=0)
    assert outcome.error.type == "tool_execution_error"
    assert "cancel_order" in outcome.error.message
    assert (outcome.outcome, outcome.healthy, outcome.output) == ("failed", True, "")
    wrong = await call(servers, server_at(shop.url), "cancel_order", number="many")
    assert "valid integer" in wrong.error.message, "in words that a model can correct itself by"


async def test_a_slow_tool_is_left_and_the_session_goes_on(servers: McpServers, shop: Process) -> None:
    tool = (await tools_of(servers, server_at(shop.url)))["wait"]
    began = time.monotonic()
    late = await servers.call(replace(tool, timeout_s=0.4), {"seconds": 30}, CONTEXT)
    assert time.monotonic() - began < 3
    assert (late.outcome, late.healthy, late.error.type) == ("timeout", False, "tool_execution_error")
    assert "0.4 s" in late.error.message
    assert (await servers.call(tool, {"seconds": 0}, CONTEXT)).output == "at last"


async def test_calls_run_side_by_side(servers: McpServers, shop: Process) -> None:
    tool = (await tools_of(servers, server_at(shop.url)))["wait"]
    await servers.call(tool, {"seconds": 0}, CONTEXT)
    began = time.monotonic()
    outcomes = await asyncio.gather(*(servers.call(tool, {"seconds": 0.5}, CONTEXT) for _ in range(8)))
    assert [outcome.output for outcome in outcomes] == ["at last"] * 8
    assert time.monotonic() - began < 3.5, "eight times half a second, at once"


async def test_a_call_that_is_cancelled_ends_at_once(servers: McpServers, shop: Process) -> None:
    tool = (await tools_of(servers, server_at(shop.url)))["wait"]
    task = asyncio.create_task(servers.call(tool, {"seconds": 30}, CONTEXT))
    await asyncio.sleep(0.3)
    task.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 1


async def test_credentials_go_along_and_are_never_shown(servers: McpServers, shop: Process) -> None:
    server = server_at(
        shop.url + "?key=in-the-address", headers=(("X-Shop", "he4der-secret"),),
        credential=BearerToken("shop", "tok3n-secret"),
    )  # fmt: skip
    outcome = await call(servers, server, "show_headers")
    assert '"x-shop"' in outcome.output, "the server got it"
    assert '"authorization"' in outcome.output
    shown = repr(outcome)
    for secret in ("he4der-secret", "tok3n-secret", "in-the-address"):
        assert secret not in shown


async def test_an_answer_that_is_too_long(servers: McpServers, shop: Process) -> None:
    long = await call(servers, server_at(shop.url), "talk", characters=60_000)
    assert len(long.output) < 33_000
    assert "cut" in long.output[-40:]
    endless = await call(servers, server_at(shop.url), "talk", characters=300_000)
    assert (endless.error.type, endless.outcome) == ("http_error", "refused")
    assert "too long" in endless.error.message
    assert (await call(servers, server_at(shop.url), "talk", characters=3)).output == "xxx"


async def test_a_list_is_kept_for_a_while(client: EgressClient, shop: Process) -> None:
    now = [0.0]
    servers = McpServers(CONFIG, client, Tokens(), clock=lambda: now[0])
    assert "new_tool" not in await tools_of(servers, server_at(shop.url))
    await call(servers, server_at(shop.url), "grow")
    assert "new_tool" not in await tools_of(servers, server_at(shop.url))
    now[0] += mcp.LISTED_S + 1
    assert "new_tool" in await tools_of(servers, server_at(shop.url))
    await servers.stop()


async def test_a_list_is_the_tenants_own_and_of_its_credentials(client: EgressClient) -> None:
    async with LegacyServer() as (raw, _):
        servers = McpServers(CONFIG, client, Tokens())
        await asyncio.gather(*(servers.list_tools(server_at(raw.url), tenant="alpha") for _ in range(3)))
        assert methods(raw).count("tools/list") == 1, "who asks at the same time shares one answer"
        await servers.list_tools(server_at(raw.url), tenant="beta")
        await servers.list_tools(server_at(raw.url, headers=(("X-Key", "2"),)), tenant="alpha")
        assert methods(raw).count("tools/list") == 3
        await servers.stop()


async def test_a_server_that_dies_and_comes_back(servers: McpServers, free_port: Callable[[], int]) -> None:
    port = free_port()
    process = await asyncio.to_thread(Process, port)
    try:
        tools = await tools_of(servers, server_at(process.url))
        assert (await servers.call(tools["wait"], {"seconds": 0}, CONTEXT)).output == "at last"
        running = asyncio.create_task(servers.call(tools["wait"], {"seconds": 30}, CONTEXT))
        await asyncio.sleep(0.3)
        process.kill()
        cut_off = await running
        assert (cut_off.outcome, cut_off.healthy) == ("failed", False)
        gone = await servers.call(tools["wait"], {"seconds": 0}, CONTEXT)
        assert (gone.error.type, gone.error.code, gone.healthy) == ("http_error", 424, False)
        assert "cannot be reached" in gone.error.message
        process = await asyncio.to_thread(Process, port)
        assert (await servers.call(tools["wait"], {"seconds": 0}, CONTEXT)).output == "at last"
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("url", "type_", "words"),
    [
        ("http://127.0.0.2:9/mcp", "http_error", "may not be asked: its address is not public."),
        ("ftp://127.0.0.1/mcp", "http_error", "may not be asked: it is asked over https:// only."),
        ("http://127.0.0.1:1/mcp", "http_error", "cannot be reached"),
        ("http://[broken/mcp", "http_error", "cannot be reached"),
    ],
)
async def test_servers_that_are_none(servers: McpServers, url: str, type_: str, words: str) -> None:
    with pytest.raises(NotListed, match=words) as refused:
        await servers.list_tools(server_at(url), tenant="alpha")
    assert refused.value.error.type == type_


def methods(raw: HttpServer) -> list[str]:
    return [json.loads(asked.body)["method"] if asked.body else asked.method for asked in raw.asked]


async def test_a_session_belongs_to_a_call_and_is_used_again(servers: McpServers) -> None:
    async with LegacyServer() as (raw, _):
        tools = await tools_of(servers, server_at(raw.url))
        first, second = [(await servers.call(tools["echo"], {}, CONTEXT)).output for _ in range(2)]
        other = (await servers.call(tools["echo"], {}, replace(CONTEXT, session_id="sess_2"))).output
        assert first == second != other
        assert methods(raw).count("initialize") == 3, "the list, and a session for either call"
        asked = methods(raw)
        assert "server/discover" not in asked[asked.index("tools/list") :], "how to speak with it is remembered"
        await servers.stop()
        assert methods(raw).count("DELETE") == 3, "sessions are closed"


async def test_an_idle_session_is_closed(servers: McpServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_sessions, "IDLE_S", 0.2)
    async with LegacyServer() as (raw, _):
        tools = await tools_of(servers, server_at(raw.url))
        await servers.call(tools["echo"], {}, CONTEXT)
        before = methods(raw).count("DELETE")
        await asyncio.sleep(0.6)
        assert methods(raw).count("DELETE") == before + 1


async def test_a_session_that_the_server_has_forgotten_is_opened_anew(servers: McpServers) -> None:
    async with LegacyServer() as (raw, legacy):
        tools = await tools_of(servers, server_at(raw.url))
        first = await servers.call(tools["echo"], {}, CONTEXT)
        legacy.sessions.clear()
        second = await servers.call(tools["echo"], {}, CONTEXT)
        assert second.error is None
        assert second.output != first.output


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_http_errors(servers: McpServers, status: int) -> None:
    async with LegacyServer() as (raw, legacy):
        tools = await tools_of(servers, server_at(raw.url))
        assert (await servers.call(tools["echo"], {}, CONTEXT)).error is None
        legacy.status = status
        outcome = await servers.call(tools["echo"], {}, CONTEXT)
        assert (outcome.error.type, outcome.error.code) == ("http_error", status)
        assert (outcome.outcome, outcome.healthy) == ("failed", status < 500)
        with pytest.raises(NotListed) as refused:
            await servers.list_tools(server_at(raw.url), tenant="beta")
        assert refused.value.error.wire()["code"] == status
        legacy.status = 0
        assert (await servers.call(tools["echo"], {}, CONTEXT)).error is None


async def test_protocol_errors(servers: McpServers) -> None:
    def refuse(message: Any) -> bytes:
        error = {"code": -32602, "message": "Unknown tool: echo"}
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}).encode()
        return reply(200, body, Content_Type="application/json")

    async with LegacyServer(result=refuse) as (raw, _):
        tools = await tools_of(servers, server_at(raw.url))
        outcome = await servers.call(tools["echo"], {}, CONTEXT)
        assert outcome.error.wire() == {"type": "protocol_error", "message": "Unknown tool: echo", "code": -32602}
        assert servers.recall_tools(server_at(raw.url), tenant="alpha") is None, "the list was an old one"


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b"<html>", Content_Type="text/html"),
        reply(200, b"no json", Content_Type="application/json"),
        reply(200, b'{"jsonrpc":"2.0","id":1,"result":{"content":"none"}}', Content_Type="application/json"),
    ],
)
async def test_answers_that_are_no_mcp(servers: McpServers, answer: bytes) -> None:
    async with LegacyServer(result=lambda message: answer) as (raw, _):
        tools = await tools_of(servers, server_at(raw.url))
        outcome = await servers.call(replace(tools["echo"], timeout_s=2.0), {}, CONTEXT)
        assert outcome.error is not None
        assert outcome.error.type in ("protocol_error", "tool_execution_error")
        assert outcome.output == ""


async def test_every_kind_of_content_is_told(servers: McpServers) -> None:
    result = {
        "content": [
            {"type": "text", "text": "Two things:"},
            {"type": "image", "data": "AAAA", "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "file:///a.txt", "text": "inside"}},
            {"type": "resource_link", "uri": "https://shop.example/a", "name": "a link"},
        ]
    }
    async with LegacyServer(result=result) as (raw, legacy):
        tools = await tools_of(servers, server_at(raw.url))
        text = (await servers.call(tools["echo"], {}, CONTEXT)).output
        assert text == "Two things:\n[image]\ninside\na link: https://shop.example/a"
        legacy.result = {"content": [], "structuredContent": {"left": 3}}
        assert (await servers.call(tools["echo"], {}, CONTEXT)).output == '{"left": 3}'


async def test_a_list_is_bounded(servers: McpServers) -> None:
    tools = [{"name": f"t{number}", "inputSchema": {"type": "object"}} for number in range(200)]
    tools[0]["name"] = "n" * 500
    tools[1]["inputSchema"] = {"type": "object", "description": "x" * 20_000}
    tools[2]["description"] = "y" * 50_000
    async with LegacyServer(tools=tools) as (raw, _):
        listed = await servers.list_tools(server_at(raw.url), tenant="alpha")
        assert (len(listed), listed[0].name) == (mcp.TOOLS, "t2")
        assert len(listed[0].description) < 2_100


async def test_a_server_that_never_answers(servers: McpServers) -> None:
    async def silence(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with http_server() as raw:
        raw.answers["/"] = silence
        began = time.monotonic()
        with pytest.raises(NotListed, match=r"0\.3 s"):
            await servers.list_tools(server_at(raw.url, timeout_s=0.3), tenant="alpha")
        assert time.monotonic() - began < 2


async def test_a_list_that_is_too_long_is_cut_and_does_not_stay(
    servers: McpServers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mcp, "LISTED", 300)
    wide = {"type": "object", "title": "x" * (mcp.PARAMETERS_BYTES + 1)}
    offered = [{"name": f"t{number}", "inputSchema": {"type": "object"}} for number in range(400)]
    offered[0] |= {"inputSchema": wide}
    offered[1] |= {"outputSchema": {"type": "object", "title": "x" * 50_000}}

    async with LegacyServer(tools=offered) as (raw, _):
        found = await tools_of(servers, server_at(raw.url))
        assert list(found) == [f"t{number}" for number in range(1, 1 + mcp.TOOLS)]
        assert "tools 101 are left out" in caplog.text
        (known,) = servers._known.values()
        assert known.tools is not None
        assert len(known.tools) == 299
        assert known.tools[0].output_schema is None
        last = server_at(raw.url, allowed=McpFilter(frozenset({"t299", "t300"})))
        assert list(await tools_of(servers, last)) == ["t299"]
        monkeypatch.setattr(mcp, "LISTS_BYTES", known.bytes + 1)
        for tenant in ("beta", "gamma"):
            await servers.list_tools(server_at(raw.url), tenant=tenant)
        assert len(servers._known) == 1, "what was used longest ago is forgotten first"


async def test_what_a_server_says_of_its_answers_is_not_run(servers: McpServers) -> None:
    evil = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a|aa)+$"}}}

    offered = [{"name": "echo", "inputSchema": {"type": "object"}, "outputSchema": evil}]

    def answers(message: Any) -> bytes:
        found = {"content": [{"type": "text", "text": "well"}], "structuredContent": {"a": "a" * 60 + "!"}}
        body = {"jsonrpc": "2.0", "id": message["id"], "result": found}
        return reply(200, json.dumps(body).encode(), Content_Type="application/json")

    async with LegacyServer(tools=offered, result=answers) as (raw, _):
        tools = await tools_of(servers, server_at(raw.url))
        async with asyncio.timeout(5):
            outcome = await servers.call(tools["echo"], {}, CONTEXT)
        assert (outcome.output, outcome.error) == ("well", None)
        assert methods(raw).count("tools/list") == 1, "nor is the list asked for again"


async def test_headers_that_cannot_be_sent_are_no_servers(servers: McpServers) -> None:
    for value in ("ü", "a\r\nX-More: 1", "a\0"):
        with pytest.raises(NotListed) as refused:
            await servers.list_tools(server_at("http://127.0.0.1:1/mcp", headers=(("X-A", value),)), tenant="alpha")
        assert value not in str(refused.value)


async def test_a_redirect_is_not_followed(servers: McpServers) -> None:
    async with http_server() as other, http_server() as first:
        first.answers["/mcp"] = reply(307, Location=f"{other.url}/mcp")
        headers = (("Authorization", "Bearer secret"),)
        with pytest.raises(NotListed):
            await servers.list_tools(server_at(f"{first.url}/mcp", headers=headers), tenant="alpha")
        assert first.asked
        assert other.asked == []
