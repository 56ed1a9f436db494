"""Everything that enters a session and everything it says: client events, results of engines, server events.

Client events arrive checked (``contract``); their nested objects keep the wire's shape. Server events are the wire's
objects; ``Session`` gives each its ``event_id`` when it is sent.
"""

from typing import Any, Literal

import msgspec

from agents.spec import AgentSpec
from agents.tools.types import ToolAnswer, ToolError, ToolSpec
from speech.engines import Pcm, Segment, Transcript

JsonObject = dict[str, Any]


# ---- from the client ----


class ClientEvent(msgspec.Struct, kw_only=True, frozen=True):
    event_id: str | None = None


class SessionUpdate(ClientEvent, frozen=True, kw_only=True):
    """``instructions``: those of the stored prompt that ``session.prompt`` names, filled in by the runner."""

    session: JsonObject
    instructions: str | None = None


class InputAudioAppend(ClientEvent, frozen=True, kw_only=True):
    """``audio`` in the session's input format, base64 already undone."""

    audio: bytes


class InputAudioCommit(ClientEvent, frozen=True, kw_only=True):
    pass


class InputAudioClear(ClientEvent, frozen=True, kw_only=True):
    pass


class OutputAudioClear(ClientEvent, frozen=True, kw_only=True):
    pass


class ItemCreate(ClientEvent, frozen=True, kw_only=True):
    item: JsonObject
    previous_item_id: str | None = None


class ItemTruncate(ClientEvent, frozen=True, kw_only=True):
    item_id: str
    content_index: int
    audio_end_ms: int


class ItemDelete(ClientEvent, frozen=True, kw_only=True):
    item_id: str


class ItemRetrieve(ClientEvent, frozen=True, kw_only=True):
    item_id: str


class ResponseCreate(ClientEvent, frozen=True, kw_only=True):
    """``instructions`` as of SessionUpdate."""

    response: JsonObject = {}
    instructions: str | None = None


class ResponseCancel(ClientEvent, frozen=True, kw_only=True):
    response_id: str | None = None


class Refused(ClientEvent, frozen=True, kw_only=True):
    """A frame that is no valid client event; the session answers with this error and goes on."""

    code: str | None
    message: str
    param: str | None = None


# ---- from engines and clocks ----


class Result(msgspec.Struct, kw_only=True, frozen=True):
    pass


class WindowScored(Result, frozen=True, kw_only=True):
    """One 32 ms window: its last sample at 16 kHz since listening ``generation`` began, and its speech probability."""

    generation: int
    end_sample_16khz: int
    probability: float


class TranscriptReady(Result, frozen=True, kw_only=True):
    job_id: str
    transcript: Transcript


class SegmentReady(Result, frozen=True, kw_only=True):
    """A piece of a transcript that is not complete yet."""

    job_id: str
    segment: Segment


class TranscriptFailed(Result, frozen=True, kw_only=True):
    job_id: str
    code: str
    message: str


class TurnJudged(Result, frozen=True, kw_only=True):
    """How likely (0..1) it is that the caller has finished."""

    judgement_id: str
    probability: float


class RateLimited(Result, frozen=True, kw_only=True):
    """What is left of the tokens per minute, and of the requests where somebody counts them; ``reset_s`` until all of
    them are back."""

    limit: int
    remaining: int
    reset_s: float
    requests_limit: int | None = None
    requests_remaining: int = 0
    requests_reset_s: float = 0.0


class ReplyBegan(Result, frozen=True, kw_only=True):
    """The model has begun to put the answer into words."""

    response_id: str


class ReplyText(Result, frozen=True, kw_only=True):
    """In a text answer: tokens. In a spoken answer: the phrase whose audio comes next."""

    response_id: str
    text: str


class ReplyAudio(Result, frozen=True, kw_only=True):
    response_id: str
    pcm_24khz: Pcm


