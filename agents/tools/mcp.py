"""Tools of MCP servers, over streamable HTTP by the official client and the guarded HTTP client.

What a server says of itself is a stranger's word: its list is bounded, its schemas are not run, and nothing that it is
sent or answers is shown with the credentials that went along.
"""

import asyncio
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec
from mcp import Client, MCPError
from mcp.client.client import ConnectMode
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    REQUEST_TIMEOUT,
    CallToolResult,
    DiscoverResult,
    EmbeddedResource,
    ResourceLink,
    TextContent,
    TextResourceContents,
    Tool,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from agents.egress.addresses import EgressRefused, Resolve, resolve
from agents.egress.client import EgressClient
from agents.egress.config import EgressConfig
from agents.tools.credentials import NOTHING, CredentialFailed, Tokens, redact
from agents.tools.mapping import MAX_OUTPUT_CHARACTERS, cut
from agents.tools.mcp_sessions import Session, Sessions, leaf_of, watch_statuses
from agents.tools.mcp_wire import matches, needs_approval
from agents.tools.outcome import Outcome, failure
from agents.tools.types import (
    RECEIPT_CHARACTERS,
    JsonObject,
    McpServer,
    ToolContext,
    ToolError,
    ToolSpec,
    ToolsUnavailable,
)

LISTED_S = 300.0
"""How long what a server offers is known."""
LISTS = 1_000
LISTS_BYTES = 64 * 1024 * 1024
"""Of what is known of all servers together; what was used longest ago is forgotten first."""
LIST_PAGES = 10
LISTED = 1_000
"""Of which ``allowed_tools`` choose."""
TOOLS = 128
DESCRIPTION_CHARACTERS = 2_000
PARAMETERS_BYTES = 16 * 1024
ERROR_CHARACTERS = 500
UNREACHABLE = 424
"""The code of an http_error where no HTTP status came: a dependency failed."""
NAME_CHARACTERS = 128
STAND_INS = frozenset({"Server returned an error response", "Not Found", "Session terminated"})
"""What the official client says where a server answers with an HTTP error and no words of its own."""
REFUSED = {
    "address": "its address is not public",
    "scheme": "it is asked over https:// only",
    "credentials": "its url holds a user or a password",
    "redirect": "its redirect is not followed",
    "encoding": "its answer is compressed in a way that was not asked for",
}
"""By the reason of the guard. Callers hear it too, so it names no host."""

log = logging.getLogger(__name__)
Found = TypeVar("Found")


class NotListed(ToolsUnavailable):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error or ToolError("protocol_error", "There is no list.", PARSE_ERROR))
        self.healthy = outcome.healthy


