"""Piper, the fallback: one voice whatever is asked for, several times faster than Kokoro. Needs the extra ``piper``."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speech import audio
from speech.engines import TTS_HZ, EngineError, Pcm, Stop
from speech.phrases import speakable
from speech.tts.voices import VOICES


class PiperMissing(EngineError):
    """piper-tts is not installed."""


class Piper:
    """A loaded and warmed Piper voice; its 22.05 kHz leave here as 24 kHz."""

    name = "piper"
    device = "cpu"
    voices = frozenset(VOICES)

    def __init__(self, model: Path) -> None:
        """``model`` is the ``.onnx`` with its ``.onnx.json`` beside it. Raises PiperMissing or EngineError."""
        try:
            # An optional extra under another licence: imported only where somebody installed it.
            from piper import PiperVoice, SynthesisConfig
        except ImportError as error:
            raise PiperMissing("piper-tts is not installed; install the extra 'piper'") from error
        try:
            self._voice: Any = PiperVoice.load(model)
        except Exception as error:  # onnxruntime's errors share no base class
            raise EngineError(f"Piper does not load from {model.name}: {error}") from error
        self._configure = SynthesisConfig
        # espeak keeps its state in globals.
        self._espeak = threading.Lock()
        for _ in self.synthesise("Hello.", voice="alloy"):
            pass

    def synthesise(self, text: str, *, voice: str, speed: float = 1.0, stop: Stop | None = None) -> Iterator[Pcm]:
        spoken = speakable(text)
        if not spoken:
            return
        try:
            with self._espeak:
                for chunk in self._voice.synthesize(spoken, self._configure(length_scale=1.0 / speed)):
                    if stop and stop.requested:
                        return
                    yield audio.resample(audio.from_bytes(chunk.audio_int16_bytes), chunk.sample_rate, TTS_HZ)
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(f"Piper failed: {type(error).__name__}") from error
