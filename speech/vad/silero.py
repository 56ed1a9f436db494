"""Silero VAD over onnxruntime, many streams in one inference.

The file must take a batch of streams: ``silero_vad_op18_ifless.onnx`` does, and gives each stream bit for bit what it
would get alone. The copy inside faster-whisper does not: its first dimension is the time of one stream.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech.engines import EngineError
from speech.onnx import open_on_one_core

WINDOW_SAMPLES = 512
CONTEXT_SAMPLES = 64
STATE_SHAPE = (2, 128)
# Beyond this a batch gains nothing, and its memory leaves the cache.
BATCH = 256


class Silero:
    """Implements ``speech.engines.VoiceActivity`` on one core."""

    name = "silero"

    def __init__(self, model: Path) -> None:
        """Path of the ONNX file. Raises EngineError when it does not load or does not take batches."""
        self._session = open_on_one_core(model, "Silero")
        inputs = {entry.name for entry in self._session.get_inputs()}
        if not {"input", "state", "sr"} <= inputs:
            raise EngineError(f"{model.name} does not score several streams at once; use silero_vad_op18_ifless.onnx")
        self._rate = np.array(16_000, np.int64)
        self.score(np.zeros((2, CONTEXT_SAMPLES + WINDOW_SAMPLES), np.float32), np.zeros((2, 2, 128), np.float32))

    def score(
        self, windows: NDArray[np.float32], states: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if len(windows) > BATCH:
            halves = [
                self.score(windows[start : start + BATCH], states[:, start : start + BATCH])
                for start in range(0, len(windows), BATCH)
            ]
            return np.concatenate([half[0] for half in halves]), np.concatenate([half[1] for half in halves], axis=1)
        probabilities, after = self._session.run(None, {"input": windows, "state": states, "sr": self._rate})
        return probabilities[:, 0], after
