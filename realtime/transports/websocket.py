"""Calls over WebSocket: a Channels consumer with its own receive loop, so that no frame waits for a database thread."""

import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from channels.consumer import AsyncConsumer

from realtime.protocol.call import Limits
from realtime.protocol.config import SessionConfig
from realtime.protocol.session import Session
from realtime.protocol.wire import GA, Dialect
from realtime.protocol.wire_beta import Beta
from realtime.runtime.budget import Budgets
from realtime.runtime.door import (
    Admission,
    ConnectGate,
    Refusal,
    Visit,
    choose_subprotocol,
    id_source,
    read_visit,
    subscriber_at_gate,
)
from realtime.runtime.metrics import CONNECTIONS, CONNECTIONS_ACTIVE, CONNECTIONS_REFUSED
from realtime.runtime.passes import MESSAGES, Passes
from realtime.runtime.ports import Ports
from realtime.runtime.runner import CallRecord, Runner, RunnerConfig
from speech.logs import log_context
from tenants.ended import AccessEnded
from tenants.keys.networks import client_address
from tenants.limits.counters import LimitsUnavailable

CHANNEL = "websocket"
SERVER_RESTART = 1012
SCOPE = "realtime"
"""Whoever is in a call must have it (``tenants.permissions``)."""

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class VoiceGateway:
    """All that a call over WebSocket needs of its process. ``admit(visit, session_id)`` lets a visit in, and holds
    places for its session, or raises Refusal.

    ``beta``: whether clients that speak the beta dialect are let in. ``trusted_proxies``: whose ``X-Forwarded-For``
    counts.
    """

    ports: Ports
    admit: Callable[[Visit, str], Awaitable[Admission]]
    budgets: Budgets
    passes: Passes
    gate: ConnectGate
    limits: Limits = field(default_factory=Limits)
    runner: RunnerConfig = field(default_factory=RunnerConfig)
    beta: bool = True
    trusted_proxies: Iterable[str] = ()


class AsgiTransport:
    """A call's frames over one ASGI WebSocket."""

    abilities: frozenset[str] = frozenset()

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
            peer = (scope.get("client") or ("",))[0]
            address = client_address(peer, headers.get("x-forwarded-for", ""), self.gateway.trusted_proxies)
            self.gateway.gate.enter(subscriber_at_gate(peer, address, self.gateway.trusted_proxies))
            visit = read_visit(headers, offered, query, beta=self.gateway.beta, address=address)
            admission, config = await self._admit(visit)
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

    async def _admit(self, visit: Visit) -> tuple[Admission, SessionConfig]:
        """Raises Refusal."""
        session_id = self.new_id("sess")
        admission = await self.gateway.admit(visit, session_id)
        longest_s = min(self.gateway.runner.session_s, admission.caller.agent.limits.duration_s or math.inf)
        try:
            return admission, admission.config(session_id, int(time.time() + longest_s))
        except Refusal:
            with contextlib.suppress(LimitsUnavailable):  # then its places lapse by themselves
                await self.gateway.budgets.limiter.free(admission.party.places(session_id))
            raise

    async def _run(
        self, admission: Admission, config: SessionConfig, transport: AsgiTransport, dialect: Dialect
    ) -> None:
        caller = admission.caller
        record = CallRecord(
            tenant=caller.tenant,
            agent=caller.agent.slug,
            channel=CHANNEL,
            key_id=caller.key_id,
            end_user=caller.end_user,
            model=admission.model,
            agent_version=caller.agent.version,
            trial=caller.agent.trial,
            entry=caller.entry,
            values=caller.values,
            redaction=caller.redaction,
            prompts=admission.prompts,
        )
        session = Session(
            config,
            caller.agent,
            self.new_id,
            self.gateway.limits,
            rules=caller.rules,
            abilities=transport.abilities,
        )
        with log_context(session_id=config.id, tenant_id=caller.tenant), CONNECTIONS_ACTIVE.track_inprogress():
            CONNECTIONS.inc()
            log.info("call began")
            gateway = self.gateway
            budget = gateway.budgets.enter(admission.party)
            runner = Runner(session, gateway.ports, transport, record, budget, gateway.runner, dialect)

            def leave(ended: AccessEnded) -> None:
                runner.end_access(ended.reason, MESSAGES[ended.reason])

            # Held for as long as the call lasts: who holds none is not asked to leave.
            who = (admission.key_kind, caller.tenant, caller.key_id, SCOPE)
            entered = gateway.passes.enter(who, leave)
            try:
                reason = await runner.run()
            finally:
                gateway.budgets.leave(budget)
                del entered
            log.info("call ended: %s", reason)
