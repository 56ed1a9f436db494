"""What takes the API long: a tool tried out, a server's list, a document fetched and read.

A request of the API holds a connection to the database until it is answered, so only a few of these go on in a process
at once; who comes then is asked to come again.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import httpx2
from django.conf import settings
from django.db import connection

from agents.egress.breaker import RedisBreakers
from agents.egress.client import open_client
from agents.egress.config import EgressConfig
from agents.toolbox.credentials import live_credential
from agents.toolbox.errors import ImportInvalid
from agents.toolbox.models import McpServer, Tool
from agents.toolbox.queries import define_server, define_tool
from agents.toolbox.resolving import live_server, live_tool
from agents.tools.http import HttpToolInvalid, check_address
from agents.tools.toolbox import LiveToolbox
from agents.tools.types import JsonObject, ToolAnswer, ToolContext, ToolSpec
from tenants.api.places import Places
from tenants.limits.counters import Limiter

Answer = TypeVar("Answer")
FETCH_S = 10.0
places = Places(lambda: settings.TOOL_TRIES)


def try_tool(tool: Tool, arguments: JsonObject, variables: Mapping[str, str]) -> ToolAnswer:
    """Runs it as a call would, its limit and its breaker included. Raises TooBusy, EncryptionError and ToolboxInvalid,
    where its credential may not be sent there."""
    credential = live_credential(tool.credential, tool.request["url"])
    spec = live_tool(tool.name, define_tool(tool), credential)
    context = ToolContext(
        tenant=connection.schema_name,
        session_id="",
        call_id="",
        agent="",
        agent_version=0,
        channel="rest",
        values=dict(variables),
    )
    return _run(lambda toolbox: toolbox.run(spec, json.dumps(arguments), context))


def list_offered(server: McpServer) -> tuple[ToolSpec, ...]:
    """What the server offers now. Raises TooBusy, ToolsUnavailable, EncryptionError and ToolboxInvalid, where its
    credential may not be sent there."""
    credential = live_credential(server.credential, server.url)
    live, tenant = live_server(server.label, define_server(server), server.headers, credential), connection.schema_name
    return _run(lambda toolbox: toolbox.list_tools(live, tenant=tenant))


def fetch_document(url: str) -> str:
    """Inside ``place``. Raises ImportInvalid."""
    try:
        check_address(url)
    except HttpToolInvalid as error:
        raise ImportInvalid({"url": error.message}) from error

    async def fetch() -> httpx2.Response:
        async with open_client(EgressConfig.from_environ(), total_s=FETCH_S) as client:
            return await client.get(url, follow_redirects=True)

    try:
        response = asyncio.run(fetch())
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ImportInvalid({"url": f"It cannot be fetched: {error or type(error).__name__}"}) from error
    if response.status_code != 200:
        raise ImportInvalid({"url": f"It cannot be fetched: the server answered {response.status_code}."})
    return response.text


def _run(ask: Callable[[LiveToolbox], Awaitable[Answer]]) -> Answer:
    async def run() -> Answer:
        breakers = RedisBreakers(settings.REDIS_URL, settings.REDIS_WRITE_TIMEOUT_S)
        limiter = Limiter(settings.REDIS_URL, settings.REDIS_WRITE_TIMEOUT_S)
        toolbox = LiveToolbox(EgressConfig.from_environ(), breakers, limiter)
        try:
            return await ask(toolbox)
        finally:
            await toolbox.stop()
            await breakers.stop()
            await limiter.stop()

    with places.take():
        return asyncio.run(run())
