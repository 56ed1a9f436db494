"""Kokoro-82M through kokoro-onnx: 54 voices at 24 kHz.

The unit of work is one inference over one phrase, about 0.2 s of compute (two cores, int8) per second of speech with a
floor of 0.2 s. A requested stop ends a running inference between two graph nodes, so a long phrase is no obstacle.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from kokoro_onnx import Kokoro as KokoroOnnx

from speech import audio
from speech.engines import TTS_HZ, EngineError, EngineRefused, Pcm, Stop
from speech.phrases import PhraseSplitter, speakable
from speech.stop import StopSignal
from speech.tempo import change_tempo
from speech.tts.voices import VOICES, language_of, resolve_voice

# Kokoro's silence is trimmed off; what punctuation calls for is put back behind each unit.
SENTENCE_PAUSE_S = 0.22
CLAUSE_PAUSE_S = 0.09
UNIT_CHARACTERS = 240
SLOWEST, FASTEST = 0.25, 4.0
# Beyond these Kokoro's words blur: it speaks at the nearest, and the rest is done to the sound.
NATIVE_SLOWEST, NATIVE_FASTEST = 0.5, 2.0


class Kokoro:
    """A loaded and warmed Kokoro; ``synthesise`` may be called from several threads."""

    name = "kokoro"
    voices = frozenset(VOICES)

    def __init__(self, model: Path, voices: Path, *, device: str = "auto", threads: int = 4) -> None:
        """Paths of the ONNX file and of the voices. Raises EngineError when they or the device cannot be used."""
        has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        if device == "cuda" and not has_cuda:
            raise EngineError(
                "AVB_TTS_DEVICE is cuda, but this onnxruntime has no CUDA provider; install the gpu extra"
            )
        providers = ["CUDAExecutionProvider"] if has_cuda and device != "cpu" else []
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin after an inference would take the cores from whoever transcribes meanwhile.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(str(model), options, [*providers, "CPUExecutionProvider"])
            self._session = _Interruptible(session)
            self._kokoro = KokoroOnnx.from_session(self._session, str(voices))
        except Exception as error:  # onnxruntime's errors share no base class
            raise EngineError(f"Kokoro does not load from {model.name}: {error}") from error
        self.device = "cuda" if session.get_providers()[0] == "CUDAExecutionProvider" else "cpu"
        if device == "cuda" and self.device != "cuda":
            raise EngineError("AVB_TTS_DEVICE is cuda, but onnxruntime fell back to the CPU; see its log above")
        # espeak keeps its state in globals.
        self._espeak = threading.Lock()
        for _ in self.synthesise("Hello.", voice="af_heart"):
            pass

    def synthesise(self, text: str, *, voice: str, speed: float = 1.0, stop: Stop | None = None) -> Iterator[Pcm]:
        kokoro_voice = resolve_voice(voice)
        if not SLOWEST <= speed <= FASTEST:
            raise EngineRefused(f"speed must be between {SLOWEST} and {FASTEST}, not {speed}")
        stop = stop or StopSignal()
        native = min(max(speed, NATIVE_SLOWEST), NATIVE_FASTEST)
        for unit in PhraseSplitter.whole(speakable(text), limit=UNIT_CHARACTERS):
            if stop.requested:
                return
            pcm = change_tempo(self._speak(unit, kokoro_voice, native, stop), TTS_HZ, speed / native)
            if stop.requested:
                return
            if len(pcm):
                yield pcm

    def _speak(self, unit: str, kokoro_voice: str, speed: float, stop: Stop) -> Pcm:
        try:
            with self._espeak:
                phonemes = self._kokoro.tokenizer.phonemize(unit, language_of(kokoro_voice))
            if not self._kokoro.tokenizer.tokenize(" ".join(phonemes.split())):
                return np.empty(0, np.int16)
            with self._session.stoppable(stop):
                samples, _ = self._kokoro.create(phonemes, kokoro_voice, speed, is_phonemes=True)
        except Exception as error:  # onnxruntime's and espeak's errors share no base class
            if stop.requested:
                return np.empty(0, np.int16)
            raise EngineError(f"Kokoro failed: {type(error).__name__}") from error
        return np.concatenate([audio.to_pcm(samples.astype(np.float32)), np.zeros(_pause_samples(unit), np.int16)])


def _pause_samples(unit: str) -> int:
    last = unit.rstrip(" \n\t\"'”’)]}»」』）")[-1:]
    pause_s = (
        SENTENCE_PAUSE_S if last in set(".!?…。！？।؟") else CLAUSE_PAUSE_S if last in set(",;:—–、，；：،") else 0.0
    )
    return int(pause_s * TTS_HZ)


class _Interruptible:
    """A session whose ``run`` ends, with onnxruntime's error, when the calling thread's stop is requested."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._running = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    @contextlib.contextmanager
    def stoppable(self, stop: Stop) -> Iterator[None]:
        options = onnxruntime.RunOptions()
        stop.on_request(lambda: setattr(options, "terminate", True))
        self._running.options = options
        try:
            yield
        finally:
            self._running.options = None

    def run(self, outputs: list[str] | None, inputs: dict[str, Any]) -> Any:
        return self._session.run(outputs, inputs, getattr(self._running, "options", None))
