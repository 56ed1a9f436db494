"""The narrow interfaces that a runner needs. ``agentvoicebox/gateway.py`` wires real ones; tests wire scripted ones."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from agents.llm.types import Finished, LanguageModel
from agents.spec import AgentSpec, Rule
from agents.tools.types import Toolbox
from realtime.archive.events import AnyArchiveEvent
from realtime.runtime.recorder import CallSheet, Tape
from realtime.runtime.register import SessionRecord
from speech.engines import Heard, Pcm, SpokenChunk, Transcript

__all__ = [
    "AgentUnavailable",
    "Archive",
    "Directory",
    "Hearing",
    "Judging",
    "Line",
    "LineRefused",
    "Listening",
    "ListeningStream",
    "Ports",
    "PromptRefused",
    "Recorder",
    "Register",
    "Scored",
    "Speaking",
    "SpokenChunk",
    "Toolbox",
    "Transport",
]

Scored = Callable[[int, float], None]
"""Called on the event loop for each 32 ms window: (last sample at 16 kHz from the stream's start, probability)."""


class ListeningStream(Protocol):
    """One caller's audio on its way to voice activity detection."""

    def push(self, pcm_24khz: Pcm) -> None:
        """Never blocks; resampling and scoring happen off the event loop, batched over calls.

        Raises speech.engines.SpeechFailed when the call cannot be listened to any more.
        """
        ...

    def close(self) -> None: ...


class Listening(Protocol):
    def open(self, scored: Scored) -> ListeningStream: ...


class Hearing(Protocol):
    async def transcribe(
        self,
        pcm: Pcm,
        *,
        tenant: str,
        session_id: str,
        sample_rate_hz: int,
        language: str | None,
        prompt: str | None,
        answer_s: float | None = None,
        heard: Heard | None = None,
    ) -> Transcript:
        """``answer_s``: the longest wait, as the engine's side has it when not given; ``heard`` gets segments as they
        come. Raises speech.engines.SpeechFailed. Cancelling the task drops the job, on the worker too.
        """
        ...


class Judging(Protocol):
    """Tells whether a caller who fell silent has finished, for turn detection of type ``semantic_vad``."""

    async def judge(self, pcm_24khz: Pcm) -> float:
        """``pcm_24khz``: the turn so far with the silence at its end; it must not be changed meanwhile.

        0..1, 1 for certainly finished, 0.0 when it cannot be told (overload, a broken engine): then silence decides.
        Never raises. Cancelling the task drops a judgement that has not begun.
        """
        ...


class Speaking(Protocol):
    def synthesise(
        self, text: str, *, tenant: str, session_id: str, voice: str, speed: float
    ) -> AsyncGenerator[SpokenChunk, None]:
        """One phrase. Raises speech.engines.SpeechFailed. Closing the iterator drops the job, on the worker too."""
        ...


class Archive(Protocol):
    def put(self, tenant: str, event: AnyArchiveEvent) -> None:
        """Never blocks, never raises: buffered in memory, flushed to the durable stream in the background."""
        ...


class Register(Protocol):
    """Where other processes see the calls in progress. Nothing here blocks or raises."""

    gateway_id: str

    def enter(self, record: SessionRecord) -> None: ...

    def change(self, session_id: str, **fields: Any) -> None: ...

    def leave(self, session_id: str, reason: str) -> None: ...


class Recorder(Protocol):
    """Keeps what both sides of a call were heard to say."""

    def open(self, sheet: CallSheet, clock: Callable[[], float]) -> Tape:
        """For a call that begins now. Neither this nor the tape blocks or raises."""
        ...


class AgentUnavailable(Exception):
    """The agent cannot take over; the message may be told to a model."""


class PromptRefused(Exception):
    """The stored prompt that a client names cannot be used. ``param`` is its path in the client's event."""

    def __init__(self, code: str, message: str, param: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class Directory(Protocol):
    """Agents other than the one that answers. Rows are read in threads."""

    async def load(self, tenant: str, slug: str, values: Mapping[str, str], *, subject: str) -> AgentSpec:
        """The published version, or the one that a trial gives to ``subject``: an end user, or a call where nobody is
        named. ``values`` are the call's variables. Raises AgentUnavailable."""
        ...

    async def prompt(
        self, tenant: str, prompt: dict[str, Any], values: Mapping[str, str], param: str, *, subject: str
    ) -> str:
        """The instructions of the stored prompt, which is an agent's version, with its variables filled in.
        ``prompt`` as clients send it: id, version, variables. Raises PromptRefused."""
        ...

    async def route(
        self,
        tenant: str,
        rules: tuple[Rule, ...],
        text: str,
        language: str,
        agent: AgentSpec,
        values: Mapping[str, str],
        *,
        subject: str,
        spend: Callable[[Finished], None],
    ) -> AgentSpec | None:
        """Who should answer the caller's first words; None: ``agent``, who was there already. ``spend`` is told what a
        model's opinion took. An agent that cannot be had, and a model that does not answer in time, raise nothing."""
        ...

    def remember(self, tenant: str, end_user: str, channel: str, entry: str, agent: str) -> None:
        """That ``agent`` now serves an end user who called ``entry``: a call that comes back soon is taken by it.
        Neither blocks nor raises."""
        ...


class Transport(Protocol):
    """What carries a call's events. ``receive`` gives None when the other side has gone; ``gone`` says in the archive's
    words why. ``send`` and ``close`` raise ConnectionError then.

    ``abilities``: which of the built-in tools ``transfer_call`` and ``send_dtmf`` it can do. One with any is a Line.
    """

    @property
    def gone(self) -> str: ...

    @property
    def abilities(self) -> frozenset[str]: ...

    async def receive(self) -> str | bytes | None: ...

    async def send(self, frame: str) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...


class LineRefused(Exception):
    """The telephone's side did not do it; the message may be told to a model."""


@runtime_checkable
class Line(Transport, Protocol):
    """A telephone's. Both raise LineRefused."""

    async def transfer(self, destination: str) -> None:
        """To a telephone number (E.164) or a SIP address; the call ends for us once the other side has taken it."""
        ...

    async def send_dtmf(self, digits: str) -> None:
        """``digits`` of 0-9, *, #, A-D."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """``model`` answers a request by its own chain of models. Without a ``recorder`` no call is recorded, whatever its
    agent says."""

    listening: Listening
    hearing: Hearing
    judging: Judging
    speaking: Speaking
    model: LanguageModel
    archive: Archive
    register: Register
    tools: Toolbox
    directory: Directory
    recorder: Recorder | None = None
