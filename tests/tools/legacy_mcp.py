"""An MCP server of the older protocol, scripted: for what a server of the official package never does."""

import asyncio
import json
import time
from typing import Any

from tests.tools.servers import Asked, HttpServer, http_server, reply


class LegacyServer:
    """Speaks 2025-06-18 with sessions, as most servers do; ``sessions.clear()`` forgets them."""

    def __init__(self, tools: list[dict[str, Any]] | None = None, result: Any = None) -> None:
        self.sessions: set[str] = set()
        self.tools = tools or [{"name": "echo", "inputSchema": {"type": "object"}}]
        self.result = result
        self.status = 0

    async def __aenter__(self) -> tuple[HttpServer, "LegacyServer"]:
        self._open = http_server()
        self.server = await self._open.__aenter__()
        self.server.answers["/"] = self.answer
        return self.server, self

    async def __aexit__(self, *raised: object) -> None:
        await self._open.__aexit__(*raised)

    async def answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        session = asked.headers.get("mcp-session-id", "")
        if asked.method != "POST":
            writer.write(reply(405))
            return
        message = json.loads(asked.body)
        method = message["method"]
        if self.status:
            writer.write(reply(self.status))
        elif method == "initialize":
            session = f"s{len(self.sessions)}-{time.monotonic_ns()}"
            self.sessions.add(session)
            result: Any = {
                "protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                "serverInfo": {"name": "old", "version": "1"},
            }  # fmt: skip
            writer.write(self.json(message, result, Mcp_Session_Id=session))
        elif not session:
            writer.write(reply(400))
        elif session not in self.sessions:
            writer.write(reply(404))
        elif method == "notifications/initialized":
            writer.write(reply(202))
        elif method == "tools/list":
            writer.write(self.json(message, {"tools": self.tools}))
        elif callable(self.result):
            writer.write(self.result(message))
        else:
            result = self.result or {"content": [{"type": "text", "text": session}]}
            writer.write(self.json(message, result))

    @staticmethod
    def json(message: Any, result: Any, **headers: str) -> bytes:
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        return reply(200, body, Content_Type="application/json", **headers)
