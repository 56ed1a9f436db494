"""Tools that the server runs for an answer: rounds of calls, until the model asks for no more.

1. What a reply called begins when the reply is over, all of it at once. When all results are in, and nothing is being
   said, the same response goes on with the next reply.
2. A client's own functions, and requests for approval, end the response instead, once the server's results are in.
3. Whatever ends the response cancels what still runs for it; a late result changes nothing.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from agents.spec import AgentSpec, Colleague
from agents.tools.types import RECEIPT_CHARACTERS, Receipt, ToolError, ToolSpec
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Call
from realtime.protocol.item import Item
from realtime.protocol.response import INTERRUPTED, Response
from realtime.protocol.shapes import Invalid, shown
from realtime.protocol.teamwork import Team
from realtime.protocol.toolset import is_end_call

Outcome = Literal["completed", "failed", "refused", "cancelled"]
ENDED = "The call ends once you have said goodbye."
TOO_MANY_ROUNDS = {"type": "server_error", "code": "too_many_tool_rounds"}


class Replying(Protocol):
    def ask(self, response: Response) -> None: ...

    def say(self, response: Response, words: str) -> None: ...


class Answering(Protocol):
    def end(self, response: Response, status: str, details: ev.JsonObject | None = None) -> None: ...

    def go_on(self, awaited: str = "") -> Response | None: ...

    def settle(self, awaited: str) -> bool: ...


@dataclass
class Run:
    """A call of a tool under way. ``response`` is the one that it stands in, None for an approved one, whose response
    is over: ``output_index`` was its place there, and ``owner`` is the response that was begun for its result."""

    item: Item
    response: Response | None
    colleague: Colleague | None = None
    output_index: int = 0
    owner: str = ""


@dataclass
class Approval:
    """What a client was asked to agree to."""

    call: Item
    output_index: int


class ToolRounds:
    def __init__(self, call: Call, team: Team, replies: Replying, answering: Answering) -> None:
        self.call = call
        self.team = team
        self.replies = replies
        self.answering = answering
        self._runs: dict[str, Run] = {}
        self._approvals: dict[str, Approval] = {}
        self._bridges = 0

    # ---- a round ----

    def run(self, response: Response) -> None:
        """The reply that is over has called tools."""
        called = [item for item in response.calls.values() if item.type == "mcp_call"]
        if called:
            response.rounds += 1
        exhausted = response.rounds > self.call.agent.limits.tool_rounds
        for item in called:
            if exhausted:
                self._refuse(response, item, "No more tools may be called in this answer.")
            elif item.tool is None:
                self._refuse(response, item, f"There is no tool named {shown(item.called)!r}.")
            elif item.tool.needs_approval:
                self._ask_approval(response, item)
            else:
                self._begin(response, item, item.tool)
        if response.running:
            self._arm_bridge(response)
        self.advance(response)

    def _begin(self, response: Response, item: Item, tool: ToolSpec) -> None:
        if isinstance(tool.config, Colleague):
            self._hand_off(response, item, tool.config)
            return
        if is_end_call(tool):
            response.begin_call(item)
            item.output = ENDED
            response.farewell = True
            self._note(item, "completed")
            response.end_call(item)
            return
        self._start(response, Run(item, response))
        self.call.do(do.RunTool(item.id, tool, item.arguments))

    def _start(self, response: Response, run: Run) -> None:
        self._runs[run.item.id] = run
        response.running.add(run.item.id)
        response.begin_call(run.item)

    def _refuse(self, response: Response, item: Item, message: str) -> None:
        response.begin_call(item)
        item.error = ToolError("tool_execution_error", message).wire()
        self._note(item, "refused")
        response.end_call(item)

    def _note(self, item: Item, outcome: Outcome) -> None:
        """The receipt of a call that ended here: nobody who ran it has written one."""
        receipt = Receipt(
            tool=item.name,
            kind=item.server_label if item.tool is None else item.tool.kind,
            integration="" if item.tool is None else item.tool.integration,
            asked=item.arguments[:RECEIPT_CHARACTERS],
            answered={} if item.error is None else {"error": item.error["message"]},
            outcome=outcome,
            agent=self.call.agent.slug,
            agent_version=self.call.agent.version,
        )
        item.receipt = msgspec.to_builtins(receipt)

    def advance(self, response: Response) -> None:
        """On to what comes next, once all results are in and nothing is being said."""
        if response.replying or response.running:
            return
        limit = self.call.agent.limits.tool_rounds
        if response.farewell and not response.spoke and not response.leaving:
            response.leaving = True  # a model that ends a call without a word is asked for one
            self.replies.ask(response)
        elif response.farewell or response.successor is not None or response.asks_client:
            self.answering.end(response, "completed")
        elif response.rounds > limit:
            message = f"The model called tools in more than {limit} rounds."
            error = {**TOO_MANY_ROUNDS, "message": message}
            self.answering.end(response, "failed", {"type": "failed", "error": error})
        else:
            self.replies.ask(response)

    # ---- results ----

    def answered(self, result: ev.ToolAnswered) -> None:
        run = self._runs.pop(result.run_id, None)
        if run is None:
            return
        answer, item = result.answer, run.item
        item.receipt = msgspec.to_builtins(answer.receipt)
        if answer.error is not None:
            item.error = answer.error.wire()
        else:
            item.output = answer.output
        self._settle(run)

    def _settle(self, run: Run) -> None:
        """The item has its output or its error: the response that waits for it goes on."""
        if run.response is not None:
            run.response.end_call(run.item)
            self.advance(run.response)
            return
        self._end_approved(run)
        if not self.answering.settle(run.item.id):
            self.answering.go_on()

    def cancel(self, response: Response) -> None:
        """The response is over: nobody waits for what runs for it."""
        for run_id, run in list(self._runs.items()):
            if run.response is response or run.owner == response.id:
                del self._runs[run_id]
                self.call.do(do.CancelTool(run_id))
                run.item.error = INTERRUPTED.wire()
                self._note(run.item, "cancelled")
                if run.response is None:
                    self._end_approved(run)

    # ---- hand-offs ----

    def _hand_off(self, response: Response, item: Item, colleague: Colleague) -> None:
        if any(run.response is response and run.colleague is not None for run in self._runs.values()):
            self._refuse(response, item, "The call is being handed to somebody else already.")
        elif self.team.hand_offs >= self.call.limits.hand_offs:
            self._refuse(response, item, "The call has changed hands often enough. Answer the caller yourself.")
        else:
            self._start(response, Run(item, response, colleague))
            self.call.do(do.HandOff(item.id, colleague.agent))

    def handed_off(self, result: ev.HandedOff) -> None:
        run = self._runs.pop(result.run_id, None)
        if run is None or run.response is None or run.colleague is None:
            return
        run.item.output = f"{result.agent.name} goes on with the call."
        run.item.note = handover_note(self.call.agent, result.agent, run.item.arguments)
        run.response.successor = (run.colleague, result.agent)
        self._note(run.item, "completed")
        self._settle(run)

    def hand_off_failed(self, result: ev.HandOffFailed) -> None:
        run = self._runs.pop(result.run_id, None)
        if run is not None:
            run.item.error = ToolError("tool_execution_error", result.message).wire()
            self._note(run.item, "failed")
            self._settle(run)

    # ---- approvals ----

    def _ask_approval(self, response: Response, item: Item) -> None:
        request = response.ask_approval(item)
        self._approvals[request.id] = Approval(item, response.index_of(item))

    def check_approval(self, answer: Item) -> None:
        """Raises Invalid where ``answer`` is to nothing that was asked."""
        asked = answer.approval_request_id or ""
        request = self.call.conversation.get(asked)
        if asked not in self._approvals or request is None:
            raise Invalid(
                "invalid_approval_request_id",
                f"Approval request ID '{shown(asked)}' not found in conversation, or answered already.",
                "item.approval_request_id",
            )

    def approve(self, answer: Item) -> None:
        """The client has agreed, or has not. Either way the model is told, and goes on by itself."""
        asked = self._approvals.pop(answer.approval_request_id or "")
        item = asked.call
        run = Run(item, None, output_index=asked.output_index)
        item.begun = True
        self.call.say(ev.McpCallInProgress(item_id=item.id, output_index=run.output_index))
        if answer.approve and item.tool is not None:
            self._runs[item.id] = run
            self.call.do(do.RunTool(item.id, item.tool, item.arguments))
            owner = self.answering.go_on(item.id)
            if owner is not None:
                run.owner = owner.id
                self._arm_bridge(owner)
            return
        because = f": {answer.reason}" if answer.reason else "."
        item.error = ToolError("tool_execution_error", f"The user did not agree to this call{because}").wire()
        self._note(item, "refused")
        self._end_approved(run)
        self.answering.go_on()

    def _end_approved(self, run: Run) -> None:
        call, item = self.call, run.item
        item.status = "completed" if item.error is None else "failed"
        kind = ev.McpCallCompleted if item.error is None else ev.McpCallFailed
        call.say(kind(item_id=item.id, output_index=run.output_index))
        if call.conversation.keeps(item):
            call.say(ev.ItemDone(previous_item_id=call.conversation.previous_id(item.id), item=item.wire()))
            call.store(item)

    @property
    def under_way(self) -> set[str]:
        """Approved calls that an answer should wait for."""
        return {run_id for run_id, run in self._runs.items() if run.response is None}

    # ---- while the caller waits ----

    def _arm_bridge(self, response: Response) -> None:
        """Once for each round, a while after the last word was heard."""
        filler = self.call.agent.filler
        if filler.phrases and response.modality == "audio" and response.conversation is not None:
            after_ms = self.call.unplayed_ms + filler.after_ms
            self.call.do(do.Remind(f"filler:{response.id}:{response.rounds}", after_ms))

    def bridge(self, response: Response, rounds: int) -> None:
        """They still hear nothing: say something."""
        waits = response.running or response.awaiting & self._runs.keys()
        phrases = self.call.agent.filler.phrases
        if waits and not response.replying and response.rounds == rounds and phrases:
            phrase = phrases[self._bridges % len(phrases)]
            self._bridges += 1
            response.bridging = True
            self.replies.say(response, phrase)


def handover_note(before: AgentSpec, after: AgentSpec, arguments: str) -> str:
    """What the new agent's model reads in the place of the call."""
    reason = _text_in(arguments, "reason")
    because = f" {before.name} says: {reason}" if reason else ""
    return (
        f"{before.name} has handed this call over to {after.name}, who answers from here on.{because} "
        "Go on where the conversation stands; do not greet the caller again."
    )


def _text_in(arguments: str, name: str) -> str:
    """Of a model's JSON, which may be none."""
    try:
        value: Any = msgspec.json.decode(arguments or "{}")
    except msgspec.DecodeError:
        return ""
    found = value.get(name) if isinstance(value, dict) else None
    return found.strip() if isinstance(found, str) else ""