class ReplyToolCall(Result, frozen=True, kw_only=True):
    """A piece of the ``index``-th tool call; the first piece names ``call_id`` and ``name``."""

    response_id: str
    index: int
    arguments: str
    call_id: str = ""
    name: str = ""


class ReplyFinished(Result, frozen=True, kw_only=True):
    """``reason``: stop, length, tool_calls or content_filter. ``provider`` and ``model`` have answered; ``degraded``:
    none could, and the caller was told so."""

    response_id: str
    reason: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    provider: str = ""
    model: str = ""
    degraded: bool = False


class ReplyFailed(Result, frozen=True, kw_only=True):
    response_id: str
    code: str
    message: str


class ToolAnswered(Result, frozen=True, kw_only=True):
    run_id: str
    answer: ToolAnswer


class ToolsListed(Result, frozen=True, kw_only=True):
    list_id: str
    tools: tuple[ToolSpec, ...]


class ToolsNotListed(Result, frozen=True, kw_only=True):
    list_id: str
    error: ToolError


class HandedOff(Result, frozen=True, kw_only=True):
    """``agent`` answers from now on."""

    run_id: str
    agent: AgentSpec


class HandOffFailed(Result, frozen=True, kw_only=True):
    run_id: str
    message: str


class Routed(Result, frozen=True, kw_only=True):
    """Who answers the caller's first words; None: who was there already."""

    agent: AgentSpec | None


class Reminded(Result, frozen=True, kw_only=True):
    reminder_id: str


class ListeningFailed(Result, frozen=True, kw_only=True):
    """The caller can no longer be heard."""

    code: str
    message: str


class SessionExpired(Result, frozen=True, kw_only=True):
    """The session's longest life is over."""


Input = ClientEvent | Result


# ---- to the client ----


class ServerEvent(msgspec.Struct, kw_only=True, tag_field="type"):
    event_id: str = ""


class ErrorBody(msgspec.Struct, kw_only=True):
    type: str
    message: str
    code: str | None = None
    param: str | None = None
    event_id: str | None = None


class Error(ServerEvent, tag="error", kw_only=True):
    error: ErrorBody


class SessionCreated(ServerEvent, tag="session.created", kw_only=True):
    session: JsonObject


class SessionUpdated(ServerEvent, tag="session.updated", kw_only=True):
    session: JsonObject


class SpeechStarted(ServerEvent, tag="input_audio_buffer.speech_started", kw_only=True):
    audio_start_ms: int
    item_id: str


class SpeechStopped(ServerEvent, tag="input_audio_buffer.speech_stopped", kw_only=True):
    audio_end_ms: int
    item_id: str


class Committed(ServerEvent, tag="input_audio_buffer.committed", kw_only=True):
    item_id: str
    previous_item_id: str | None


class Cleared(ServerEvent, tag="input_audio_buffer.cleared", kw_only=True):
    pass


class TimeoutTriggered(ServerEvent, tag="input_audio_buffer.timeout_triggered", kw_only=True):
    audio_start_ms: int
    audio_end_ms: int
    item_id: str


class RateLimitsUpdated(ServerEvent, tag="rate_limits.updated", kw_only=True):
    rate_limits: list[JsonObject]


class ItemAdded(ServerEvent, tag="conversation.item.added", kw_only=True):
    item: JsonObject
    previous_item_id: str | None


class ItemDone(ServerEvent, tag="conversation.item.done", kw_only=True):
    item: JsonObject
    previous_item_id: str | None


class ItemRetrieved(ServerEvent, tag="conversation.item.retrieved", kw_only=True):
    item: JsonObject


class ItemDeleted(ServerEvent, tag="conversation.item.deleted", kw_only=True):
    item_id: str


class ItemTruncated(ServerEvent, tag="conversation.item.truncated", kw_only=True):
    item_id: str
    content_index: int
    audio_end_ms: int


class TranscriptionDelta(ServerEvent, tag="conversation.item.input_audio_transcription.delta", kw_only=True):
    item_id: str
    delta: str
    content_index: int = 0
    logprobs: list[JsonObject] | msgspec.UnsetType = msgspec.UNSET


