"""Who gets which version: the same one each time, by weight, and in no relation to other trials."""

import math
import uuid
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.trials.assignment import Arm, choose_version

arms_of_some_weight = st.lists(st.integers(1, 1_000_000), min_size=2, max_size=6).map(
    lambda weights: [Arm(version, weight) for version, weight in enumerate(weights, 1)]
)
trials = st.uuids().map(str)
CALLERS = 3_000


def bound(share: float) -> float:
    """Six standard deviations of a binomial count: one in a billion."""
    return 6 * math.sqrt(CALLERS * share * (1 - share)) + 1


@given(trials, st.text(), arms_of_some_weight)
def test_a_subject_gets_the_same_version_each_time(trial: str, subject: str, arms: list[Arm]) -> None:
    first = choose_version(trial, subject, arms)
    assert first in {arm.version for arm in arms}
    assert all(choose_version(trial, subject, list(arms)) == first for _ in range(3))


@given(trials, arms_of_some_weight, st.integers())
@settings(max_examples=60, deadline=None)
def test_shares_are_those_of_the_weights(trial: str, arms: list[Arm], salt: int) -> None:
    found = Counter(choose_version(trial, f"{salt}-{number}", arms) for number in range(CALLERS))
    total = sum(arm.weight for arm in arms)
    for arm in arms:
        share = arm.weight / total
        assert abs(found[arm.version] - CALLERS * share) <= bound(share)


@given(trials, trials, st.integers())
@settings(max_examples=60, deadline=None)
def test_what_one_trial_gives_says_nothing_of_another(one: str, other: str, salt: int) -> None:
    halves = [Arm(1, 1), Arm(2, 1)]
    if one == other:
        return
    found = Counter(
        (choose_version(one, f"{salt}-{number}", halves), choose_version(other, f"{salt}-{number}", halves))
        for number in range(CALLERS)
    )
    assert all(abs(found[pair] - CALLERS / 4) <= bound(1 / 4) for pair in ((1, 1), (1, 2), (2, 1), (2, 2)))


def test_no_weight_gets_nobody() -> None:
    arms = [Arm(1, 0), Arm(2, 5), Arm(3, 0)]
    assert {choose_version("t", str(number), arms) for number in range(500)} == {2}
    with pytest.raises(ValueError, match="weight"):
        choose_version("t", "anybody", [Arm(1, 0)])


def test_it_stays_what_it_is_across_releases_of_this_code() -> None:
    """Whoever changes the hash moves every caller of every running trial: these are its answers, written down."""
    trial = str(uuid.UUID(int=7))
    arms = [Arm(1, 50), Arm(2, 30), Arm(3, 20)]
    assert [choose_version(trial, f"caller-{number}", arms) for number in range(12)] == EXPECTED


EXPECTED = [1, 1, 3, 1, 1, 1, 2, 3, 3, 1, 1, 1]
