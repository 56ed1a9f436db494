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
    parallel_tool_calls: bool | None = None,
    reasoning: dict[str, Any] | None = None,
) -> Request:
    """``tools``, ``tool_choice``, ``reasoning`` as the session shows them; ``max_output_tokens`` an integer or "inf".

    A stored prompt (the session's ``prompt``) belongs here, in the place of ``instructions`` and with its variables
    filled in; until agents have versions there is none that an id could name.
    """
    system = (Message("system", instructions),) if instructions else ()
    return Request(
        messages=system + messages,
        models=agent.models,
        temperature=agent.temperature,
        max_tokens=max_output_tokens if isinstance(max_output_tokens, int) else None,
        tools=tuple(tool for tool in tools if tool.get("type") == "function"),
        tool_choice=_chosen(tool_choice),
        parallel_tool_calls=parallel_tool_calls,
        reasoning_effort=(reasoning or {}).get("effort"),
    )


def _chosen(tool_choice: str | dict[str, Any]) -> str:
    """A word or a function's name. A server of type mcp cannot be chosen: its tools are not called yet."""
    if isinstance(tool_choice, str):
        return tool_choice
    return str(tool_choice["name"]) if tool_choice["type"] == "function" else "auto"
