"""One model in front of all: who answers when, how often who is asked, and what is said when nobody can."""

import asyncio
import logging
import time
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from prometheus_client import REGISTRY

from agents.egress.config import EgressConfig
from agents.llm.choice import Platform
from agents.llm.failover import Failover
from agents.llm.pool import Pool
from agents.llm.providers import ModelRef, Provider
from agents.llm.types import Finished, LlmError, Message, Request, TextDelta, ToolCallDelta
from tests.llm.models import ASK, TOOL, Chain, end, local_breakers, provider, read, words
from tests.llm.server import CUT, ChatServer, called, chat

APOLOGY = "I am sorry, I cannot think at the moment. I heard you say: Hi"
GOOD = chat({"content": "Here "}, {"content": "I am."})
NOTHING = chat({"role": "assistant", "content": ""}, {"content": "\n "})
CALLS = replace(ASK, tools=(TOOL,))


class Two:
    """Two servers, the second of which is well."""

    async def __aenter__(self) -> tuple[ChatServer, ChatServer]:
        self._servers = ChatServer(), ChatServer()
        first, second = self._servers
        await first.__aenter__()
        await second.__aenter__()
        second.say({"content": "I stand in."})
        return first, second

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            await server.__aexit__()


def failovers(name: str, reason: str) -> float:
    labels = {"provider": name, "reason": reason}
    return REGISTRY.get_sample_value("agentvoicebox_llm_failovers_total", labels) or 0.0


async def test_who_is_well_answers_and_says_who_it_was() -> None:
    async with Two() as (first, second), Chain(first, second) as chain:
        first.events = GOOD
        deltas = await chain.ask()
        assert words(deltas) == "Here I am."
        assert (end(deltas).provider, end(deltas).model) == ("first", "small")
        assert (len(first.requests), second.requests) == (1, [])
        assert "bearer key-of-first" in first.headers[0]


