"""Local servers that speak the APIs of language models and can be told to misbehave."""

import asyncio
import json
import struct
from binascii import crc32
from collections.abc import Callable
from typing import Any

CUT = "[cut]"
"""Among events: the connection breaks here."""


class StreamServer:
    """``async with`` it: answers every POST with ``events``; a number is a pause in seconds.

    ``refuses``: the HTTP status for a request that it does not like, 0 for others; ``statuses`` and ``turns``: of the
    answers to come, before ``status`` and ``events``.
    """

    content_type = "text/event-stream"

    def __init__(self) -> None:
        self.status = 200
        self.statuses: list[int] = []
        self.refuses: Callable[[dict[str, Any]], int] = lambda asked: 0
        self.events: list[Any] = []
        self.turns: list[list[Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[str] = []
        self.bodies: list[bytes] = []
        self.dropped = 0
        self.asked = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.before_head_s = 0.0
        """How long nothing at all is answered."""

    async def __aenter__(self) -> Any:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.url = f"{self.origin}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)

    def encode(self, event: Any) -> bytes:
        return f"data: {event}\n\n".encode()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.headers.append(head.lower())
            length = int(head.lower().split("content-length:")[1].split("\r\n")[0])
            self.bodies.append(await reader.readexactly(length))
            self.requests.append(json.loads(self.bodies[-1]) | {"path": head.split(" ")[1]})
            self.asked.set()
            await asyncio.sleep(self.before_head_s)
            status = self.refuses(self.requests[-1]) or (self.statuses.pop(0) if self.statuses else self.status)
            if status != 200:
                writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
            else:
                writer.write(
                    f"HTTP/1.1 200 OK\r\nContent-Type: {self.content_type}\r\n"
                    "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
                )
                for event in self.turns.pop(0) if self.turns else self.events:
                    if isinstance(event, float):
                        await asyncio.sleep(event)
                        continue
                    if event == CUT:
                        writer.transport.abort()
                        return
                    piece = self.encode(event)
                    writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.dropped += 1
        except asyncio.CancelledError:
            writer.transport.abort()  # the test is over
        finally:
            writer.close()


class ChatServer(StreamServer):
    """OpenAI's chat completions."""

    def say(self, *deltas: dict[str, Any] | float, reason: str = "stop", usage: dict[str, Any] | None = None) -> None:
        """Deltas in order; a number is a pause in seconds."""
        self.events = chat(*deltas, reason=reason, usage=usage)


def chat(*deltas: dict[str, Any] | float | str, reason: str = "stop", usage: dict[str, Any] | None = None) -> list[Any]:
    """The events of one answer of chat completions."""
    events: list[Any] = []
    for delta in deltas:
        whole = isinstance(delta, dict)
        events.append(
            json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) if whole else delta
        )
    events.append(json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
    if usage is not None:
        events.append(json.dumps({"choices": [], "usage": usage}))
    return [*events, "[DONE]"]


def called(index: int, call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """A delta that calls a tool."""
    return {"tool_calls": [{"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}]}


class MessagesServer(StreamServer):
    """Anthropic's Messages API. Events are objects with a ``type``."""

    def encode(self, event: Any) -> bytes:
        return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


class ConverseServer(StreamServer):
    """Bedrock's ConverseStream, in the binary frames of AWS's event stream. Events are pairs (type, payload); the
    payload is an object, or bytes that are no frame at all with the type ''."""

    content_type = "application/vnd.amazon.eventstream"

    def encode(self, event: Any) -> bytes:
        kind, payload = event
        if not kind:
            return bytes(payload)
        message = "exception" if kind.endswith("Exception") else "event"
        headers = {
            ":message-type": message, f":{message}-type": kind, ":content-type": "application/json",
        }  # fmt: skip
        return frame(headers, json.dumps(payload).encode())


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One message of ``application/vnd.amazon.eventstream``: prelude and its CRC, headers, payload, CRC of all."""
    encoded = b""
    for name, value in headers.items():
        encoded += struct.pack("!B", len(name)) + name.encode()
        encoded += struct.pack("!BH", 7, len(value)) + value.encode()  # 7: a string
    prelude = struct.pack("!II", 16 + len(encoded) + len(payload), len(encoded))
    message = prelude + struct.pack("!I", crc32(prelude)) + encoded + payload
    return message + struct.pack("!I", crc32(message))
