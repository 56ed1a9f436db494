"""Background noise taken out of a caller's audio, sample for sample: WebRTC's noise suppressor, stream by stream.

The suppressor hears 10 ms of 16 kHz at a time and answers 6 ms late, so audio goes down to 16 kHz, through it, and up
to 24 kHz again. Rules:
1. Sample n of the output is sample n of the input: the delay is taken out, so times counted in samples stay true.
2. ``push`` holds back what it cannot know yet, less than ``HELD_MS``; ``flush`` gives it. After that as many samples
   have come out as went in, and the stream goes on.
3. Nothing above 8 kHz comes through: voice activity, the judge of turns and the recogniser hear 16 kHz anyway.
"""

from collections import deque
from typing import Literal

import numpy as np
import soxr
from numpy.typing import NDArray
from webrtc_noise_gain import AudioProcessor

from speech.audio import from_bytes, to_float, to_pcm
from speech.engines import STT_HZ, TTS_HZ, Pcm

FRAME_SAMPLES = STT_HZ // 100
DELAY_SAMPLES = 96
HELD_MS = 40
# What flush feeds in behind the last sample, at 24 kHz: one frame, which is a whole number of samples at 16 kHz too.
PADDING_SAMPLES = TTS_HZ // 100

Field = Literal["near_field", "far_field"]
# WebRTC's steps of 6, 12, 18 and 21 dB. A microphone at the mouth has less to be rid of than one across the room; the
# last step costs the recogniser more words than the noise does.
LEVELS: dict[Field, int] = {"near_field": 2, "far_field": 3}


class NoiseSuppressor:
    """One caller's stream at 24 kHz. ``strength`` 0..1 is the share of the noise that is taken; it may be changed."""

    def __init__(self, field: Field, strength: float = 1.0) -> None:
        self.field = field
        self.strength = strength
        self._engine = AudioProcessor(0, LEVELS[field])
        # In floats: soxr adds dither to integers, which would be heard where there is silence.
        self._down = soxr.ResampleStream(TTS_HZ, STT_HZ, 1, dtype="float32", quality="LQ")
        self._up = soxr.ResampleStream(STT_HZ, TTS_HZ, 1, dtype="float32", quality="LQ")
        self._frame = np.empty(0, np.int16)
        self._late_samples = DELAY_SAMPLES
        self._heard: NDArray[np.float32] = np.empty(0, np.float32)
        self._taken = self._given = 0
        self._paddings: deque[int] = deque()

    def push(self, pcm_24khz: Pcm) -> Pcm:
        """The next samples, less noisy, as far as they are known."""
        return self._run(to_float(pcm_24khz))

    def flush(self) -> Pcm:
        """What is still held back."""
        end, pieces = self._taken, []
        # The end mirrored: a sudden silence would be taken for part of the sound.
        mirrored = self._heard[::-1]
        while self._given < end:
            padding = np.zeros(PADDING_SAMPLES, np.float32)
            known, mirrored = mirrored[:PADDING_SAMPLES], mirrored[PADDING_SAMPLES:]
            padding[: len(known)] = known
            self._paddings.append(self._taken)
            pieces.append(self._run(padding))
        return np.concatenate(pieces) if pieces else np.empty(0, np.int16)

    def _run(self, samples: NDArray[np.float32]) -> Pcm:
        self._taken += len(samples)
        self._heard = np.concatenate([self._heard, samples])
        cleaned = self._up.resample_chunk(self._suppress(to_pcm(self._down.resample_chunk(samples))))
        heard, self._heard = self._heard[: len(cleaned)], self._heard[len(cleaned) :]
        if self.strength < 1:
            cleaned = heard + np.float32(self.strength) * (cleaned - heard)
        begins, self._given = self._given, self._given + len(cleaned)
        return self._without_padding(to_pcm(cleaned), begins)

    def _suppress(self, pcm_16khz: Pcm) -> NDArray[np.float32]:
        waiting = np.concatenate([self._frame, pcm_16khz])
        whole = len(waiting) - len(waiting) % FRAME_SAMPLES
        self._frame = waiting[whole:]
        raw = waiting[:whole].tobytes()
        step = 2 * FRAME_SAMPLES
        cleaned = b"".join(
            self._engine.Process10ms(raw[start : start + step]).audio for start in range(0, len(raw), step)
        )
        samples = to_float(from_bytes(cleaned))
        late = min(self._late_samples, len(samples))
        self._late_samples -= late
        return samples[late:]

    def _without_padding(self, pcm: Pcm, begins: int) -> Pcm:
        ends = begins + len(pcm)
        kept: list[Pcm] = []
        at = begins
        while self._paddings and self._paddings[0] < ends:
            padding = self._paddings[0]
            kept.append(pcm[at - begins : max(padding, at) - begins])
            at = min(padding + PADDING_SAMPLES, ends)
            if padding + PADDING_SAMPLES > ends:
                break
            self._paddings.popleft()
        kept.append(pcm[at - begins :])
        return np.concatenate(kept) if len(kept) > 1 else kept[0]
