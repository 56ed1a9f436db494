"""The gateway's server while it drains: a real uvicorn on loopback, with a small application."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from websockets.asyncio.client import connect

from agentvoicebox.serve import DrainingServer

UPGRADE = (
    b"GET /call HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass
class Application:
    """Calls echo; ``/slow`` is answered when ``release`` is set."""

    release: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if scope["path"] == "/slow":
                await self.release.wait()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})
            return
        self.calls += 1
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


@asynccontextmanager
async def served(drain_s: float) -> AsyncIterator[tuple[DrainingServer, Application, int, "asyncio.Task[None]"]]:
    application = Application()
    config = uvicorn.Config(
        application, port=0, ws="websockets-sansio", lifespan="off", log_config=None, timeout_keep_alive=60,
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = DrainingServer(config, drain_s)
    running = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(10):
            while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
                await asyncio.sleep(0.01)
        yield server, application, server.servers[0].sockets[0].getsockname()[1], running
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.wait({running}, timeout=10)


async def ask(port: int, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return reader, writer


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head.split(b"\r\n")[0] + b" " + await reader.readexactly(2)


async def assert_closed(reader: asyncio.StreamReader) -> None:
    """Nothing more comes. Writing to a closed connection may have reset it."""
    try:
        left = await reader.read()
    except ConnectionResetError:
        left = b""
    assert left == b""


async def test_while_it_drains_calls_go_on_and_no_new_one_begins() -> None:
    async with served(drain_s=20) as (server, application, port, running), asyncio.timeout(15):
        async with connect(f"ws://127.0.0.1:{port}/call") as call:
            idle, idle_writer = await ask(port, "/")
            assert await answer(idle) == b"HTTP/1.1 200 OK ok"
            slow, slow_writer = await ask(port, "/slow")
            silent, silent_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0.1)
            server.should_exit = True
            await asyncio.sleep(0.4)
            for writer in (idle_writer, silent_writer):
                writer.write(UPGRADE)
            for reader in (idle, silent):
                await assert_closed(reader)
            assert application.calls == 1
            await call.send("still there?")
            assert await call.recv() == "still there?"
            application.release.set()
            assert await answer(slow) == b"HTTP/1.1 200 OK ok"
            slow_writer.write(UPGRADE)
            await assert_closed(slow)
            assert not running.done()
        ended_at = time.monotonic()
        await running
        assert time.monotonic() - ended_at < 2
        assert application.calls == 1
        for writer in (idle_writer, silent_writer, slow_writer):
            writer.close()


async def test_a_call_that_outlasts_the_drain_is_told_to_connect_again() -> None:
    async with served(drain_s=0.3) as (server, _, port, running), asyncio.timeout(15):
        async with connect(f"ws://127.0.0.1:{port}/call") as call:
            server.should_exit = True
            begun = time.monotonic()
            await call.wait_closed()
            assert call.close_code == 1012
            assert 0.2 < time.monotonic() - begun < 3
        await running
