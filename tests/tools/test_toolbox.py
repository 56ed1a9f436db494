"""All kinds of tools by their one way in: checks, limits, breakers, time-outs, receipts."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
import redis
from prometheus_client import REGISTRY

from agents.egress.breaker import RedisBreakers
from agents.egress.config import EgressConfig
from agents.tools.builtin import COLLECTED, make_tool
from agents.tools.credentials import BearerToken
from agents.tools.http import read_http_tool
from agents.tools.mcp_wire import server_from_wire
from agents.tools.sdk import ToolContext, tool
from agents.tools.toolbox import LiveToolbox
from agents.tools.types import RECEIPT_CHARACTERS, McpServer, ToolAnswer, ToolSpec, ToolsUnavailable
from tenants.limits.counters import Limiter
from tests.tools.legacy_mcp import LegacyServer
from tests.tools.servers import Asked, HttpServer, http_server, reply

CONFIG = EgressConfig(private_networks=(ip_network("127.0.0.1/32"),), connect_s=2, total_s=10)
CONTEXT = ToolContext(tenant="alpha", session_id="sess_1", call_id="item_1", agent="desk", agent_version=3)
NUMBER = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}


@pytest.fixture
async def breakers(valkey_url: str) -> AsyncIterator[RedisBreakers]:
    found = RedisBreakers(valkey_url, 2.0, failures=2, open_s=60)
    yield found
    await found.stop()


@pytest.fixture
async def toolbox(valkey_url: str, breakers: RedisBreakers) -> AsyncIterator[LiveToolbox]:
    limiter = Limiter(valkey_url, 2.0)
    found = LiveToolbox(CONFIG, breakers, limiter)
    yield found
    await found.stop()
    await limiter.stop()


@pytest.fixture
async def crm() -> AsyncIterator[HttpServer]:
    async with http_server() as found:
        found.answers["/orders/7"] = reply(200, b'{"status": "sent"}', Content_Type="application/json")
        yield found


def order_tool(crm: HttpServer, **options: Any) -> ToolSpec:
    request = {"method": "GET", "url": f"{crm.url}/orders/{{{{arguments.number}}}}"}
    config = read_http_tool(request, None, NUMBER, BearerToken("crm", "tok3n-secret"))
    found = ToolSpec("find_order", "Finds.", NUMBER, "http", "http", config=config, integration="crm")
    return replace(found, **options)


def python_tool(function: Callable[..., Any], **options: Any) -> ToolSpec:
    made = tool(function)
    return replace(made.spec, config=made, **options)


def count(outcome: str, kind: str = "http") -> float:
    labels = {"kind": kind, "outcome": outcome}
    return REGISTRY.get_sample_value("agentvoicebox_tool_calls_total", labels) or 0.0


def failed(answer: ToolAnswer) -> str:
    assert answer.error is not None
    assert answer.output == ""
    return answer.error.message


async def test_an_http_tool_and_its_receipt(toolbox: LiveToolbox, crm: HttpServer) -> None:
    before, asked = count("completed"), '{"number": 7}'
    answer = await toolbox.run(order_tool(crm), asked, CONTEXT)
    assert (json.loads(answer.output), answer.error) == ({"status": "sent"}, None)
    assert crm.asked[0].headers["authorization"] == "Bearer tok3n-secret"
    receipt = answer.receipt
    assert (receipt.tool, receipt.kind, receipt.integration, receipt.asked) == ("find_order", "http", "crm", asked)
    assert receipt.sent["url"] == f"{crm.url}/orders/7"
    assert receipt.answered["status"] == 200
    assert (receipt.agent, receipt.agent_version, receipt.outcome) == ("desk", 3, "completed")
    assert abs(receipt.began_at - time.time()) < 60
    assert 0 < receipt.took_ms < 10_000
    assert "tok3n-secret" not in repr(receipt)
    assert count("completed") == before + 1


@pytest.mark.parametrize("written", ['{"number": "seven"}', '{"number": 7', "[7]", "{}"])
async def test_wrong_arguments_reach_nobody(toolbox: LiveToolbox, crm: HttpServer, written: str) -> None:
    before = count("refused")
    answer = await toolbox.run(order_tool(crm), written, CONTEXT)
    assert failed(answer)
    assert (answer.receipt.outcome, answer.receipt.asked) == ("refused", written)
    assert answer.receipt.answered["error"] == failed(answer)
    assert crm.asked == []
    assert count("refused") == before + 1


async def test_a_tool_whose_schema_is_none(toolbox: LiveToolbox, crm: HttpServer) -> None:
    broken = order_tool(crm, parameters={"type": "nosuch"})
    assert "not set up rightly" in failed(await toolbox.run(broken, '{"number": 7}', CONTEXT))


async def test_an_integration_that_keeps_failing_is_left_alone(toolbox: LiveToolbox, crm: HttpServer) -> None:
    crm.answers["/orders/7"] = reply(503)
    for _ in range(2):
        assert "503" in failed(await toolbox.run(order_tool(crm), '{"number": 7}', CONTEXT))
    other = order_tool(crm, name="cancel_order")
    answer = await toolbox.run(other, '{"number": 7}', CONTEXT)
    assert "crm does not work at the moment; try again in 60 s." in failed(answer)
    assert answer.receipt.outcome == "refused"
    assert len(crm.asked) == 2
    elsewhere = await toolbox.run(order_tool(crm), '{"number": 7}', replace(CONTEXT, tenant="beta"))
    assert "503" in failed(elsewhere), "another tenant's is another"


async def test_a_refusal_says_nothing_of_its_health(toolbox: LiveToolbox, crm: HttpServer) -> None:
    for _ in range(4):
        assert "404" in failed(await toolbox.run(order_tool(crm), '{"number": 8}', CONTEXT))
        await toolbox.run(order_tool(crm), "{}", CONTEXT)
    assert (await toolbox.run(order_tool(crm), '{"number": 7}', CONTEXT)).error is None


async def test_calls_per_minute_of_an_integration(toolbox: LiveToolbox, crm: HttpServer) -> None:
    tools = [order_tool(crm, calls_per_minute=2), order_tool(crm, name="second", calls_per_minute=2)]
    for spec in tools:
        assert (await toolbox.run(spec, '{"number": 7}', CONTEXT)).error is None
    assert "crm may be called 2 times a minute; try again in" in failed(
        await toolbox.run(tools[0], '{"number": 7}', CONTEXT)
    )
    assert (await toolbox.run(tools[0], '{"number": 7}', replace(CONTEXT, tenant="beta"))).error is None
    assert len(crm.asked) == 3


async def test_the_keys_carry_the_tenant(toolbox: LiveToolbox, crm: HttpServer, valkey_url: str) -> None:
    crm.answers["/orders/7"] = reply(500)
    await toolbox.run(order_tool(crm, calls_per_minute=9), '{"number": 7}', CONTEXT)
    with redis.Redis.from_url(valkey_url, decode_responses=True) as client:
        assert sorted(client.keys("*")) == [
            "avb:alpha:breaker:http:crm",
            "avb:alpha:limit:tool_calls_per_minute:http:crm",
            "avb:alpha:limit:tool_calls_per_minute:http:crm:slots",
        ]


async def test_tools_work_while_redis_is_away(free_port: Callable[[], int], crm: HttpServer) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    limiter = Limiter(url, 0.5)
    toolbox = LiveToolbox(CONFIG, RedisBreakers(url, 0.5), limiter)
    answer = await toolbox.run(order_tool(crm, calls_per_minute=1), '{"number": 7}', CONTEXT)
    assert answer.error is None
    await toolbox.stop()
    await limiter.stop()


async def test_a_slow_tool_ends_in_its_time(toolbox: LiveToolbox, crm: HttpServer) -> None:
    async def silence(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    crm.answers["/orders/7"] = silence
    began = time.monotonic()
    answer = await toolbox.run(order_tool(crm, timeout_s=0.3), '{"number": 7}', CONTEXT)
    assert time.monotonic() - began < 2
    assert (answer.receipt.outcome, "0.3 s" in failed(answer)) == ("timeout", True)


async def test_tools_run_side_by_side(toolbox: LiveToolbox, crm: HttpServer) -> None:
    async def later(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.4)
        writer.write(reply(200, b"{}", Content_Type="application/json"))

    def sleepy(number: int) -> int:
        time.sleep(0.4)
        return number

    crm.answers["/orders/7"] = later
    specs = [order_tool(crm)] * 4 + [python_tool(sleepy)] * 4
    began = time.monotonic()
    answers = await asyncio.gather(*(toolbox.run(spec, '{"number": 7}', CONTEXT) for spec in specs))
    assert [answer.output for answer in answers] == ["{}"] * 4 + ["7"] * 4
    assert time.monotonic() - began < 2.5, "eight times 0.4 s, at once"


async def test_one_tenants_slow_tools_take_no_more_than_their_share(valkey_url: str, breakers: RedisBreakers) -> None:
    def wait_a_little() -> str:
        """Waits."""
        time.sleep(0.5)
        return "done"

    def answer() -> str:
        """Answers."""
        return "at once"

    limiter = Limiter(valkey_url, 2.0)
    toolbox = LiveToolbox(CONFIG, breakers, limiter, calls_per_tenant=2)
    held, quick = python_tool(wait_a_little), python_tool(answer)
    running = [asyncio.create_task(toolbox.run(held, "{}", CONTEXT)) for _ in range(2)]
    await asyncio.sleep(0.1)
    assert "2 calls of tools are under way" in failed(await toolbox.run(quick, "{}", CONTEXT))
    other = replace(CONTEXT, tenant="beta")
    assert (await toolbox.run(quick, "{}", other)).error is None
    await asyncio.gather(*running)
    assert (await toolbox.run(quick, "{}", CONTEXT)).error is None
    await toolbox.stop()
    await limiter.stop()


async def test_a_cancelled_call_leaves_the_breaker_as_it_was(
    toolbox: LiveToolbox, crm: HttpServer, breakers: RedisBreakers
) -> None:
    async def silence(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    crm.answers["/orders/7"] = silence
    before = count("cancelled")
    for _ in range(3):
        task = asyncio.create_task(toolbox.run(order_tool(crm), '{"number": 7}', CONTEXT))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert count("cancelled") == before + 3
    assert await breakers.ask("http:crm", tenant="alpha")


async def test_addresses_of_our_own_network_are_refused_by_every_kind(toolbox: LiveToolbox) -> None:
    async with http_server("127.0.0.2") as inside:
        inside.answers["/orders/7"] = reply(200, b"secrets")
        answer = await toolbox.run(order_tool(inside), '{"number": 7}', CONTEXT)
        assert "may not be asked" in failed(answer)
        server = server_from_wire({"server_label": "inside", "server_url": f"{inside.url}/mcp"})
        with pytest.raises(ToolsUnavailable, match="may not be asked"):
            await toolbox.list_tools(server, tenant="alpha")
        assert inside.connections == 0


async def test_a_python_tool(toolbox: LiveToolbox) -> None:
    def greet(name: str, context: ToolContext) -> str:
        return f"Hello {name} of {context.tenant}"

    spec = python_tool(greet)
    answer = await toolbox.run(spec, '{"name": "Ann"}', CONTEXT)
    assert (answer.output, answer.receipt.kind) == ("Hello Ann of alpha", "python")
    assert "'name' is a required property" in failed(await toolbox.run(spec, "{}", CONTEXT))


async def test_built_in_tools(toolbox: LiveToolbox) -> None:
    fields = {"name": {"type": "string"}}
    form = make_tool({"type": "builtin", "name": "collect", "form": "caller", "fields": fields})
    context = replace(CONTEXT, memory={})
    first = await toolbox.run(form, '{"name": "Ann"}', context)
    assert first.receipt.answered == {"form": "caller", "status": "to_confirm", "values": {"name": "Ann"}}
    second = await toolbox.run(form, '{"name": "Ann", "confirmed": true}', context)
    assert second.receipt.answered["status"] == "done"
    assert context.memory[COLLECTED]["caller"]["values"] == {"name": "Ann"}
    clock = make_tool({"type": "builtin", "name": "current_time"})
    assert json.loads((await toolbox.run(clock, "", CONTEXT)).output)["time_zone"] == "UTC"
    end = make_tool({"type": "builtin", "name": "end_call"})
    assert (await toolbox.run(end, "{}", CONTEXT)).receipt.outcome == "refused"
    ask = ToolSpec("consult_billing", "", {"type": "object"}, "consult", "consult", config="billing")
    assert (await toolbox.run(ask, "{}", CONTEXT)).receipt.outcome == "refused"


async def test_receipts_are_bounded_and_without_keys(toolbox: LiveToolbox) -> None:
    def echo(text: str) -> str:
        return text

    text = "sk-proj-0123456789abcdef " + "ä" * 9_000
    receipt = (await toolbox.run(python_tool(echo), json.dumps({"text": text}), CONTEXT)).receipt
    assert "sk-proj" not in receipt.asked
    assert len(receipt.asked) == RECEIPT_CHARACTERS
    assert set(receipt.sent) == {"cut"}
    assert len(json.dumps(receipt.answered, ensure_ascii=False)) < RECEIPT_CHARACTERS + 100


async def test_a_bug_of_ours_is_an_answer_too(toolbox: LiveToolbox, caplog: pytest.LogCaptureFixture) -> None:
    broken = ToolSpec("broken", "", {"type": "object"}, "python", "python", config=None)
    assert failed(await toolbox.run(broken, "{}", CONTEXT)) == "The tool broken failed."
    assert "AttributeError" in caplog.text


def shop_at(url: str, **options: Any) -> McpServer:
    found = server_from_wire({"server_label": "shop", "server_url": url, "require_approval": "never"})
    return replace(found, by_client=False, **options)


async def test_an_mcp_server_that_is_down_is_left_alone(
    toolbox: LiveToolbox, free_port: Callable[[], int], breakers: RedisBreakers
) -> None:
    server = shop_at(f"http://127.0.0.1:{free_port()}/mcp")
    for _ in range(2):
        with pytest.raises(ToolsUnavailable, match="cannot be reached"):
            await toolbox.list_tools(server, tenant="alpha")
    with pytest.raises(ToolsUnavailable, match="does not work at the moment") as refused:
        await toolbox.list_tools(server, tenant="alpha")
    assert refused.value.error.type == "http_error"
    with pytest.raises(ToolsUnavailable, match="cannot be reached"):
        await toolbox.list_tools(replace(server, by_client=True), tenant="alpha")


async def test_an_mcp_tool_and_its_receipt(toolbox: LiveToolbox) -> None:
    async with LegacyServer() as (raw, _):
        (spec,) = await toolbox.list_tools(shop_at(raw.url, calls_per_minute=1), tenant="alpha")
        answer = await toolbox.run(spec, '{"any": "thing"}', CONTEXT)
        assert (answer.receipt.kind, answer.receipt.integration) == ("mcp", "shop")
        assert answer.receipt.sent["arguments"] == {"any": "thing"}
        assert answer.output.startswith("s")
        assert "shop may be called 1 times a minute" in failed(await toolbox.run(spec, "{}", CONTEXT))
