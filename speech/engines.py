"""What an engine is: the narrow, synchronous interfaces that workers call; under stt/ tts/ vad/ one module for each.

Audio inside the product is mono signed 16-bit PCM as ``numpy.int16`` arrays; the rate is part of every name.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.int16]

STT_HZ = 16_000
TTS_HZ = 24_000
TURN_WINDOW_S = 8.0


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word; times in seconds from the start of the utterance, probability 0..1."""

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said. ``text`` is stripped and empty when nothing was understood; ``language`` is ISO 639-1. ``engine``
    and ``model`` understood it; they are empty where nobody asks."""

    text: str
    language: str
    audio_s: float
    words: tuple[Word, ...] = ()
    engine: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a transcript on its way: the texts of all pieces, joined as they are, are the transcript's."""

    text: str
    words: tuple[Word, ...] = ()


Heard = Callable[[Segment], None]
"""Takes each segment but the last as soon as it is understood; the last comes with the transcript."""


@dataclass(frozen=True, slots=True)
class SpokenChunk:
    """PCM at 24 kHz, in order, without gap or repeat. ``degraded``: not the first-choice engine. ``model`` is the
    engine's, by its name in the manifest."""

    pcm: Pcm
    engine: str
    degraded: bool = False
    model: str = ""


class EngineError(Exception):
    """An engine could not do its work; the message is safe to show and holds no transcript text."""


class EngineRefused(EngineError):
    """The request itself cannot be met, by this engine or another try: an unknown voice, a speed out of range."""


class Stop(Protocol):
    """Asks running work to end, which looks at ``requested`` or leaves a callback. See ``speech.stop.StopSignal``."""

    @property
    def requested(self) -> bool: ...

    def on_request(self, callback: Callable[[], None]) -> None:
        """Call it when the stop is requested, or at once when it has been."""
        ...

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than until the stop is requested; says whether it is."""
        ...


class SpeechToText(Protocol):
    name: str

    def transcribe(
        self,
        pcm_16khz: Pcm,
        *,
        language: str | None = None,
        prompt: str | None = None,
        translate: bool = False,
        heard: Heard | None = None,
    ) -> Transcript:
        """Recognise one utterance. ``language`` None means detect; ``translate`` gives English words, and raises
        EngineRefused where the model knows no other language; ``heard`` gets segments as they come. Raises
        EngineError."""
        ...


class TextToSpeech(Protocol):
    name: str

    @property
    def voices(self) -> frozenset[str]: ...

    def synthesise(self, text: str, *, voice: str, speed: float = 1.0, stop: Stop | None = None) -> Iterator[Pcm]:
        """Speak one phrase as consecutive chunks at 24 kHz; nothing speakable gives no chunk.

        A requested ``stop`` ends the iterator, from inside a running inference too. Raises EngineError.
        """
        ...


class VoiceActivity(Protocol):
    """Scores windows of 512 samples at 16 kHz for many streams at once."""

    def score(
        self, windows: NDArray[np.float32], states: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``windows`` (streams, 576): 64 samples of context, then 512 new ones, in -1..1. ``states`` (2, streams, 128),
        zeros at a stream's start. Returns (probabilities (streams,), new states)."""
        ...


class EndOfTurn(Protocol):
    """Tells a finished turn from a pause within one. What is older than ``TURN_WINDOW_S`` changes nothing."""

    name: str

    def probability_complete(self, pcm_16khz: Pcm) -> float:
        """``pcm_16khz``: the turn so far, with the silence after its last word; any length, none too. 0..1, 1 for
        certainly finished. Raises EngineError."""
        ...


class SpeechFailed(Exception):
    """Speech asked for over the queues could not be had.

    ``code``: ``stt_timeout``, ``stt_failed``, ``tts_timeout``, ``tts_failed`` or ``speech_unavailable`` (no Redis).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
