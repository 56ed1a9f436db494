"""Any schedule of requests, from five instances at once: never more than the limit in any window, and never fewer."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.limits.allowance import Allowance, Party, counters_key
from tenants.limits.counter import PLACE_S, SLOTS, Counter
from tenants.limits.counters import BlockingLimiter, Limiter, LimitsUnavailable

WINDOW_S = 60
WINDOW_US = WINDOW_S * 1_000_000
INSTANCES = 5


class Clock:
    """Of Redis, in the test's hand."""

    def __init__(self) -> None:
        self.now_us = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def instances(valkey_url: str, clock: Clock) -> list[BlockingLimiter]:
    return [BlockingLimiter(valkey_url, 2.0, clock=clock) for _ in range(INSTANCES)]


def counter(limit: int, cost: int = 1, key: str = "avb:acme:limit:test") -> Counter:
    return Counter("requests_per_minute", "tenant", key, limit, WINDOW_S, cost)


class Truth:
    """What was admitted, and when: the rule itself, written as plainly as can be."""

    def __init__(self) -> None:
        self.admitted: list[tuple[int, int]] = []

    def used(self, now_us: int, window_us: int) -> int:
        return sum(cost for at_us, cost in self.admitted if now_us - window_us < at_us <= now_us)

    def most_in_any_window(self) -> int:
        return max((self.used(at_us, WINDOW_US) for at_us, _ in self.admitted), default=0)


SCHEDULES = st.lists(
    st.tuples(
        st.integers(0, INSTANCES - 1),
        # Close together, far apart, and exactly on the edges of a window.
        st.one_of(st.integers(0, 5), st.integers(0, 30_000_000), st.sampled_from([WINDOW_US - 1, WINDOW_US])),
        st.integers(1, 7),
    ),
    max_size=60,
)
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@RELAXED
@given(schedule=SCHEDULES, limit=st.integers(1, 20))
def test_no_window_ever_holds_more_than_the_limit_and_room_is_always_given(
    instances: list[BlockingLimiter], clock: Clock, schedule: list[tuple[int, int, int]], limit: int
) -> None:
    truth = Truth()
    key = f"avb:acme:limit:{clock.now_us}"
    for instance, pause_us, cost in schedule:
        clock.now_us += pause_us
        answer = instances[instance].ask([counter(limit, cost, key)])
        room = truth.used(clock.now_us, WINDOW_US) + cost <= limit
        assert (answer.refused is None) is room
        if answer.refused is None:
            truth.admitted.append((clock.now_us, cost))
        elif cost <= limit:
            assert answer.retry_after_s is not None
            at_us = clock.now_us + round(answer.retry_after_s * 1_000_000)
            assert truth.used(at_us, WINDOW_US) + cost <= limit, "told to come when there is no room yet"
            assert truth.used(at_us - 1, WINDOW_US) + cost > limit, "there was room before"
        else:
            assert answer.retry_after_s is None
        assert answer.standings[0].used == truth.used(clock.now_us, WINDOW_US)
    assert truth.most_in_any_window() <= limit
    clock.now_us += 10 * WINDOW_US


@RELAXED
@given(schedule=SCHEDULES, scale=st.integers(100, 5_000))
def test_with_slots_no_window_holds_more_and_room_comes_at_most_a_slot_late(
    instances: list[BlockingLimiter], clock: Clock, schedule: list[tuple[int, int, int]], scale: int
) -> None:
    limit, truth = SLOTS + scale, Truth()
    slot_us = WINDOW_US // SLOTS
    key = f"avb:acme:limit:{clock.now_us}"
    for instance, pause_us, cost in schedule:
        clock.now_us += pause_us
        cost *= scale // 4 + 1
        answer = instances[instance].ask([counter(limit, cost, key)])
        if answer.refused is None:
            assert truth.used(clock.now_us, WINDOW_US) + cost <= limit
            truth.admitted.append((clock.now_us, cost))
        else:
            assert truth.used(clock.now_us, WINDOW_US + slot_us) + cost > limit, "refused although there was room"
    assert truth.most_in_any_window() <= limit
    clock.now_us += 10 * WINDOW_US


@RELAXED
@given(
    schedule=st.lists(
        st.tuples(st.integers(0, INSTANCES - 1), st.integers(0, 25_000_000), st.integers(1, 900), st.booleans()),
        max_size=40,
    )
)
def test_reserves_that_are_settled_count_for_what_was_used_when_it_was_taken(
    instances: list[BlockingLimiter], clock: Clock, schedule: list[tuple[int, int, int, bool]]
) -> None:
    """As responses do: 1,000 tokens are taken first, and given back but for what was used."""
    limit, reserve = 5_000, 1_000
    key, truth = f"avb:acme:limit:{clock.now_us}", Truth()
    open_since: deque[tuple[int, int]] = deque()
    for instance, pause_us, used, settle in schedule:
        clock.now_us += pause_us
        if settle and open_since:
            at_us, _ = open_since.popleft()
            taken = counter(limit, reserve, key)
            back = replace(taken, kind="settle", cost=used - reserve, member=taken.slot_at(at_us))
            instances[instance].ask([back])
            truth.admitted.remove((at_us, reserve))
            truth.admitted.append((at_us, used))
        else:
            answer = instances[instance].ask([counter(limit, reserve, key)])
            if answer.refused is None:
                assert answer.at_us == clock.now_us
                truth.admitted.append((clock.now_us, reserve))
                open_since.append((clock.now_us, reserve))
        assert truth.used(clock.now_us, WINDOW_US) <= limit
    clock.now_us += 10 * WINDOW_US


