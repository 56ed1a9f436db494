"""Reading a tenant's tools: for its people, when an agent is published, and at the door of a call."""

from collections.abc import Collection, Sequence

from django.db.models import QuerySet

from agents.toolbox.errors import ToolboxInvalid, ToolsInvalid
from agents.toolbox.models import Credential, McpServer, Tool
from agents.toolbox.resolving import Resolved, names_of, resolve_tools
from agents.toolbox.shapes import check_approval, check_filter
from agents.tools import builtin
from agents.tools.http import variables_of
from agents.tools.python import list_python_tools
from agents.tools.types import JsonObject

__all__ = [
    "Resolved",
    "ToolboxUnknown",
    "define_server",
    "define_tool",
    "find_credential",
    "find_mcp_server",
    "find_tool",
    "freeze_tools",
    "list_credentials",
    "list_mcp_servers",
    "list_tools",
    "resolve_tools",
]


class ToolboxUnknown(Exception):
    """The tenant has none of this name."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def list_tools(*, name: str | None = None, integration: str | None = None) -> QuerySet[Tool]:
    """By name; ``name`` may be a part of it, in any case."""
    found = Tool.objects.select_related("credential")
    if name is not None:
        found = found.filter(name__icontains=name)
    return found if integration is None else found.filter(integration=integration)


def find_tool(name: str) -> Tool:
    """Raises ToolboxUnknown."""
    tool = Tool.objects.select_related("credential").filter(name=name).first()
    if tool is None:
        raise ToolboxUnknown(f"There is no tool {name[:64]!r}.")
    return tool


def list_mcp_servers() -> QuerySet[McpServer]:
    return McpServer.objects.select_related("credential")


def find_mcp_server(label: str) -> McpServer:
    """Raises ToolboxUnknown."""
    server = list_mcp_servers().filter(label=label).first()
    if server is None:
        raise ToolboxUnknown(f"There is no MCP server {label[:64]!r}.")
    return server


def list_credentials() -> QuerySet[Credential]:
    return Credential.objects.all()


def find_credential(name: str) -> Credential:
    """Raises ToolboxUnknown."""
    credential = Credential.objects.filter(name=name).first()
    if credential is None:
        raise ToolboxUnknown(f"There is no credential {name[:64]!r}.")
    return credential


def define_tool(tool: Tool) -> JsonObject:
    """What a published version keeps of a tool: nothing secret, its credential by name."""
    return {
        "description": tool.description,
        "parameters": tool.parameters,
        "request": tool.request,
        "response": tool.response,
        "timeout_ms": tool.timeout_ms,
        "integration": tool.integration or tool.name,
        "calls_per_minute": tool.calls_per_minute,
        "credential": tool.credential.name if tool.credential else None,
    }


def define_server(server: McpServer) -> JsonObject:
    """The same of an MCP server: its headers, which are secret, are read at each call's door."""
    return {
        "url": server.url,
        "allowed_tools": server.allowed_tools,
        "require_approval": server.require_approval,
        "timeout_ms": server.timeout_ms,
        "calls_per_minute": server.calls_per_minute,
        "credential": server.credential.name if server.credential else None,
    }


def freeze_tools(refs: Sequence[JsonObject], variables: Collection[str] | None = None) -> list[JsonObject]:
    """The references of an agent with what they mean now, to be kept by the version that is published: those to HTTP
    tools and MCP servers get a ``definition``. ``variables``: every name that the agent's calls have a value for; what
    the requests of its tools name must be among them.

    At most two queries. Raises ToolsInvalid, with all faults by their way (``tools[2].name``).
    """
    labels = names_of(refs, "mcp", "server")
    tools = {row.name: row for row in list_tools().filter(name__in=names_of(refs, "http", "name"))}
    servers = {row.label: row for row in list_mcp_servers().filter(label__in=labels)} if labels else {}
    frozen: list[JsonObject] = []
    faults: dict[str, str] = {}
    offered: set[tuple[str, str]] = set()
    for number, ref in enumerate(refs):
        path, kept = f"tools[{number}]", {part: value for part, value in ref.items() if part != "definition"}
        rows, key = (servers, "server") if ref.get("type") == "mcp" else (tools, "name")
        row = rows.get(ref[key]) if ref.get("type") in ("http", "mcp") and isinstance(ref.get(key), str) else None
        try:
            name = _check(ref, row, variables)
        except ToolsInvalid as error:
            faults |= {f"{path}.{param}" if param else path: message for param, message in error.errors.items()}
            continue
        if name in offered:
            param = "server" if ref["type"] == "mcp" else "name"
            faults[f"{path}.{param}"] = f"{name[1]!r} is there twice: a model could not tell them apart."
        offered.add(name)
        if row is not None:
            kept["definition"] = define_tool(row) if isinstance(row, Tool) else define_server(row)
        frozen.append(kept)
    if faults:
        raise ToolsInvalid(faults)
    return frozen


def _check(ref: JsonObject, row: Tool | McpServer | None, variables: Collection[str] | None) -> tuple[str, str]:
    """Under which name a model is offered it, and in which space of names. Raises ToolsInvalid."""
    kind = ref.get("type")
    param = "server" if kind == "mcp" else "name"
    name = ref.get(param)
    if not isinstance(name, str) or not name:
        raise ToolsInvalid({param: "This is needed."})
    if kind in ("http", "mcp"):
        if row is None:
            raise ToolsInvalid({param: f"There is no {'tool' if kind == 'http' else 'MCP server'} {name!r}."})
        if not row.is_enabled:
            raise ToolsInvalid({param: f"{name!r} is disabled."})
    match kind:
        case "mcp":
            _check_narrowing(ref)
            return "server", name
        case "http":
            unknown = sorted(variables_of(row.request) - set(variables)) if row and variables is not None else []
            if unknown:
                words = f"The request of {name!r} names {{{{{unknown[0]}}}}}, which is no variable of the agent."
                raise ToolsInvalid({param: words})
        case "python":
            known = [tool.name for tool in list_python_tools()]
            if name not in known:
                there = f"there are {', '.join(known)}" if known else "none is installed"
                raise ToolsInvalid({param: f"There is no Python tool {name!r}; {there}."})
        case "builtin":
            try:
                return "tool", builtin.make_tool(ref).name
            except builtin.BuiltinInvalid as error:
                raise ToolsInvalid({error.param or param: error.message}) from error
        case "function":
            pass
        case _:
            raise ToolsInvalid({"type": f"A tool is function, http, mcp, python or builtin; got {kind!r}."})
    return "tool", name


def _check_narrowing(ref: JsonObject) -> None:
    try:
        check_filter(ref.get("allowed_tools"))
        check_approval(ref.get("require_approval"))
    except ToolboxInvalid as error:
        raise ToolsInvalid(error.errors) from error
