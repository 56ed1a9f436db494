"""A conversation as Anthropic and Bedrock want it: the system apart, user and assistant in turn, the user first and
last, and a tool's answers in one turn right behind its calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agents.llm.adapter import UNSEEN
from agents.llm.types import Image, Message, Request, ToolCall

OPENING = "[The conversation begins.]"
CONTINUING = "[The other side says nothing.]"


@dataclass(frozen=True, slots=True)
class ToolResult:
    call_id: str
    text: str


Part = str | Image | ToolCall | ToolResult
"""A ``str`` is text that is not blank."""


@dataclass(frozen=True, slots=True)
class Turn:
    role: Literal["user", "assistant"]
    parts: list[Part]


def system_of(request: Request) -> str:
    return "\n\n".join(
        message.text for message in request.messages if message.role == "system" and message.text.strip()
    )


def turns_of(request: Request, *, sees: bool) -> list[Turn]:
    """Never empty. A model that sees nothing is told of images in words."""
    turns: list[Turn] = []
    for message in request.messages:
        parts = _parts(message, sees)
        if message.role == "system" or not parts:
            continue
        role: Literal["user", "assistant"] = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1].role == role:
            turns[-1].parts.extend(parts)
        else:
            turns.append(Turn(role, parts))
    if not turns or turns[0].role != "user":
        turns.insert(0, Turn("user", [OPENING]))
    if turns[-1].role != "user":
        turns.append(Turn("user", [CONTINUING]))
    for turn in turns:
        turn.parts.sort(key=lambda part: not isinstance(part, ToolResult))  # results come first in their turn
    return turns


def tools_of(request: Request) -> Sequence[dict[str, Any]]:
    """What may be called; and what was called earlier, for these APIs refuse a conversation with calls of tools that
    they were not told of."""
    called = dict.fromkeys(call.name for message in request.messages for call in message.tool_calls)
    known = {tool["name"] for tool in request.tools}
    forgotten = [{"name": name} for name in called if name not in known]
    return [*request.tools, *forgotten]


def schema_of(tool: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", **(tool.get("parameters") or {"properties": {}})}


def _parts(message: Message, sees: bool) -> list[Part]:
    if message.role == "tool":
        return [ToolResult(message.tool_call_id or "", message.text)]
    parts: list[Part] = [message.text] if message.text.strip() else []
    parts += message.images if sees else [UNSEEN] * len(message.images)
    return [*parts, *message.tool_calls]
