"""From an agent and a conversation to what a language model is asked."""

from typing import Any

from agents.llm.types import Message, Request
from agents.spec import AgentSpec


def build_request(
    agent: AgentSpec,
    *,
    instructions: str,
    messages: tuple[Message, ...],
    functions: tuple[dict[str, Any], ...],
    tool_choice: str,
    max_output_tokens: int | str,
    parallel_tool_calls: bool | None = None,
    reasoning: dict[str, Any] | None = None,
) -> Request:
    """``instructions`` with a stored prompt's words in their place, and variables filled in; ``functions`` of client
    and server, ``tool_choice`` as ``Request`` has it; ``reasoning`` as the session shows it; ``max_output_tokens`` an
    integer or "inf"."""
    system = (Message("system", instructions),) if instructions else ()
    return Request(
        messages=system + messages,
        models=agent.models,
        temperature=agent.temperature,
        max_tokens=max_output_tokens if isinstance(max_output_tokens, int) else None,
        tools=functions,
        tool_choice=tool_choice,
        parallel_tool_calls=parallel_tool_calls,
        reasoning_effort=(reasoning or {}).get("effort"),
    )
