"""Calls in progress as other processes see them: a real Valkey between two registers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
import redis

from agentvoicebox.stack.valkey import EmbeddedValkey
from realtime.archive.events import CallEnded, decode_event, stream_key
from realtime.archive.sweeping import sweep_sessions
from realtime.runtime.register import (
    CHANGES_MAX,
    HEARTBEAT_TTL_S,
    SessionRecord,
    SessionRegister,
    changes_channel,
    decode_change,
    heartbeats_key,
    record_key,
)


def record(session_id: str = "sess_1", tenant: str = "acme", **fields: Any) -> SessionRecord:
    made = SessionRecord(
        id=session_id,
        tenant=tenant,
        conversation_id="conv_1",
        gateway="one",
        agent="desk",
        model="agent:desk",
        channel="websocket",
        key_id="key_1",
        end_user="",
        started_at=time.time(),
        voice="alloy",
    )
    return msgspec.structs.replace(made, **fields)


@pytest.fixture
async def registers(valkey_url: str) -> AsyncIterator[tuple[SessionRegister, SessionRegister]]:
    """Of two gateways."""
    pair = SessionRegister(valkey_url, "one"), SessionRegister(valkey_url, "two")
    for register in pair:
        await register.start()
    yield pair
    for register in pair:
        await register.stop()


async def soon(holds: Callable[[], Any]) -> float:
    """Seconds until it holds; 5 at most."""
    began = time.monotonic()
    async with asyncio.timeout(5):
        while not await holds():  # noqa: ASYNC110 - a test polls
            await asyncio.sleep(0.002)
    return time.monotonic() - began


async def test_a_call_is_seen_by_other_gateways_and_by_no_other_tenant(
    registers: tuple[SessionRegister, SessionRegister],
) -> None:
    one, two = registers
    one.enter(record())

    async def seen() -> bool:
        return [found.id for found in await two.read("acme")] == ["sess_1"]

    print(f"\nseen after {await soon(seen) * 1000:.0f} ms")
    assert await two.read("beta") == []
    one.change("sess_1", voice="marin")

    async def changed() -> bool:
        return (await two.read("acme"))[0].voice == "marin"

    print(f"changed after {await soon(changed) * 1000:.0f} ms")
    one.leave("sess_1", "client_closed")

    async def gone() -> bool:
        return not await two.read("acme")

    await soon(gone)


async def test_what_happens_is_told_on_the_tenants_channel(
    registers: tuple[SessionRegister, SessionRegister], valkey_url: str
) -> None:
    one, _ = registers
    with redis.Redis.from_url(valkey_url) as client, client.pubsub(ignore_subscribe_messages=True) as told:
        told.subscribe(changes_channel("acme"))
        await asyncio.sleep(0.05)
        one.enter(record())
        one.enter(record("sess_2", tenant="beta"))
        one.change("sess_1", voice="marin")
        one.change("sess_1", voice="marin")
        one.change("nobody", voice="marin")
        one.leave("sess_1", "expired")
        changes = []
        for _ in range(100):
            message = await asyncio.to_thread(told.get_message, timeout=0.05)
            if message:
                changes.append(decode_change(message["data"]))
            if len(changes) == 3:
                break
        assert [(change.type, change.session.voice, change.reason) for change in changes] == [
            ("session.created", "alloy", ""),
            ("session.updated", "marin", ""),
            ("session.closed", "marin", "expired"),
        ]
        assert await asyncio.to_thread(told.get_message, timeout=0.2) is None


async def test_after_an_outage_everything_is_there_again(
    registers: tuple[SessionRegister, SessionRegister], valkey_server: EmbeddedValkey
) -> None:
    one, two = registers
    one.enter(record())
    await asyncio.sleep(0.1)
    valkey_server.stop()
    one.change("sess_1", voice="marin")
    one.enter(record("sess_2"))
    await asyncio.sleep(0.2)
    valkey_server.start()

    async def back() -> bool:
        try:
            return {(found.id, found.voice) for found in await two.read("acme")} == {
                ("sess_1", "marin"),
                ("sess_2", "alloy"),
            }
        except redis.RedisError:
            return False

    print(f"\nback after {await soon(back):.1f} s")


async def test_a_call_whose_gateway_is_gone_is_ended_once(
    registers: tuple[SessionRegister, SessionRegister], valkey_url: str
) -> None:
    one, two = registers
    one.enter(record(started_at=time.time() - 100))
    one.enter(record("sess_2"))
    await asyncio.sleep(0.1)
    with redis.Redis.from_url(valkey_url) as client:
        assert 0 < client.zscore(heartbeats_key("acme"), "sess_1") - time.time() <= HEARTBEAT_TTL_S
        assert sweep_sessions(client) == 0
        client.zadd(heartbeats_key("acme"), {"sess_1": time.time() - 1})
        assert sweep_sessions(client) == 1
        assert sweep_sessions(client) == 0
        assert client.get(record_key("acme", "sess_1")) is None
        [(_, fields)] = client.xrange(stream_key("acme"))
        ended = decode_event(fields[b"event"])
        assert isinstance(ended, CallEnded)
        assert (ended.session_id, ended.seq, ended.reason) == ("sess_1", 0, "lost")
        assert 69 <= ended.duration_s <= 72
    assert [found.id for found in await two.read("acme")] == ["sess_2"]


async def test_what_a_client_changes_while_redis_is_away_fills_no_memory() -> None:
    register = SessionRegister("redis://127.0.0.1:1/0", "one")
    register.enter(record())
    for n in range(CHANGES_MAX + 1_000):
        register.change("sess_1", voice=("alloy", "echo")[n % 2])
    assert len(register._changes) == CHANGES_MAX
    assert register._live["sess_1"].voice == "echo", "the record itself is the present one"


async def test_it_stops_whatever_it_is_at(valkey_url: str) -> None:
    for pause_ms in range(40):
        register = SessionRegister(valkey_url, "one")
        await register.start()
        await asyncio.sleep(0.01)
        register.enter(record())
        await asyncio.sleep(0.02)
        register.leave("sess_1", "client_closed")
        await asyncio.sleep(pause_ms / 1000)
        async with asyncio.timeout(3):
            await register.stop()
