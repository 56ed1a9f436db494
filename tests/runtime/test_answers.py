"""Whoever waits for Redis can be cancelled at any moment: no cancellation is lost on the way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network

import pytest

from agents.egress.breaker import RedisBreakers
from agents.egress.config import EgressConfig
from agents.tools.toolbox import LiveToolbox
from agents.tools.types import ToolSpec
from speech.answers import wait_for_answer
from tenants.limits.counters import Limiter

STEPS = 60


async def count_lost(work: Callable[[], Awaitable[object]]) -> tuple[int, int]:
    """(cancellations that did not arrive, cancellations), one after each number of steps of the loop."""
    await work()
    lost = cancelled = 0
    for steps in range(STEPS):
        for _ in range(3):
            task = asyncio.ensure_future(work())
            for _ in range(steps):
                await asyncio.sleep(0)
            if not task.cancel():
                continue
            cancelled += 1
            await asyncio.wait([task])
            lost += not task.cancelled()
    return lost, cancelled


@pytest.fixture
async def breakers(valkey_url: str) -> AsyncIterator[RedisBreakers]:
    found = RedisBreakers(valkey_url, 2.0)
    yield found
    await found.stop()


async def test_a_breaker_keeps_no_cancellation(breakers: RedisBreakers) -> None:
    async def attempt() -> None:
        await (await breakers.ask("http:crm", tenant="alpha")).succeed()

    lost, cancelled = await count_lost(attempt)
    assert cancelled > 5
    assert lost == 0


async def test_a_limit_of_a_tool_keeps_no_cancellation(valkey_url: str, breakers: RedisBreakers) -> None:
    limiter = Limiter(valkey_url, 2.0)
    toolbox = LiveToolbox(EgressConfig(private_networks=(ip_network("127.0.0.1/32"),)), breakers, limiter)
    limited = ToolSpec("find", "Finds.", {}, "http", "http", integration="crm", calls_per_minute=1_000_000)
    try:
        lost, cancelled = await count_lost(lambda: toolbox._refuse_often(limited, "alpha"))
    finally:
        await toolbox.stop()
        await limiter.stop()
    assert cancelled > 5
    assert lost == 0


async def test_an_answer_arrives_and_so_does_a_fault() -> None:
    async def answer() -> str:
        return "7"

    async def fail() -> str:
        raise OSError("away")

    assert await wait_for_answer(answer()) == "7"
    with pytest.raises(OSError, match="away"):
        await wait_for_answer(fail())


async def test_a_question_whose_waiter_has_gone_is_not_cut_off() -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def ask() -> None:
        asked.set()
        await asyncio.sleep(0.01)
        answered.set()
        raise OSError("nobody hears this")

    task = asyncio.create_task(wait_for_answer(ask()))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(1):
        await answered.wait()
