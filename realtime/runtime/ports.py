"""The narrow interfaces that a runner needs. Real ones are wired in ``agentvoicebox/gateway.py``; tests wire scripted ones."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from agents.llm.types import LanguageModel
from realtime.archive.events import AnyArchiveEvent
from speech.engines import Pcm, Transcript

Scored = Callable[[int, float], None]
"""Called on the event loop for each 32 ms window: (its last sample at 16 kHz, counted from the stream's start, probability)."""


@dataclass(frozen=True, slots=True)
class SpokenChunk:
    """PCM at 24 kHz, in order, without gap or repeat. ``degraded``: not the first-choice engine."""

    pcm: Pcm
    engine: str
    degraded: bool = False


class ListeningStream(Protocol):
    """One caller's audio on its way to voice activity detection."""

    def push(self, pcm_24khz: Pcm) -> None:
        """Never blocks; resampling and scoring happen off the event loop, batched over calls."""
        ...

    def close(self) -> None: ...


class Listening(Protocol):
    def open(self, scored: Scored) -> ListeningStream: ...


class Hearing(Protocol):
    async def transcribe(
        self, pcm: Pcm, *, tenant: str, session_id: str, sample_rate_hz: int, language: str | None, prompt: str | None
    ) -> Transcript:
        """Raises speech.engines.SpeechFailed. Cancelling the task drops the job, on the worker too."""
        ...


class Speaking(Protocol):
    def synthesise(self, text: str, *, tenant: str, session_id: str, voice: str, speed: float) -> AsyncIterator[SpokenChunk]:
        """One phrase. Raises speech.engines.SpeechFailed. Closing the iterator drops the job, on the worker too."""
        ...


class Archive(Protocol):
    def put(self, tenant: str, event: AnyArchiveEvent) -> None:
        """Never blocks, never raises: buffered in memory, flushed to the durable stream in the background."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    listening: Listening
    hearing: Hearing
    speaking: Speaking
    model: LanguageModel
    archive: Archive
