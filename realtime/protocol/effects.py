"""What a session asks its runner to do. Effects are plain values; doing them never changes the session directly."""

from dataclasses import dataclass
from typing import Any, Literal

from agents.llm.types import Request
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
    """Answered by Reply… results with the same ``response_id``, the last of them ReplyFinished or ReplyFailed."""

    response_id: str
    request: Request
    modality: Modality
    voice: str
    speed: float


@dataclass(frozen=True, slots=True)
class CancelReply:
    response_id: str


@dataclass(frozen=True, slots=True)
class Store:
    """An item has reached a state worth keeping; sent again when that state changes."""

    item: dict[str, Any]
    previous_item_id: str | None
    response_id: str | None = None
    audio_ms: int = 0


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
    code: int
    reason: str


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
    | Store
    | Forget
    | Mark
    | Close
)
