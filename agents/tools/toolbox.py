"""Runs the tools of live calls, whatever kind they are: one way in, one shape of answer and receipt.

In this order: the arguments are read and checked, the integration's rate limit and then its circuit breaker are asked,
the tool runs within its time, the breaker is told. The first that refuses answers.
"""

import asyncio
import logging
import time
from urllib.parse import quote

import msgspec

from agents.egress.addresses import Resolve, resolve
from agents.egress.breaker import BreakerOpen, Breakers, Permit
from agents.egress.client import open_client
from agents.egress.config import EgressConfig
from agents.tools.arguments import ArgumentsInvalid, SchemaInvalid, read_arguments
from agents.tools.builtin import run_builtin
from agents.tools.credentials import Tokens
from agents.tools.http import run_http
from agents.tools.mcp import UNREACHABLE, McpServers, NotListed
from agents.tools.metrics import CALLS, DURATION, LISTS
from agents.tools.outcome import Outcome, failure
from agents.tools.python import PythonRunner
from agents.tools.types import (
    RECEIPT_CHARACTERS,
    JsonObject,
    McpServer,
    Receipt,
    ToolAnswer,
    ToolContext,
    ToolError,
    ToolSpec,
    ToolsUnavailable,
)
from speech.answers import wait_for_answer
from speech.logs import SECRETS, kind_and_place
from tenants.limits.counter import Counter
from tenants.limits.counters import Limiter, LimitsUnavailable

log = logging.getLogger(__name__)