@dataclass(slots=True)
class _Known:
    """What was learnt of a server with one tenant's credentials. ``mode`` and ``discovered``: how to speak with it."""

    tools: tuple[Tool, ...] | None = None
    listed_at: float = 0.0
    mode: ConnectMode = "auto"
    discovered: DiscoverResult | None = None
    bytes: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class McpServers:
    """For one event loop. ``client`` fetches the tokens of credentials."""

    def __init__(
        self,
        config: EgressConfig,
        client: httpx2.AsyncClient,
        tokens: Tokens,
        *,
        resolve: Resolve = resolve,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._client = client
        self._tokens = tokens
        self._resolve = resolve
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._sessions = Sessions()
        self._dying: set[asyncio.Task[Any]] = set()

    def recall_tools(self, server: McpServer, *, tenant: str) -> tuple[ToolSpec, ...] | None:
        """What was listed a short while ago."""
        known = self._recall(_identity(server, tenant))
        if known.tools is None or self._clock() - known.listed_at > LISTED_S:
            return None
        return _specs(server, known.tools)

    async def list_tools(self, server: McpServer, *, tenant: str) -> tuple[ToolSpec, ...]:
        """Those who want the same list at the same time share one answer. Raises NotListed."""
        known = self._recall(_identity(server, tenant))
        async with known.lock:
            specs = self.recall_tools(server, tenant=tenant)
            if specs is not None:
                return specs
            outcome, tools, _ = await self._ask(server, tenant, "", server.timeout_s, _list)
            if tools is None:
                raise NotListed(outcome)
            known.tools, known.listed_at = tools, self._clock()
            known.bytes = sum(map(_bytes_of, tools))
            self._forget_oldest()
            return _specs(server, tools)

    async def call(self, tool: ToolSpec, arguments: JsonObject, context: ToolContext) -> Outcome:
        """``tool`` is one of ``list_tools``. Only cancelling raises."""
        server: McpServer = tool.config

        async def call(client: Client) -> CallToolResult:
            return await client.call_tool(tool.name, arguments)

        outcome, result, secrets = await self._ask(server, context.tenant, context.session_id, tool.timeout_s, call)
        sent = {"server": _shown(server.url), "tool": tool.name, "arguments": arguments}
        if result is None:
            error = outcome.error
            if error and error.type == "protocol_error" and error.code in (METHOD_NOT_FOUND, INVALID_PARAMS):
                self._forget(_identity(server, context.tenant))
            return Outcome("", error, outcome.outcome, sent, outcome.answered, outcome.healthy)
        text = redact(_text_of(result), secrets)
        answered: JsonObject = {"is_error": result.is_error, "content": cut(text, RECEIPT_CHARACTERS // 2)}
        if result.is_error:
            if text.lower().startswith("unknown tool"):
                self._forget(_identity(server, context.tenant))
            error = ToolError("tool_execution_error", cut(text, ERROR_CHARACTERS) or "The tool failed without a word.")
            return Outcome("", error, "failed", sent, answered)
        return Outcome(cut(text, MAX_OUTPUT_CHARACTERS), None, "completed", sent, answered)

    async def stop(self) -> None:
        for task in list(self._dying):
            task.cancel()
        await self._sessions.stop()

    async def _ask(
        self,
        server: McpServer,
        tenant: str,
        session_id: str,
        timeout_s: float,
        ask: Callable[[Client], Awaitable[Found]],
    ) -> tuple[Outcome, Found | None, set[str]]:
        """What was found, or an outcome with an error; and the secrets that went along.

        A session that the server has forgotten, or whose connection is gone, is opened anew, once: nothing was done
        in it.
        """
        identity = _identity(server, tenant)
        key = (identity, session_id)
        ends = self._clock() + timeout_s
        while True:
            session = self._sessions.take(key, lambda: self._open(server, tenant, identity))
            before = session.used
            statuses: list[int] = []
            task = asyncio.create_task(self._in_session(session, identity, statuses, ask))
            try:
                done, _ = await asyncio.wait({task}, timeout=max(0.0, ends - self._clock()))
                if not done:
                    if not session.opened:
                        self._sessions.drop(key)
                    words = f"The MCP server {server.label} did not answer within {timeout_s:g} s."
                    return failure(words, outcome="timeout", healthy=False), None, set()
                fault = task.exception()
                secrets = _secrets(server) | session.secrets
                if fault is None:
                    return Outcome(), task.result(), secrets
            finally:
                self._let_go(task)
                session.release()
                if not session_id:
                    self._sessions.drop(key)
            gone = 404 in statuses[-1:] or isinstance(fault, httpx2.ConnectError)
            if gone:
                self._sessions.drop(key)
                known = self._recall(identity)
                known.mode, known.discovered = "auto", None
            if not (gone and before) or self._clock() >= ends:
                return _outcome_of(fault, server, statuses, secrets), None, secrets

    async def _in_session(
        self, session: Session, identity: str, statuses: list[int], ask: Callable[[Client], Awaitable[Found]]
    ) -> Found:
        watched = watch_statuses()
        try:
            client = await session.open()
            known = self._recall(identity)
            if client.protocol_version in MODERN_PROTOCOL_VERSIONS:
                known.mode, known.discovered = client.protocol_version, client.session.discover_result
            else:
                known.mode = "legacy"
            return await ask(client)
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                await asyncio.wait({session.task}, timeout=0.2)
                if session.fault is not None:
                    raise session.fault from error
            raise
        except BaseExceptionGroup as group:
            raise leaf_of(group) from group
        finally:
            statuses += watched if session.opened else session.statuses

    def _open(self, server: McpServer, tenant: str, identity: str) -> Session:
        known = self._recall(identity)
        http = EgressClient(self._config, self._resolve)
        # As bytes: what is no header the connection refuses, and then there is somebody who says so.
        http.headers.update([(name.encode(), value.encode()) for name, value in server.headers])
        auth = self._tokens.auth(server.credential, self._client, tenant=tenant)
        http.auth = auth or NOTHING
        return Session(
            server, http, (known.mode, known.discovered), lambda: self._forget(identity), auth.used if auth else set()
        )

    def _recall(self, identity: str) -> _Known:
        known = self._known.setdefault(identity, _Known())
        self._known.move_to_end(identity)
        if len(self._known) > LISTS:
            self._known.popitem(last=False)
        return known

    def _forget_oldest(self) -> None:
        kept = sum(known.bytes for known in self._known.values())
        while kept > LISTS_BYTES and self._known:
            _, known = self._known.popitem(last=False)
            kept -= known.bytes

    def _forget(self, identity: str) -> None:
        """The list has changed, or seems to have."""
        if identity in self._known:
            self._known[identity].tools = None

    def _let_go(self, task: asyncio.Task[Any]) -> None:
        """A task that is cancelled may take a while to tell a server that does not listen; nobody waits for it."""
        if task.done():
            return
        self._dying.add(task)
        task.add_done_callback(self._dying.discard)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        task.cancel()


async def _list(client: Client) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    cursor = None
    for _ in range(LIST_PAGES):
        page = await client.list_tools(cursor=cursor)
        listed = page.tools[: LISTED - len(tools)]
        tools += (kept := [tool for tool in listed if not _is_too_long(tool)])
        if len(kept) < len(page.tools):
            log.warning("of an MCP server's tools %d are left out: too long, or too many", len(page.tools) - len(kept))
        cursor = page.next_cursor
        if cursor is None or len(tools) >= LISTED:
            break
    for tool in tools:  # which is kept for a while: nobody reads these
        tool.output_schema = tool.icons = tool.meta = None
    return tuple(tools)


def _is_too_long(tool: Tool) -> bool:
    return len(tool.name) > NAME_CHARACTERS or len(msgspec.json.encode(tool.input_schema)) > PARAMETERS_BYTES


def _bytes_of(tool: Tool) -> int:
    """About what it takes in memory, as JSON."""
    return len(tool.description or "") + len(msgspec.json.encode(tool.input_schema))


def _specs(server: McpServer, tools: tuple[Tool, ...]) -> tuple[ToolSpec, ...]:
    specs: list[ToolSpec] = []
    for tool in tools:
        read_only = bool(tool.annotations and tool.annotations.read_only_hint)
        if server.allowed is not None and not matches(server.allowed, tool.name, read_only):
            continue
        if len(specs) == TOOLS:
            log.warning("the MCP server %s offers more than %d tools: the others are left out", server.label, TOOLS)
            break
        specs.append(
            ToolSpec(
                name=tool.name,
                description=cut(tool.description or tool.title or "", DESCRIPTION_CHARACTERS),
                parameters=tool.input_schema,
                kind="mcp",
                server_label=server.label,
                config=server,
                integration=server.label,
                timeout_s=server.timeout_s,
                calls_per_minute=server.calls_per_minute,
                needs_approval=needs_approval(server, tool.name, read_only),
            )
        )
    return tuple(specs)


def _text_of(result: CallToolResult) -> str:
    """All that can be read; a server puts what is structured into text too, where it does as the protocol says."""
    parts = []
    for block in result.content:
        if isinstance(block, TextContent):
            parts.append(block.text)
        elif isinstance(block, EmbeddedResource) and isinstance(block.resource, TextResourceContents):
            parts.append(block.resource.text)
        elif isinstance(block, ResourceLink):
            parts.append(f"{block.name}: {block.uri}")
        else:
            parts.append(f"[{block.type}]")
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts)


def _outcome_of(fault: BaseException, server: McpServer, statuses: list[int], secrets: set[str]) -> Outcome:
    """What a model and a client may be told."""
    label, status = server.label, statuses[-1] if statuses else 0
    if isinstance(fault, MCPError) and status >= 400 and fault.message in STAND_INS:
        why = " It does not accept our credential." if status in (401, 403) else ""
        error = ToolError("http_error", f"The MCP server {label} answered with HTTP status {status}.{why}", status)
        return Outcome(error=error, outcome="failed", healthy=status < 500)
    if isinstance(fault, MCPError) and fault.code == REQUEST_TIMEOUT:
        return failure(f"The MCP server {label} did not answer in time.", outcome="timeout", healthy=False)
    if isinstance(fault, MCPError):
        message = cut(redact(fault.message, secrets), ERROR_CHARACTERS)
        error = ToolError("protocol_error", message or "The MCP server has refused.", fault.code)
        return Outcome(error=error, outcome="failed", healthy=fault.code != CONNECTION_CLOSED)
    if isinstance(fault, ValidationError):
        error = ToolError("protocol_error", f"What {label} answered is no MCP.", PARSE_ERROR)
        return Outcome(error=error, outcome="failed", healthy=True)
    if isinstance(fault, CredentialFailed):
        return failure(fault.message, healthy=fault.healthy or None)
    if isinstance(fault, EgressRefused):
        words = f"The answer of {label} is too long."
        if fault.reason != "size":
            words = f"{label} may not be asked: {REFUSED.get(fault.reason, fault.reason)}."
        error = ToolError("http_error", words, UNREACHABLE)
        answered = {"refused": str(fault)}
        return Outcome(error=error, outcome="refused", answered=answered, healthy=None)
    if isinstance(fault, httpx2.TimeoutException):
        return failure(f"The MCP server {label} did not answer in time.", outcome="timeout", healthy=False)
    if isinstance(fault, (httpx2.HTTPError, httpx2.InvalidURL, ConnectionError)):
        words = f"The MCP server {label} cannot be reached ({type(fault).__name__})."
        return Outcome(error=ToolError("http_error", words, UNREACHABLE), outcome="failed", healthy=False)
    log.error("an MCP server failed in an unknown way: %s", type(fault).__name__)
    return failure(f"The MCP server {label} failed.", healthy=False)


def _identity(server: McpServer, tenant: str) -> str:
    """Who asks whom by which credential."""
    parts = (tenant, server.label, server.url, server.headers, server.credential, server.by_client)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _secrets(server: McpServer) -> set[str]:
    values = {value for _, value in server.headers}
    return values | {value.partition(" ")[2] for value in values if " " in value}


def _shown(url: str) -> str:
    """Without a query, where some servers want their key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
