"""When the stages of a turn were reached, in ms after the caller's turn ended.

Stages: ``transcript`` (negative when the recogniser was ahead), ``first_token``, ``first_audio``.
"""

from collections.abc import Callable

from realtime.runtime.metrics import TURN_STAGE


class Timings:
    """One call's stopwatch; ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._turn_began: float | None = None
        self._transcript_at: float | None = None
        self._responses: dict[str, dict[str, float]] = {}

    def turn_ended(self) -> None:
        self._turn_began, self._transcript_at = self._clock(), None

    def transcript(self) -> None:
        self._transcript_at = self._clock()

    def reply_started(self, response_id: str) -> None:
        """A reply belongs to the turn that ended last; one without a spoken turn counts from here."""
        if self._turn_began is None:
            self._turn_began = self._clock()
        stages = self._responses.setdefault(response_id, {"origin": self._turn_began})
        if self._transcript_at is not None:
            self._note(stages, "transcript", self._transcript_at)
        self._turn_began = None

    def stage(self, response_id: str, stage: str) -> None:
        stages = self._responses.get(response_id)
        if stages is not None and stage not in stages:
            self._note(stages, stage, self._clock())

    def _note(self, stages: dict[str, float], stage: str, at: float) -> None:
        stages[stage] = at
        TURN_STAGE.labels(stage).observe(max(0.0, at - stages["origin"]))

    def stages_ms(self, response_id: str) -> dict[str, float]:
        stages = self._responses.get(response_id, {})
        return {stage: round((at - stages["origin"]) * 1000, 1) for stage, at in stages.items() if stage != "origin"}

    def forget(self, response_id: str) -> None:
        self._responses.pop(response_id, None)
