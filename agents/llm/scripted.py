"""A language model that always says the same, at a pace of its own: for load tests, benchmarks and demos.

    python -m agents.llm.scripted --port 8082 --first-token-ms 50

It serves OpenAI's chat completions on loopback. ``{said}`` in the text is replaced by the caller's last words.
"""

import argparse
import asyncio
import contextlib
import json

import msgspec

TEXT = "Thank you for calling. I have understood you well. Is there anything else that I can do for you today?"


class ScriptedLlm:
    """``async with ScriptedLlm() as server``: ``server.url`` is its /v1."""

    def __init__(self, text: str = TEXT, *, port: int = 0, first_token_ms: int = 50, token_ms: int = 5) -> None:
        self._text = text
        self._port = port
        self._first_token_s = first_token_ms / 1000
        self._token_s = token_ms / 1000

    async def __aenter__(self) -> "ScriptedLlm":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0] or 0)
            asked = msgspec.json.decode(await reader.readexactly(length)) if length else {}
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            await asyncio.sleep(self._first_token_s)
            said = next((m["content"] for m in reversed(asked.get("messages", [])) if m["role"] == "user"), "")
            tokens = self._text.replace("{said}", str(said)).split(" ")
            for place, token in enumerate(tokens):
                self._write(writer, {"delta": {"content": token + (" " if place < len(tokens) - 1 else "")}})
                await writer.drain()
                await asyncio.sleep(self._token_s)
            self._write(writer, {"delta": {}, "finish_reason": "stop"}, len(tokens))
            writer.write(b"data: [DONE]\n\n")
            await writer.drain()
        writer.close()

    def _write(self, writer: asyncio.StreamWriter, choice: dict[str, object], tokens: int = 0) -> None:
        chunk: dict[str, object] = {"choices": [{"index": 0, **choice}]}
        if tokens:
            chunk["usage"] = {"prompt_tokens": 1, "completion_tokens": tokens}
        writer.write(f"data: {json.dumps(chunk)}\n\n".encode())


async def serve(text: str, port: int, first_token_ms: int, token_ms: int) -> None:
    async with ScriptedLlm(text, port=port, first_token_ms=first_token_ms, token_ms=token_ms) as server:
        print(f"scripted language model listens at {server.url}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m agents.llm.scripted", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--first-token-ms", type=int, default=50)
    parser.add_argument("--token-ms", type=int, default=5)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.text, arguments.port, arguments.first_token_ms, arguments.token_ms))


if __name__ == "__main__":
    main()
