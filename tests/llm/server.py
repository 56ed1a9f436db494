"""A local server that speaks OpenAI's chat completions and can be told to misbehave."""

import asyncio
import json
from collections.abc import Callable
from typing import Any


class ChatServer:
    """``async with ChatServer() as server``: answers every request with ``events``, see ``say``.

    ``refuses``: the HTTP status for a request that it does not like, 0 for others. ``turns``: events of the answers to
    come, before ``events``.
    """

    def __init__(self) -> None:
        self.status = 200
        self.refuses: Callable[[dict[str, Any]], int] = lambda asked: 0
        self.events: list[str | float] = []
        self.turns: list[list[str | float]] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[str] = []
        self.dropped = 0

    async def __aenter__(self) -> "ChatServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def say(self, *deltas: dict[str, Any] | float, reason: str = "stop", usage: dict[str, Any] | None = None) -> None:
        """Deltas in order; a number is a pause in seconds."""
        self.events = []
        for delta in deltas:
            if isinstance(delta, float):
                self.events.append(delta)
            else:
                self.events.append(json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
        self.events.append(json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
        if usage is not None:
            self.events.append(json.dumps({"choices": [], "usage": usage}))
        self.events.append("[DONE]")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.headers.append(head.lower())
            length = int(head.lower().split("content-length:")[1].split("\r\n")[0])
            self.requests.append(json.loads(await reader.readexactly(length)))
            status = self.refuses(self.requests[-1]) or self.status
            if status != 200:
                writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
                for event in self.turns.pop(0) if self.turns else self.events:
                    if isinstance(event, float):
                        await asyncio.sleep(event)
                        continue
                    writer.write(f"data: {event}\n\n".encode())
                    await writer.drain()
            await writer.drain()
        except ConnectionError:
            self.dropped += 1
        finally:
            writer.close()
