"""An MCP server as clients and agents write it: OpenAI's tool of type ``mcp``."""

from typing import Any

from agents.tools.types import TIMEOUT_S, JsonObject, McpFilter, McpServer

EVERYTHING = McpFilter(everything=True)


def server_from_wire(tool: JsonObject, *, by_client: bool = True) -> McpServer:
    """``tool`` has OpenAI's shape already, with ``server_label`` and ``server_url``. An ``authorization`` is a bearer
    token, and goes before a header of the same name."""
    headers = {str(name): str(value) for name, value in (tool.get("headers") or {}).items()}
    if tool.get("authorization"):
        headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        headers["Authorization"] = f"Bearer {tool['authorization']}"
    always, never = approval_from_wire(tool.get("require_approval"))
    return McpServer(
        label=tool["server_label"],
        url=tool["server_url"],
        headers=tuple(headers.items()),
        allowed=allowed_from_wire(tool.get("allowed_tools")),
        always=always,
        never=never,
        by_client=by_client,
        timeout_s=TIMEOUT_S,
    )


def allowed_from_wire(written: Any) -> McpFilter | None:
    """``allowed_tools``: a list of names or a filter; None is every tool."""
    return None if written is None else _read_filter(written)


def approval_from_wire(written: Any) -> tuple[McpFilter | None, McpFilter | None]:
    """``require_approval`` as (always, never): a word, or a filter for either; None is always."""
    if written is None or written == "always":
        return EVERYTHING, None
    if written == "never":
        return None, EVERYTHING
    always, never = written.get("always"), written.get("never")
    return _read_filter(always) if always else None, _read_filter(never) if never else None


def _read_filter(written: Any) -> McpFilter:
    if isinstance(written, list):
        return McpFilter(frozenset(map(str, written)))
    return McpFilter(frozenset(map(str, written.get("tool_names") or ())), written.get("read_only"))


def matches(chosen: McpFilter | None, name: str, read_only: bool) -> bool:
    if chosen is None:
        return False
    if chosen.everything:
        return True
    if not chosen.names and chosen.read_only is None:
        return False
    return (not chosen.names or name in chosen.names) and chosen.read_only in (None, read_only)


def needs_approval(server: McpServer, name: str, read_only: bool) -> bool:
    """What both match needs it: the stricter wins."""
    return matches(server.always, name, read_only) or not matches(server.never, name, read_only)
