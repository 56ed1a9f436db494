"""Circuit breakers: the same rules in Redis and in one process's memory, and one truth for several processes."""

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.egress.breaker import BreakerOpen, LocalBreakers, Permit, RedisBreakers, breaker_key
from agentvoicebox.stack.valkey import EmbeddedValkey
from tenants.lifecycle.names import SHARED_WORDS

ROOT = Path(__file__).parents[2]
NAME = "llm:acme"


class Clock:
    """Milliseconds that tests move."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms

    def move(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["redis", "process"])
async def breakers(
    request: pytest.FixtureRequest, valkey_url: str, clock: Clock, free_port: Callable[[], int]
) -> AsyncIterator[RedisBreakers]:
    url = valkey_url if request.param == "redis" else f"redis://127.0.0.1:{free_port()}/0"
    found = RedisBreakers(url, 2.0, failures=3, open_s=30, probe_s=10, clock_ms=clock)
    yield found
    await found.stop()


async def fail(breakers: RedisBreakers, times: int, name: str = NAME, tenant: str = "alpha") -> None:
    for _ in range(times):
        await (await breakers.ask(name, tenant=tenant)).fail()


async def refusal(asking: Awaitable[Permit]) -> BreakerOpen:
    with pytest.raises(BreakerOpen) as refused:
        await asking
    return refused.value


async def test_it_opens_after_so_many_failures_in_a_row(breakers: RedisBreakers) -> None:
    await fail(breakers, 2)
    await (await breakers.ask(NAME, tenant="alpha")).succeed()
    await fail(breakers, 2)
    await (await breakers.ask(NAME, tenant="alpha")).drop()
    await fail(breakers, 1)
    refused = await refusal(breakers.ask(NAME, tenant="alpha"))
    assert (refused.name, refused.retry_after_s) == (NAME, 30.0)
    assert "30 s" in str(refused)


async def test_one_probe_decides(breakers: RedisBreakers, clock: Clock) -> None:
    await fail(breakers, 3)
    clock.move(30)
    probe = await breakers.ask(NAME, tenant="alpha")
    assert (await refusal(breakers.ask(NAME, tenant="alpha"))).retry_after_s == 10.0
    await probe.fail()
    assert (await refusal(breakers.ask(NAME, tenant="alpha"))).retry_after_s == 30.0
    clock.move(30)
    await (await breakers.ask(NAME, tenant="alpha")).succeed()
    await fail(breakers, 2)
    assert await breakers.ask(NAME, tenant="alpha"), "recovered: it takes three failures again"


async def test_a_probe_that_never_answers_frees_itself(breakers: RedisBreakers, clock: Clock) -> None:
    await fail(breakers, 3)
    clock.move(30)
    lost = await breakers.ask(NAME, tenant="alpha")
    clock.move(10)
    second = await breakers.ask(NAME, tenant="alpha")
    await lost.succeed()
    await refusal(breakers.ask(NAME, tenant="alpha"))
    await second.succeed()
    assert await breakers.ask(NAME, tenant="alpha")


async def test_a_dropped_probe_leaves_its_place_to_the_next(breakers: RedisBreakers, clock: Clock) -> None:
    await fail(breakers, 3)
    clock.move(30)
    await (await breakers.ask(NAME, tenant="alpha")).drop()
    assert await breakers.ask(NAME, tenant="alpha")


async def test_what_began_before_it_opened_says_nothing_new(breakers: RedisBreakers, clock: Clock) -> None:
    early = [await breakers.ask(NAME, tenant="alpha") for _ in range(2)]
    await fail(breakers, 3)
    clock.move(20)
    await early[0].succeed()
    await early[1].fail()
    assert (await refusal(breakers.ask(NAME, tenant="alpha"))).retry_after_s == 10.0


async def test_only_the_first_word_of_a_permit_counts(breakers: RedisBreakers) -> None:
    permit = await breakers.ask(NAME, tenant="alpha")
    for _ in range(5):
        await permit.fail()
    assert await breakers.ask(NAME, tenant="alpha")


async def test_names_and_tenants_have_their_own(breakers: RedisBreakers) -> None:
    await fail(breakers, 3)
    for name, tenant in ((NAME, "beta"), (NAME, ""), ("llm:other", "alpha"), ("tool:acme", "alpha")):
        assert await breakers.ask(name, tenant=tenant)


async def test_opening_and_recovery_are_logged_once(
    breakers: RedisBreakers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agents.egress.breaker")
    early = [await breakers.ask(NAME, tenant="alpha") for _ in range(8)]
    for permit in early:
        await permit.fail()
    clock.move(30)
    await (await breakers.ask(NAME, tenant="alpha")).fail()
    clock.move(30)
    await (await breakers.ask(NAME, tenant="alpha")).succeed()
    told = [record.getMessage() for record in caplog.records if "alpha" in record.getMessage()]
    assert told == [
        "llm:acme of alpha has failed 3 times in a row and is left alone for 30 s",
        "llm:acme of alpha answers again",
    ]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 4)),
        st.tuples(st.sampled_from(["succeeded", "failed", "dropped"]), st.integers(0, 4)),
        st.tuples(st.just("wait"), st.sampled_from([1, 9, 10, 29, 30])),
    ),
    max_size=40,
)


@given(steps=STEPS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_redis_and_memory_keep_the_same_rules(steps: list[tuple[str, int]], valkey_server: EmbeddedValkey) -> None:
    """Whatever happens in whatever order; and never are two probes out under a lease."""
    with redis.Redis.from_url(valkey_server.start()) as client:
        client.flushall()

    async def both() -> None:
        clock = Clock()
        shared = RedisBreakers(valkey_server.url, 2.0, failures=2, open_s=30, probe_s=10, clock_ms=clock)
        local = LocalBreakers(failures=2, open_s=30, probe_s=10, clock_ms=clock)
        permits: dict[int, Any] = {}
        for step, value in steps:
            if step == "wait":
                clock.move(value)
            elif step == "ask" and value not in permits:
                try:
                    permits[value] = await shared.ask(NAME)
                    wait_ms = 0
                except BreakerOpen as refused:
                    wait_ms = round(refused.retry_after_s * 1000)
                token = permits[value].token if value in permits else "refused"
                assert local.ask("key", token) == wait_ms
            elif step != "ask" and value in permits:
                permit = permits.pop(value)
                await shared.tell(permit, step)  # type: ignore[arg-type]
                local.tell("key", permit.token, step)  # type: ignore[arg-type]
        await shared.stop()

    asyncio.run(both())


PROCESS = """
import asyncio, sys
from agents.egress.breaker import BreakerOpen, RedisBreakers

