"""What the model of one response may call: the client's functions and the server's tools, each under a name of its own.

A client's functions keep their names, since a client asks for them by name; of the others one whose name is taken, or
is none that every provider allows, gets another.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agents.spec import Colleague
from agents.tools.types import ToolSpec
from realtime.protocol.events import JsonObject

NAME_CHARACTERS = 64
MOST = 128
"""Tools that a model is offered at once, as OpenAI has it; those of MCP servers come last."""
NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
END_CALL = "end_call"
LINE_TOOLS = ("transfer_call", "send_dtmf")
"""Built-in tools that only some transports can do; elsewhere the client does them."""
CONSULT_TIMEOUT_S = 20.0
HAND_OFF_LABEL = "hand_off"
CONSULT_LABEL = "consult"


@dataclass(frozen=True, slots=True)
class Toolset:
    """``functions`` as a model is offered them; ``server`` maps a name that it calls to what runs then, ``client`` are
    the names that a client answers."""

    functions: tuple[JsonObject, ...] = ()
    server: Mapping[str, ToolSpec] = field(default_factory=dict)
    client: frozenset[str] = frozenset()

    def choose(self, choice: str | JsonObject) -> tuple[str, tuple[JsonObject, ...]]:
        """``choice`` as clients write it, as a request says it, with the functions that are offered then. What is not
        there cannot be chosen: then the model does as it likes."""
        if isinstance(choice, str):
            return choice if self.functions or choice == "none" else "auto", self.functions
        if choice["type"] == "function":
            known = choice["name"] in self.client or choice["name"] in self.server
            return (choice["name"] if known else "auto"), self.functions
        label, name = choice["server_label"], choice.get("name")
        names = [
            called
            for called, tool in self.server.items()
            if tool.kind == "mcp" and tool.server_label == label and name in (None, tool.name)
        ]
        if not names:
            return "auto", self.functions
        if len(names) == 1:
            return names[0], self.functions
        return "required", tuple(each for each in self.functions if each["name"] in names)


def build(functions: Iterable[JsonObject], tools: Iterable[ToolSpec]) -> Toolset:
    """``functions`` are the client's."""
    offered = {str(function["name"]): function for function in functions}
    client = frozenset(offered)
    server: dict[str, ToolSpec] = {}
    for tool in tools:
        if len(offered) >= MOST:
            break
        name = _free_name(tool, offered)
        server[name] = tool
        offered[name] = {**tool.function(), "name": name}
    return Toolset(tuple(offered.values()), server, client)


def _free_name(tool: ToolSpec, taken: Mapping[str, object]) -> str:
    name = NOT_IN_NAMES.sub("_", tool.name)[:NAME_CHARACTERS] or "tool"
    if name not in taken:
        return name
    longer = f"{NOT_IN_NAMES.sub('_', tool.server_label)}_{name}"
    names = (longer[:NAME_CHARACTERS], *(f"{longer[: NAME_CHARACTERS - 4]}_{number}" for number in range(2, MOST + 2)))
    return next(name for name in names if name not in taken)


def acts_on_call(tool: ToolSpec) -> bool:
    """Those have no place beside the conversation."""
    return isinstance(tool.config, Colleague) or (tool.kind == "builtin" and tool.name in (END_CALL, *LINE_TOOLS))


def is_end_call(tool: ToolSpec) -> bool:
    return tool.kind == "builtin" and tool.name == END_CALL


def colleague_tools(colleagues: Sequence[Colleague]) -> list[ToolSpec]:
    """How an agent reaches the others."""
    tools = []
    for colleague in colleagues:
        when = f" {colleague.when.strip()}" if colleague.when.strip() else ""
        if colleague.mode == "consult":
            tools.append(
                ToolSpec(
                    name=f"consult_{colleague.agent}",
                    description=f"Ask the colleague {colleague.agent}, and then tell the caller.{when}",
                    parameters=_one_text("question", "All that the colleague must know to answer.", required=True),
                    kind="consult",
                    server_label=CONSULT_LABEL,
                    config=colleague.agent,
                    timeout_s=CONSULT_TIMEOUT_S,
                )
            )
        else:
            tools.append(
                ToolSpec(
                    name=f"hand_off_to_{colleague.agent}",
                    description=f"Hand the caller over to the colleague {colleague.agent}, who goes on with the "
                    f"call.{when}",
                    parameters=_one_text("reason", "Why, and what the colleague must know.", required=False),
                    kind="builtin",
                    server_label=HAND_OFF_LABEL,
                    config=colleague,
                )
            )
    return tools


def _one_text(name: str, description: str, *, required: bool) -> JsonObject:
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": description}},
        "required": [name] if required else [],
        "additionalProperties": False,
    }
