"""What a published agent's references to tools are for a call, at its door."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection
from django.db.models import BinaryField, Value
from django.db.models.functions import Cast

from agents.toolbox.credentials import live_credential
from agents.toolbox.errors import ToolboxInvalid
from agents.toolbox.models import Credential, McpServer, Tool
from agents.tools import builtin
from agents.tools import types as live
from agents.tools.credentials import Credential as LiveCredential
from agents.tools.http import HttpToolInvalid, origin_of, read_http_tool
from agents.tools.mcp_wire import server_from_wire
from agents.tools.python import find_python_tool
from agents.tools.types import JsonObject, ToolSpec
from tenants.encryption.errors import EncryptionError

NARROWED = ("allowed_tools", "require_approval")
"""What an agent may say for itself of an MCP server."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What an agent's references are for a call: ``functions`` run at the client, the others here."""

    functions: tuple[JsonObject, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    mcp_servers: tuple[live.McpServer, ...] = ()


def resolve_tools(refs: Iterable[JsonObject], *, time_zone: str = "UTC") -> Resolved:
    """Frozen references as a call needs them, credentials inside; ``time_zone`` is the agent's. At most two queries.

    A call is better without a tool than not at all, and a model does not promise what it is not offered: what cannot be
    had any more (a credential that has gone, does not open or may not be sent there, a disabled tool, a Python tool
    that is not installed) is left out, and a warning in the log names it.
    """
    refs = list(refs)
    found = _Found(refs)
    functions: list[JsonObject] = []
    tools: list[ToolSpec] = []
    servers: list[live.McpServer] = []
    for ref in refs:
        name = ref["server"] if ref["type"] == "mcp" else ref["name"]
        try:
            match ref["type"]:
                case "function":
                    functions.append(_function(ref))
                case "mcp":
                    servers.append(found.server(ref))
                case "http":
                    tools.append(found.tool(ref))
                case "python":
                    tools.append(_python_tool(name))
                case _:
                    tools.append(builtin.make_tool(ref, time_zone=time_zone))
        except (_Gone, EncryptionError, HttpToolInvalid, ToolboxInvalid, builtin.BuiltinInvalid) as error:
            words = "a call begins without %s of type %s: %s"
            log.warning(words, name, ref["type"], error, extra={"tenant_id": connection.schema_name})
    return Resolved(tuple(functions), tuple(tools), tuple(servers))


def live_tool(name: str, definition: Mapping[str, Any], credential: LiveCredential | None) -> ToolSpec:
    return ToolSpec(
        name=name,
        description=definition["description"],
        parameters=definition["parameters"],
        kind="http",
        server_label="http",
        config=read_http_tool(definition["request"], definition["response"], credential=credential),
        integration=definition["integration"],
        timeout_s=definition["timeout_ms"] / 1_000,
        calls_per_minute=definition["calls_per_minute"],
    )


def live_server(
    label: str, definition: Mapping[str, Any], headers: Mapping[str, str], credential: LiveCredential | None
) -> live.McpServer:
    written = {
        "server_label": label,
        "server_url": definition["url"],
        "headers": headers,
        "allowed_tools": definition["allowed_tools"],
        "require_approval": definition["require_approval"],
    }
    return replace(
        server_from_wire(written, by_client=False),
        timeout_s=definition["timeout_ms"] / 1_000,
        calls_per_minute=definition["calls_per_minute"],
        credential=credential,
    )


class _Found:
    """What of an agent's references lies in the tenant's tables now."""

    def __init__(self, refs: Sequence[JsonObject]) -> None:
        wanted = {name for ref in refs if (name := (ref.get("definition") or {}).get("credential"))}
        self._credentials = {row.name: row for row in Credential.objects.filter(name__in=wanted)} if wanted else {}
        tools, labels = names_of(refs, "http", "name"), names_of(refs, "mcp", "server")
        rows: Iterable[Any] = ()
        if tools or labels:
            # One query for both: what is switched off, and the headers that only this row has.
            off = Tool.objects.filter(name__in=tools, is_enabled=False)
            on = McpServer.objects.filter(label__in=labels, is_enabled=True)
            rows = on.values_list(Value("server"), "label", "url", "headers").union(
                off.values_list(Value("off"), "name", Value(""), Cast(Value(None), BinaryField())), all=True
            )
        self._rows = {(kind, name): (url, headers) for kind, name, url, headers in rows}

    def tool(self, ref: JsonObject) -> ToolSpec:
        """Raises _Gone."""
        name, definition = ref["name"], _definition(ref)
        if ("off", name) in self._rows:
            raise _Gone("it is disabled")
        return live_tool(name, definition, self._credential(definition["credential"], definition["request"]["url"]))

    def server(self, ref: JsonObject) -> live.McpServer:
        """Raises _Gone."""
        label = ref["server"]
        definition = _definition(ref) | {part: ref[part] for part in NARROWED if part in ref}
        if ("server", label) not in self._rows:
            raise _Gone("it is disabled or deleted")
        url, sealed = self._rows["server", label]
        if origin_of(url) != origin_of(definition["url"]):
            # Its headers are for where it is now.
            raise _Gone("it has moved to another host since the agent was published")
        headers = McpServer(label=label, headers=sealed).headers
        return live_server(label, definition, headers, self._credential(definition["credential"], definition["url"]))

    def _credential(self, name: str | None, url: str) -> LiveCredential | None:
        """Raises _Gone, ToolboxInvalid and EncryptionError."""
        if name is None:
            return None
        row = self._credentials.get(name)
        if row is None:
            raise _Gone(f"its credential {name!r} is not there any more")
        return live_credential(row, url)


class _Gone(Exception):
    """Why a call has to do without."""


def _definition(ref: JsonObject) -> JsonObject:
    definition = ref.get("definition")
    if not isinstance(definition, dict):
        raise _Gone("it could not be published as it is")  # of a draft that is tried out
    return definition


def _python_tool(name: str) -> ToolSpec:
    found = find_python_tool(name)
    if found is None:
        raise _Gone("it is not installed")
    return found


def names_of(refs: Iterable[JsonObject], kind: str, key: str) -> list[str]:
    """What references of one type name."""
    return [name for ref in refs if ref.get("type") == kind and isinstance(name := ref.get(key), str)]


def _function(ref: JsonObject) -> JsonObject:
    return {
        "type": "function",
        "name": ref["name"],
        "description": ref.get("description", ""),
        "parameters": ref.get("parameters") or {"type": "object", "properties": {}},
    }
