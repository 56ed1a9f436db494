"""From an agent and a conversation to what a language model is asked."""

from typing import Any

from agents.llm.types import Message, Request
from agents.spec import AgentSpec


def build_request(
    agent: AgentSpec,
    *,
    instructions: str,
    messages: tuple[Message, ...],
    tools: list[dict[str, Any]],
    tool_choice: str | dict[str, Any],
    max_output_tokens: int | str,
) -> Request:
    """``tools`` and ``tool_choice`` as the session shows them; ``max_output_tokens`` an integer or "inf"."""
    system = (Message("system", instructions),) if instructions else ()
    return Request(
        messages=system + messages,
        model=agent.model,
        temperature=agent.temperature,
        max_tokens=max_output_tokens if isinstance(max_output_tokens, int) else None,
        tools=tuple(tool for tool in tools if tool.get("type") == "function"),
        tool_choice=_chosen(tool_choice),
    )


def _chosen(tool_choice: str | dict[str, Any]) -> str:
    """A word or a function's name. A server of type mcp cannot be chosen: its tools are not called yet."""
    if isinstance(tool_choice, str):
        return tool_choice
    return str(tool_choice["name"]) if tool_choice["type"] == "function" else "auto"
