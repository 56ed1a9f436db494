"""The agent's side of a session: responses, one active in the conversation and any number beside it."""

from typing import Protocol

from agents.guard.rails import find_rail
from agents.spec import GuardRail
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.asking import Asking
from realtime.protocol.call import Call
from realtime.protocol.config import SessionConfig, read_servers
from realtime.protocol.conversation import unanswered
from realtime.protocol.item import Item
from realtime.protocol.replies import Replies
from realtime.protocol.response import Cause, Response
from realtime.protocol.response_request import Reading, check_request
from realtime.protocol.shapes import Invalid
from realtime.protocol.teamwork import Team
from realtime.protocol.tool_lists import ToolLists
from realtime.protocol.tool_rounds import ToolRounds

ROUTE = "route"
"""What a response waits for until it is known who answers."""


class Hearing(Reading, Protocol):
    def hear(self, item: Item) -> None: ...

    def adapt(self, before: SessionConfig) -> None: ...


class Answers:
    """``ear`` makes items of a response's own input, and has their audio recognised."""

    def __init__(self, call: Call, ear: Hearing) -> None:
        self.call = call
        self._ear = ear
        self.lists = ToolLists(call, self.settle)
        self.team = Team(call, ear, self.lists)
        self.replies = Replies(call, Asking(call, self.lists, self.team), self)
        self.rounds = ToolRounds(call, self.team, self.replies, self)
        self._active: Response | None = None
        self._out_of_band: dict[str, Response] = {}
        self._owed: Item | None = None
        self._owes_more = False
        self._greeting = ""
        self._greeted = False
        self._turns = 0

    def open(self) -> None:
        """The call begins. A client may first say how it wants to be greeted."""
        if self.call.config.is_transcription:
            return
        self.lists.serve(self.call.agent)
        self.lists.adapt()
        self._greeting = self.call.agent.greeting.strip()
        if self._greeting and self.call.limits.greeting_ms:
            self.call.do(do.Remind("greeting", self.call.limits.greeting_ms))
        else:
            self._greet()

    def _greet(self) -> None:
        words, self._greeting = self._greeting, ""
        if words and self._active is None:
            self._greeted = True
            self._create({}, cause="greeting", words=words)

    def adapt(self) -> None:
        """The client has set its session up."""
        if not self.call.config.is_transcription:
            self.lists.adapt()
            self._greet()

    def reminded(self, result: ev.Reminded) -> None:
        kind, _, of = result.reminder_id.partition(":")
        if kind == "greeting":
            self._greet()
        elif kind == "tools" and (response := self.find(of)) is not None:
            response.awaiting -= self.lists.under_way
            self._begin(response)
        elif kind == "filler":
            of, _, rounds = of.rpartition(":")
            if (response := self.find(of)) is not None:
                self.rounds.bridge(response, int(rounds))

    # ---- what the ear tells ----

    def interrupt(self) -> bool:
        # The turn that begins here gets an answer for all.
        self._owed, self._owes_more, self._greeting = None, False, ""
        if self._active is None:
            # A client stops playing when its caller speaks, so what was still to be heard is cut short.
            return self.call.heard_samples < self.call.played_until
        self._cancel(self._active, "turn_detected")
        return True

    def turn_ended(self, item: Item) -> None:
        if self._active is not None:
            self._owed = item
        elif not (item.noise or self.call.closing):
            self._create({}, cause="turn")

    def words_settled(self, item: Item) -> None:
        self.settle(item.id)

    def routed(self, result: ev.Routed) -> None:
        if self.team.routed(result):
            self.settle(ROUTE)

    # ---- what the client asks ----

    def create_asked(self, event: ev.ResponseCreate) -> None:
        if self.call.config.is_transcription:
            raise Invalid(
                "invalid_value", "Responses cannot be created in a transcription session. Open one of type 'realtime'."
            )
        asked = event.response
        if event.instructions is not None and "instructions" not in asked:
            asked = {**asked, "instructions": event.instructions}
        context = check_request(self.call, self._ear, asked)
        if asked.get("conversation") == "none":
            if len(self._out_of_band) >= self.call.limits.responses:
                raise Invalid(
                    "too_many_responses",
                    f"Error creating response: {self.call.limits.responses} responses outside the conversation are in "
                    "progress already. Wait until one of them is finished.",
                )
        elif self._active is not None and self._active.cause == "greeting":
            self._cancel(self._active, "client_cancelled")
        elif self._active is not None:
            if self._active.rounds or self._active.cause == "server":
                return  # clients ask for this after a tool of the server's; it is on its way
            raise Invalid(
                "conversation_already_has_active_response",
                f"Conversation already has an active response in progress: {self._active.id}. "
                "Wait until the response is finished before creating a new one.",
            )
        if self.call.closing:
            raise Invalid("session_ending", "Error creating response: the agent has ended the call.")
        self._create(asked, context=context)

    def _create(
        self,
        asked: ev.JsonObject,
        *,
        cause: Cause = "client",
        context: list[Item] | None = None,
        words: str = "",
        farewell: bool = False,
    ) -> Response:
        call, wire = self.call, self.call.config.wire
        effective = {**wire, **asked}
        output = {**wire["audio"]["output"], **((asked.get("audio") or {}).get("output") or {})}
        for item in context or ():
            if item.id not in call.conversation:
                self._ear.hear(item)
        out_of_band = asked.get("conversation") == "none"
        response = Response(
            id=call.new_id("resp"),
            conversation=None if out_of_band else call.conversation,
            modality=effective["output_modalities"][0],
            voice="",
            voice_wire=output["voice"],
            format=output["format"],
            max_output_tokens=effective["max_output_tokens"],
            metadata=asked.get("metadata"),
            new_id=call.new_id,
            say=call.say,
            asked=asked,
            cause=cause,
            context=context,
            words=words,
            farewell=farewell,
        )
        if out_of_band:
            self._out_of_band[response.id] = response
        else:
            self._active, self._owed, self._owes_more, self._greeting = response, None, False, ""
            call.quiet_from = None
        self._choose_voice(response)
        response.create()
        if not words:
            self._await(response)
        self._begin(response)
        return response

    def _await(self, response: Response) -> None:
        """What must be known before a model is asked: words, tools, results."""
        own = "tools" in response.asked
        if own:
            servers = read_servers(response.asked["tools"], "response.tools")
            self.lists.open_response(response.id, servers, seen=response.conversation is not None)
        items = self.call.conversation if response.context is None else response.context
        response.awaiting = {item.id for item in items if item.awaiting_transcript}
        if listed := self.lists.awaited(response.id, own=own):
            response.awaiting |= listed
            self.call.do(do.Remind(f"tools:{response.id}", self.call.limits.tools_wait_ms))
        if response.conversation is not None:
            response.awaiting |= self.rounds.under_way
            if self.team.routing:
                response.awaiting.add(ROUTE)

    # ---- what is said ----

    def settle(self, awaited: str) -> bool:
        """It is known now. Says whether anything waited for it."""
        waiting = [response for response in self._all() if awaited in response.awaiting]
        for response in waiting:
            response.awaiting.discard(awaited)
            self._begin(response)
        return bool(waiting)

    def _begin(self, response: Response) -> None:
        """Answer, once all is known that the answer needs."""
        if response.awaiting or response.started or response.replying or response.status != "in_progress":
            return
        if response.words:
            response.started = True
            self.replies.say(response, response.words)
            return
        items = self.call.conversation if response.context is None else response.context
        heard, last = unanswered(items) if response.conversation is not None else ([], [])
        if response.cause == "turn" and heard and all(item.noise for item in heard):
            self.end(response, "completed")
            return
        text = " ".join(item.text for item in last)
        if self.team.route(text):
            response.awaiting.add(ROUTE)
            return
        response.started = True
        for item in heard:
            item.taken = True
        if heard and not self._take_turn(response):
            return
        rail = find_rail(self.call.agent.guard_rails, "input", text)
        self._choose_voice(response)
        if rail is not None:
            response.words, response.farewell = rail.say, rail.then == "end_call"
            self.replies.say(response, rail.say)
        else:
            self.replies.ask(response)

    def _take_turn(self, response: Response) -> bool:
        """Whether the agent takes another one."""
        self._turns += 1
        self.team.hand_offs = 0
        self.call.tally.turn(self.call.agent)
        limit = self.call.agent.limits.turns
        if limit is None or self._turns <= limit:
            return True
        self.end(response, "completed")
        return False

    def _choose_voice(self, response: Response) -> None:
        """What the response asks for, or the session; or where that has the agent's, the one for the caller's
        language."""
        call = self.call
        asked = ((response.asked.get("audio") or {}).get("output") or {}).get("voice")
        wire = asked or call.config.wire["audio"]["output"]["voice"]
        if asked is None and wire == call.agent.voice:
            wire = call.agent.voices.get(call.language, wire)
        response.speak_as(wire)

    def run_tools(self, response: Response) -> None:
        self.rounds.run(response)

    def say_instead(self, rail: GuardRail) -> None:
        """What was about to be said was not."""
        if self._active is None and not self.call.closing:
            self._create({}, cause="server", words=rail.say, farewell=rail.then == "end_call")

    def bridged(self, response: Response) -> None:
        """What bridged a wait was said: the answer may be waiting now."""
        response.bridging = response.replying = False
        response.close_item()
        if response.started:
            self.rounds.advance(response)
        else:
            self._begin(response)

    def go_on(self, awaited: str = "") -> Response | None:
        """A client was waited for, and has answered: the server says what comes of it, with the result of ``awaited``
        where that runs. The response that will; None where another one is in the way, and it comes later."""
        active = self._active
        if self.call.closing:
            return None
        if active is None:
            return self._create({}, cause="server")
        if active.cause == "server" and not active.started:
            if awaited:
                active.awaiting.add(awaited)
            return active
        self._owes_more = self._owes_more or not awaited
        return None

    # ---- the end ----

    def cancel_asked(self, event: ev.ResponseCancel) -> None:
        if event.response_id in self._out_of_band:
            self._cancel(self._out_of_band[event.response_id], "client_cancelled")
        elif self._active is not None and event.response_id in (None, self._active.id):
            self._cancel(self._active, "client_cancelled")
        else:
            raise Invalid("response_cancel_not_active", "Cancellation failed: no active response found")

    def _cancel(self, response: Response, reason: str) -> None:
        self.end(response, "cancelled", {"type": "cancelled", "reason": reason})
        self.call.do(do.CancelReply(response.id))

    def end(self, response: Response, status: str, details: ev.JsonObject | None = None) -> None:
        call = self.call
        self.rounds.cancel(response)
        response.finish(status, details)
        self.lists.end_response(response.id)
        if response.conversation is not None:
            for item in response.output:
                if call.conversation.keeps(item):
                    call.store(item, response.id)
            call.conversation.forget_old_audio()
            self._active = None
        else:
            del self._out_of_band[response.id]
        call.do(do.CountTokens(response.usage["total_tokens"] if response.usage else 0, response.id))
        if response.conversation is not None:
            self._count(response)
            self._follow(response)

    def _count(self, response: Response) -> None:
        if response.status == "failed":
            self.call.tally.failed(self.call.agent)
        elif response.status == "completed" and response.spoke and response.cause != "greeting":
            self.call.tally.answered(self.call.agent)

    def _follow(self, response: Response) -> None:
        """What comes after a response of the conversation."""
        call, over = self.call, response.status != "cancelled"
        if response.status == "completed" and response.successor is not None:
            self.team.hand_over(*response.successor)
            self._owes_more = self._owes_more or not response.asks_client
        limit = call.agent.limits.turns
        if over and response.farewell:
            call.close("agent_ended")
        elif over and limit is not None and self._turns >= limit and not (response.asks_client or self._owes_more):
            call.close("agent_ended: it takes no more turns")
        if call.closing:
            return
        owed, self._owed = self._owed, None
        if owed is not None and not owed.noise:
            self._create({}, cause="turn")
        elif self._owes_more:
            self._create({}, cause="server")
        elif over:
            call.quiet_from = max(response.played_until, call.heard_samples)

    def hang_up(self, *, by_caller: bool) -> None:
        call = self.call
        began = self._turns or self._greeted
        if by_caller and not call.closing and (self._active is not None or (began and not call.tally.answers)):
            call.tally.hung_up(call.agent)
        call.closing = True
        for response in self._all():
            self._cancel(response, "client_cancelled")

    def _all(self) -> list[Response]:
        return [*([self._active] if self._active is not None else []), *self._out_of_band.values()]

    def find(self, response_id: str) -> Response | None:
        return next((response for response in self._all() if response.id == response_id), None)
