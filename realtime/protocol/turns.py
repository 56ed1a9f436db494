"""Turn taking by voice activity: speech probabilities in, turn events out. Time is the audio itself.

Three states: SILENT → SPEAKING (speech for ``MIN_SPEECH_MS``) → PAUSED (silence for ``pause_ms``) → SILENT (silence for
``silence_duration_ms``), and from PAUSED back to SPEAKING when speech goes on.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

WINDOW_MS = 32
MIN_SPEECH_MS = 128
HYSTERESIS = 0.15
RECHECK_MS = 960


@dataclass(frozen=True, slots=True)
class TurnTaking:
    """OpenAI's ``turn_detection`` settings, in ms and 0..1.

    ``complete`` is None for ``server_vad``. For ``semantic_vad`` it is how sure an end-of-turn model must be that the
    caller has finished; then ``silence_duration_ms`` is how long to wait when it is not.
    """

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 200
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: int | None = None
    complete: float | None = None


@dataclass(frozen=True, slots=True)
class Began:
    """Speech; its first window began at ``at_ms``."""

    at_ms: float


@dataclass(frozen=True, slots=True)
class Paused:
    """The caller may have finished; the last speech ended at ``at_ms``."""

    at_ms: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """The pause goes on: ``RECHECK_MS`` more of it have passed."""

    at_ms: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """They had not; the pause was ``after_ms`` long."""

    after_ms: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The turn is over; ``at_ms`` is now, the silence included."""

    at_ms: float


Turn = Began | Paused | Waiting | Resumed | Ended


class _State(Enum):
    SILENT = auto()
    SPEAKING = auto()
    PAUSED = auto()


@dataclass
class TurnDetector:
    """Feed windows in order; ``at_ms`` counts from wherever the caller counts, at the window's end."""

    vad: TurnTaking
    pause_ms: int = 96
    _state: _State = field(default=_State.SILENT, init=False)
    _speech_ms: float = field(default=0.0, init=False)
    _silence_ms: float = field(default=0.0, init=False)

    @property
    def paused(self) -> bool:
        return self._state is _State.PAUSED

    def end(self) -> None:
        """Somebody who understands what was said knows that the turn is over."""
        self._state, self._speech_ms = _State.SILENT, 0.0

    def step(self, at_ms: float, probability: float) -> list[Turn]:
        loud = probability >= self.vad.threshold
        quiet = probability < max(self.vad.threshold - HYSTERESIS, 0.01)
        if self._state is _State.SILENT:
            self._speech_ms = self._speech_ms + WINDOW_MS if loud else 0.0
            if self._speech_ms < MIN_SPEECH_MS:
                return []
            self._state, self._silence_ms = _State.SPEAKING, 0.0
            return [Began(max(0.0, at_ms - self._speech_ms))]
        # Between the thresholds the last verdict stands: a fading voice ends no pause.
        if loud or (not quiet and self._state is _State.SPEAKING):
            turns: list[Turn] = [Resumed(self._silence_ms)] if self.paused else []
            self._state, self._silence_ms = _State.SPEAKING, 0.0
            return turns
        self._silence_ms += WINDOW_MS
        turns = []
        if self._state is _State.SPEAKING and self._silence_ms >= min(self.pause_ms, self.vad.silence_duration_ms):
            self._state = _State.PAUSED
            turns.append(Paused(at_ms - self._silence_ms))
        elif self.paused and self._silence_ms % RECHECK_MS < WINDOW_MS:
            turns.append(Waiting(at_ms))
        if self._silence_ms >= self.vad.silence_duration_ms:
            self.end()
            turns.append(Ended(at_ms))
        return turns
