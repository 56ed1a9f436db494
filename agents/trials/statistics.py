"""What figures of two versions say: rates and means with their intervals, and when one version is so much worse that
waiting for more calls would harm callers.

The look for harm is sequential. A side is looked at when it has ``min_calls`` calls, then whenever it has twice as many
as at the look before; look k may spend alpha / (k (k + 1)), which adds up to alpha over any number of looks. Each look
is Fisher's exact test, one-sided. So a version that is as good as the other is found worse with a chance below alpha,
however long it is watched.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

CONFIDENCE = 0.95
NEGLIGIBLE = 1e-17


@dataclass(frozen=True, slots=True)
class Interval:
    """``value`` and where, with a confidence of 95 %, the true one lies; None: too little is known to say."""

    value: float
    low: float | None
    high: float | None

    @property
    def side(self) -> Literal[-1, 0, 1]:
        """Of a difference: 1 above zero, -1 below, 0 when it may be either."""
        if self.low is not None and self.low > 0:
            return 1
        if self.high is not None and self.high < 0:
            return -1
        return 0


@dataclass(frozen=True, slots=True)
class Count:
    """So many of so many."""

    hits: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.of:
            raise ValueError(f"{self.hits} of {self.of} cannot be")


@dataclass(frozen=True, slots=True)
class Sample:
    """``deviation`` is the sample's standard deviation, 0 of fewer than two."""

    count: int
    mean: float
    deviation: float


def rate(count: Count) -> Interval | None:
    """The share with Wilson's interval; None of nothing."""
    if not count.of:
        return None
    low, high = wilson(count)
    return Interval(count.hits / count.of, low, high)


def wilson(count: Count) -> tuple[float, float]:
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    share, calls = count.hits / count.of, count.of
    middle = share + z * z / (2 * calls)
    spread = z * math.sqrt(share * (1 - share) / calls + z * z / (4 * calls * calls))
    whole = 1 + z * z / calls
    # At the ends rounding alone keeps the border from where it is.
    low = 0.0 if count.hits == 0 else (middle - spread) / whole
    high = 1.0 if count.hits == count.of else (middle + spread) / whole
    return low, high


def rate_difference(arm: Count, control: Count) -> Interval | None:
    """The arm's share less the control's, with Newcombe's interval (his method 10, from Wilson's); None of nothing."""
    if not arm.of or not control.of:
        return None
    (arm_low, arm_high), (control_low, control_high) = wilson(arm), wilson(control)
    arm_share, control_share = arm.hits / arm.of, control.hits / control.of
    value = arm_share - control_share
    return Interval(
        value,
        value - math.hypot(arm_share - arm_low, control_high - control_share),
        value + math.hypot(arm_high - arm_share, control_share - control_low),
    )


def mean(sample: Sample) -> Interval | None:
    """With Student's interval; None of nothing."""
    if not sample.count:
        return None
    if sample.count < 2:
        return Interval(sample.mean, None, None)
    reach = student(sample.count - 1) * sample.deviation / math.sqrt(sample.count)
    return Interval(sample.mean, sample.mean - reach, sample.mean + reach)


def mean_difference(arm: Sample, control: Sample) -> Interval | None:
    """The arm's mean less the control's, with Welch's interval; None of nothing."""
    if not arm.count or not control.count:
        return None
    value = arm.mean - control.mean
    if arm.count < 2 or control.count < 2:
        return Interval(value, None, None)
    parts = [(sample.deviation**2 / sample.count, sample.count - 1) for sample in (arm, control)]
    variance = sum(part for part, _ in parts)
    if not variance:
        return Interval(value, value, value)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    reach = student(freedom) * math.sqrt(variance)
    return Interval(value, value - reach, value + reach)


def student(freedom: float) -> float:
    """The two-sided quantile of Student's distribution for ``CONFIDENCE``: exact for 1 and 2 degrees of freedom, above
    them by the expansion of Cornish and Fisher (Abramowitz and Stegun 26.7.5), to within 0.3 %."""
    if freedom < 2:
        return math.tan(math.pi * CONFIDENCE / 2)
    if freedom < 3:
        return math.sqrt(2 / (1 - CONFIDENCE**2)) * CONFIDENCE
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def chance(arm: Count, control: Count) -> float:
    """Fisher's exact test, one-sided: how likely the arm has at least so many of all the hits when both are alike."""
    hits = arm.hits + control.hits
    most = min(hits, arm.of)
    least = max(0, hits - control.of)
    if arm.hits <= least:
        return 1.0
    first = _ln_choose(arm.of, arm.hits) + _ln_choose(control.of, control.hits) - _ln_choose(arm.of + control.of, hits)
    # Each next table's likelihood follows from the one before.
    term = total = 1.0
    for found in range(arm.hits, most):
        term *= (arm.of - found) * (hits - found) / ((found + 1) * (control.of - hits + found + 1))
        total += term
        if term < NEGLIGIBLE * total:
            break
    return min(1.0, math.exp(first + math.log(total)))


def _ln_choose(of: int, picked: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(picked + 1) - math.lgamma(of - picked + 1)


def looks_due(calls: int, min_calls: int) -> int:
    """How many looks a side with so many calls should have had."""
    return (calls // min_calls).bit_length()


def spent(looks: int) -> float:
    """The part of alpha that so many looks have used up: the sum of 1 / (k (k + 1))."""
    return looks / (looks + 1)


def is_worse(
    measures: Iterable[tuple[Count, Count]], *, looks: int, looks_before: int, alpha: float, comparisons: int
) -> bool:
    """Whether this look finds the arm (first of each pair) worse than the control (second) in any of the measures.

    ``looks_before`` were had; those that were missed lend this one their alpha. ``comparisons`` share alpha: measures
    times arms.
    """
    allowed = alpha * (spent(looks) - spent(looks_before)) / comparisons
    return any(chance(arm, control) < allowed for arm, control in measures)
