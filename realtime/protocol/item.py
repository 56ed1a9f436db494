"""One item of a conversation: how it looks on the wire, and what of it a language model reads."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agents.llm.types import Image, Message
from agents.tools.types import ToolSpec
from realtime.protocol.effects import Place
from realtime.protocol.events import JsonObject
from realtime.protocol.input_audio import SAMPLES_PER_MS
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
    ``interrupts``: its speech ended an answer. ``silent``: the caller was waited for, and said nothing. ``taken``: an
    answer to it was begun. ``bridge``: it only bridged a wait, and no model reads it. ``agent``: slug and version of
    who made it or was there.

    A call of a tool: ``tool`` is what runs, None where there is none of that name; ``called`` is the name that the
    model used; ``round_id`` is the same for calls that were made together; ``begun``: it runs, or has run; ``note`` is
    what a model reads in the place of the call.

    ``heard`` and ``word_places``: where a caller's audio and its words are in the call, in samples.
    """

    id: str
    type: str
    status: str = "completed"
    role: str = ""
    content: list[JsonObject] = field(default_factory=list)
    name: str = ""
    call_id: str = ""
    arguments: str = ""
    output: str | None = None
    audio: list[Pcm] = field(default_factory=list)
    phrases: list[Phrase] = field(default_factory=list)
    awaiting_transcript: bool = False
    heard_ms: int | None = None
    interrupts: bool = False
    silent: bool = False
    taken: bool = False
    bridge: bool = False
    agent: tuple[str, int] | None = None
    server_label: str = ""
    error: JsonObject | None = None
    approval_request_id: str | None = None
    approve: bool = False
    reason: str | None = None
    tools: list[JsonObject] = field(default_factory=list)
    tool: ToolSpec | None = None
    called: str = ""
    round_id: str = ""
    begun: bool = False
    note: str = ""
    receipt: JsonObject | None = None
    heard: tuple[int, int] | None = None
    word_places: tuple[Place, ...] = ()

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
        return sum(len(part) for part in parts) + len(self.arguments) + len(self.output or "") + len(self.reason or "")

    @property
    def audio_samples(self) -> int:
        return sum(len(chunk) for chunk in self.audio)

    @property
    def audio_ms(self) -> int:
        return self.audio_samples // SAMPLES_PER_MS

    def wire(self, *, with_audio: bool = False) -> JsonObject:
        """OpenAI's items of MCP have no status."""
        shown: JsonObject = {"id": self.id, "type": self.type}
        match self.type:
            case "message":
                shown |= {"status": self.status, "role": self.role, "content": [dict(part) for part in self.content]}
                if with_audio:
                    for part in shown["content"]:
                        if part["type"] in ("input_audio", "output_audio"):
                            pcm = np.concatenate(self.audio) if self.audio else np.empty(0, np.int16)
                            part["audio"] = pcm.tobytes()
            case "function_call":
                named = {"name": self.name, "call_id": self.call_id, "arguments": self.arguments}
                shown |= {"status": self.status, **named}
            case "function_call_output":
                shown |= {"status": self.status, "call_id": self.call_id, "output": self.output or ""}
            case "mcp_list_tools":
                shown |= {"server_label": self.server_label, "tools": list(self.tools)}
            case "mcp_call":
                shown |= {"server_label": self.server_label, "name": self.name, "arguments": self.arguments}
                shown |= {"output": self.output, "error": self.error, "approval_request_id": self.approval_request_id}
            case "mcp_approval_request":
                shown |= {"server_label": self.server_label, "name": self.name, "arguments": self.arguments}
            case _:
                shown |= {"approval_request_id": self.approval_request_id, "approve": self.approve}
                shown["reason"] = self.reason
        return shown

    def record(self) -> JsonObject:
        """As the archive keeps it: without audio, and with the size of an image in the place of its bytes; with what
        OpenAI's items of MCP have no place for."""
        shown = {**self.wire(), "status": self.status}
        if self.error is not None:
            shown["error"] = self.error
        for part in shown.get("content", ()):
            url = part.get("image_url", "")
            if url.startswith("data:"):
                part |= {"image_url": url.partition(",")[0], "bytes": len(url.partition(",")[2]) * 3 // 4}
        return shown

    @property
    def places(self) -> tuple[Place, ...]:
        """Where its words are heard: a caller's in the call, an agent's phrase by phrase in its own audio."""
        if self.role != "assistant":
            return self.word_places
        found, at, first = [], 0, 0
        for phrase in self.phrases:
            found.append(Place(at, at + len(phrase.text), first, phrase.end_sample))
            at, first = at + len(phrase.text), phrase.end_sample
        return tuple(found)

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
        if not text or self.bridge:
            return []
        return [Message("assistant" if self.role == "assistant" else "system", text)]

    @property
    def answer(self) -> str | None:
        """What a model reads of a server tool's call; None where there is no result, and none will come."""
        if self.error is not None:
            return f"Error: {self.error['message']}"
        return self.output

    @property
    def characters(self) -> int:
        """What a model reads of it."""
        if self.type == "message":
            return sum(len(message.text) for message in self.messages())
        if self.type == "mcp_call":
            return len(self.note) or len(self.called) + len(self.arguments) + len(self.answer or "")
        if self.type in ("function_call", "function_call_output"):
            return len(self.name) + len(self.arguments) + len(self.output or "")
        return 0

    @property
    def images(self) -> int:
        return sum(part["type"] == "input_image" for part in self.content)


def item_from_wire(item: JsonObject, item_id: str, call_id: str) -> Item:
    """An item as a client created it, checked by ``contract``. Audio parts keep no bytes in ``content``."""
    match item["type"]:
        case "function_call":
            return Item(item_id, "function_call", name=item["name"], call_id=call_id, arguments=item["arguments"])
        case "function_call_output":
            return Item(item_id, "function_call_output", call_id=item["call_id"], output=item["output"])
        case "mcp_approval_response":
            return Item(
                item_id,
                "mcp_approval_response",
                approval_request_id=item["approval_request_id"],
                approve=item["approve"],
                reason=item.get("reason"),
            )
    content: list[dict[str, Any]] = []
    for part in item["content"]:
        if part["type"] == "input_audio":
            content.append({"type": "input_audio", "transcript": part.get("transcript")})
        else:
            content.append(dict(part))
    return Item(item_id, "message", role=item["role"], content=content)
