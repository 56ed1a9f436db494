"""Smart Turn v3 over onnxruntime: has the speaker finished, or only paused? From the sound alone, in 23 languages.

The model hears exactly eight seconds that end where the turn has come to: a longer turn loses its beginning, a shorter
one has zeros in front. What counts is what is said and how the voice falls at the end; when it fell by itself, it
hardly matters whether 0.2 or 1 s of silence follow. Silence alone, and scraps too short to be words, the model calls
finished: ask it only when there was speech.
"""

from pathlib import Path

import numpy as np

from speech.audio import to_float
from speech.engines import STT_HZ, TURN_WINDOW_S, EngineError, Pcm
from speech.onnx import open_on_one_core
from speech.turn.mel import log_mel

VARIANCE_FLOOR = np.float32(1e-7)
WINDOW_SAMPLES = int(TURN_WINDOW_S * STT_HZ)


class SmartTurn:
    """Implements ``speech.engines.EndOfTurn`` on one core."""

    name = "smart-turn"

    def __init__(self, model: Path) -> None:
        """Path of the ONNX file. Raises EngineError when it does not load or is another model."""
        self._session = open_on_one_core(model, "Smart Turn")
        if [entry.name for entry in self._session.get_inputs()] != ["input_features"]:
            raise EngineError(f"{model.name} does not take input_features alone; use smart-turn-v3.2-cpu.onnx")
        # The first inference allocates; no caller shall wait for that.
        self.probability_complete(np.zeros(0, np.int16))

    def probability_complete(self, pcm_16khz: Pcm) -> float:
        window = np.zeros(WINDOW_SAMPLES, np.float32)
        heard = to_float(pcm_16khz[-WINDOW_SAMPLES:])
        window[WINDOW_SAMPLES - len(heard) :] = heard
        # Zero mean and unit variance over all eight seconds, the zeros in front included: so it was trained.
        window -= window.mean()
        window /= np.sqrt(window.var() + VARIANCE_FLOOR)
        [probability] = self._session.run(None, {"input_features": log_mel(window)[None]})
        return float(probability.item())
