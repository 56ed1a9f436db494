"""Items as text, and text as PostgreSQL can hold it."""

from typing import Any


def plain_text(item: dict[str, Any]) -> str:
    """What was said or written in an item, for reading and search; a tool's output counts as written."""
    match item.get("type"):
        case "mcp_call":
            return _call(item)
        case "mcp_list_tools":
            return _offer(item)
        case "mcp_approval_request":
            return f"May {_tool(item)} be called?"
        case "mcp_approval_response":
            reason = item.get("reason")
            words = "yes" if item.get("approve") is True else "no"
            return f"{words}: {reason}" if isinstance(reason, str) and reason else words
    if isinstance(output := item.get("output"), str):
        return output
    content = item.get("content")
    parts = content if isinstance(content, list) else []
    words = [part.get("transcript") or part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(word for word in words if isinstance(word, str) and word)


def _call(item: dict[str, Any]) -> str:
    if fault := _fault(item):
        return f"{_tool(item)} failed: {fault}"
    output = item.get("output")
    return f"{_tool(item)}: {output}" if isinstance(output, str) else _tool(item)


def _offer(item: dict[str, Any]) -> str:
    server = str(item.get("server_label") or "")
    if fault := _fault(item):
        return f"{server} does not say what it offers: {fault}"
    tools = item.get("tools")
    names = [str(tool.get("name") or "") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return f"{server} offers {', '.join(names) or 'nothing'}"


def _tool(item: dict[str, Any]) -> str:
    return f"{item.get('name') or ''} ({item.get('server_label') or ''})"


def _fault(item: dict[str, Any]) -> str:
    error = item.get("error")
    if not error:
        return ""
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or "no reason was given")


def clean(value: Any) -> Any:
    """The value without NUL characters, which JSON may hold and PostgreSQL's text may not."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {clean(name): clean(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [clean(entry) for entry in value]
    return value