class LiveToolbox:
    """For one event loop. What is asked of tenants' and clients' addresses goes through the guarded client. Of each
    tenant ``calls_per_tenant`` run at once: whose tools hang must not take all connections."""

    def __init__(
        self,
        config: EgressConfig,
        breakers: Breakers,
        limiter: Limiter,
        *,
        calls_per_tenant: int = 50,
        resolve: Resolve = resolve,
    ) -> None:
        self._calls_per_tenant = calls_per_tenant
        self._running: dict[str, int] = {}
        self._breakers = breakers
        self._limiter = limiter
        self._client = open_client(config, resolve=resolve)
        self._tokens = Tokens()
        self._mcp = McpServers(config, self._client, self._tokens, resolve=resolve)
        self._python = PythonRunner()

    async def stop(self) -> None:
        self._python.stop()
        await self._mcp.stop()
        await self._client.aclose()

    async def list_tools(self, server: McpServer, *, tenant: str) -> tuple[ToolSpec, ...]:
        """Raises ToolsUnavailable."""
        known = self._mcp.recall_tools(server, tenant=tenant)
        if known is not None:
            return known
        try:
            permit = await self._ask_breaker(_breaker_of_server(server), tenant)
        except BreakerOpen as error:
            LISTS.labels("refused").inc()
            raise ToolsUnavailable(ToolError("http_error", _left_alone(server.label, error), UNREACHABLE)) from error
        healthy: bool | None = None
        outcome = "failed"
        try:
            tools = await self._mcp.list_tools(server, tenant=tenant)
            healthy, outcome = True, "completed"
        except NotListed as error:
            healthy = error.healthy
            raise
        finally:
            LISTS.labels(outcome).inc()
            await _settle(permit, healthy)
        return tools

    async def run(self, tool: ToolSpec, arguments: str, context: ToolContext) -> ToolAnswer:
        began_at, began = time.time(), time.monotonic()
        told = "cancelled"
        try:
            outcome = await self._run_in_turn(tool, arguments, context)
            told = outcome.outcome
        finally:
            took_s = time.monotonic() - began
            CALLS.labels(tool.kind, told).inc()
            DURATION.labels(tool.kind).observe(took_s)
        answered = outcome.answered
        if outcome.error is not None:
            answered = {**answered, "error": outcome.error.message}
        receipt = Receipt(
            tool=tool.name,
            kind=tool.kind,
            integration=tool.integration,
            asked=SECRETS.sub("[secret]", arguments[: 2 * RECEIPT_CHARACTERS])[:RECEIPT_CHARACTERS],
            sent=_cut(outcome.sent),
            answered=_cut(answered),
            outcome=outcome.outcome,
            began_at=began_at,
            took_ms=round(took_s * 1000, 1),
            agent=context.agent,
            agent_version=context.agent_version,
        )
        return ToolAnswer("" if outcome.error else outcome.output, receipt, outcome.error)

    async def _run_in_turn(self, tool: ToolSpec, written: str, context: ToolContext) -> Outcome:
        running = self._running.get(context.tenant, 0)
        if running >= self._calls_per_tenant:
            return failure(f"{running} calls of tools are under way already; try again shortly.", outcome="refused")
        self._running[context.tenant] = running + 1
        try:
            return await self._run(tool, written, context)
        finally:
            self._running[context.tenant] -= 1
            if not self._running[context.tenant]:
                del self._running[context.tenant]

    async def _run(self, tool: ToolSpec, written: str, context: ToolContext) -> Outcome:
        """Only cancelling raises."""
        try:
            arguments = await read_arguments(written, tool.parameters, check=tool.kind != "mcp")
            refusal = await self._refuse_often(tool, context.tenant)
            if refusal is not None:
                return refusal
            permit = await self._ask_breaker(_breaker_of(tool), context.tenant)
        except ArgumentsInvalid as error:
            return failure(str(error), outcome="refused")
        except SchemaInvalid as error:
            log.warning("the parameters of the tool %s are no usable JSON Schema: %s", tool.name, error)
            return failure(f"The tool {tool.name} is not set up rightly and cannot be used.", outcome="refused")
        except BreakerOpen as error:
            return failure(_left_alone(tool.integration or tool.name, error), outcome="refused")
        healthy: bool | None = None
        try:
            outcome = await self._dispatch(tool, arguments, context)
            healthy = outcome.healthy
        except Exception as error:  # a bug of ours: its words may hold anything, so only its place is logged
            log.error("the tool %s broke: %s", tool.name, kind_and_place(error))
            return failure(f"The tool {tool.name} failed.")
        finally:
            await _settle(permit, healthy)
        return outcome

    async def _dispatch(self, tool: ToolSpec, arguments: JsonObject, context: ToolContext) -> Outcome:
        match tool.kind:
            case "http":
                return await run_http(
                    tool.config, arguments, context, self._client, self._tokens, timeout_s=tool.timeout_s
                )
            case "mcp":
                return await self._mcp.call(tool, arguments, context)
            case "python":
                return await self._python.run(tool.config, arguments, context, tool.timeout_s)
            case "builtin":
                # A form's fields have schemas of the tenant's, which may take their time.
                return await asyncio.to_thread(run_builtin, tool, arguments, context)
            case "consult":  # by whoever runs the call: it needs the models and the agents
                return failure(f"{tool.name} cannot be asked here.", outcome="refused")

    async def _refuse_often(self, tool: ToolSpec, tenant: str) -> Outcome | None:
        if tool.calls_per_minute is None:
            return None
        name = tool.integration or tool.name
        counter = Counter(
            name="tool_calls_per_minute",
            level="tenant",
            key=f"avb:{tenant}:limit:tool_calls_per_minute:{tool.kind}:{quote(name, safe='')}",
            limit=tool.calls_per_minute,
            window_s=60,
            cost=1,
        )
        try:
            answer = await wait_for_answer(self._limiter.ask([counter]))
        except LimitsUnavailable as error:
            log.warning("calls of tools are not counted for the moment: %s", error)
            return None
        if answer.refused is None:
            return None
        again = f"; try again in {answer.retry_after_s:.0f} s" if answer.retry_after_s else ""
        return failure(f"{name} may be called {tool.calls_per_minute} times a minute{again}.", outcome="refused")

    async def _ask_breaker(self, name: str, tenant: str) -> Permit | None:
        """Raises BreakerOpen."""
        return await self._breakers.ask(name, tenant=tenant) if name else None


def _breaker_of(tool: ToolSpec) -> str:
    """Empty where there is none: what runs here cannot be down, and a client's own server is the client's affair."""
    if tool.kind == "mcp":
        return _breaker_of_server(tool.config)
    if tool.kind == "http":
        return f"http:{tool.integration or tool.name}"
    return f"python:{tool.integration}" if tool.kind == "python" and tool.integration else ""


def _breaker_of_server(server: McpServer) -> str:
    return "" if server.by_client else f"mcp:{server.label}"


async def _settle(permit: Permit | None, healthy: bool | None) -> None:
    if permit is None:
        return
    if healthy is None:
        await permit.drop()
    elif healthy:
        await permit.succeed()
    else:
        await permit.fail()


def _left_alone(name: str, error: BreakerOpen) -> str:
    return f"{name} does not work at the moment; try again in {max(1, round(error.retry_after_s))} s."


def _cut(part: JsonObject) -> JsonObject:
    written = msgspec.json.encode(part)
    if len(written) <= RECEIPT_CHARACTERS:
        return part
    return {"cut": written[:RECEIPT_CHARACTERS].decode(errors="replace")}
