"""The gateway's end of the archive, against a real Valkey that comes and goes."""

import asyncio
import itertools
import os
import stat
import time
from pathlib import Path

import pytest
import redis
import redis.asyncio
from prometheus_client import REGISTRY

from agentvoicebox.stack.valkey import EmbeddedValkey
from realtime.archive import sink
from realtime.archive.events import (
    TENANTS_KEY,
    CallEnded,
    ItemDeleted,
    ItemStored,
    decode_event,
    encode_event,
    stream_key,
)
from realtime.archive.sink import RedisArchive
from realtime.archive.spill import Entry, Spill


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
    assert time.perf_counter() - begun < 10  # a wait for Redis each time would take minutes
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


async def test_while_redis_is_away_memory_is_bounded_in_bytes_too(
    valkey_server: EmbeddedValkey, valkey_url: str, asked: Asked, tmp_path: Path
) -> None:
    archive = RedisArchive(valkey_url, asked, tmp_path / "spill", memory_events=1_000, memory_bytes=100_000)
    valkey_server.stop()
    try:
        await archive.start()
        for seq in range(9):
            archive.put("alpha", event(seq, "x" * 10_000))
        await asyncio.sleep(0.4)
        assert not (tmp_path / "spill").exists()
        for seq in range(9, 40):
            archive.put("alpha", event(seq, "x" * 10_000))
        await until(lambda: (tmp_path / "spill").exists())
        await until(lambda: 0 < REGISTRY.get_sample_value("agentvoicebox_archive_waiting_bytes") <= 100_000)
    finally:
        valkey_server.start()
    await until(lambda: sorted(streamed(valkey_url)) == list(range(40)))
    await archive.stop()
    assert left_on_disk(tmp_path / "spill") == []


async def test_large_events_go_in_several_pipelines(
    valkey_url: str, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "PIPELINE_BYTES", 25_000)
    pipelines: list[int] = []
    real = RedisArchive._send

    async def send(self: RedisArchive, entries: list[Entry]) -> bool:
        pipelines.append(sum(len(encoded) for _, encoded in entries))
        return await real(self, entries)

    monkeypatch.setattr(RedisArchive, "_send", send)
    archive = RedisArchive(valkey_url, asked, tmp_path)
    for seq, size in enumerate([10_000, 10_000, 10_000, 40_000, 10_000]):
        archive.put("alpha", event(seq, "x" * size))
    await archive.start()
    await until(lambda: streamed(valkey_url) == [0, 1, 2, 3, 4])
    await archive.stop()
    assert [round(size, -4) for size in pipelines[:4]] == [20_000, 10_000, 40_000, 10_000]


async def test_a_sent_file_that_cannot_be_removed_stops_nothing_and_is_sent_once(
    valkey_url: str, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spill = Spill(tmp_path)
    for seq in (1, 2):
        spill.write([("alpha", encode_event(event(seq)))])

    def refuse(self: Spill, file: Path) -> None:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(Spill, "remove", refuse)
    archive = RedisArchive(valkey_url, asked, tmp_path)
    await archive.start()
    await until(lambda: streamed(valkey_url) == [1, 2])
    archive.put("alpha", event(3))
    await until(lambda: streamed(valkey_url) == [1, 2, 3])
    archive.put("alpha", event(4))
    await archive.stop()
    assert streamed(valkey_url) == [1, 2, 3, 4]
    assert "cannot be removed" in caplog.text


async def test_whatever_breaks_a_round_the_next_one_sends(
    valkey_url: str, asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said, real = "the words of the caller", Spill.files
    faults = iter([OSError(5, said), RuntimeError(said)])

    def files(self: Spill) -> list[Path]:
        if (fault := next(faults, None)) is not None:
            raise fault
        return real(self)

    Spill(tmp_path).write([("alpha", encode_event(event(1)))])
    monkeypatch.setattr(Spill, "files", files)
    before = REGISTRY.get_sample_value("agentvoicebox_archive_faults_total", {"work": "send"}) or 0
    archive = RedisArchive(valkey_url, asked, tmp_path)
    await archive.start()
    archive.put("alpha", event(2))
    await until(lambda: sorted(streamed(valkey_url)) == [1, 2])
    await archive.stop()
    assert REGISTRY.get_sample_value("agentvoicebox_archive_faults_total", {"work": "send"}) == before + 2
    assert "RuntimeError" in caplog.text
    assert said not in caplog.text


async def test_stopping_sends_the_rest_even_when_its_tasks_have_ended(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    async def end(self: RedisArchive) -> None:
        raise RuntimeError

    monkeypatch.setattr(RedisArchive, "_run", end)
    archive = RedisArchive(valkey_url, asked.append, tmp_path)
    await archive.start()
    archive.put("alpha", event(1))
    await asyncio.sleep(0.05)
    await archive.stop()
    assert streamed(valkey_url) == [1]
    assert asked == ["alpha"]
    assert "a task of the archive had ended: RuntimeError" in caplog.text


async def test_a_client_that_breaks_sends_events_to_disk(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: redis.asyncio.Redis, **options: bool) -> None:
        raise RuntimeError

    monkeypatch.setattr(redis.asyncio.Redis, "pipeline", refuse)
    archive = RedisArchive("redis://127.0.0.1:1/0", asked, tmp_path, memory_events=10)
    await archive.start()
    for seq in range(30):
        archive.put("alpha", event(seq))
    await until(lambda: left_on_disk(tmp_path) != [])
    await archive.stop()
    spill = Spill(tmp_path)
    assert sorted(decode_event(encoded).seq for file in spill.files() for _, encoded in spill.read(file)) == list(
        range(30)
    )


def test_a_disk_that_is_full_is_not_filled_with_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        Spill(tmp_path).write([("alpha", b"{}")])
    assert left_on_disk(tmp_path) == []


def test_an_unfinished_spill_file_is_not_read(tmp_path: Path) -> None:
    spill = Spill(tmp_path)
    (tmp_path / "1-1-1.new").write_bytes(b'["alpha", {"half')
    written = spill.write([("alpha", b'{"a":1}'), ("beta", b'{"b":2}')])
    assert spill.files() == [written]
    assert list(spill.read(written)) == [("alpha", b'{"a":1}'), ("beta", b'{"b":2}')]
    spill.remove(written)
    spill.remove(written)
    assert list(spill.read(written)) == []
