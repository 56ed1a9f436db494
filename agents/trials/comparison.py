"""The arms of a trial side by side: figures, intervals, and a verdict in words."""

from dataclasses import dataclass
from typing import Literal

from agents.trials.assignment import Arm
from agents.trials.figures import MEASURES, Figures
from agents.trials.models import Trial
from agents.trials.statistics import Interval, mean, mean_difference, rate, rate_difference

Verdict = Literal["control", "too_few_calls", "no_difference", "better", "worse", "mixed"]
SAYS = {"failed": "fails {} often", "hung_up": "is hung up on {} often"}


@dataclass(frozen=True, slots=True)
class Measure:
    """A rate (0 to 1) or a mean; ``difference`` to the control's, None for the control itself."""

    estimate: Interval | None
    difference: Interval | None


@dataclass(frozen=True, slots=True)
class ArmReport:
    version: int
    weight: int
    calls: int
    ended: int
    failed: Measure
    hung_up: Measure
    duration_s: Measure
    turns: Measure
    verdict: Verdict
    words: str


def report(trial: Trial, figures: dict[int, Figures]) -> list[ArmReport]:
    """One for each arm, in the trial's order."""
    control = figures.get(trial.control, Figures())
    return [_report_arm(trial, arm, figures.get(arm.version, Figures()), control) for arm in trial.shares]


def _report_arm(trial: Trial, arm: Arm, own: Figures, control: Figures) -> ArmReport:
    is_control = arm.version == trial.control
    rates = {
        name: Measure(
            rate(own.share(name)), None if is_control else rate_difference(own.share(name), control.share(name))
        )
        for name in MEASURES
    }
    verdict, words = _judge(trial, is_control, rates, own, control)
    return ArmReport(
        version=arm.version,
        weight=arm.weight,
        calls=own.calls,
        ended=own.ended,
        failed=rates["failed"],
        hung_up=rates["hung_up"],
        duration_s=Measure(
            mean(own.duration_s), None if is_control else mean_difference(own.duration_s, control.duration_s)
        ),
        turns=Measure(mean(own.turns), None if is_control else mean_difference(own.turns, control.turns)),
        verdict=verdict,
        words=words,
    )


def _judge(
    trial: Trial, is_control: bool, rates: dict[str, Measure], own: Figures, control: Figures
) -> tuple[Verdict, str]:
    if is_control:
        return "control", "The other versions are compared with this one."
    if min(own.ended, control.ended) < trial.min_calls:
        words = f"Too few calls to say: {own.ended} have ended, and {control.ended} of version {trial.control}"
        return "too_few_calls", f"{words}; {trial.min_calls} of each are needed."
    sides = {name: rates[name].difference.side for name in MEASURES if rates[name].difference}
    said = [_say(name, side, rates[name], control) for name, side in sides.items() if side]
    if not said:
        return "no_difference", "No difference is seen, in failures or in hang-ups."
    words = f"Compared with version {trial.control} it {' and '.join(said)}."
    if set(sides.values()) >= {1, -1}:
        return "mixed", words
    return ("worse" if 1 in sides.values() else "better"), words


def _say(name: str, side: int, measure: Measure, control: Figures) -> str:
    share, difference = measure.estimate, measure.difference
    claim = SAYS[name].format("more" if side > 0 else "less")
    other = control.share(name)
    numbers = f"{share.value:.1%} against {other.hits / other.of:.1%}"
    return f"{claim} ({numbers}; {difference.low * 100:+.1f} to {difference.high * 100:+.1f} points)"
