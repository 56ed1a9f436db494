"""An MCP server of the official package, as a process of its own: ``python -m tests.tools.mcp_server PORT``."""

import asyncio
import sys

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations
from pydantic import BaseModel

server = MCPServer("shop")


class Order(BaseModel):
    number: int
    status: str


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def find_order(number: int) -> Order:
    """Looks up an order."""
    return Order(number=number, status="sent")


@server.tool()
def cancel_order(number: int, reason: str = "") -> str:
    """Cancels an order."""
    if number == 0:
        raise ValueError("There is no such order.")
    return f"Order {number} is cancelled."


@server.tool()
async def wait(seconds: float) -> str:
    """Takes its time."""
    await asyncio.sleep(seconds)
    return "at last"


@server.tool()
def show_headers(context: Context) -> dict[str, str]:
    """What it was asked with."""
    request = context.request_context.request
    return dict(request.headers) if request is not None else {}


@server.tool()
def talk(characters: int) -> str:
    """Says a lot."""
    return "x" * characters


@server.tool()
def grow() -> str:
    """Adds a tool."""
    server.add_tool(lambda: "new", name="new_tool", description="Was not there before.")
    return "grown"


if __name__ == "__main__":
    uvicorn.run(
        server.streamable_http_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="error",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
