"""What a session asks its runner to do. Effects are plain values; doing them never changes the session directly."""

from dataclasses import dataclass
from typing import Any, Literal

from agents.llm.types import Request
from agents.tools.types import McpServer, ToolSpec
from realtime.protocol.events import Modality, ServerEvent
from speech.engines import Pcm


@dataclass(frozen=True, slots=True)
class Send:
    event: ServerEvent


@dataclass(frozen=True, slots=True)
class OpenListening:
    """Score what follows under this generation; scores of older generations are no longer wanted."""

    generation: int


@dataclass(frozen=True, slots=True)
class CloseListening:
    pass


@dataclass(frozen=True, slots=True)
class Listen:
    pcm_24khz: Pcm


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Answered by TranscriptReady or TranscriptFailed with the same ``job_id``; before, if ``segments`` are wanted, by
    any number of SegmentReady. A ``guess`` is soon worth nothing: it may fail rather than wait."""

    job_id: str
    pcm_24khz: Pcm
    language: str | None
    prompt: str | None
    segments: bool = False
    guess: bool = False


@dataclass(frozen=True, slots=True)
class DropTranscription:
    job_id: str


@dataclass(frozen=True, slots=True)
class JudgeTurn:
    """Has the caller finished? Answered by TurnJudged with the same ``judgement_id``, or never."""

    judgement_id: str
    pcm_24khz: Pcm


@dataclass(frozen=True, slots=True)
class CountTokens:
    """A response has used these. Answered by RateLimited, soon."""

    tokens: int
    response_id: str = ""


@dataclass(frozen=True, slots=True)
class StartReply:
    """Answered by Reply… results with the same ``response_id``, the last of them ReplyFinished or ReplyFailed.

    ``words`` are said instead of asking a model: a greeting, a filler, a guard rail's answer; ``request`` is None then.
    A response may have several replies, one after the other: a tool's result is answered by the next.
    """

    response_id: str
    request: Request | None
    modality: Modality
    voice: str
    speed: float
    words: str = ""


@dataclass(frozen=True, slots=True)
class CancelReply:
    """The response is over; its tools are cancelled one by one (CancelTool)."""

    response_id: str


@dataclass(frozen=True, slots=True)
class RunTool:
    """Answered by ToolAnswered with the same ``run_id``, which is the id of the item that shows it."""

    run_id: str
    tool: ToolSpec
    arguments: str


@dataclass(frozen=True, slots=True)
class CancelTool:
    """Also a hand-off that is being loaded, by its ``run_id``, and a list of tools, by its ``list_id``. Nobody waits
    for an answer any more."""

    run_id: str


@dataclass(frozen=True, slots=True)
class ListTools:
    """Answered by ToolsListed or ToolsNotListed with the same ``list_id``."""

    list_id: str
    server: McpServer


@dataclass(frozen=True, slots=True)
class HandOff:
    """Load the agent that takes over. Answered by HandedOff or HandOffFailed with the same ``run_id``."""

    run_id: str
    agent: str


@dataclass(frozen=True, slots=True)
class Route:
    """Which agent should answer the caller's first words? Answered by Routed, soon: the runner waits no longer than
    its limit for a model's opinion."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Remind:
    """Answered by Reminded with the same ``reminder_id`` after that time, unless a newer one has the same id."""

    reminder_id: str
    after_ms: int


@dataclass(frozen=True, slots=True)
class Place:
    """Words of a transcript, from character ``start`` to ``end``, and where they are heard, in samples at 24 kHz."""

    start: int
    end: int
    first_sample: int
    last_sample: int


@dataclass(frozen=True, slots=True)
class Store:
    """An item has reached a state worth keeping; sent again when that state changes. ``agent`` and ``agent_version``
    made it, or were there when it was said; ``receipt`` as JSON where a tool ran.

    ``heard``: of what a caller said, once its words are known or lost, where it begins and ends in samples of the call.
    ``places`` of its words, as far as they are known: in the call where ``heard`` is given, else in the item's audio.
    """

    item: dict[str, Any]
    previous_item_id: str | None
    response_id: str | None = None
    audio_ms: int = 0
    agent: str = ""
    agent_version: int = 0
    receipt: dict[str, Any] | None = None
    heard: tuple[int, int] | None = None
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Forget:
    """The client has deleted an item."""

    item_id: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A stage of the caller's turn was reached; the runner notes the time for ``realtime.runtime.timings``.

    A transcript says for the ledger whose words were recognised, how long they were, and by which engine and model;
    nothing where it failed.
    """

    stage: Literal["speech_stopped", "transcript"]
    item_id: str = ""
    audio_ms: int = 0
    engine: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Close:
    """``after_ms``: what was said is played out first."""

    code: int
    reason: str
    after_ms: int = 0


Effect = (
    Send
    | OpenListening
    | CloseListening
    | Listen
    | Transcribe
    | DropTranscription
    | JudgeTurn
    | CountTokens
    | StartReply
    | CancelReply
    | RunTool
    | CancelTool
    | ListTools
    | HandOff
    | Route
    | Remind
    | Store
    | Forget
    | Mark
    | Close
)