class TranscriptionCompleted(ServerEvent, tag="conversation.item.input_audio_transcription.completed", kw_only=True):
    item_id: str
    transcript: str
    usage: JsonObject
    content_index: int = 0
    logprobs: list[JsonObject] | msgspec.UnsetType = msgspec.UNSET


class TranscriptionSegment(ServerEvent, tag="conversation.item.input_audio_transcription.segment", kw_only=True):
    """Times in seconds from the item's start."""

    item_id: str
    id: str
    text: str
    speaker: str
    start: float
    end: float
    content_index: int = 0


class TranscriptionFailed(ServerEvent, tag="conversation.item.input_audio_transcription.failed", kw_only=True):
    item_id: str
    error: JsonObject
    content_index: int = 0


class ResponseCreated(ServerEvent, tag="response.created", kw_only=True):
    response: JsonObject


class ResponseDone(ServerEvent, tag="response.done", kw_only=True):
    response: JsonObject


class OfResponse(ServerEvent, kw_only=True):
    response_id: str
    output_index: int


class OutputItemAdded(OfResponse, tag="response.output_item.added", kw_only=True):
    item: JsonObject


class OutputItemDone(OfResponse, tag="response.output_item.done", kw_only=True):
    item: JsonObject


class OfPart(OfResponse, kw_only=True):
    item_id: str
    content_index: int


class ContentPartAdded(OfPart, tag="response.content_part.added", kw_only=True):
    part: JsonObject


class ContentPartDone(OfPart, tag="response.content_part.done", kw_only=True):
    part: JsonObject


class OutputTextDelta(OfPart, tag="response.output_text.delta", kw_only=True):
    delta: str


class OutputTextDone(OfPart, tag="response.output_text.done", kw_only=True):
    text: str


class OutputTranscriptDelta(OfPart, tag="response.output_audio_transcript.delta", kw_only=True):
    delta: str


class OutputTranscriptDone(OfPart, tag="response.output_audio_transcript.done", kw_only=True):
    transcript: str


class OutputAudioDelta(OfPart, tag="response.output_audio.delta", kw_only=True):
    """``delta`` is raw audio in the response's output format; the wire writes it as base64."""

    delta: bytes


class OutputAudioDone(OfPart, tag="response.output_audio.done", kw_only=True):
    pass


class ArgumentsDelta(OfResponse, tag="response.function_call_arguments.delta", kw_only=True):
    item_id: str
    call_id: str
    delta: str


class ArgumentsDone(OfResponse, tag="response.function_call_arguments.done", kw_only=True):
    item_id: str
    call_id: str
    name: str
    arguments: str


class McpArgumentsDelta(OfResponse, tag="response.mcp_call_arguments.delta", kw_only=True):
    item_id: str
    delta: str


class McpArgumentsDone(OfResponse, tag="response.mcp_call_arguments.done", kw_only=True):
    item_id: str
    arguments: str


class OfMcpCall(ServerEvent, kw_only=True):
    """``output_index`` counts in the response whose output has the call; an approved call may outlive it."""

    item_id: str
    output_index: int


class McpCallInProgress(OfMcpCall, tag="response.mcp_call.in_progress", kw_only=True):
    pass


class McpCallCompleted(OfMcpCall, tag="response.mcp_call.completed", kw_only=True):
    pass


class McpCallFailed(OfMcpCall, tag="response.mcp_call.failed", kw_only=True):
    pass


class OfMcpList(ServerEvent, kw_only=True):
    item_id: str


class McpListInProgress(OfMcpList, tag="mcp_list_tools.in_progress", kw_only=True):
    pass


class McpListCompleted(OfMcpList, tag="mcp_list_tools.completed", kw_only=True):
    pass


class McpListFailed(OfMcpList, tag="mcp_list_tools.failed", kw_only=True):
    pass


Modality = Literal["text", "audio"]
