"""What calls may use, counted in Redis with every other gateway: two processes, one tenant."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from agentvoicebox.stack.valkey import EmbeddedValkey
from realtime.protocol import events as ev
from realtime.runtime.budget import LATE_MAX, Budgets, Exhausted, Ticket
from tenants.limits.counter import Counter
from tenants.limits.counters import Answer, Limiter
from tests.runtime.ports import party


@pytest.fixture
async def gateways(valkey_url: str) -> AsyncIterator[tuple[Budgets, Budgets]]:
    limiters = Limiter(valkey_url, 1.0), Limiter(valkey_url, 1.0)
    pair = Budgets(limiters[0], tokens_reserved=1_000), Budgets(limiters[1], tokens_reserved=1_000)
    for budgets in pair:
        await budgets.start()
    yield pair
    for budgets, limiter in zip(pair, limiters, strict=True):
        await budgets.stop()
        await limiter.stop()


Gateways = tuple[Budgets, Budgets]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - a test polls
            await asyncio.sleep(0.01)


async def settle(budget: object, ticket: Ticket | None, tokens: int) -> ev.RateLimited:
    told: list[ev.RateLimited] = []
    budget.settle(ticket, tokens, told.append)  # type: ignore[attr-defined]
    await until(lambda: bool(told))
    return told[0]


async def take(budget: object) -> Ticket:
    ticket = await budget.take()  # type: ignore[attr-defined]
    assert isinstance(ticket, Ticket), ticket
    return ticket


async def test_calls_on_two_gateways_share_what_their_tenant_has(gateways: Gateways) -> None:
    one, two = gateways[0].enter(party()), gateways[1].enter(party())
    assert (await settle(one, await take(one), 300)).remaining == 99_700
    told = await settle(two, await take(two), 200)
    assert (told.limit, told.remaining) == (100_000, 99_500)
    assert (told.requests_limit, told.requests_remaining) == (100, 98)
    assert 59 < told.reset_s <= 60.1


async def test_two_gateways_together_admit_no_more_than_the_reserves_that_fit(gateways: Gateways) -> None:
    calls = [gateways[n % 2].enter(party(tokens_per_minute=5_500)) for n in range(12)]
    answers = await asyncio.gather(*(call.take() for call in calls))
    tickets = [answer for answer in answers if isinstance(answer, Ticket)]
    assert len(tickets) == 5
    refused = next(answer for answer in answers if isinstance(answer, Exhausted))
    assert "tokens_per_minute: Limit 5500. Please try again in" in refused.message
    await settle(calls[0], tickets[0], 100)
    assert isinstance(await calls[1].take(), Ticket), "what a response did not need is there for the next"


async def test_a_limit_of_the_key_lies_under_the_tenants(gateways: Gateways) -> None:
    import msgspec

    lower = msgspec.structs.replace(party().allowance, key={"requests_per_minute": 1})
    narrow = gateways[0].enter(msgspec.structs.replace(party(), allowance=lower))
    wide = gateways[0].enter(party(key_id="key_2"))
    await take(narrow)
    assert isinstance(await narrow.take(), Exhausted)
    await take(wide)
    assert (await settle(narrow, None, 0)).requests_limit == 1


async def test_the_next_reserve_is_as_large_as_the_last_response(gateways: Gateways) -> None:
    call = gateways[0].enter(party())
    await settle(call, await take(call), 30_000)
    second = await take(call)
    assert second.tokens[0].cost == 31_000


async def test_what_was_used_beside_responses_says_nothing_of_the_next_reserve(gateways: Gateways) -> None:
    call = gateways[0].enter(party())
    await settle(call, await take(call), 30_000)
    told = await settle(call, None, 20)
    assert told.remaining == 100_000 - 30_020, "it counts all the same"
    assert (await take(call)).tokens[0].cost == 31_000


async def test_a_ticket_that_was_not_needed_is_given_back(gateways: Gateways) -> None:
    call = gateways[0].enter(party(requests_per_minute=1))
    call.give_back(await take(call))
    told = await settle(call, None, 0)
    assert (told.remaining, told.requests_remaining) == (100_000, 1)
    await take(call)


async def test_audio_counts_as_it_flows_and_ends_what_may_begin(gateways: Gateways) -> None:
    talker = gateways[0].enter(party(audio_minutes_per_day=1))
    talker.count_audio(61_000)
    gateways[0].leave(talker)
    await settle(talker, None, 0)
    refused = await gateways[1].enter(party(audio_minutes_per_day=1)).take()
    assert isinstance(refused, Exhausted)
    assert "audio_minutes_per_day" in refused.message


async def test_tenants_keys_and_end_users_never_meet(gateways: Gateways) -> None:
    first = gateways[0].enter(party("acme", requests_per_minute=1))
    await take(first)
    for other in (party("acme2", requests_per_minute=1), party("a", "acme:key_1", requests_per_minute=1)):
        await take(gateways[1].enter(other))


async def test_while_redis_is_away_calls_go_on_and_are_counted_when_it_is_back(
    gateways: Gateways, valkey_server: EmbeddedValkey
) -> None:
    call = gateways[0].enter(party())
    await settle(call, await take(call), 100)
    valkey_server.stop()
    try:
        ticket = await call.take()
        assert ticket == Ticket()
        told = await settle(call, ticket, 400)
        assert told.remaining == 99_900, "what was known last"
    finally:
        valkey_server.start()
    other = gateways[1].enter(party())

    # The server came back empty: what the outage cost is all that counts now.
    async with asyncio.timeout(10):
        while (await settle(other, None, 0)).remaining != 99_600:  # noqa: ASYNC110 - a test polls
            await asyncio.sleep(0.1)


class SlowLimiter:
    """Redis on a slow day: every answer is right, and late by ``late_s``."""

    def __init__(self, limiter: Limiter, late_s: float) -> None:
        self._limiter = limiter
        self.late_s = late_s
        self.asked = 0

    async def ask(self, counters: Sequence[Counter]) -> Answer:
        self.asked += 1
        answer = await self._limiter.ask(counters)
        await asyncio.sleep(self.late_s)
        return answer


async def test_a_response_does_not_wait_for_a_slow_redis_and_is_counted_once(gateways: Gateways) -> None:
    slow = SlowLimiter(gateways[0].limiter, 0.5)
    budgets = Budgets(slow, tokens_reserved=1_000, wait_s=0.02)  # type: ignore[arg-type]
    await budgets.start()
    call = budgets.enter(party())
    began = asyncio.get_running_loop().time()
    ticket = await take(call)
    assert asyncio.get_running_loop().time() - began < slow.late_s, "the caller's audio waits behind the question"
    assert ticket == Ticket()
    await settle(call, ticket, 300)
    await until(lambda: not budgets._late and not budgets._waiting)
    await asyncio.sleep(slow.late_s)
    await budgets.stop()
    told = await settle(gateways[1].enter(party()), None, 0)
    assert (told.remaining, told.requests_remaining) == (99_700, 99), "its tokens once, and the response itself"


async def test_a_call_that_ends_while_it_asks_leaves_no_tokens_behind(gateways: Gateways) -> None:
    slow = SlowLimiter(gateways[0].limiter, 0.2)
    budgets = Budgets(slow, tokens_reserved=1_000, wait_s=10)  # type: ignore[arg-type]
    asking = asyncio.create_task(budgets.enter(party()).take())
    await asyncio.sleep(0.05)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await budgets.stop()
    assert (await settle(gateways[1].enter(party()), None, 0)).remaining == 100_000


async def test_only_so_many_questions_wait_for_a_slow_redis(gateways: Gateways) -> None:
    slow = SlowLimiter(gateways[0].limiter, 0.5)
    budgets = Budgets(slow, tokens_reserved=1_000, wait_s=0.01)  # type: ignore[arg-type]
    for _ in range(LATE_MAX + 5):
        assert await budgets.enter(party()).take() == Ticket()
    assert slow.asked == LATE_MAX
    await budgets.stop()


async def test_what_is_under_way_when_it_stops_is_counted_once(gateways: Gateways) -> None:
    slow = SlowLimiter(gateways[0].limiter, 0.3)
    budgets = Budgets(slow, tokens_reserved=1_000)  # type: ignore[arg-type]
    await budgets.start()
    budgets.enter(party()).settle(None, 300, lambda _: None)
    await until(lambda: slow.asked == 1)
    await asyncio.sleep(0.1)  # Redis has counted it, and its answer is on the way
    await budgets.stop()
    assert (await settle(gateways[1].enter(party()), None, 0)).remaining == 99_700
