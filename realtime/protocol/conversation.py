"""The conversation: items in order, what of each was heard, and how they look on the wire and to a language model."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agents.llm.types import Image, Message, ToolCall
from realtime.protocol.events import JsonObject
from realtime.protocol.input_audio import SAMPLES_PER_MS
from realtime.protocol.shapes import Invalid, shown
from speech.engines import Pcm

INAUDIBLE = "[inaudible]"
SILENCE = "[the caller is silent]"


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words of an answer and where their audio ends, in samples at 24 kHz since the item's audio began."""

    text: str
    end_sample: int


@dataclass
class Item:
    """One item. ``content`` is the wire's, without audio bytes; ``audio`` is PCM at 24 kHz of a spoken part.

    ``awaiting_transcript``: a caller's words that the recogniser still owes. ``heard_ms``: where playback was cut.
    ``interrupts``: its speech ended an answer. ``silent``: the caller
    was waited for, and said nothing.
    """

    id: str
    type: str
    status: str = "completed"
    role: str = ""
    content: list[JsonObject] = field(default_factory=list)
    name: str = ""
    call_id: str = ""
    arguments: str = ""
    output: str = ""
    audio: list[Pcm] = field(default_factory=list)
    phrases: list[Phrase] = field(default_factory=list)
    awaiting_transcript: bool = False
    heard_ms: int | None = None
    interrupts: bool = False
    silent: bool = False

    @property
    def transcript(self) -> str | None:
        """The words of a caller's spoken part; None when unknown."""
        return next((part["transcript"] for part in self.content if part["type"] == "input_audio"), None)

    @transcript.setter
    def transcript(self, text: str) -> None:
        next(part for part in self.content if part["type"] == "input_audio")["transcript"] = text

    @property
    def noise(self) -> bool:
        """Nobody spoke, and nobody was interrupted: no answer is owed."""
        return (
            self.transcript == ""
            and not self.interrupts
            and not self.silent
            and all(part["type"] == "input_audio" for part in self.content)
        )

    @property
    def content_bytes(self) -> int:
        """About what its text and images take."""
        return self.text_bytes + sum(len(part.get("image_url") or "") for part in self.content)

    @property
    def text_bytes(self) -> int:
        """About what its text takes."""
        parts = (part.get("text") or part.get("transcript") or "" for part in self.content)
        return sum(len(part) for part in parts) + len(self.arguments) + len(self.output)

    @property
    def audio_samples(self) -> int:
        return sum(len(chunk) for chunk in self.audio)

    @property
    def audio_ms(self) -> int:
        return self.audio_samples // SAMPLES_PER_MS

    def wire(self, *, with_audio: bool = False) -> JsonObject:
        shown: JsonObject = {"id": self.id, "type": self.type, "status": self.status}
        if self.type == "message":
            shown["role"] = self.role
            shown["content"] = [dict(part) for part in self.content]
            if with_audio:
                for part in shown["content"]:
                    if part["type"] in ("input_audio", "output_audio"):
                        pcm = np.concatenate(self.audio) if self.audio else np.empty(0, np.int16)
                        part["audio"] = pcm.tobytes()
        elif self.type == "function_call":
            shown |= {"name": self.name, "call_id": self.call_id, "arguments": self.arguments}
        else:
            shown |= {"call_id": self.call_id, "output": self.output}
        return shown

    def record(self) -> JsonObject:
        """As the archive keeps it: without audio, and with the size of an image in the place of its bytes."""
        shown = self.wire()
        for part in shown.get("content", ()):
            url = part.get("image_url", "")
            if url.startswith("data:"):
                part |= {"image_url": url.partition(",")[0], "bytes": len(url.partition(",")[2]) * 3 // 4}
        return shown

    @property
    def text(self) -> str:
        """What was said or written, cut to what was heard."""
        if self.heard_ms is not None and self.phrases:
            return self.heard_text(self.heard_ms)
        return "".join(str(part.get("text") or part.get("transcript") or "") for part in self.content)

    def heard_text(self, heard_ms: int) -> str:
        """The words whose audio had been played by ``heard_ms``: whole phrases, then words in proportion."""
        heard, start, words = heard_ms * SAMPLES_PER_MS, 0, ""
        for phrase in self.phrases:
            if phrase.end_sample <= heard:
                words += phrase.text
                start = phrase.end_sample
                continue
            share = max(0.0, (heard - start) / max(1, phrase.end_sample - start))
            cut = int(len(phrase.text) * share)
            if cut < len(phrase.text):
                cut = max(phrase.text.rfind(" ", 0, cut + 1), 0)
            return words + phrase.text[:cut]
        return words

    def truncate(self, audio_end_ms: int) -> None:
        """Forget what comes after; the transcript keeps only the words that were heard."""
        heard = self.heard_text(audio_end_ms)
        keep, kept = audio_end_ms * SAMPLES_PER_MS, []
        for chunk in self.audio:
            kept.append(chunk[:keep])
            keep -= len(kept[-1])
            if keep <= 0:
                break
        self.audio = kept
        self.heard_ms = audio_end_ms
        for part in self.content:
            if part["type"] == "output_audio":
                part["transcript"] = heard

    def messages(self) -> list[Message]:
        """A message item as a model's context: one message, or none when there is nothing in it."""
        text = self.text
        if self.role == "user":
            if self.silent:
                return [Message("user", SILENCE)]
            if self.noise:
                return []
            images = tuple(
                Image(part["image_url"], part.get("detail", "auto"))
                for part in self.content
                if part["type"] == "input_image"
            )
            spoken = any(part["type"] == "input_audio" for part in self.content)
            return [Message("user", text or (INAUDIBLE if spoken else ""), images=images)]
        if not text:
            return []
        return [Message("assistant" if self.role == "assistant" else "system", text)]

    @property
    def characters(self) -> int:
        """What a model reads of it."""
        if self.type == "message":
            return sum(len(message.text) for message in self.messages())
        return len(self.name) + len(self.arguments) + len(self.output)

    @property
    def images(self) -> int:
        return sum(part["type"] == "input_image" for part in self.content)


class Conversation:
    """Items in order; ids are unique. ``limit_audio_samples`` bounds the audio that is kept for retrieval."""

    def __init__(self, conversation_id: str, limit_audio_samples: int) -> None:
        self.id = conversation_id
        self._items: dict[str, Item] = {}
        self._order: list[str] = []
        self._limit_audio = limit_audio_samples
        self._content_bytes: dict[str, int] = {}

    def __iter__(self) -> Iterator[Item]:
        return (self._items[item_id] for item_id in self._order)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def __len__(self) -> int:
        return len(self._order)

    def get(self, item_id: str) -> Item | None:
        return self._items.get(item_id)

    @property
    def last_id(self) -> str | None:
        return self._order[-1] if self._order else None

    def previous_id(self, item_id: str) -> str | None:
        at = self._order.index(item_id)
        return self._order[at - 1] if at else None

    @property
    def content_bytes(self) -> int:
        """What clients put into it."""
        return sum(self._content_bytes.values())

    def insert(self, item: Item, after: str | None) -> None:
        """``after`` None puts it first; the id must be new."""
        at = self._order.index(after) + 1 if after is not None else 0
        self._order.insert(at, item.id)
        self._items[item.id] = item
        self._content_bytes[item.id] = item.content_bytes

    def append(self, item: Item) -> str | None:
        """Returns the id of the item before it."""
        previous = self.last_id
        self._order.append(item.id)
        self._items[item.id] = item
        return previous

    def delete(self, item_id: str) -> Item:
        self._order.remove(item_id)
        self._content_bytes.pop(item_id, None)
        return self._items.pop(item_id)

    def has_call(self, call_id: str) -> bool:
        return any(item.type == "function_call" and item.call_id == call_id for item in self._items.values())

    @property
    def assistant_has_spoken(self) -> bool:
        return any(item.role == "assistant" and item.phrases for item in self._items.values())

    def forget_old_audio(self) -> None:
        """Drop the oldest items' audio beyond the limit; their words stay."""
        kept = 0
        for item_id in reversed(self._order):
            item = self._items[item_id]
            kept += item.audio_samples
            if kept > self._limit_audio:
                item.audio = []


def to_messages(items: list[Item]) -> tuple[Message, ...]:
    """A model's context of ``items``.

    Providers refuse a tool call without its answer and an answer without its call, and want the answers right behind
    the call: what is not a complete pair is left out, and parallel calls become one message.
    """
    outputs = {item.call_id: item for item in items if item.type == "function_call_output"}
    messages: list[Message] = []
    calls: list[Item] = []

    def close_calls() -> None:
        if calls:
            asked = tuple(ToolCall(item.call_id, item.name, item.arguments) for item in calls)
            messages.append(Message("assistant", "", tool_calls=asked))
            messages.extend(Message("tool", outputs[item.call_id].output, tool_call_id=item.call_id) for item in calls)
            calls.clear()

    for item in items:
        if item.type == "function_call":
            if item.call_id in outputs and item.status == "completed":
                calls.append(item)
        elif item.type == "message":
            close_calls()
            asked_already = bool(messages) and messages[-1].role == "user"
            if not (asked_already and item.transcript == ""):  # a noise after a question adds nothing to it
                messages.extend(item.messages())
    close_calls()
    return tuple(messages)


def item_from_wire(item: JsonObject, item_id: str, call_id: str) -> Item:
    """An item as a client created it, checked by ``contract``. Audio parts keep no bytes in ``content``."""
    if item["type"] == "function_call":
        return Item(item_id, "function_call", name=item["name"], call_id=call_id, arguments=item["arguments"])
    if item["type"] == "function_call_output":
        return Item(item_id, "function_call_output", call_id=item["call_id"], output=item["output"])
    if item["type"] == "mcp_approval_response":
        # No response of ours asks for an approval, so none can be answered.
        asked = shown(item["approval_request_id"])
        raise Invalid("invalid_approval_request_id", f"Approval request ID '{asked}' not found in conversation.")
    content: list[dict[str, Any]] = []
    for part in item["content"]:
        if part["type"] == "input_audio":
            content.append({"type": "input_audio", "transcript": part.get("transcript")})
        else:
            content.append(dict(part))
    return Item(item_id, "message", role=item["role"], content=content)
