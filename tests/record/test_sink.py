"""The gateway's end of the archive, against a real Valkey that comes and goes."""

import asyncio
import itertools
import stat
import time
from pathlib import Path

import pytest
import redis

from agentvoicebox.stack.valkey import EmbeddedValkey
from realtime.archive.events import TENANTS_KEY, CallEnded, ItemDeleted, ItemStored, decode_event, stream_key
from realtime.archive.sink import RedisArchive
from realtime.archive.spill import Spill


def event(seq: int, item_id: str = "item") -> ItemDeleted:
    return ItemDeleted(session_id="sess_1", seq=seq, at=1.0, item_id=item_id)


def left_on_disk(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


def streamed(url: str, tenant: str = "alpha") -> list[int]:
    """The numbers of the events in a tenant's stream."""
    with redis.Redis.from_url(url) as client:
        return [decode_event(fields[b"event"]).seq for _, fields in client.xrange(stream_key(tenant))]


async def until(condition, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


class Asked(list):
    def __call__(self, tenant: str) -> None:
        self.append((time.monotonic(), tenant))


@pytest.fixture
def asked() -> Asked:
    return Asked()


async def test_events_reach_the_stream_of_their_tenant_in_order(valkey_url: str, asked: Asked, tmp_path: Path) -> None:
    archive = RedisArchive(valkey_url, asked, tmp_path)
    await archive.start()
    for seq in range(200):
        archive.put("alpha", event(seq))
    archive.put("beta", event(7))
    await until(lambda: len(streamed(valkey_url)) == 200)
    await archive.stop()
    assert streamed(valkey_url) == list(range(200))
    assert streamed(valkey_url, "beta") == [7]
    with redis.Redis.from_url(valkey_url) as client:
        assert client.smembers(TENANTS_KEY) == {b"alpha", b"beta"}
    assert {tenant for _, tenant in asked} == {"alpha", "beta"}
    assert left_on_disk(tmp_path) == []


async def test_a_drain_is_asked_for_at_most_five_times_a_second(valkey_url: str, asked: Asked, tmp_path: Path) -> None:
    archive = RedisArchive(valkey_url, asked, tmp_path)
    await archive.start()
    for seq in range(60):
        archive.put("alpha", event(seq))
        await asyncio.sleep(0.01)
    await archive.stop()
    times = [at for at, _ in asked]
    assert 2 <= len(times) <= 6
    # The last one is the stop's.
    assert all(later - earlier > 0.19 for earlier, later in itertools.pairwise(times[:-1]))


async def test_putting_costs_microseconds_and_never_waits(valkey_url: str, asked: Asked, tmp_path: Path) -> None:
    archive = RedisArchive("redis://127.0.0.1:1/0", asked, tmp_path, memory_events=10_000)
    await archive.start()
    begun = time.perf_counter()
    for seq in range(5_000):
        archive.put("alpha", event(seq))
    assert (time.perf_counter() - begun) / 5_000 < 0.0005
    await archive.stop()


async def test_while_redis_is_away_events_wait_in_memory_and_then_on_disk(
    valkey_server: EmbeddedValkey, valkey_url: str, asked: Asked, tmp_path: Path
) -> None:
    directory = tmp_path / "spill"
    archive = RedisArchive(valkey_url, asked, directory, memory_events=100)
    await archive.start()
    archive.put("alpha", event(0))
    await until(lambda: streamed(valkey_url) == [0])
    valkey_server.stop()
    try:
        for seq in range(1, 101):
            archive.put("alpha", event(seq))
        await asyncio.sleep(0.4)
        assert not directory.exists()
        for seq in range(101, 1001):
            archive.put("alpha", event(seq))
        await until(lambda: sum(1 for file in directory.glob("*.events") for _ in Spill(directory).read(file)) >= 900)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}
    finally:
        valkey_server.start()
    await until(lambda: set(range(1, 1001)) <= set(streamed(valkey_url)))
    await archive.stop()
    assert left_on_disk(directory) == []


async def test_what_cannot_be_sent_at_the_end_is_sent_by_the_next_process(
    valkey_server: EmbeddedValkey, valkey_url: str, asked: Asked, tmp_path: Path
) -> None:
    archive = RedisArchive("redis://127.0.0.1:1/0", asked, tmp_path)
    await archive.start()
    for seq in range(30):
        archive.put("alpha", event(seq))
    begun = time.monotonic()
    await archive.stop()
    assert time.monotonic() - begun < 3
    assert asked == []
    following = RedisArchive(valkey_url, asked, tmp_path)
    await following.start()
    await until(lambda: len(streamed(valkey_url)) == 30)
    await following.stop()
    assert sorted(streamed(valkey_url)) == list(range(30))
    assert left_on_disk(tmp_path) == []


async def test_an_event_that_json_cannot_hold_is_mended_not_lost(valkey_url: str, asked: Asked, tmp_path: Path) -> None:
    archive = RedisArchive(valkey_url, asked, tmp_path)
    await archive.start()
    item = {"id": "item_1", "content": [{"type": "input_text", "text": "half a \ud83d pair"}], "odd": {1, 2}}
    archive.put("alpha", ItemStored(session_id="sess_1", seq=1, at=1.0, item=item, previous_item_id=None))
    await archive.stop()
    with redis.Redis.from_url(valkey_url) as client:
        [(_, fields)] = client.xrange(stream_key("alpha"))
    kept = decode_event(fields[b"event"])
    assert isinstance(kept, ItemStored)
    assert kept.item["content"][0]["text"] == "half a ? pair"


async def test_a_broker_that_refuses_does_not_stop_the_archive(valkey_url: str, tmp_path: Path) -> None:
    def refuse(tenant: str) -> None:
        raise ConnectionError(tenant)

    archive = RedisArchive(valkey_url, refuse, tmp_path)
    await archive.start()
    archive.put("alpha", event(1))
    await until(lambda: streamed(valkey_url) == [1])
    archive.put("alpha", CallEnded(session_id="sess_1", seq=2, at=2.0, reason="error", duration_s=1.0))
    await archive.stop()
    assert streamed(valkey_url) == [1, 2]


async def test_a_disk_that_refuses_keeps_events_in_memory(
    valkey_server: EmbeddedValkey, valkey_url: str, asked: Asked, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way of the directory")
    archive = RedisArchive(valkey_url, asked, tmp_path / "file", memory_events=10)
    valkey_server.stop()
    try:
        await archive.start()
        for seq in range(100):
            archive.put("alpha", event(seq))
        await asyncio.sleep(0.3)
    finally:
        valkey_server.start()
    await until(lambda: sorted(streamed(valkey_url)) == list(range(100)))
    await archive.stop()


def test_an_unfinished_spill_file_is_not_read(tmp_path: Path) -> None:
    spill = Spill(tmp_path)
    (tmp_path / "1-1-1.new").write_bytes(b'["alpha", {"half')
    written = spill.write([("alpha", b'{"a":1}'), ("beta", b'{"b":2}')])
    assert spill.files() == [written]
    assert list(spill.read(written)) == [("alpha", b'{"a":1}'), ("beta", b'{"b":2}')]
    spill.remove(written)
    spill.remove(written)
    assert list(spill.read(written)) == []
