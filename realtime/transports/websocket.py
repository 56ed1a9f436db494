"""Calls over WebSocket: a Channels consumer with its own receive loop, so that no frame waits for a database thread."""

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from channels.consumer import AsyncConsumer

from realtime.protocol.call import Limits
from realtime.protocol.config import SessionConfig
from realtime.protocol.session import Session
from realtime.protocol.wire import GA, Dialect
from realtime.protocol.wire_beta import Beta
from realtime.runtime.budget import TokenBudgets
from realtime.runtime.door import Admission, Refusal, Visit, choose_subprotocol, id_source, read_visit
from realtime.runtime.metrics import CONNECTIONS, CONNECTIONS_ACTIVE, CONNECTIONS_REFUSED
from realtime.runtime.ports import Ports
from realtime.runtime.runner import CallRecord, Runner, RunnerConfig
from speech.logs import log_context

SERVER_RESTART = 1012

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class VoiceGateway:
    """All that a call over WebSocket needs of its process. ``admit`` lets a visit in or raises Refusal.

    ``beta``: whether clients that speak the beta dialect are let in.
    """

    ports: Ports
    admit: Callable[[Visit], Awaitable[Admission]]
    limits: Limits = field(default_factory=Limits)
    runner: RunnerConfig = field(default_factory=RunnerConfig)
    budgets: TokenBudgets = field(default_factory=lambda: TokenBudgets(100_000, time.monotonic))
    beta: bool = True


class AsgiTransport:
    """A call's frames over one ASGI WebSocket."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.gone = "client_closed"

    async def receive(self) -> str | bytes | None:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            if message.get("code") == SERVER_RESTART:
                self.gone = "server_drained"
            return None
        text = message.get("text")
        return text if text is not None else message.get("bytes")

    async def send(self, frame: str) -> None:
        await self._tell({"type": "websocket.send", "text": frame})

    async def close(self, code: int, reason: str) -> None:
        await self._tell({"type": "websocket.close", "code": code, "reason": reason})

    async def _tell(self, message: dict[str, Any]) -> None:
        try:
            await self._send(message)
        except (OSError, RuntimeError) as error:
            # Servers differ in what they raise once the other side has gone; some take it for a protocol error.
            raise ConnectionError(type(error).__name__) from error


class VoiceConsumer(AsyncConsumer):  # type: ignore[misc]
    """One socket, one call."""

    gateway: VoiceGateway

    def __init__(self, gateway: VoiceGateway) -> None:
        self.gateway = gateway
        self.new_id = id_source()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not AsyncConsumer's: its dispatch asks the database about stale connections before every message.
        message = await receive()
        if message["type"] != "websocket.connect":
            return
        transport = AsgiTransport(receive, send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        offered = list(scope.get("subprotocols", ()))
        subprotocol = choose_subprotocol(offered)
        try:
            query = scope.get("query_string", b"").decode("latin-1")
            visit = read_visit(headers, offered, query, beta=self.gateway.beta)
            admission = await self.gateway.admit(visit)
            config = admission.config(self.new_id("sess"), int(time.time() + self.gateway.runner.session_s))
        except Refusal as refusal:
            CONNECTIONS_REFUSED.labels(refusal.code or "unauthenticated").inc()
            log.info("call refused: %s", refusal.close_reason)
            await send({"type": "websocket.accept", "subprotocol": subprotocol})
            with contextlib.suppress(ConnectionError):
                await transport.send(GA.encode(refusal.event(self.new_id("event"))))
                await transport.close(refusal.close_code, refusal.close_reason)
            return
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        await self._run(admission, config, transport, Beta() if visit.dialect == "beta" else GA)

    async def _run(
        self, admission: Admission, config: SessionConfig, transport: AsgiTransport, dialect: Dialect
    ) -> None:
        caller = admission.caller
        record = CallRecord(
            tenant=caller.tenant,
            agent=caller.agent.slug,
            channel="websocket",
            key_id=caller.key_id,
            end_user=caller.end_user,
            model=admission.model,
        )
        session = Session(config, caller.agent, self.new_id, self.gateway.limits)
        with log_context(session_id=config.id, tenant_id=caller.tenant), CONNECTIONS_ACTIVE.track_inprogress():
            CONNECTIONS.inc()
            log.info("call began")
            gateway, budgets = self.gateway, self.gateway.budgets
            runner = Runner(
                session,
                gateway.ports,
                transport,
                record,
                budgets.enter(caller.key_id),
                gateway.runner,
                dialect=dialect,
            )
            try:
                reason = await runner.run()
            finally:
                budgets.leave(caller.key_id)
            log.info("call ended: %s", reason)
