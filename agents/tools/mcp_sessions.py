"""Open sessions with MCP servers: each belongs to one call (or to nobody, for a list), is used for all that the call
asks of the server, and is closed when it was idle for a while.

The official client must be entered and left by one task, so each session has a task of its own. Whatever breaks the
session ends that task; ``fault`` then says why. Nobody waits for a session that ends.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from contextvars import ContextVar

import httpx2
from mcp import Client, Implementation
from mcp.client.client import ConnectMode
from mcp.client.session import IncomingMessage
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, DiscoverResult, ToolListChangedNotification

from agents.egress.client import EgressClient
from agents.tools.types import McpServer

IDLE_S = 60.0
SESSIONS = 500
"""Of one process; beyond that the one that was idle longest is closed."""
CLOSE_S = 3.0

_statuses: ContextVar[list[int] | None] = ContextVar("statuses", default=None)

log = logging.getLogger(__name__)


def watch_statuses() -> list[int]:
    """Fills with the HTTP statuses of what this task, and the tasks it starts, are answered."""
    statuses: list[int] = []
    _statuses.set(statuses)
    return statuses


async def _note_status(response: httpx2.Response) -> None:
    statuses = _statuses.get()
    if statuses is not None:
        statuses.append(response.status_code)


async def _take_as_it_is(name: str, result: CallToolResult) -> None:
    """In the place of a check."""


def leaf_of(error: BaseException) -> BaseException:
    """What really happened, out of the groups of task groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Session:
    """``http`` is the session's own client, with the server's headers and credential; ``known`` how the server was
    spoken with before, so that it need not be asked. ``statuses`` are those of the handshake, and what came unasked;
    ``secrets`` fills with what the credential puts on requests."""

    def __init__(
        self,
        server: McpServer,
        http: EgressClient,
        known: tuple[ConnectMode, DiscoverResult | None],
        changed: Callable[[], None],
        secrets: set[str],
    ) -> None:
        self.fault: BaseException | None = None
        self.statuses: list[int] = []
        self.secrets = secrets
        self.used = 0
        self.busy = 0
        self._server = server
        self._http = http
        self._known = known
        self._changed = changed
        self._client: Client | None = None
        self._opened = asyncio.Event()
        self._closing = asyncio.Event()
        self._idle_at = 0.0
        self.task = asyncio.create_task(self._own(), name=f"mcp session {server.label}")

    @property
    def usable(self) -> bool:
        return not self.task.done() and not self._closing.is_set()

    @property
    def opened(self) -> bool:
        return self._client is not None

    async def open(self) -> Client:
        """Raises what went wrong."""
        await self._opened.wait()
        if self._client is None:
            raise self.fault or ConnectionError("the session was closed")
        return self._client

    def release(self) -> None:
        self.busy -= 1
        self.used += 1
        self._idle_at = asyncio.get_running_loop().time() + IDLE_S

    def close(self) -> None:
        """Nothing is waited for."""
        self._closing.set()
        if self._client is None:
            self.task.cancel()

    async def _own(self) -> None:
        mode, discovered = self._known
        self.statuses = watch_statuses()
        self._http.event_hooks = {"request": [], "response": [_note_status]}
        try:
            async with self._http:
                client = Client(
                    streamable_http_client(self._server.url, http_client=self._http),
                    mode=mode,
                    prior_discover=discovered,
                    cache=None,
                    client_info=Implementation(name="AgentVoiceBox", version="1"),
                    message_handler=self._hear,
                )
                async with client:
                    # What a server says of its own answers is a stranger's schema, and checking them against it, which
                    # the official client does on the event loop, could take for ever.
                    client.session.validate_tool_result = _take_as_it_is  # type: ignore[method-assign]
                    self._client = client
                    self._opened.set()
                    await self._until_idle()
        except Exception as error:
            self.fault = leaf_of(error)
        finally:
            self._closing.set()
            self._opened.set()

    async def _until_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle_at = loop.time() + IDLE_S
        while not self._closing.is_set():
            left_s = IDLE_S if self.busy else self._idle_at - loop.time()
            if left_s <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._closing.wait()

    async def _hear(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._changed()


class Sessions:
    """All of one process, by whatever tells them apart."""

    def __init__(self) -> None:
        self._open: OrderedDict[Hashable, Session] = OrderedDict()
        self._ending: set[asyncio.Task[None]] = set()

    def take(self, key: Hashable, make: Callable[[], Session]) -> Session:
        """Give it back with ``release``."""
        session = self._open.get(key)
        if session is None or not session.usable:
            self.drop(key)
            session = self._open[key] = make()
            self._ending.add(session.task)
            session.task.add_done_callback(self._ending.discard)
        self._open.move_to_end(key)
        session.busy += 1
        self._evict()
        return session

    def drop(self, key: Hashable) -> None:
        session = self._open.pop(key, None)
        if session is not None:
            session.close()

    def _evict(self) -> None:
        for key in [key for key, session in self._open.items() if not session.usable]:
            self.drop(key)
        for key in [key for key, session in self._open.items() if not session.busy]:
            if len(self._open) <= SESSIONS:
                return
            self.drop(key)

    async def stop(self) -> None:
        for key in list(self._open):
            self.drop(key)
        if self._ending:
            _, late = await asyncio.wait(self._ending, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
