"""One response: the ladder of events from ``response.created`` to ``response.done``, in the order that clients rely on.

    created → (item added → part added → deltas → part done → item done)* → done

An item is finished before the next one is added; whatever ends the response first closes what is open, as it was sent.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from realtime.protocol import events as ev
from realtime.protocol.conversation import Conversation, Item, Phrase
from realtime.protocol.events import JsonObject, Modality
from realtime.protocol.output_audio import OutputAudio
from speech.engines import Pcm

AUDIO_TOKEN_MS = 50


@dataclass
class Response:
    """``conversation`` is None for an out-of-band response: its items are shown to the client and kept nowhere.

    ``asked`` is the client's response.create, ``context`` its own input, ``awaiting`` items whose words are still owed,
    ``asked_for`` False where the server began by itself, ``played_until`` the end of playback on the call's clock.
    """

    id: str
    conversation: Conversation | None
    modality: Modality
    voice: str
    voice_wire: str | JsonObject
    format: JsonObject
    max_output_tokens: int | str
    metadata: JsonObject | None
    new_id: Callable[[str], str]
    say: Callable[[ev.ServerEvent], None]
    asked: JsonObject = field(default_factory=dict)
    asked_for: bool = True
    context: list[Item] | None = None
    status: str = "in_progress"
    status_details: JsonObject | None = None
    usage: JsonObject | None = None
    output: list[Item] = field(default_factory=list)
    awaiting: set[str] = field(default_factory=set)
    tool_items: dict[int, Item] = field(default_factory=dict)
    played_until: int = 0
    prompt_characters: int = 0
    _open: Item | None = None
    _said: str = ""
    _audio: OutputAudio | None = None

    def wire(self) -> JsonObject:
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": self.status_details,
            "output": [item.wire() for item in self.output],
            "conversation_id": self.conversation.id if self.conversation is not None else None,
            "output_modalities": [self.modality],
            "max_output_tokens": self.max_output_tokens,
            "audio": {"output": {"format": self.format, "voice": self.voice_wire}},
            "usage": self.usage,
            "metadata": self.metadata,
        }

    def create(self) -> None:
        self.say(ev.ResponseCreated(response=self.wire()))

    # ---- items ----

    def _add_item(self, item: Item) -> None:
        item.status = "in_progress"
        self.output.append(item)
        self._open = item
        self.say(ev.OutputItemAdded(response_id=self.id, output_index=self._index(item), item=item.wire()))
        if self.conversation is not None:
            previous = self.conversation.append(item)
            self.say(ev.ItemAdded(previous_item_id=previous, item=item.wire()))

    def _index(self, item: Item) -> int:
        return self.output.index(item)

    def _end_item(self, item: Item, status: str) -> None:
        item.status = status
        self._open = None
        if self.conversation is not None and item.id in self.conversation:
            self.say(ev.ItemDone(previous_item_id=self.conversation.previous_id(item.id), item=item.wire()))
        self.say(ev.OutputItemDone(response_id=self.id, output_index=self._index(item), item=item.wire()))

    def close_item(self, status: str = "completed") -> Item | None:
        """Finish the item that is open, if one is; returns it."""
        item = self._open
        if item is None:
            return None
        if item.type == "message":
            self._close_message(item)
        else:
            self.say(
                ev.ArgumentsDone(
                    response_id=self.id,
                    output_index=self._index(item),
                    item_id=item.id,
                    call_id=item.call_id,
                    name=item.name,
                    arguments=item.arguments,
                )
            )
        self._end_item(item, status)
        return item

    # ---- messages ----

    def begin_message(self) -> Item:
        """The open message; begins one when there is none."""
        item = self._open
        if item is not None and item.type == "message":
            return item
        self.close_item()
        item = Item(self.new_id("item"), "message", role="assistant")
        self._said = ""
        self._add_item(item)
        if self.modality == "audio":
            self._audio = OutputAudio(self.format["type"])
            item.content = [{"type": "output_audio", "transcript": ""}]
            part: JsonObject = {"type": "audio", "transcript": ""}
        else:
            item.content = [{"type": "output_text", "text": ""}]
            part = {"type": "text", "text": ""}
        self.say(
            ev.ContentPartAdded(
                response_id=self.id, output_index=self._index(item), item_id=item.id, content_index=0, part=part
            )
        )
        return item

    def text(self, delta: str) -> None:
        """Words of the answer: written ones as they come, spoken ones just before their audio."""
        item = self.begin_message()
        place: dict[str, Any] = {
            "response_id": self.id,
            "output_index": self._index(item),
            "item_id": item.id,
            "content_index": 0,
        }
        self._said += delta
        if self.modality == "audio":
            item.content[0]["transcript"] += delta
            item.phrases.append(Phrase(delta, item.audio_samples))
            self.say(ev.OutputTranscriptDelta(**place, delta=delta))
        else:
            item.content[0]["text"] += delta
            self.say(ev.OutputTextDelta(**place, delta=delta))

    def audio(self, pcm_24khz: Pcm) -> None:
        item = self.begin_message()
        if self._audio is None or self.modality != "audio":
            return
        item.audio.append(pcm_24khz)
        if item.phrases:
            item.phrases[-1] = Phrase(item.phrases[-1].text, item.audio_samples)
        for delta in self._audio.encode(pcm_24khz):
            self._say_audio(item, delta)

    def _say_audio(self, item: Item, delta: bytes) -> None:
        self.say(
            ev.OutputAudioDelta(
                response_id=self.id, output_index=self._index(item), item_id=item.id, content_index=0, delta=delta
            )
        )

    def _close_message(self, item: Item) -> None:
        place: dict[str, Any] = {
            "response_id": self.id,
            "output_index": self._index(item),
            "item_id": item.id,
            "content_index": 0,
        }
        if self.modality == "audio":
            # Not the item's: a client may have truncated that meanwhile.
            transcript = self._said
            if self._audio is not None:
                for delta in self._audio.flush():
                    self._say_audio(item, delta)
            self.say(ev.OutputAudioDone(**place))
            self.say(ev.OutputTranscriptDone(**place, transcript=transcript))
            part = {"type": "audio", "transcript": transcript}
        else:
            text = self._said
            self.say(ev.OutputTextDone(**place, text=text))
            part = {"type": "text", "text": text}
        self.say(ev.ContentPartDone(**place, part=part))

    # ---- function calls ----

    def tool_call(self, index: int, call_id: str, name: str, arguments: str) -> None:
        item = self.tool_items.get(index)
        if item is None:
            self.close_item()
            item = Item(self.new_id("item"), "function_call", name=name, call_id=self.new_id("call"))
            self.tool_items[index] = item
            self._add_item(item)
        if item is not self._open or not arguments:
            return
        item.arguments += arguments
        self.say(
            ev.ArgumentsDelta(
                response_id=self.id,
                output_index=self._index(item),
                item_id=item.id,
                call_id=item.call_id,
                delta=arguments,
            )
        )

    # ---- the end ----

    def count(self, input_tokens: int, output_tokens: int, cached_tokens: int) -> None:
        audio_tokens = -(-sum(item.audio_ms for item in self.output) // AUDIO_TOKEN_MS)
        self.usage = {
            "total_tokens": input_tokens + output_tokens + audio_tokens,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens + audio_tokens,
            "input_token_details": {
                "text_tokens": input_tokens,
                "audio_tokens": 0,
                "image_tokens": 0,
                "cached_tokens": cached_tokens,
                "cached_tokens_details": {"text_tokens": cached_tokens, "audio_tokens": 0, "image_tokens": 0},
            },
            "output_token_details": {"text_tokens": output_tokens, "audio_tokens": audio_tokens},
        }

    def finish(self, status: str, details: JsonObject | None = None) -> None:
        self.close_item("completed" if status == "completed" else "incomplete")
        if self.usage is None:
            self.count(0, 0, 0)
        self.status, self.status_details = status, details
        self.say(ev.ResponseDone(response=self.wire()))
