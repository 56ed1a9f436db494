"""What a tool is that the server runs for an agent, whatever kind it is: as a model sees it, as a call runs it, and the
receipt of each call."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

JsonObject = dict[str, Any]
Kind = Literal["http", "mcp", "python", "builtin", "consult"]
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """``name`` is what a model calls, unique among an agent's tools; ``parameters`` is a JSON Schema of type object;
    ``server_label`` is what a client is shown as the place where it runs (an MCP server's label, else the kind).

    ``config`` is what the kind's runner needs: ``agents.tools.http.HttpTool``, an ``McpServer``, a built-in's settings,
    the slug of a colleague to consult. ``integration`` names what a breaker and a rate limit are kept for: all tools of
    one integration share them. ``needs_approval``: a client must agree before each call.
    """

    name: str
    description: str
    parameters: JsonObject
    kind: Kind
    server_label: str
    config: Any = field(default=None, repr=False)
    integration: str = ""
    timeout_s: float = TIMEOUT_S
    calls_per_minute: int | None = None
    needs_approval: bool = False

    def function(self) -> JsonObject:
        """As a language model is offered it."""
        return {
            "type": "function", "name": self.name, "description": self.description, "parameters": self.parameters,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class McpFilter:
    """Tools of an MCP server by name, by what it says of them (``read_only``), or both; nothing matches none, and
    ``everything`` all."""

    names: frozenset[str] = frozenset()
    read_only: bool | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class McpServer:
    """A remote MCP server over streamable HTTP. ``headers`` as pairs; ``allowed`` None allows all its tools.

    ``always`` and ``never`` are what OpenAI's ``require_approval`` says; a tool that neither matches needs approval,
    as there. ``by_client``: whoever opened the session named it, so it is asked with nothing of the tenant's.
    ``credential`` (``agents.tools.credentials``, or None) goes on each request by ``Tokens.auth``.
    """

    label: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    allowed: McpFilter | None = None
    always: McpFilter | None = None
    never: McpFilter | None = None
    by_client: bool = False
    timeout_s: float = TIMEOUT_S
    calls_per_minute: int | None = None
    credential: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ToolError:
    """Why a call has no output, in OpenAI's terms. ``protocol_error`` and ``http_error`` carry a ``code`` (JSON-RPC's,
    HTTP's); ``message`` is shown to the client and to the model, and holds no secret."""

    type: Literal["protocol_error", "tool_execution_error", "http_error"]
    message: str
    code: int | None = None

    def wire(self) -> JsonObject:
        shown: JsonObject = {"type": self.type, "message": self.message}
        if self.type != "tool_execution_error":
            shown["code"] = self.code or 0
        return shown


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What one tool call did, for the transcript: what the model asked, what was sent and answered (cut to
    ``RECEIPT_CHARACTERS``, without credentials), how long it took, and by whom. ``began_at`` is Unix time in seconds.
    """

    tool: str
    kind: str
    integration: str = ""
    asked: str = ""
    sent: JsonObject = {}
    answered: JsonObject = {}
    outcome: Literal["completed", "failed", "timeout", "refused", "cancelled"] = "completed"
    began_at: float = 0.0
    took_ms: float = 0.0
    agent: str = ""
    agent_version: int = 0


RECEIPT_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """``output`` is what the model reads, when there is no ``error``."""

    output: str
    receipt: Receipt
    error: ToolError | None = None


@dataclass(frozen=True, slots=True)
class ToolContext:
    """For whom a tool runs. ``values`` are the call's variables (``caller.name``); ``memory`` lives as long as the call
    and is the tools' own."""

    tenant: str
    session_id: str
    call_id: str
    agent: str
    agent_version: int
    channel: str = ""
    end_user: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)


class ToolsUnavailable(Exception):
    """An MCP server's tools cannot be listed. ``error`` says why."""

    def __init__(self, error: ToolError) -> None:
        super().__init__(error.message)
        self.error = error


class Toolbox(Protocol):
    """Runs tools of every kind. Nothing blocks the event loop."""

    async def list_tools(self, server: McpServer, *, tenant: str) -> tuple[ToolSpec, ...]:
        """What the server offers and its ``allowed`` lets through. Raises ToolsUnavailable."""
        ...

    async def run(self, tool: ToolSpec, arguments: str, context: ToolContext) -> ToolAnswer:
        """``arguments`` is the model's JSON text, checked here against ``parameters``. Whatever goes wrong is in the
        answer; only cancelling raises."""
        ...
