"""A call as a state machine without I/O.

1. Everything that changes the state of a call is here and in its two sides, ``ear`` (with ``recognition``) and
   ``answers`` (with ``tool_rounds``, ``tool_lists`` and ``teamwork``); nothing else is.
2. It never waits, never looks at a clock, never draws a random number: ids and time come in; time is counted in
   samples.
3. A result that names a response no longer active changes nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from agents.spec import AgentSpec, Rule
from realtime.archive.events import Outcome
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.answers import Answers
from realtime.protocol.call import Call, Limits
from realtime.protocol.config import SessionConfig, check_room
from realtime.protocol.ear import Ear
from realtime.protocol.item import Item
from realtime.protocol.shapes import Invalid

CLOSE_EXPIRED = 1001
CLOSE_TRY_AGAIN = 1011


class Session:
    """One instance per call. ``new_id(prefix)`` gives unique ids, ``config`` the session as it opens; ``rules`` may
    choose another agent by the caller's first words; ``abilities``: which of the built-in tools ``transfer_call`` and
    ``send_dtmf`` the transport can do."""

    def __init__(
        self,
        config: SessionConfig,
        agent: AgentSpec,
        new_id: Callable[[str], str],
        limits: Limits | None = None,
        *,
        rules: tuple[Rule, ...] = (),
        abilities: frozenset[str] = frozenset(),
    ) -> None:
        self.call = Call(config, agent, new_id, limits or Limits(), rules, abilities)
        self.ear = Ear(self.call)
        self.answers = Answers(self.call, self.ear)
        self.ear.answering = self.answers
        self._receivers = self._table()

    def open(self) -> list[do.Effect]:
        """The first effects of a call."""
        effects: list[do.Effect] = []
        self.call.effects = effects
        self.call.say(ev.SessionCreated(session=self.call.config.wire))
        self.ear.listen_anew()
        try:
            check_room(self.call.config.servers, self.call.limits.mcp_servers, "session.tools")
        except Invalid as fault:
            self._tell(fault, None)
        self.answers.open()
        return effects

    def receive(self, entering: ev.Input) -> list[do.Effect]:
        effects: list[do.Effect] = []
        self.call.effects = effects
        try:
            self._receivers[type(entering)](entering)
        except Invalid as fault:
            self._tell(fault, entering.event_id if isinstance(entering, ev.ClientEvent) else None)
        return effects

    def _tell(self, fault: Invalid, event_id: str | None) -> None:
        body = ev.ErrorBody(
            type="invalid_request_error",
            code=fault.code,
            message=fault.message,
            param=fault.param,
            event_id=event_id,
        )
        self.call.say(ev.Error(error=body))

    def divide(self, entering: ev.Input) -> Sequence[ev.Input]:
        """What enters, in pieces of little work each; between them others may have their turn. Changes nothing."""
        return self.ear.divide(entering) if isinstance(entering, ev.InputAudioAppend) else (entering,)

    def outcomes(self) -> tuple[Outcome, ...]:
        """What came of each agent version that took part, the first one first; complete once ``hang_up`` was called."""
        return self.call.tally.outcomes()

    def hang_up(self, *, by_caller: bool = True) -> list[do.Effect]:
        """The call is over: what was being said on either side is kept as far as it came. ``by_caller``: they left, and
        nothing of ours ended it."""
        effects: list[do.Effect] = []
        self.call.effects = effects
        self.ear.hang_up()
        self.answers.hang_up(by_caller=by_caller)
        return effects

    def _table(self) -> dict[type[ev.Input], Callable[[Any], None]]:
        return {
            ev.Refused: self._refused,
            ev.SessionUpdate: self._session_update,
            ev.SessionExpired: self._expired,
            ev.ListeningFailed: self._deaf,
            ev.InputAudioAppend: self.ear.append,
            ev.InputAudioCommit: self.ear.commit_asked,
            ev.InputAudioClear: self.ear.clear,
            ev.WindowScored: self.ear.window_scored,
            ev.TurnJudged: self.ear.turn_judged,
            ev.RateLimited: self._rate_limited,
            ev.SegmentReady: self.ear.recognition.segment_ready,
            ev.TranscriptReady: self.ear.recognition.transcript_ready,
            ev.TranscriptFailed: self.ear.recognition.transcript_failed,
            ev.OutputAudioClear: self._output_clear,
            ev.ItemCreate: self._item_create,
            ev.ItemRetrieve: self._item_retrieve,
            ev.ItemDelete: self._item_delete,
            ev.ItemTruncate: self._item_truncate,
            ev.ResponseCreate: self.answers.create_asked,
            ev.ResponseCancel: self.answers.cancel_asked,
            ev.ReplyBegan: self.answers.replies.began,
            ev.ReplyText: self.answers.replies.text,
            ev.ReplyAudio: self.answers.replies.audio,
            ev.ReplyToolCall: self.answers.replies.tool_call,
            ev.ReplyFinished: self.answers.replies.finished,
            ev.ReplyFailed: self.answers.replies.failed,
            ev.ToolAnswered: self.answers.rounds.answered,
            ev.ToolsListed: self.answers.lists.listed,
            ev.ToolsNotListed: self.answers.lists.not_listed,
            ev.HandedOff: self.answers.rounds.handed_off,
            ev.HandOffFailed: self.answers.rounds.hand_off_failed,
            ev.Routed: self.answers.routed,
            ev.Reminded: self.answers.reminded,
        }

    def _refused(self, event: ev.Refused) -> None:
        raise Invalid(event.code, event.message, event.param)

    def _session_update(self, event: ev.SessionUpdate) -> None:
        call = self.call
        before = call.config
        size = len(msgspec.json.encode(event.session))
        if size > call.limits.session_bytes:
            raise Invalid(
                "session_too_large",
                f"Invalid 'session': too large. Expected at most {call.limits.session_bytes} bytes of JSON, "
                f"but got {size} instead.",
                "session",
            )
        prompt = event.instructions
        if before.wire.get("prompt") is not None and event.session.get("prompt", before) is None:
            prompt = call.agent.instructions  # the agent's own are back
        spoken = call.conversation.assistant_has_spoken
        config = before.updated(event.session, assistant_has_spoken=spoken, prompt=prompt)
        check_room(config.servers, call.limits.mcp_servers, "session.tools")
        call.config = config
        call.say(ev.SessionUpdated(session=config.wire))
        self.ear.adapt(before)
        self.answers.adapt()

    def _expired(self, _: ev.SessionExpired) -> None:
        self.call.do(do.Close(CLOSE_EXPIRED, "Your session hit the maximum duration of 60 minutes."))

    def _rate_limited(self, limits: ev.RateLimited) -> None:
        tokens = {
            "name": "tokens",
            "limit": limits.limit,
            "remaining": limits.remaining,
            "reset_seconds": round(limits.reset_s, 3),
        }
        left = [tokens]
        if limits.requests_limit is not None:
            requests = {
                "name": "requests",
                "limit": limits.requests_limit,
                "remaining": limits.requests_remaining,
                "reset_seconds": round(limits.requests_reset_s, 3),
            }
            left.insert(0, requests)
        self.call.say(ev.RateLimitsUpdated(rate_limits=left))

    def _deaf(self, failure: ev.ListeningFailed) -> None:
        """A call that cannot hear is no call: the client is told, and told to come again."""
        self.call.say(ev.Error(error=ev.ErrorBody(type="server_error", code=failure.code, message=failure.message)))
        self.call.do(do.Close(CLOSE_TRY_AGAIN, failure.code))

    def _output_clear(self, _: ev.OutputAudioClear) -> None:
        raise Invalid(
            "invalid_value",
            "Invalid value: 'output_audio_buffer.clear'. It is for WebRTC and SIP; on a WebSocket send "
            "'response.cancel' and 'conversation.item.truncate'.",
            "type",
        )

    # ---- items ----

    def _item_create(self, event: ev.ItemCreate) -> None:
        call = self.call
        item_id = event.item.get("id") or call.new_id("item")
        if item_id in call.conversation or item_id == self.ear.coming_id:
            raise Invalid(
                "item_create_duplicate_item_id", f"Error adding item: an item with id '{item_id}' already exists."
            )
        if item_id == "root":
            raise Invalid("invalid_value", "Invalid value: 'root'. It stands for the beginning.", "item.id")
        self.ear.check_room()
        after = None if event.previous_item_id == "root" else event.previous_item_id or call.conversation.last_id
        if after is not None and after not in call.conversation:
            raise Invalid(
                "item_create_invalid_previous_item_id",
                f"Error adding item: the previous item with id '{after}' does not exist.",
            )
        item = self.ear.item(event.item, item_id)
        if item.type == "function_call_output" and not call.conversation.has_call(item.call_id):
            raise Invalid("invalid_tool_call_id", f"Tool call ID '{item.call_id}' not found in conversation.")
        if (length := item.text_bytes) > call.limits.text_bytes:
            raise Invalid(
                "string_above_max_length",
                f"Invalid 'item': too much text. Expected at most {call.limits.text_bytes} characters, "
                f"but got {length} instead.",
                "item",
            )
        size, limit = call.conversation.content_bytes + item.content_bytes, call.limits.content_bytes
        if size > limit:
            raise Invalid(
                "conversation_too_long",
                f"Error adding item: with it the conversation would hold {size} bytes of text and images, and {limit} "
                "are the most. Delete some items first.",
            )
        if item.type == "mcp_approval_response":
            self.answers.rounds.check_approval(item)
        call.conversation.insert(item, after)
        call.say(ev.ItemAdded(previous_item_id=after, item=item.wire()))
        call.say(ev.ItemDone(previous_item_id=after, item=item.wire()))
        call.store(item)
        self.ear.hear(item)
        call.conversation.forget_old_audio()
        if item.type == "mcp_approval_response":
            self.answers.rounds.approve(item)

    def _existing(self, item_id: str, doing: str, code: str) -> Item:
        item = self.call.conversation.get(item_id)
        if item is None:
            raise Invalid(code, f"Error {doing} item: the item with id '{item_id}' does not exist.")
        return item

    def _item_retrieve(self, event: ev.ItemRetrieve) -> None:
        call = self.call
        item = self._existing(event.item_id, "retrieving", "item_retrieve_invalid_item_id")
        call.say(ev.ItemRetrieved(item=item.wire(with_audio=True)))

    def _item_delete(self, event: ev.ItemDelete) -> None:
        call = self.call
        self._existing(event.item_id, "deleting", "item_delete_invalid_item_id")
        call.conversation.delete(event.item_id)
        call.say(ev.ItemDeleted(item_id=event.item_id))
        call.do(do.Forget(event.item_id))

    def _item_truncate(self, event: ev.ItemTruncate) -> None:
        call = self.call
        item = self._existing(event.item_id, "truncating", "item_truncate_invalid_item_id")
        if item.role != "assistant" or not item.phrases or item.audio_ms == 0:
            raise Invalid("unsupported_content_type", "Only model output audio messages can be truncated")
        if event.content_index >= len(item.content):
            raise Invalid(
                "invalid_value",
                f"Invalid value: {event.content_index}. The item has {len(item.content)} content parts.",
                "content_index",
            )
        if event.audio_end_ms > item.audio_ms:
            raise Invalid(
                "invalid_value",
                f"Audio content of {item.audio_ms}ms is already shorter than {event.audio_end_ms}ms",
            )
        item.truncate(event.audio_end_ms)
        call.say(ev.ItemTruncated(item_id=item.id, content_index=event.content_index, audio_end_ms=event.audio_end_ms))
        call.store(item)
