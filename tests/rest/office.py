"""A gateway with real keys, limits and agents, and scripted engines; and the sockets of those who call it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.db import database_sync_to_async

from agentvoicebox.admission import Admissions
from agentvoicebox.directory import AgentDirectory
from realtime.runtime.active_agents import ActiveAgents
from realtime.runtime.budget import Budgets
from realtime.runtime.door import ConnectGate
from realtime.runtime.keys import Keys
from realtime.runtime.passes import Passes
from realtime.runtime.ports import Ports
from realtime.runtime.register import SessionRegister
from realtime.runtime.secrets import ClientSecrets
from realtime.transports.websocket import VoiceConsumer, VoiceGateway
from tenants.keys.operations import issue_key
from tenants.limits.counters import Limiter
from tests.record.world import World
from tests.runtime.ports import Archive, Judge, Listening, Model, Speech, Tools


class Socket:
    """One client's end: what it was told, and how it was closed."""

    def __init__(self, gateway: VoiceGateway, key: str, query: str, headers: dict[str, str], peer: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        given = {"Authorization": f"Bearer {key}", **headers}
        scope = {
            "type": "websocket",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "client": (peer, 1234),
        }
        self.task = asyncio.create_task(VoiceConsumer(gateway)(scope, self._incoming.get, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            self.events.append(json.loads(message["text"]))
        elif message["type"] == "websocket.close":
            self.closed = (message["code"], message["reason"])

    def send(self, **event: Any) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "text": json.dumps(event)})

    async def until(self, wanted: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while True:
                for event in self.events:
                    if event["type"] == wanted:
                        return event
                await asyncio.sleep(0.005)

    async def refusal(self) -> tuple[int, str, str]:
        """(close code, error type, error code)."""
        async with asyncio.timeout(10):
            await self.task
        [event] = self.events
        assert self.closed is not None
        return self.closed[0], event["error"]["type"], event["error"]["code"]

    async def hang_up(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self.task


class Office:
    """A gateway, and the calls that a test makes through it."""

    def __init__(self, voice: VoiceGateway, archive: Archive) -> None:
        self.voice, self.archive = voice, archive
        self._sockets: list[Socket] = []

    def call(self, key: str, query: str = "model=gpt-realtime", peer: str = "192.0.2.1", **headers: str) -> Socket:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._sockets.append(Socket(self.voice, key, query, named, peer))
        return self._sockets[-1]

    async def close(self) -> None:
        for socket in self._sockets:
            if not socket.task.done():
                await socket.hang_up()


@pytest.fixture
async def office(
    world: World,
    valkey_url: str,
    keys: Keys,
    secrets: ClientSecrets,
    limiter: Limiter,
    budgets: Budgets,
    passes: Passes,
) -> AsyncIterator[Office]:
    register = SessionRegister(valkey_url, "one")
    await register.start()
    active = ActiveAgents(valkey_url, 1.0, 60)
    speech, archive, model, tools = Speech(), Archive(), Model("Hi ", "there."), Tools()
    directory = AgentDirectory(model, active, route_s=2.0)
    ports = Ports(Listening(), speech, Judge(), speech, model, archive, register, tools, directory)
    admissions = Admissions(keys, secrets, limiter, active)
    office = Office(VoiceGateway(ports, admissions.admit, budgets, passes, ConnectGate(1_000)), archive)
    yield office
    await office.close()
    await active.stop()
    await register.stop()


async def key_of(world: World, **fields: Any) -> str:
    _, secret = await database_sync_to_async(issue_key)(tenant=world.alpha.tenant, name="socket", **fields)
    return str(secret)