def test_five_instances_at_the_same_time_on_the_real_clock(valkey_url: str) -> None:
    limit, window_s = 50, 1
    admitted: list[int] = []
    until = threading.Barrier(INSTANCES)

    def hammer() -> None:
        limiter = BlockingLimiter(valkey_url, 2.0)
        until.wait()
        for _ in range(400):
            answer = limiter.ask([Counter("r", "tenant", "avb:acme:limit:real", limit, window_s, 1)])
            if answer.refused is None:
                admitted.append(answer.at_us)

    threads = [threading.Thread(target=hammer) for _ in range(INSTANCES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    admitted.sort()
    assert len(admitted) >= limit
    for first, last in zip(admitted, admitted[limit:], strict=False):
        assert last - first >= window_s * 1_000_000


def test_all_counters_of_a_request_admit_it_or_none_counts_it(instances: list[BlockingLimiter]) -> None:
    wide, narrow = counter(10, 1, "avb:acme:limit:wide"), counter(1, 1, "avb:acme:limit:narrow")
    assert instances[0].ask([wide, narrow]).refused is None
    answer = instances[1].ask([wide, narrow])
    assert answer.refused == narrow
    assert [standing.used for standing in answer.standings] == [1, 1]


def test_what_is_used_beyond_its_reserve_counts_even_when_the_reserve_has_left_the_window(
    instances: list[BlockingLimiter], clock: Clock
) -> None:
    taken = counter(5_000, 1_000)
    at_us = instances[0].ask([taken]).at_us
    clock.now_us += 2 * WINDOW_US
    late = replace(taken, kind="settle", cost=500, member=taken.slot_at(at_us))
    assert instances[1].ask([late]).standings[0].used == 500
    back = replace(taken, kind="settle", cost=-500, member=taken.slot_at(at_us))
    assert instances[1].ask([back]).standings[0].used == 500


def test_memory_is_bounded_by_slots(instances: list[BlockingLimiter], clock: Clock, valkey_url: str) -> None:
    for _ in range(3 * SLOTS):
        clock.now_us += WINDOW_US // SLOTS // 2
        instances[0].ask([counter(10**9, 1)])
    with redis.Redis.from_url(valkey_url) as client:
        assert client.zcard("avb:acme:limit:test:slots") <= SLOTS + 1
        assert client.hlen("avb:acme:limit:test") <= SLOTS + 2  # the slots and their total
        assert 0 < client.pttl("avb:acme:limit:test") <= WINDOW_S * 1000 + 2_000


def test_a_limit_of_nothing_admits_nothing() -> None:
    party = Party(tenant="acme", key_id="key_1", allowance=Allowance(tenant={"requests_per_minute": 0}))
    assert party.counters("requests_per_minute", 1)[0].cost == 1


def test_more_than_a_whole_window_gets_the_whole_window() -> None:
    party = Party(tenant="acme", key_id="key_1", allowance=Allowance(tenant={"tokens_per_minute": 500}))
    assert party.counters("tokens_per_minute", 2_000)[0].cost == 500


def test_places_are_freed_when_their_heartbeat_stops(instances: list[BlockingLimiter], clock: Clock) -> None:
    def place(session_id: str) -> Counter:
        return Counter("concurrent_sessions", "tenant", "avb:acme:sessions", 2, 0, 1, "place", session_id)

    assert instances[0].ask([place("a")]).refused is None
    assert instances[1].ask([place("b")]).refused is None
    assert instances[2].ask([place("c")]).refused is not None
    assert instances[3].ask([place("a")]).refused is None, "a session that has its place keeps it"
    clock.now_us += int(PLACE_S * 1_000_000) + 1
    assert instances[4].ask([place("c")]).refused is None


NAMES = ["acme", "acme2", "a", "b"]
SUBJECTS = ["", "key_1", "key_1:x", "x:key:key_1", "tenant", "end_user:x", "ä:ö"]


def test_counters_of_different_subjects_never_meet() -> None:
    keys = [
        counters_key(tenant, name, level, subject)
        for tenant in NAMES
        for name in ("requests_per_minute", "tokens_per_minute")
        for level in ("key", "end_user")
        for subject in SUBJECTS
    ] + [counters_key(tenant, name, "tenant") for tenant in NAMES for name in ("requests_per_minute",)]
    assert len(set(keys)) == len(keys)
    slots = {f"{key}:slots" for key in keys}
    assert not slots & set(keys)


@pytest.fixture
def nobody(free_port: Callable[[], int]) -> str:
    return f"redis://127.0.0.1:{free_port()}/0"


def test_without_redis_nobody_is_told_that_there_is_room(nobody: str) -> None:
    with pytest.raises(LimitsUnavailable):
        BlockingLimiter(nobody, 0.2).ask([counter(1)])

    async def ask() -> None:
        limiter = Limiter(nobody, 0.2)
        try:
            await limiter.ask([counter(1)])
        finally:
            await limiter.stop()

    with pytest.raises(LimitsUnavailable):
        asyncio.run(ask())
