"""The agent's side of a session: responses, one active in the conversation and any number beside it."""

from typing import Any, Protocol

from agents.dialogue.context import Budget, ContextTooLong, TokenMeasure, first_kept, length_text, read_budget
from agents.dialogue.prompt import build_request
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Call
from realtime.protocol.config import check_modalities, check_voice
from realtime.protocol.conversation import Item, to_messages
from realtime.protocol.response import Response
from realtime.protocol.shapes import Invalid


class Hearing(Protocol):
    def item(self, wire: ev.JsonObject, item_id: str) -> Item: ...

    def hear(self, item: Item) -> None: ...


class Answers:
    """``ear`` makes items of a response's own input, and has their audio recognised."""

    def __init__(self, call: Call, ear: Hearing) -> None:
        self.call = call
        self._ear = ear
        self._active: Response | None = None
        self._out_of_band: dict[str, Response] = {}
        self._owed: Item | None = None
        self._measure = TokenMeasure()
        self._context_from = ""
        self._tools_measured: tuple[Any, int] = (None, 0)

    # ---- what the ear tells ----

    def interrupt(self) -> bool:
        self._owed = None  # the turn that begins here gets an answer for both
        if self._active is None:
            # A client stops playing when its caller speaks, so what was still to be heard is cut short.
            return self.call.heard_samples < self.call.played_until
        self._cancel(self._active, "turn_detected")
        return True

    def turn_ended(self, item: Item) -> None:
        if self._active is not None:
            self._owed = item
        elif not item.noise:
            self._create({}, asked_for=False)

    def words_settled(self, item: Item) -> None:
        for response in [self._active, *self._out_of_band.values()]:
            if response is None or item.id not in response.awaiting:
                continue
            response.awaiting.discard(item.id)
            if response.awaiting:
                continue
            if item.noise and not response.asked_for:
                self._end(response, "completed")
            else:
                self._start_reply(response)

    # ---- what the client asks ----

    def create_asked(self, event: ev.ResponseCreate) -> None:
        if self.call.config.is_transcription:
            raise Invalid(
                "invalid_value", "Responses cannot be created in a transcription session. Open one of type 'realtime'."
            )
        out_of_band = event.response.get("conversation") == "none"
        if self._active is not None and not out_of_band:
            raise Invalid(
                "conversation_already_has_active_response",
                f"Conversation already has an active response in progress: {self._active.id}. "
                "Wait until the response is finished before creating a new one.",
            )
        if out_of_band and len(self._out_of_band) >= self.call.limits.responses:
            raise Invalid(
                "too_many_responses",
                f"Error creating response: {self.call.limits.responses} responses outside the conversation are in "
                "progress already. Wait until one of them is finished.",
            )
        self._create(event.response)

    def _create(self, asked: ev.JsonObject, *, asked_for: bool = True) -> None:
        wire = self.call.config.wire
        effective = {**wire, **asked}
        check_modalities(effective["output_modalities"], "response.output_modalities")
        items = self._input_items(asked["input"]) if "input" in asked else list(self.call.conversation)
        output = {**wire["audio"]["output"], **((asked.get("audio") or {}).get("output") or {})}
        check_voice(output["voice"], "response.audio.output.voice")
        if "input" in asked:
            # Only now: what is refused must leave nothing under way.
            for item in items:
                if item.id not in self.call.conversation:
                    self._ear.hear(item)
        out_of_band = asked.get("conversation") == "none"
        response = Response(
            id=self.call.new_id("resp"),
            conversation=None if out_of_band else self.call.conversation,
            modality=effective["output_modalities"][0],
            voice=output["voice"] if isinstance(output["voice"], str) else output["voice"]["id"],
            voice_wire=output["voice"],
            format=output["format"],
            max_output_tokens=effective["max_output_tokens"],
            metadata=asked.get("metadata"),
            new_id=self.call.new_id,
            say=self.call.say,
            asked=asked,
            asked_for=asked_for,
            context=items if "input" in asked else None,
        )
        response.awaiting = {item.id for item in items if item.awaiting_transcript}
        if out_of_band:
            self._out_of_band[response.id] = response
        else:
            self._active, self._owed, self.call.quiet_from = response, None, None
        response.create()
        if not response.awaiting:
            self._start_reply(response)

    def _input_items(self, wires: list[ev.JsonObject]) -> list[Item]:
        """A response's own context: items of the conversation by reference, and others that enter nothing."""
        items = []
        for index, wire in enumerate(wires):
            if wire["type"] == "item_reference":
                item = self.call.conversation.get(wire["id"])
                if item is None:
                    raise Invalid(
                        "item_reference_invalid_item_id",
                        f"Error creating response: the item with id '{wire['id']}' does not exist.",
                        f"response.input[{index}].id",
                    )
            elif str(wire.get("id")) in self.call.conversation:
                raise Invalid(
                    "item_create_duplicate_item_id",
                    f"Error adding item: an item with id '{wire['id']}' already exists.",
                    f"response.input[{index}].id",
                )
            else:
                item = self._ear.item(wire, wire.get("id") or self.call.new_id("item"))
            items.append(item)
        return items

    def _start_reply(self, response: Response) -> None:
        effective = {**self.call.config.wire, **response.asked}
        own = response.context is not None
        items = response.context if response.context is not None else list(self.call.conversation)
        fixed = self._measure.count(len(effective["instructions"]) + self._tools_characters(effective["tools"]))
        budget = read_budget(
            effective["truncation"], self.call.limits.context_tokens, fixed, response.max_output_tokens
        )
        try:
            items = self._fit(items, budget, own)
        except ContextTooLong as error:
            failure = {"type": "invalid_request_error", "code": "context_length_exceeded", "message": str(error)}
            self._end(response, "failed", {"type": "failed", "error": failure})
            return
        request = build_request(
            self.call.agent,
            instructions=effective["instructions"],
            messages=to_messages(items),
            tools=effective["tools"],
            tool_choice=effective["tool_choice"],
            max_output_tokens=response.max_output_tokens,
            parallel_tool_calls=effective.get("parallel_tool_calls"),
            reasoning=effective.get("reasoning"),
        )
        if not any(message.images for message in request.messages):  # their tokens are no measure of text
            response.prompt_characters = sum(len(length_text(message)) for message in request.messages)
        speed = self.call.config.wire["audio"]["output"]["speed"]
        self.call.do(do.StartReply(response.id, request, response.modality, response.voice, speed))

    def _tools_characters(self, tools: Any) -> int:
        """Measured once for each list of tools: they may be long, and are asked about at each answer."""
        if self._tools_measured[0] is not tools:
            self._tools_measured = (tools, len(str(tools)))
        return self._tools_measured[1]

    def _fit(self, items: list[Item], budget: Budget, own: bool) -> list[Item]:
        """The items that the model gets. What was cut once stays cut, so that a provider's cache keeps its prefix."""
        if not own:
            begins = next((at for at, item in enumerate(items) if item.id == self._context_from), 0)
            items = items[begins:]
        costs = (self._measure.count_item(item.characters, item.images) for item in reversed(items))
        cut = first_kept(costs, len(items), budget)
        if cut and not own:
            self._context_from = items[cut].id
        return items[cut:]

    def cancel_asked(self, event: ev.ResponseCancel) -> None:
        if event.response_id in self._out_of_band:
            self._cancel(self._out_of_band[event.response_id], "client_cancelled")
        elif self._active is not None and event.response_id in (None, self._active.id):
            self._cancel(self._active, "client_cancelled")
        else:
            raise Invalid("response_cancel_not_active", "Cancellation failed: no active response found")

    def _cancel(self, response: Response, reason: str) -> None:
        self._end(response, "cancelled", {"type": "cancelled", "reason": reason})
        self.call.do(do.CancelReply(response.id))

    def _end(self, response: Response, status: str, details: ev.JsonObject | None = None) -> None:
        response.finish(status, details)
        if response.conversation is not None:
            for item in response.output:
                if item.id in self.call.conversation:
                    self.call.store(item, response.id)
            self.call.conversation.forget_old_audio()
            self._active = None
        else:
            del self._out_of_band[response.id]
        self.call.do(do.CountTokens(response.usage["total_tokens"] if response.usage else 0, response.id))
        if response.conversation is None:
            return
        owed, self._owed = self._owed, None
        if owed is not None and not owed.noise:
            self._create({}, asked_for=False)
        elif status != "cancelled":
            self.call.quiet_from = max(response.played_until, self.call.heard_samples)

    def hang_up(self) -> None:
        self._owed = None
        for response in [self._active, *self._out_of_band.values()]:
            if response is not None:
                self._cancel(response, "client_cancelled")

    def _replying(self, response_id: str) -> Response | None:
        if self._active is not None and self._active.id == response_id:
            return self._active
        return self._out_of_band.get(response_id)

    # ---- what a reply brings ----

    def reply_began(self, result: ev.ReplyBegan) -> None:
        if (response := self._replying(result.response_id)) is not None:
            response.begin_message()

    def reply_text(self, result: ev.ReplyText) -> None:
        if (response := self._replying(result.response_id)) is not None:
            response.text(result.text)

    def reply_audio(self, result: ev.ReplyAudio) -> None:
        if (response := self._replying(result.response_id)) is not None:
            response.audio(result.pcm_24khz)
            # Played from when the first of it was sent, or from the end of what was sent before.
            begins = max(response.played_until, self.call.heard_samples)
            response.played_until = begins + len(result.pcm_24khz)
            self.call.played_until = max(self.call.played_until, response.played_until)

    def reply_tool_call(self, result: ev.ReplyToolCall) -> None:
        if (response := self._replying(result.response_id)) is not None:
            response.tool_call(result.index, result.call_id, result.name, result.arguments)

    def reply_finished(self, result: ev.ReplyFinished) -> None:
        if (response := self._replying(result.response_id)) is None:
            return
        response.count(result.input_tokens, result.output_tokens, result.cached_tokens)
        self._measure.learn(response.prompt_characters, result.input_tokens)
        if result.reason in ("length", "content_filter"):
            reason = "max_output_tokens" if result.reason == "length" else "content_filter"
            self._end(response, "incomplete", {"type": "incomplete", "reason": reason})
        else:
            self._end(response, "completed")

    def reply_failed(self, result: ev.ReplyFailed) -> None:
        if (response := self._replying(result.response_id)) is not None:
            kind = "rate_limit_error" if result.code == "rate_limit_exceeded" else "server_error"
            error = {"type": kind, "code": result.code, "message": result.message}
            self._end(response, "failed", {"type": "failed", "error": error})
