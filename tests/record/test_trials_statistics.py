"""Intervals and the sequential look for harm."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.trials.statistics import (
    Count,
    Sample,
    chance,
    is_worse,
    looks_due,
    mean,
    mean_difference,
    rate,
    rate_difference,
    spent,
    student,
    wilson,
)

counts = st.integers(1, 60).flatmap(lambda calls: st.builds(Count, st.integers(0, calls), st.just(calls)))


def exact_chance(arm: Count, control: Count) -> float:
    """By whole numbers: the sum over all tables with the same margins and at least so many hits of the arm."""
    hits = arm.hits + control.hits
    tables = range(arm.hits, min(hits, arm.of) + 1)
    ways = sum(math.comb(arm.of, x) * math.comb(control.of, hits - x) for x in tables if hits - x <= control.of)
    return ways / math.comb(arm.of + control.of, hits)


@given(counts, counts)
def test_fishers_test_is_exact(arm: Count, control: Count) -> None:
    assert chance(arm, control) == pytest.approx(exact_chance(arm, control), rel=1e-9)


def test_fishers_tea_and_a_table_too_large_for_factorials() -> None:
    assert chance(Count(3, 4), Count(1, 4)) == pytest.approx(17 / 70)
    assert chance(Count(5_000, 100_000), Count(5_000, 100_000)) == pytest.approx(0.5, abs=0.01)
    assert chance(Count(6_000, 100_000), Count(5_000, 100_000)) < 1e-20
    assert chance(Count(0, 10), Count(5, 10)) == 1


def test_newcombes_own_examples() -> None:
    """Statistics in Medicine 17 (1998), table II, method 10."""
    for arm, control, low, high in [
        (Count(56, 70), Count(48, 80), 0.0524, 0.3339),
        (Count(9, 10), Count(3, 10), 0.1705, 0.8090),
        (Count(5, 56), Count(0, 29), -0.0381, 0.1926),
        (Count(0, 10), Count(0, 10), -0.2775, 0.2775),
        (Count(10, 10), Count(0, 10), 0.6075, 1.0),
    ]:
        found = rate_difference(arm, control)
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(counts, counts)
def test_intervals_hold_their_value_and_mirror_each_other(arm: Count, control: Count) -> None:
    share, difference = rate(arm), rate_difference(arm, control)
    assert 0 <= share.low <= share.value <= share.high <= 1
    assert -1 <= difference.low <= difference.value <= difference.high <= 1
    other = rate_difference(control, arm)
    assert (other.low, other.high) == (pytest.approx(-difference.high), pytest.approx(-difference.low))
    assert difference.side == -other.side


@pytest.mark.parametrize(("calls", "share"), [(20, 0.05), (50, 0.3), (200, 0.02), (30, 0.5)])
def test_wilsons_interval_covers_the_truth_as_often_as_it_says(calls: int, share: float) -> None:
    covered = 0.0
    for hits in range(calls + 1):
        low, high = wilson(Count(hits, calls))
        if low <= share <= high:
            covered += math.comb(calls, hits) * share**hits * (1 - share) ** (calls - hits)
    assert 0.91 <= covered <= 0.99


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (10, 2.2281), (30, 2.0423)]
)
def test_students_table(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, rel=0.003)


def test_means_and_their_difference() -> None:
    found = mean_difference(Sample(25, 60.0, 10.0), Sample(25, 50.0, 10.0))
    # Welch with equal variances: 48 degrees of freedom, 2.0106 standard errors of the root of 8.
    assert (found.value, found.low, found.high) == (10, pytest.approx(4.313, abs=0.01), pytest.approx(15.687, abs=0.01))
    assert found.side == 1
    assert mean(Sample(0, 0, 0)) is None
    assert mean(Sample(1, 5.0, 0)).low is None
    assert mean_difference(Sample(1, 5.0, 0), Sample(9, 4.0, 1)).side == 0
    assert mean_difference(Sample(5, 4.0, 0), Sample(9, 4.0, 0)).side == 0


def test_nothing_is_said_of_nothing() -> None:
    assert rate(Count(0, 0)) is None
    assert rate_difference(Count(0, 0), Count(1, 2)) is None
    with pytest.raises(ValueError, match="3 of 2"):
        Count(3, 2)


# --- the look for harm ---


def test_a_side_is_looked_at_when_it_has_doubled() -> None:
    assert [looks_due(calls, 20) for calls in (0, 19, 20, 39, 40, 79, 80, 640, 1_279, 1_280)] == [
        0, 0, 1, 1, 2, 2, 3, 6, 6, 7,
    ]  # fmt: skip


def test_all_looks_together_spend_less_than_alpha() -> None:
    parts = [spent(look) - spent(look - 1) for look in range(1, 60)]
    assert parts[:3] == [pytest.approx(1 / 2), pytest.approx(1 / 6), pytest.approx(1 / 12)]
    assert all(part > 0 for part in parts)
    assert sum(parts) < 1


@given(
    calls=st.tuples(st.integers(5, 30), st.integers(5, 60)),
    share=st.floats(0.01, 0.99),
    looks=st.tuples(st.integers(0, 4), st.integers(1, 3)),
    alpha=st.sampled_from([0.01, 0.05, 0.2]),
)
@settings(max_examples=40, deadline=None)
def test_one_look_errs_no_more_often_than_it_may(
    calls: tuple[int, int], share: float, looks: tuple[int, int], alpha: float
) -> None:
    """Over every outcome that two equal versions may have, each with its likelihood: no drawing of numbers."""
    before, more = looks

    def likelihood(hits: int, of: int) -> float:
        return math.comb(of, hits) * share**hits * (1 - share) ** (of - hits)

    wrong = sum(
        likelihood(arm, calls[0]) * likelihood(control, calls[1])
        for arm, control in itertools.product(range(calls[0] + 1), range(calls[1] + 1))
        if is_worse(
            [(Count(arm, calls[0]), Count(control, calls[1]))],
            looks=before + more, looks_before=before, alpha=alpha, comparisons=1,
        )
    )  # fmt: skip
    assert wrong <= alpha * (spent(before + more) - spent(before))


LOOKS = 8


def histories(
    rng: np.random.Generator, arm: float, control: float, ratio: float = 1.0
) -> Iterator[tuple[Count, Count]]:
    """What each look of one trial sees: 20 calls of the arm, then twice as many each time."""
    calls = hits = others = other_hits = 0
    for look in range(LOOKS):
        more = 20 * 2**look - calls
        hits += int(rng.binomial(more, arm))
        calls += more
        other_hits += int(rng.binomial(int(more * ratio), control))
        others += int(more * ratio)
        yield Count(hits, calls), Count(other_hits, others)


def found_worse(
    rng: np.random.Generator, *, arm: float, control: float, alpha: float, ratio: float = 1.0
) -> int | None:
    """At which look, if at any, with two measures that go together as badly as they can: not at all."""
    pairs = zip(histories(rng, arm, control, ratio), histories(rng, arm, control, ratio), strict=True)
    for look, measures in enumerate(pairs, 1):
        if is_worse(measures, looks=look, looks_before=look - 1, alpha=alpha, comparisons=2):
            return look
    return None


@pytest.mark.parametrize(("share", "ratio"), [(0.02, 1.0), (0.1, 1.0), (0.1, 4.0), (0.5, 1.0), (0.3, 0.25)])
def test_an_equal_version_is_ended_less_often_than_alpha(share: float, ratio: float) -> None:
    rng, trials, alpha = np.random.default_rng(20_261_120), 600, 0.05
    wrong = sum(found_worse(rng, arm=share, control=share, alpha=alpha, ratio=ratio) is not None for _ in range(trials))
    # Were the chance alpha, so many or more would come once in ten thousand runs; it is well below.
    assert wrong <= trials * alpha + 3.7 * math.sqrt(trials * alpha * (1 - alpha))
    assert wrong / trials <= alpha


def test_a_clearly_worse_version_is_caught_soon() -> None:
    rng = np.random.default_rng(20_261_121)
    found = [found_worse(rng, arm=0.3, control=0.1, alpha=0.01) for _ in range(300)]
    # Look 5 has 320 calls of each.
    assert sum(look is not None and look <= 5 for look in found) >= 0.95 * len(found)
    broken = [found_worse(rng, arm=0.9, control=0.05, alpha=0.01) for _ in range(100)]
    assert set(broken) == {1}


def test_a_better_version_is_left_alone() -> None:
    rng = np.random.default_rng(20_261_122)
    assert not any(found_worse(rng, arm=0.02, control=0.2, alpha=0.05) for _ in range(200))