FAULTS: dict[str, dict[str, Any]] = {
    "401": {"status": 401},
    "429": {"status": 429},
    "500": {"status": 500},
    "404": {"status": 404},
    "cut before a word": {"events": [CUT]},
    "no JSON": {"events": ["not json"]},
    "nothing said": {"events": NOTHING},
    "a call of no object": {"events": chat(called(0, "a", "add", '{"a": '), reason="tool_calls")},
    "a call that is cut": {"events": [*chat(called(0, "a", "add", '{"a": '))[:1], CUT]},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
async def test_every_fault_before_the_first_word_is_the_backups_to_answer_at_once(fault: dict[str, Any]) -> None:
    async with Two() as (first, second), Chain(first, second) as chain:
        first.__dict__.update(fault)
        deltas = await chain.ask(CALLS)
        assert (words(deltas), end(deltas).provider) == ("I stand in.", "second")
        assert (len(first.requests), len(second.requests)) == (1, 1)
        assert chain.naps.naps == []


async def test_nobody_there_is_the_backups_to_answer() -> None:
    async with ChatServer() as gone:
        pass
    async with ChatServer() as second, Chain(gone, second) as chain:
        second.say({"content": "I stand in."})
        assert words(await chain.ask()) == "I stand in."


@pytest.mark.parametrize(
    "fault",
    [{"before_head_s": 60.0}, {"events": [60.0]}, {"events": [*NOTHING[:2], 60.0]}],
    ids=["no answer", "no token", "blanks"],
)
async def test_who_does_not_begin_in_time_is_left(fault: dict[str, Any]) -> None:
    before = failovers("first", "llm_timeout")
    async with Two() as (first, second), Chain(first, second, first_token_s=0.2) as chain:
        first.__dict__.update(fault)
        began = time.monotonic()
        deltas = await chain.ask()
        assert words(deltas) == "I stand in."
        # The limit, and as much again for a machine that is busy.
        assert 0.2 <= time.monotonic() - began < 3
        assert failovers("first", "llm_timeout") == before + 1


async def test_the_limits_of_the_product_fail_over_within_five_seconds() -> None:
    async with Two() as (first, second):
        first.before_head_s = 60.0
        both = [provider("first", first), provider("second", second)]
        chain = tuple(ModelRef(each) for each in both)
        model = Failover(Platform({}, chain), local_breakers(), Pool(EgressConfig()))
        began = time.monotonic()
        deltas = await read(model)
        assert end(deltas).provider == "second"
        assert 4.9 < time.monotonic() - began < 8
        await model.aclose()


async def test_the_last_of_the_chain_is_given_all_the_time_there_is() -> None:
    async with ChatServer() as only, Chain(only, first_token_s=0.1) as chain:
        only.events = [0.6, *GOOD]
        assert words(await chain.ask()) == "Here I am."
        assert len(only.requests) == 1


async def test_a_long_call_is_no_late_one() -> None:
    """Its first piece came in time, and arguments may take a while."""
    async with Two() as (first, second), Chain(first, second, first_token_s=0.3) as chain:
        rest = {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}
        first.events = chat(called(0, "a", "add", '{"a":'), 0.5, rest, reason="tool_calls")
        assert (await chain.ask(CALLS))[0] == ToolCallDelta(0, '{"a":1}', "a", "add")
        assert second.requests == []


async def test_nobody_is_replaced_after_the_first_word() -> None:
    async with Two() as (first, second), Chain(first, second) as chain:
        first.events = [*chat({"content": "We"})[:1], CUT]
        stream = chain.model.stream(ASK)
        assert await anext(stream) == TextDelta("We")
        with pytest.raises(LlmError) as error:
            await anext(stream)
        assert error.value.code == "llm_unavailable"
        assert second.requests == []


async def test_who_stalls_after_the_first_word_is_given_up_when_the_time_is_over() -> None:
    async with Two() as (first, second), Chain(first, second, total_s=0.5) as chain:
        first.events = chat({"content": "We"}, 60.0)
        with pytest.raises(LlmError) as error:
            await chain.ask()
        assert error.value.code == "llm_timeout"
        assert second.requests == []


async def test_a_slow_reader_does_not_use_up_the_models_time() -> None:
    async with ChatServer() as only, Chain(only, total_s=0.4) as chain:
        only.events = GOOD
        said = []
        async for delta in chain.model.stream(ASK):
            said.append(delta)
            await asyncio.sleep(0.25)
        assert words(said) == "Here I am."


async def test_a_chain_that_has_failed_is_asked_again_after_a_back_off() -> None:
    async with Two() as (first, second), Chain(first, second, total_s=60) as chain:
        first.statuses = [500, 500, 200]
        first.events = GOOD
        second.status = 503
        assert words(await chain.ask()) == "Here I am."
        assert (len(first.requests), len(second.requests)) == (3, 2)
        # 1 s, then 2 s, each with a little chance in it so that callers do not come back all at once.
        assert [round(nap - 0.125, 3) for nap in chain.naps.naps] == [
            pytest.approx(1, abs=0.126), pytest.approx(2, abs=0.126),
        ]  # fmt: skip


async def test_five_tries_are_enough() -> None:
    async with ChatServer() as only, Chain(only, total_s=300) as chain:
        only.status = 500
        deltas = await chain.ask()
        assert (words(deltas), end(deltas).provider) == (APOLOGY, "degraded")
        assert len(only.requests) == 5
        assert [int(nap) for nap in chain.naps.naps] == [1, 2, 4, 8]


async def test_the_back_off_has_an_upper_end() -> None:
    async with ChatServer() as only, Chain(only, total_s=300, backoff_max_s=3, tries=4) as chain:
        only.status = 500
        await chain.ask()
        assert [int(nap) for nap in chain.naps.naps] == [1, 2, 3]


async def test_no_back_off_outlasts_the_time_there_is() -> None:
    async with ChatServer() as only, Chain(only, total_s=1.9) as chain:
        only.status = 500
        assert end(await chain.ask()).provider == "degraded"
        assert len(only.requests) == 2


@pytest.mark.parametrize("status", [401, 403, 429, 400, 404])
async def test_nobody_is_asked_again_after_auth_and_rate_limit_errors(status: int) -> None:
    async with Two() as (first, second), Chain(first, second, total_s=300) as chain:
        first.status = second.status = status
        deltas = await chain.ask(replace(ASK, temperature=None))  # which a 400 might be about
        assert (words(deltas), end(deltas).provider) == (APOLOGY, "degraded")
        assert (len(first.requests), len(second.requests), chain.naps.naps) == (1, 1, [])


async def test_of_a_chain_only_who_may_do_better_is_asked_again() -> None:
    async with Two() as (first, second), Chain(first, second, total_s=300, tries=3) as chain:
        first.status, second.status = 429, 500
        assert end(await chain.ask()).provider == "degraded"
        assert (len(first.requests), len(second.requests)) == (1, 3)


async def test_the_last_who_says_nothing_is_asked_once_more_at_once() -> None:
    async with ChatServer() as only, Chain(only) as chain:
        only.turns, only.events = [NOTHING], GOOD
        assert words(await chain.ask()) == "Here I am."
        assert only.requests[0] == only.requests[1]
        only.turns, only.events = [], NOTHING
        deltas = await chain.ask()
        assert (words(deltas), end(deltas).provider) == (APOLOGY, "degraded")
        assert (len(only.requests), chain.naps.naps) == (4, [])


MALFORMED = chat(called(0, "a", "add", '{"a": '), called(1, "b", "add", '{"b":2}'), reason="tool_calls")


async def test_the_last_who_calls_wrongly_is_asked_once_more_at_once() -> None:
    async with ChatServer() as only, Chain(only) as chain:
        only.turns = [MALFORMED]
        only.events = chat(called(0, "c", "add", '{"a":1}'), reason="tool_calls")
        assert (await chain.ask(CALLS))[0] == ToolCallDelta(0, '{"a":1}', "c", "add")
        assert len(only.requests) == 2


async def test_who_calls_wrongly_twice_is_told_so_by_whoever_runs_the_tool() -> None:
    async with ChatServer() as only, Chain(only) as chain:
        only.events = MALFORMED
        first, second, finished = await chain.ask(CALLS)
        assert (first, second) == (ToolCallDelta(0, '{"a": ', "a", "add"), ToolCallDelta(1, '{"b":2}', "b", "add"))
        assert finished == Finished("tool_calls", provider="first", model="small")


async def test_two_calls_at_once_do_not_mix() -> None:
    """Their pieces come by turns; each comes out whole. No arguments at all are an empty object."""
    async with ChatServer() as only, Chain(only) as chain:
        more = [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for index, piece in ((0, '"a":'), (1, '"b":'), (0, "1}"), (1, "2}"))
        ]
        only.events = chat(
            called(0, "x", "add", "{"),
            called(1, "y", "sub", "{"),
            called(2, "z", "now", ""),
            *more,
            reason="tool_calls",
        )
        assert (await chain.ask(CALLS))[:3] == [
            ToolCallDelta(0, '{"a":1}', "x", "add"),
            ToolCallDelta(1, '{"b":2}', "y", "sub"),
            ToolCallDelta(2, "{}", "z", "now"),
        ]


async def test_words_before_a_call_are_said_at_once() -> None:
    async with ChatServer() as only, Chain(only) as chain:
        only.events = chat({"content": "One moment."}, 0.3, called(0, "a", "add", "{}"), reason="tool_calls")
        began, seen = time.monotonic(), []
        async for delta in chain.model.stream(CALLS):
            seen.append((type(delta).__name__, time.monotonic() - began))
        assert [name for name, _ in seen] == ["TextDelta", "ToolCallDelta", "Finished"]
        assert seen[1][1] - seen[0][1] > 0.2


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_an_answer_that_ends_for_a_reason_is_let_be(reason: str) -> None:
    async with ChatServer() as only, Chain(only) as chain:
        only.events = chat({"content": ""}, reason=reason)
        assert await chain.ask() == [Finished(reason, provider="first", model="small")]
        only.events = chat(called(0, "a", "add", "{}"), called(1, "b", "add", '{"a'), reason=reason)
        # What it was about to call when it was cut short is no call.
        assert (await chain.ask(CALLS))[:-1] == [ToolCallDelta(0, "{}", "a", "add")]
        only.events = chat({"content": "Yes."}, called(0, "b", "add", '{"a'), reason=reason)
        assert (await chain.ask(CALLS))[:-1] == [TextDelta("Yes.")]
        assert len(only.requests) == 3


async def test_an_agents_own_chain_is_asked_and_nobody_else() -> None:
    async with Two() as (first, second), Chain(first, second) as chain:
        first.events = GOOD
        [_, other] = chain.chain
        second.status = 401
        deltas = await chain.ask(replace(ASK, models=(other,)))
        assert (end(deltas).provider, first.requests) == ("degraded", [])
        # A bare model is one of the platform's default provider.
        await chain.ask(replace(ASK, models=(ModelRef(None, "large"),)))
        assert first.requests[0]["model"] == "large"


async def test_a_tenants_own_provider_is_told_apart_from_the_platforms() -> None:
    loopback = EgressConfig(private_networks=(ip_network("127.0.0.0/8"),))
    async with ChatServer() as server:
        server.events = GOOD
        own = replace(provider("openai", server), tenant="alpha")
        request = replace(ASK, models=(ModelRef(own),))
        model = Failover(Platform(), local_breakers(), Pool(loopback))
        assert end(await read(model, request)).provider == "own:openai"
        await model.aclose()
        # Where tenants choose the address, the addresses of this machine and its network are not asked.
        guarded = Failover(Platform(), local_breakers(), Pool(EgressConfig()))
        assert end(await read(guarded, request)).provider == "degraded"
        assert len(server.requests) == 1
        await guarded.aclose()


@pytest.mark.parametrize(
    "ref",
    [
        ModelRef(None, "small"),
        ModelRef(Provider("off", "openai", model="m", enabled=False)),
        ModelRef(Provider("modelless", "openai")),
        ModelRef(Provider("placeless", "ollama", model="m")),
        ModelRef(Provider("nowhere", "bedrock", model="m")),
        ModelRef(Provider("odd", "openai_compatible", "ftp://x", model="m")),
    ],
    ids=lambda ref: ref.provider.name if ref.provider else "no default",
)
async def test_who_cannot_be_asked_is_apologised_for(ref: ModelRef) -> None:
    model = Failover(Platform(), local_breakers(), Pool(EgressConfig()))
    assert (model.name, model.model) == ("degraded", "")
    deltas = await read(model, Request((Message("user", "Hi"),), models=(ref,)))
    assert (words(deltas), end(deltas).provider) == (APOLOGY, "degraded")
    await model.aclose()


async def test_five_failures_in_a_row_open_the_breaker_and_one_probe_closes_it(caplog: Any) -> None:
    now_ms = [0]
    breakers = local_breakers(clock_ms=lambda: now_ms[0])
    caplog.set_level(logging.INFO)
    async with Two() as (first, second), Chain(first, second, breakers=breakers) as chain:
        first.status = 500
        for _ in range(7):
            assert end(await chain.ask()).provider == "second"
        assert len(first.requests) == 5
        assert REGISTRY.get_sample_value("agentvoicebox_llm_circuit_breaker_state", {"provider": "first"}) == 1
        now_ms[0] = 30_000
        first.status, first.events = 200, [0.1, *GOOD]
        probe, other = await asyncio.gather(chain.ask(), chain.ask())
        assert {end(probe).provider, end(other).provider} == {"first", "second"}
        assert len(first.requests) == 6
        assert end(await chain.ask()).provider == "first"
        assert REGISTRY.get_sample_value("agentvoicebox_llm_circuit_breaker_state", {"provider": "first"}) == 0
        assert "llm:first answers again" in caplog.text


async def test_an_open_breaker_with_nobody_behind_it_is_apologised_for_at_once() -> None:
    async with ChatServer() as only, Chain(only, total_s=300) as chain:
        only.status = 500
        await chain.ask()
        chain.naps.naps.clear()
        assert end(await chain.ask()).provider == "degraded"
        assert (len(only.requests), chain.naps.naps) == (5, [])


@pytest.mark.parametrize("status", [401, 429, 400])
async def test_what_says_nothing_of_health_opens_no_breaker(status: int) -> None:
    async with ChatServer() as only, Chain(only) as chain:
        only.status = status
        for _ in range(8):
            await chain.ask(replace(ASK, temperature=None))
        assert len(only.requests) == 8
        only.status, only.events = 200, NOTHING
        for _ in range(8):
            await chain.ask()
        assert len(only.requests) == 24


async def test_answers_that_break_off_open_the_breaker_too() -> None:
    async with ChatServer() as only, Chain(only) as chain:
        only.events = [*chat({"content": "We"})[:1], CUT]
        for _ in range(5):
            with pytest.raises(LlmError):
                await chain.ask()
        assert end(await chain.ask()).provider == "degraded"
        assert len(only.requests) == 5


class Ends:
    """Breakers that let everybody through, and note how each attempt ended."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    async def ask(self, name: str, *, tenant: str = "") -> Any:
        return _End(self.ends)


class _End:
    def __init__(self, ends: list[str]) -> None:
        self._ends = ends

    async def succeed(self) -> None:
        self._ends.append("succeeded")

    async def fail(self) -> None:
        self._ends.append("failed")

    async def drop(self) -> None:
        self._ends.append("dropped")


async def test_an_interruption_is_no_failure() -> None:
    breakers = Ends()
    async with ChatServer() as only, Chain(only, breakers=breakers) as chain:
        only.events = chat({"content": "We"}, 60.0)
        stream = chain.model.stream(ASK)
        assert await anext(stream) == TextDelta("We")
        await stream.aclose()
        assert breakers.ends == ["succeeded"]
        only.events = [60.0]
        only.asked.clear()
        task = asyncio.create_task(chain.ask())
        await only.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert breakers.ends == ["succeeded", "dropped"]


async def test_each_attempt_ends_once() -> None:
    breakers = Ends()
    async with Two() as (first, second), Chain(first, second, breakers=breakers) as chain:
        first.statuses = [500, 401]
        first.events = GOOD
        for _ in range(3):
            await chain.ask()
        assert breakers.ends == ["failed", "succeeded", "dropped", "succeeded", "succeeded"]


async def test_a_log_says_who_failed_and_never_what_was_said(caplog: Any) -> None:
    caplog.set_level(logging.DEBUG, "agents")
    async with Two() as (first, second), Chain(first, second) as chain:
        first.status, second.status = 401, 429
        await chain.ask(Request((Message("user", "my secret is 4711"),)))
        assert "first answered HTTP 401. second answered HTTP 429." in caplog.text
        assert "4711" not in caplog.text
        assert "key-of-first" not in caplog.text
