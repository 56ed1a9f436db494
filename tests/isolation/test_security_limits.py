"""Limits that callers try to get round, or to fill Redis by."""

from uuid import uuid4

import pytest
import redis

from tenants.keys.networks import subscriber_of
from tenants.limits.allowance import Allowance, Party
from tenants.limits.counters import BlockingLimiter
from tenants.limits.names import KINDS, LARGEST
from tenants.limits.throttle import anonymous_counter

HOSTILE = ["a:b", "a\nb", "*", "avb:beta:sessions", "ü" * 200, "\x01\x7f", "' or 1=1", "${x}", "{a}{b}"]


def party(tenant: str, end_user: str, **limits: int) -> Party:
    allowance = Allowance(tenant=dict.fromkeys(KINDS, 1_000) | limits, end_user={"requests_per_minute": 1})
    return Party(tenant=tenant, key_id="key_1", end_user=end_user, allowance=allowance)


def test_who_has_a_whole_network_is_counted_as_one(valkey_url: str, settings) -> None:
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 3
    limiter = BlockingLimiter(valkey_url, 2.0)
    refused = [limiter.ask([anonymous_counter(f"2001:db8:0:1::{n:x}")]).refused is not None for n in range(6)]
    assert refused == [False, False, False, True, True, True]
    assert limiter.ask([anonymous_counter("2001:db8:0:2::1")]).refused is None, "a neighbour's network is another one"
    assert subscriber_of("192.0.2.7") == "192.0.2.7"
    assert subscriber_of("::ffff:192.0.2.7") == "::ffff:192.0.2.7", "IPv4, which the door has unwrapped already"
    assert subscriber_of("") == ""


def test_callers_who_never_come_in_leave_no_places_behind(valkey_url: str) -> None:
    """Whoever names end users as they like, and is gone before the call begins: their places lapse, keys and all."""
    limiter = BlockingLimiter(valkey_url, 2.0)
    for n in range(20):
        assert limiter.ask(party("acme", f"made up {n}").places(f"sess_{n}")).refused is None
    with redis.Redis.from_url(valkey_url) as client:
        keys = list(client.scan_iter("avb:acme:sessions:*"))
        assert len(keys) == 20
        assert all(0 < client.pttl(key) <= 31_000 for key in keys)


@pytest.mark.parametrize("end_user", HOSTILE)
def test_names_that_look_like_keys_stay_names(valkey_url: str, end_user: str) -> None:
    limiter = BlockingLimiter(valkey_url, 2.0)
    one, other = party(f"t{uuid4().hex}", end_user), party(f"t{uuid4().hex}", end_user)
    assert limiter.ask(one.counters("requests_per_minute", 1)).refused is None
    assert limiter.ask(one.counters("requests_per_minute", 1)).refused is not None
    assert limiter.ask(other.counters("requests_per_minute", 1)).refused is None
    for counter in [*one.counters("requests_per_minute", 1), *one.places("sess_1")]:
        assert counter.key.startswith(f"avb:{one.tenant}:")
        assert counter.key.isascii()
        assert " " not in counter.key


@pytest.mark.parametrize("cost", [LARGEST, 2**53, 2**63 - 1])
def test_a_huge_cost_is_a_whole_window_and_no_overflow(valkey_url: str, cost: int) -> None:
    limiter = BlockingLimiter(valkey_url, 2.0)
    greedy = party(f"t{uuid4().hex}", "", tokens_per_minute=LARGEST)
    assert limiter.ask(greedy.counters("tokens_per_minute", cost)).refused is None
    after = limiter.ask(greedy.counters("tokens_per_minute", 1))
    assert after.refused is not None
    assert 0 <= after.standings[0].used <= LARGEST
