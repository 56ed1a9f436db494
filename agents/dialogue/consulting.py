"""Asking a colleague: another agent thinks about a question, with its own instructions, models and tools, and answers
in text. The caller does not hear it; whoever asked says the answer.

A colleague who is consulted consults nobody, hands nothing over and does nothing to the call: it has what looks things
up (HTTP, MCP and Python tools, the time). Nobody can agree to a tool that needs approval, so those are not offered.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from agents.llm.degraded import NAME as DEGRADED
from agents.llm.types import Finished, LanguageModel, LlmError, Message, Request, TextDelta, ToolCall, ToolCallDelta
from agents.spec import AgentSpec
from agents.tools.types import Receipt, Toolbox, ToolContext, ToolError, ToolSpec, ToolsUnavailable

TIMEOUT_S = 20.0
HISTORY_CHARACTERS = 8_000
"""Of the call so far, its end."""
CALLS_PER_ROUND = 8
ANSWER_TOKENS = 1_024
ALLOWED_BUILTINS = ("current_time",)
FRAME = """{instructions}

A colleague of yours is on a call and asks you a question. You do not speak with the caller: your colleague reads your \
answer and says it in their own words. Answer in a few short sentences with every fact that matters. What you do not \
know, say so."""
SPEAKERS = {"user": "Caller", "assistant": "Agent"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Advice:
    """What came of it. ``text`` is for the model that asked, and says what went wrong where there is an ``error``;
    ``receipts`` are those of the tools that were used, ``used`` the end of each answer of a language model."""

    text: str
    error: ToolError | None = None
    receipts: tuple[Receipt, ...] = ()
    used: tuple[Finished, ...] = ()


@dataclass
class _Answer:
    text: str = ""
    calls: dict[int, ToolCall] = field(default_factory=dict)
    finished: Finished | None = None


async def consult(
    spec: AgentSpec,
    question: str,
    *,
    model: LanguageModel,
    toolbox: Toolbox,
    context: ToolContext,
    history: Sequence[Message] = (),
    timeout_s: float = TIMEOUT_S,
) -> Advice:
    """What the agent ``spec`` answers to the question of a colleague, whose call ``context`` and ``history`` are of.

    At most ``spec.limits.tool_rounds`` rounds of tools. Whatever goes wrong is in the answer; only cancelling raises.
    """
    receipts: list[Receipt] = []
    used: list[Finished] = []
    own = replace(context, agent=spec.slug, agent_version=spec.version)
    try:
        async with asyncio.timeout(timeout_s):
            text = await _think(spec, _ask(question, history), model, toolbox, own, receipts, used)
    except TimeoutError:
        return _failed(f"{spec.name} did not answer within {timeout_s:g} s.", receipts, used)
    except LlmError as error:
        return _failed(f"{spec.name} could not answer: {error.message}", receipts, used)
    if not text:
        return _failed(f"{spec.name} had no answer.", receipts, used)
    return Advice(text, None, tuple(receipts), tuple(used))


async def _think(
    spec: AgentSpec,
    asked: str,
    model: LanguageModel,
    toolbox: Toolbox,
    context: ToolContext,
    receipts: list[Receipt],
    used: list[Finished],
) -> str:
    """Raises LlmError."""
    tools = await _tools(spec, toolbox, context)
    messages: tuple[Message, ...] = (
        Message("system", FRAME.format(instructions=spec.instructions).strip()),
        Message("user", asked),
    )
    rounds = spec.limits.tool_rounds if tools else 0
    for left in range(rounds, -1, -1):
        request = Request(
            messages=messages,
            models=spec.models,
            temperature=spec.temperature,
            max_tokens=ANSWER_TOKENS,
            tools=tuple(tool.function() for tool in tools.values()),
            tool_choice="auto" if left else "none",
        )
        answer = await _stream(model, request)
        if answer.finished is not None:
            used.append(answer.finished)
        calls = tuple(answer.calls.values())
        if not calls or not left:
            return answer.text.strip()
        outputs = await asyncio.gather(
            *(_run(call, place, tools, toolbox, context, receipts) for place, call in enumerate(calls))
        )
        messages += (
            Message("assistant", answer.text, tool_calls=calls),
            *(Message("tool", output, tool_call_id=call.call_id) for call, output in zip(calls, outputs, strict=True)),
        )
    raise AssertionError("the last round offers no tools")


async def _run(
    call: ToolCall,
    place: int,
    tools: dict[str, ToolSpec],
    toolbox: Toolbox,
    context: ToolContext,
    receipts: list[Receipt],
) -> str:
    """What the model reads of one call."""
    if call.name not in tools:
        return f"Error: there is no tool {call.name!r}."
    if place >= CALLS_PER_ROUND:
        return f"Error: at most {CALLS_PER_ROUND} tools at once. Call it again if it is still needed."
    answer = await toolbox.run(tools[call.name], call.arguments, context)
    receipts.append(answer.receipt)
    return f"Error: {answer.error.message}" if answer.error else answer.output


async def _tools(spec: AgentSpec, toolbox: Toolbox, context: ToolContext) -> dict[str, ToolSpec]:
    """By name; of two with the same name the first. An MCP server that does not answer leaves the others."""
    found = [tool for tool in spec.tools if tool.kind in ("http", "mcp", "python") or _is_allowed(tool)]
    lists = await asyncio.gather(
        *(toolbox.list_tools(server, tenant=context.tenant) for server in spec.mcp_servers), return_exceptions=True
    )
    for listed in lists:
        if isinstance(listed, ToolsUnavailable):
            log.warning("tools of an MCP server are missing from a consultation: %s", listed.error.type)
        elif isinstance(listed, BaseException):
            raise listed
        else:
            found += listed
    usable: dict[str, ToolSpec] = {}
    for tool in found:
        if not tool.needs_approval:
            usable.setdefault(tool.name, tool)
    return usable


def _is_allowed(tool: ToolSpec) -> bool:
    return tool.kind == "builtin" and tool.name in ALLOWED_BUILTINS


async def _stream(model: LanguageModel, request: Request) -> _Answer:
    answer = _Answer()
    async with aclosing(model.stream(request)) as deltas:
        async for delta in deltas:
            match delta:
                case TextDelta():
                    answer.text += delta.text
                case ToolCallDelta():
                    known = answer.calls.get(delta.index) or ToolCall(delta.call_id, delta.name, "")
                    answer.calls[delta.index] = replace(known, arguments=known.arguments + delta.arguments)
                case Finished(provider=provider) if provider == DEGRADED:
                    raise LlmError("llm_unavailable", "no language model answers at the moment.")
                case Finished():
                    answer.finished = delta
    return answer


def _ask(question: str, history: Iterable[Message]) -> str:
    lines = [f"{SPEAKERS[each.role]}: {each.text}" for each in history if each.role in SPEAKERS and each.text.strip()]
    if not lines:
        return question
    told = "\n".join(lines)[-HISTORY_CHARACTERS:]
    return f"The call so far:\n{told}\n\nYour colleague's question: {question}"


def _failed(message: str, receipts: Iterable[Receipt], used: Iterable[Finished]) -> Advice:
    error = ToolError("tool_execution_error", message)
    return Advice(message, error, tuple(receipts), tuple(used))
