"""What a call does besides hearing and speaking: tools, colleagues, and who answers.

Each gives the result that the session waits for, whatever goes wrong; only cancelling raises.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import msgspec

from agents.dialogue.consulting import consult
from agents.dialogue.overheard import Overheard
from agents.llm.types import Finished, Message
from agents.spec import AgentSpec, Rule
from agents.tools.arguments import ArgumentsInvalid, read_arguments
from agents.tools.builtin import transfer_target
from agents.tools.types import (
    RECEIPT_CHARACTERS,
    Receipt,
    ToolAnswer,
    ToolContext,
    ToolError,
    ToolSpec,
    ToolsUnavailable,
)
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.runtime.call_log import CallRecord
from realtime.runtime.ports import AgentUnavailable, Line, LineRefused, Ports, Transport

GRACE_S = 1.0
"""What an integration may take beyond its own limit before the call goes on without it."""
TRANSFER = "transfer_call"
CONSULTED_RECEIPTS = 16
"""Of the tools that a colleague used for one question, in the receipt of that question."""
BROKEN = ToolError("tool_execution_error", "The tool failed.")


@dataclass
class Actions:
    """Those of one call. ``note_fault(where, error)`` counts what should not happen; ``spend(source, finished)`` is
    told what a colleague's model used; ``history`` is what was said lately; ``memory`` is the tools' own."""

    ports: Ports
    transport: Transport
    record: CallRecord
    session_id: str
    rules: tuple[Rule, ...]
    note_fault: Callable[[str, Exception], None]
    spend: Callable[[str, Finished], None]
    history: Callable[[], Sequence[Message]]
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """Whom an A/B trial keeps to one version."""
        return self.record.end_user or self.session_id

    async def run_tool(self, wanted: do.RunTool, agent: AgentSpec) -> ev.ToolAnswered:
        began_at, began = time.time(), time.monotonic()
        try:
            async with asyncio.timeout(wanted.tool.timeout_s + GRACE_S):
                answer = await self._run(wanted, agent)
        except TimeoutError:
            error = ToolError("tool_execution_error", f"No answer within {wanted.tool.timeout_s:g} s.")
        except Exception as fault:
            self.note_fault("tool", fault)
            error = BROKEN
        else:
            return ev.ToolAnswered(run_id=wanted.run_id, answer=answer)
        outcome = "failed" if error is BROKEN else "timeout"
        receipt = self._receipt(wanted, agent, began_at, began, {"error": error.message}, outcome)
        return ev.ToolAnswered(run_id=wanted.run_id, answer=ToolAnswer("", receipt, error))

    async def _run(self, wanted: do.RunTool, agent: AgentSpec) -> ToolAnswer:
        """Raises TimeoutError and whatever a broken part does."""
        if wanted.tool.kind == "consult":
            return await self._consult(wanted, agent)
        if wanted.tool.kind == "builtin" and wanted.tool.name in self.transport.abilities:
            assert isinstance(self.transport, Line)  # noqa: S101 - the rule of transports with abilities
            return await self._use_line(wanted, agent, self.transport)
        return await self.ports.tools.run(wanted.tool, wanted.arguments, self._context(wanted, agent))

    async def _consult(self, wanted: do.RunTool, agent: AgentSpec) -> ToolAnswer:
        """What a colleague thinks of the question; its model's tokens and its tools count for this call."""
        tool, began_at, began = wanted.tool, time.time(), time.monotonic()
        text, error = "", None
        receipts: tuple[Receipt, ...] = ()
        try:
            question = read_question(wanted.arguments)
            colleague = await self.ports.directory.load(
                self.record.tenant, str(tool.config), self.record.values, subject=self.subject
            )
        except (ValueError, AgentUnavailable) as refusal:
            error = ToolError("tool_execution_error", str(refusal))
        else:
            numbers = count(1)
            # Told at once: who is interrupted while a colleague thinks has used what was thought so far.
            model = Overheard(self.ports.model, lambda used: self.spend(f"{wanted.run_id}/{next(numbers)}", used))
            advice = await consult(
                colleague,
                question,
                model=model,
                toolbox=self.ports.tools,
                context=self._context(wanted, agent),
                history=self.history(),
                timeout_s=tool.timeout_s,
            )
            text, error, receipts = advice.text, advice.error, advice.receipts
        answered = {"text": text[:RECEIPT_CHARACTERS]} if error is None else {"error": error.message}
        receipt = self._receipt(wanted, agent, began_at, began, answered, "completed" if error is None else "failed")
        if receipts:
            receipt.answered["tools"] = [msgspec.to_builtins(each) for each in receipts[:CONSULTED_RECEIPTS]]
        return ToolAnswer("" if error else text, receipt, error)

    async def _use_line(self, wanted: do.RunTool, agent: AgentSpec, line: Line) -> ToolAnswer:
        """What only the call's own transport can do."""
        began_at, began = time.time(), time.monotonic()
        sent: ev.JsonObject = {}
        try:
            arguments = await read_arguments(wanted.arguments, wanted.tool.parameters)
            if wanted.tool.name == TRANSFER:
                sent["destination"] = transfer_target(wanted.tool, arguments)
                await line.transfer(sent["destination"])
            else:
                sent["digits"] = arguments["digits"]
                await line.send_dtmf(sent["digits"])
        except (ArgumentsInvalid, LineRefused) as refusal:
            error = ToolError("tool_execution_error", str(refusal))
            outcome = "refused" if isinstance(refusal, ArgumentsInvalid) else "failed"
            receipt = self._receipt(wanted, agent, began_at, began, {"error": error.message}, outcome, sent)
            return ToolAnswer("", receipt, error)
        answered = {"status": "done"}
        receipt = self._receipt(wanted, agent, began_at, began, answered, "completed", sent)
        return ToolAnswer(msgspec.json.encode(answered).decode(), receipt)

    def _receipt(
        self,
        wanted: do.RunTool,
        agent: AgentSpec,
        began_at: float,
        began: float,
        answered: ev.JsonObject,
        outcome: Any,
        sent: ev.JsonObject | None = None,
    ) -> Receipt:
        return Receipt(
            tool=wanted.tool.name,
            kind=wanted.tool.kind,
            integration=wanted.tool.integration,
            asked=wanted.arguments[:RECEIPT_CHARACTERS],
            sent=sent or {},
            answered=answered,
            outcome=outcome,
            began_at=began_at,
            took_ms=round((time.monotonic() - began) * 1000, 1),
            agent=agent.slug,
            agent_version=agent.version,
        )

    def _context(self, wanted: do.RunTool, agent: AgentSpec) -> ToolContext:
        return ToolContext(
            tenant=self.record.tenant,
            session_id=self.session_id,
            call_id=wanted.run_id,
            agent=agent.slug,
            agent_version=agent.version,
            channel=self.record.channel,
            end_user=self.record.end_user,
            values=agent.values,
            memory=self.memory,
        )

    async def list_tools(self, wanted: do.ListTools) -> ev.ToolsListed | ev.ToolsNotListed:
        server = wanted.server
        tools: tuple[ToolSpec, ...]
        try:
            async with asyncio.timeout(server.timeout_s + GRACE_S):
                tools = await self.ports.tools.list_tools(server, tenant=self.record.tenant)
        except ToolsUnavailable as unavailable:
            error = unavailable.error
        except TimeoutError:
            error = ToolError("tool_execution_error", f"No answer within {server.timeout_s:g} s.")
        except Exception as fault:
            self.note_fault("list_tools", fault)
            error = BROKEN
        else:
            return ev.ToolsListed(list_id=wanted.list_id, tools=tools)
        return ev.ToolsNotListed(list_id=wanted.list_id, error=error)

    async def hand_off(self, wanted: do.HandOff) -> ev.HandedOff | ev.HandOffFailed:
        try:
            taking_over = await self.ports.directory.load(
                self.record.tenant, wanted.agent, self.record.values, subject=self.subject
            )
        except AgentUnavailable as unavailable:
            return ev.HandOffFailed(run_id=wanted.run_id, message=str(unavailable))
        except Exception as fault:
            self.note_fault("hand_off", fault)
            return ev.HandOffFailed(run_id=wanted.run_id, message="The colleague cannot be reached.")
        return ev.HandedOff(run_id=wanted.run_id, agent=taking_over)

    async def route(self, wanted: do.Route, agent: AgentSpec) -> ev.Routed:
        try:
            chosen = await self.ports.directory.route(
                self.record.tenant,
                self.rules,
                wanted.text,
                wanted.language,
                agent,
                self.record.values,
                subject=self.subject,
                spend=partial(self.spend, "route"),
            )
        except Exception as fault:
            self.note_fault("route", fault)
            chosen = None
        return ev.Routed(agent=chosen)


def read_question(arguments: str) -> str:
    """From the model's JSON text. Raises ValueError."""
    try:
        question = msgspec.json.decode(arguments, type=dict[str, Any]).get("question")
    except msgspec.MsgspecError as error:
        raise ValueError("The arguments are no JSON object with a question.") from error
    if not isinstance(question, str) or not question.strip():
        raise ValueError('A question is missing: give it as {"question": "…"}.')
    return question