async def main(url):
    breakers = RedisBreakers(url, 2.0, failures=4, open_s=0.4, probe_s=0.6)
    permits = []
    for line in sys.stdin:
        word = line.strip()
        try:
            if word == "ask":
                permits.append(await breakers.ask("llm:acme", tenant="alpha"))
            else:
                await getattr(permits.pop(), word)()
            print("done", flush=True)
        except BreakerOpen:
            print("open", flush=True)

asyncio.run(main(sys.argv[1]))
"""


class Process:
    """Another process that uses the same breakers."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROCESS, url], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def does(self, word: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def processes(valkey_url: str) -> Iterator[tuple[Process, Process]]:
    pair = Process(valkey_url), Process(valkey_url)
    yield pair
    for process in pair:
        process.kill()


def test_two_processes_count_together_and_probe_alone(processes: tuple[Process, Process]) -> None:
    one, two = processes
    for process in (one, two, one, two):
        assert process.does("ask") == "done"
        assert process.does("fail") == "done"
    assert [one.does("ask"), two.does("ask")] == ["open", "open"]
    time.sleep(0.45)
    assert one.does("ask") == "done"
    assert two.does("ask") == "open", "one probe at a time"
    assert one.does("succeed") == "done"
    assert two.does("ask") == "done"


def test_the_probe_of_a_killed_process_frees_itself(processes: tuple[Process, Process]) -> None:
    one, two = processes
    for _ in range(4):
        one.does("ask")
        one.does("fail")
    time.sleep(0.45)
    assert one.does("ask") == "done"
    one.kill()
    assert two.does("ask") == "open"
    time.sleep(0.65)
    assert two.does("ask") == "done"


async def test_while_redis_is_away_a_process_counts_alone(
    valkey_url: str, valkey_server: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.egress.breaker.REDIS_RETRY_S", 0.0)
    breakers = RedisBreakers(valkey_url, 2.0, failures=2, open_s=60)
    before = await breakers.ask(NAME)
    valkey_server.stop()
    await before.fail()
    await fail(breakers, 1, tenant="")
    await refusal(breakers.ask(NAME))
    valkey_server.start()
    assert await breakers.ask(NAME), "what all gateways know counts again"
    await breakers.stop()


def test_several_event_loops_of_a_process_share_one(valkey_url: str) -> None:
    breakers = RedisBreakers(valkey_url, 2.0, failures=4, open_s=60)

    async def fail_once() -> None:
        await fail(breakers, 1)
        await breakers.stop()

    threads = [threading.Thread(target=lambda: asyncio.run(fail_once())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(BreakerOpen):
        asyncio.run(breakers.ask(NAME, tenant="alpha"))


def test_its_keys_carry_the_tenant_or_a_word_that_no_tenant_can_have() -> None:
    assert breaker_key("llm:acme", "alpha") == "avb:alpha:breaker:llm:acme"
    assert breaker_key("tool:a:b/c", "") == "avb:breaker:tool:a%3Ab%2Fc"
    assert "breaker" in SHARED_WORDS


async def test_what_is_forgotten_in_time(valkey_url: str) -> None:
    breakers = RedisBreakers(valkey_url, 2.0, failures=2)
    await fail(breakers, 1)
    with redis.Redis.from_url(valkey_url) as client:
        assert 3_000_000 < client.pttl("avb:alpha:breaker:llm:acme") <= 3_700_000
        await (await breakers.ask(NAME, tenant="alpha")).succeed()
        assert client.keys("*") == []
    await breakers.stop()
