"""One response: the ladder of events from ``response.created`` to ``response.done``, in the order that clients rely on.

    created → (item added → part added → deltas → part done → item done)* → done

An item is finished before the next one is added, but for calls of tools that the server runs: those end when they have
their results. Whatever ends the response first closes what is open, as it was sent.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from agents.spec import AgentSpec, Colleague
from agents.tools.types import ToolError
from realtime.protocol import events as ev
from realtime.protocol.conversation import Conversation
from realtime.protocol.events import JsonObject, Modality
from realtime.protocol.guarding import Gate
from realtime.protocol.item import Item, Phrase
from realtime.protocol.output_audio import OutputAudio
from realtime.protocol.toolset import Toolset
from speech.engines import Pcm

Cause = Literal["client", "turn", "greeting", "server"]
AUDIO_TOKEN_MS = 50
UNKNOWN_LABEL = "unknown"
"""Where a tool would run that the model made up."""
INTERRUPTED = ToolError("tool_execution_error", "The call was interrupted before its result was known.")


@dataclass
class Response:
    """``conversation`` is None for an out-of-band response: its items are shown to the client and kept nowhere.

    ``asked`` is the client's response.create, ``cause`` why it began (``server``: one response goes on as another),
    ``context`` its own input, ``awaiting`` what must be known before a model is asked (words, lists of tools, results),
    ``played_until`` the end of playback on the call's clock.

    ``words`` are said instead of asking a model, and with ``farewell`` the call ends after them. ``replying``: a reply
    is under way; ``bridging``: it only bridges a wait. ``rounds`` counts those in which the model called tools of the
    server; ``calls`` are all calls of the present one, ``running`` those without a result; ``successor`` takes over.
    ``started``: a model was asked, or words were said; ``leaving``: it was asked for a last word.
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
    cause: Cause = "client"
    context: list[Item] | None = None
    status: str = "in_progress"
    status_details: JsonObject | None = None
    usage: JsonObject | None = None
    output: list[Item] = field(default_factory=list)
    awaiting: set[str] = field(default_factory=set)
    toolset: Toolset = field(default_factory=Toolset)
    words: str = ""
    farewell: bool = False
    replying: bool = False
    bridging: bool = False
    rounds: int = 0
    calls: dict[int, Item] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    successor: tuple[Colleague, AgentSpec] | None = None
    started: bool = False
    leaving: bool = False
    gate: Gate | None = None
    played_until: int = 0
    prompt_characters: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    spoke: bool = False
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

    def speak_as(self, voice: str | JsonObject) -> None:
        self.voice_wire = voice
        self.voice = voice if isinstance(voice, str) else voice["id"]

    # ---- items ----

    def _add_item(self, item: Item) -> None:
        item.status = "in_progress"
        self.output.append(item)
        self._open = item
        self.say(ev.OutputItemAdded(response_id=self.id, output_index=self.index_of(item), item=item.wire()))
        if self.conversation is not None:
            previous = self.conversation.append(item)
            self.say(ev.ItemAdded(previous_item_id=previous, item=item.wire()))

    def index_of(self, item: Item) -> int:
        return self.output.index(item)

    def _end_item(self, item: Item, status: str) -> None:
        item.status = status
        if self._open is item:
            self._open = None
        if self.conversation is not None and self.conversation.keeps(item):
            self.say(ev.ItemDone(previous_item_id=self.conversation.previous_id(item.id), item=item.wire()))
        self.say(ev.OutputItemDone(response_id=self.id, output_index=self.index_of(item), item=item.wire()))

    def close_item(self, status: str = "completed") -> Item | None:
        """Finish the item that is open, if one is; returns it."""
        item = self._open
        if item is None:
            return None
        if item.type == "message":
            self._close_message(item)
        elif item.type == "mcp_call":
            self._open = None  # it has no result yet
            index = self.index_of(item)
            self.say(
                ev.McpArgumentsDone(response_id=self.id, output_index=index, item_id=item.id, arguments=item.arguments)
            )
            return item
        else:
            self.say(
                ev.ArgumentsDone(
                    response_id=self.id,
                    output_index=self.index_of(item),
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
        item = Item(self.new_id("item"), "message", role="assistant", bridge=self.bridging)
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
                response_id=self.id, output_index=self.index_of(item), item_id=item.id, content_index=0, part=part
            )
        )
        return item

    def text(self, delta: str) -> None:
        """Words of the answer: written ones as they come, spoken ones just before their audio."""
        item = self.begin_message()
        self.spoke = True
        place: dict[str, Any] = {
            "response_id": self.id,
            "output_index": self.index_of(item),
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
                response_id=self.id, output_index=self.index_of(item), item_id=item.id, content_index=0, delta=delta
            )
        )

    def _close_message(self, item: Item) -> None:
        place: dict[str, Any] = {
            "response_id": self.id,
            "output_index": self.index_of(item),
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

    # ---- calls ----

    @property
    def asks_client(self) -> bool:
        """The client's turn: it has functions to run, or something to approve."""
        return any(
            item.type == "function_call" or (item.approval_request_id is not None and item.status == "in_progress")
            for item in self.calls.values()
        )

    def tool_call(self, index: int, name: str, arguments: str) -> None:
        """A piece of the ``index``-th call of a reply; the first one names the function."""
        item = self.calls.get(index)
        if item is None:
            self.close_item()
            item = self._call_of(name)
            self.calls[index] = item
            self._add_item(item)
        if item is not self._open or not arguments:
            return
        item.arguments += arguments
        place: dict[str, Any] = {"response_id": self.id, "output_index": self.index_of(item), "item_id": item.id}
        if item.type == "mcp_call":
            self.say(ev.McpArgumentsDelta(**place, delta=arguments))
        else:
            self.say(ev.ArgumentsDelta(**place, call_id=item.call_id, delta=arguments))

    def _call_of(self, name: str) -> Item:
        round_id, call_id = f"{self.id}:{self.rounds}", self.new_id("call")
        if name in self.toolset.client:
            return Item(self.new_id("item"), "function_call", name=name, call_id=call_id, round_id=round_id)
        tool = self.toolset.server.get(name)
        return Item(
            self.new_id("item"),
            "mcp_call",
            name=name if tool is None else tool.name,
            server_label=UNKNOWN_LABEL if tool is None else tool.server_label,
            call_id=call_id,
            tool=tool,
            called=name,
            round_id=round_id,
        )

    def begin_call(self, item: Item) -> None:
        """It runs from now on, or has failed already."""
        item.begun = True
        self.say(ev.McpCallInProgress(item_id=item.id, output_index=self.index_of(item)))

    def end_call(self, item: Item) -> None:
        """``item`` has its output or its error."""
        self.running.discard(item.id)
        kind = ev.McpCallCompleted if item.error is None else ev.McpCallFailed
        self.say(kind(item_id=item.id, output_index=self.index_of(item)))
        self._end_item(item, "completed" if item.error is None else "failed")

    def ask_approval(self, call: Item) -> Item:
        """The request stands in the output behind the call that it is for."""
        request = Item(
            self.new_id("item"),
            "mcp_approval_request",
            name=call.name,
            server_label=call.server_label,
            arguments=call.arguments,
        )
        call.approval_request_id = request.id
        self._add_item(request)
        self._end_item(request, "completed")
        return request

    # ---- the end ----

    def count(self, input_tokens: int, output_tokens: int, cached_tokens: int) -> None:
        """What one of its replies took."""
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.cached_tokens += cached_tokens

    def _used(self) -> JsonObject:
        audio_tokens = -(-sum(item.audio_ms for item in self.output) // AUDIO_TOKEN_MS)
        cached = {"text_tokens": self.cached_tokens, "audio_tokens": 0, "image_tokens": 0}
        return {
            "total_tokens": self.input_tokens + self.output_tokens + audio_tokens,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens + audio_tokens,
            "input_token_details": {
                "text_tokens": self.input_tokens,
                "audio_tokens": 0,
                "image_tokens": 0,
                "cached_tokens": self.cached_tokens,
                "cached_tokens_details": cached,
            },
            "output_token_details": {"text_tokens": self.output_tokens, "audio_tokens": audio_tokens},
        }

    def finish(self, status: str, details: JsonObject | None = None) -> None:
        """Calls that wait for an approval stay as they are: the response does not wait for them."""
        self.close_item("completed" if status == "completed" else "incomplete")
        for item in self.output:
            if item.type != "mcp_call" or item.status != "in_progress" or item.approval_request_id is not None:
                continue
            if item.begun:
                item.error = INTERRUPTED.wire()
                self.say(ev.McpCallFailed(item_id=item.id, output_index=self.index_of(item)))
            self._end_item(item, "incomplete")
        self.running.clear()
        self.usage = self._used()
        self.status, self.status_details = status, details
        self.say(ev.ResponseDone(response=self.wire()))
