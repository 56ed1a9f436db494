"""What an engine is: the narrow, synchronous interfaces that workers call. One module per engine lives under stt/, tts/, vad/.

Audio inside the product is mono signed 16-bit PCM as ``numpy.int16`` arrays; the rate is part of every name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.int16]

STT_HZ = 16_000
TTS_HZ = 24_000


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word; times in seconds from the start of the utterance, probability 0..1."""

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said. ``text`` is stripped and empty when nothing was understood; ``language`` is ISO 639-1."""

    text: str
    language: str
    audio_s: float
    words: tuple[Word, ...] = ()


class EngineError(Exception):
    """An engine could not do its work; the message is safe to show and holds no transcript text."""


class SpeechToText(Protocol):
    name: str

    def transcribe(self, pcm_16khz: Pcm, *, language: str | None = None, prompt: str | None = None) -> Transcript:
        """Recognise one utterance. ``language`` None means detect. Raises EngineError."""
        ...


class TextToSpeech(Protocol):
    name: str

    @property
    def voices(self) -> frozenset[str]: ...

    def synthesise(self, text: str, *, voice: str, speed: float = 1.0) -> Iterator[Pcm]:
        """Speak one phrase as consecutive chunks at 24 kHz. Closing the iterator stops the work. Raises EngineError."""
        ...


class VoiceActivity(Protocol):
    """Scores windows of 512 samples at 16 kHz for many streams at once."""

    def score(self, windows: NDArray[np.float32], states: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``windows`` (streams, 576): 64 samples of context, then 512 new ones, in -1..1. Returns (probabilities, new states)."""
        ...


class SpeechFailed(Exception):
    """Speech asked for over the queues could not be had.

    ``code``: ``stt_timeout``, ``stt_failed``, ``tts_timeout``, ``tts_failed`` or ``speech_unavailable`` (no Redis).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
