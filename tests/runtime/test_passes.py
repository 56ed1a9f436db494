"""Who is inside is asked to leave when their key ends, whatever the channel has carried."""

import asyncio
import time
from collections.abc import Callable, Collection

import pytest
import redis

from agentvoicebox.stack.valkey import EmbeddedValkey
from realtime.runtime.passes import Passes, Who
from realtime.runtime.work import end_tasks
from tenants.ended import CHANNEL, AccessEnded, encode

KEY_1: Who = ("key", "acme", "key_1", "realtime")
REVOKED = AccessEnded(tenant="acme", key_id="key_1", reason="api_key_revoked")


class Database:
    def __init__(self) -> None:
        self.ended: list[AccessEnded] = []
        self.asked: list[set[Who]] = []

    async def find_ended(self, inside: Collection[Who]) -> list[AccessEnded]:
        self.asked.append(set(inside))
        return self.ended


@pytest.fixture
def database() -> Database:
    return Database()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(8):
        while not holds():  # noqa: ASYNC110 - a test polls
            await asyncio.sleep(0.005)


async def test_what_is_told_on_the_channel_ends_those_it_names_and_nobody_else(
    valkey_url: str, database: Database
) -> None:
    passes = Passes(valkey_url, database.find_ended, recheck_s=60)
    told: list[AccessEnded] = []
    mine = passes.enter(KEY_1, told.append)
    others = [passes.enter(who) for who in [("key", "acme", "key_2", ""), ("key", "beta", "key_1", "")]]
    await passes.start()
    await until(lambda: bool(database.asked))
    with redis.Redis.from_url(valkey_url) as client:
        began = time.monotonic()
        client.publish(CHANNEL, encode(REVOKED))
        client.publish(CHANNEL, encode(REVOKED))
        await until(lambda: mine.ended is not None)
        assert time.monotonic() - began < 4
        client.publish(CHANNEL, b"not json")
        client.publish(CHANNEL, encode(AccessEnded(tenant="beta", reason="tenant_suspended")))
        await until(lambda: others[1].ended is not None)
    assert told == [REVOKED]
    assert others[0].ended is None
    await passes.stop()


async def test_what_was_missed_while_redis_was_away_is_found_in_the_database(
    valkey_url: str, valkey_server: EmbeddedValkey, database: Database
) -> None:
    passes = Passes(valkey_url, database.find_ended, recheck_s=60)
    mine = passes.enter(KEY_1)
    await passes.start()
    await until(lambda: bool(database.asked))
    valkey_server.stop()
    database.ended = [REVOKED]
    valkey_server.start()
    await until(lambda: mine.ended is not None)
    await passes.stop()


async def test_keys_of_those_inside_are_looked_up_every_so_often_in_one_query(
    valkey_url: str, database: Database
) -> None:
    passes = Passes(valkey_url, database.find_ended, recheck_s=0.05)
    inside = [passes.enter(KEY_1), passes.enter(KEY_1), passes.enter(("key", "acme", "key_2", ""))]
    await passes.start()
    await until(lambda: len(database.asked) >= 3)
    assert database.asked[-1] == {KEY_1, ("key", "acme", "key_2", "")}
    database.ended = [REVOKED]
    await until(lambda: inside[0].ended is not None and inside[1].ended is not None)
    del inside[2:]
    before = len(database.asked)
    await asyncio.sleep(0.3)
    assert len(database.asked) == before, "nobody is inside who has not been told already"
    await passes.stop()


async def test_a_database_that_does_not_answer_ends_nothing(valkey_url: str) -> None:
    async def away(inside: Collection[Who]) -> list[AccessEnded]:
        raise OSError("away")

    passes = Passes(valkey_url, away, recheck_s=0.02)
    mine = passes.enter(KEY_1)
    await passes.start()
    await asyncio.sleep(0.2)
    assert mine.ended is None
    assert len(passes) == 1
    await passes.stop()


async def test_tasks_end_though_they_keep_a_cancellation_to_themselves() -> None:
    heard: list[int] = []

    async def deaf() -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                heard.append(1)
        await asyncio.sleep(60)

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await end_tasks(task)
    assert heard == [1, 1]
