"""From the stream into PostgreSQL, with real servers and a real worker, while things break."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from django.db import OperationalError, connection, transaction
from django_tenants.utils import tenant_context

from agentvoicebox.stack.postgres import EmbeddedPostgres
from celery_workers import archive as worker_module
from celery_workers.app import QUEUE_DEFAULT, submit
from realtime.archive import draining
from realtime.archive.draining import dead_letter_key, drain
from realtime.archive.events import TASK_DRAIN, TENANTS_KEY, encode_event, stream_key
from realtime.archive.models import Conversation, Item
from realtime.archive.sink import RedisArchive
from speech.jobs import workers_key
from tests.record.world import World, call

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def client(valkey_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(valkey_url) as client:
        yield client


def push(client: "redis.Redis", tenant: str, events: list) -> None:
    for event in events:
        client.xadd(stream_key(tenant), {b"event": event if isinstance(event, bytes) else encode_event(event)})
    client.sadd(TENANTS_KEY, tenant)


def texts(world: World, session_id: str) -> list[str]:
    with tenant_context(world.alpha.tenant):
        return list(Item.objects.filter(conversation=session_id).order_by("first_seq").values_list("text", flat=True))


def until(condition, timeout_s: float) -> float:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < timeout_s, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - begun


def test_a_stream_is_stored_in_batches_and_forgotten(committed: World, client, settings) -> None:
    settings.ARCHIVE_BATCH_EVENTS = 3
    push(client, "alpha", call("sess_a", "desk", ["one", "two", "three", "four", "five", "six"]))
    push(client, "beta", call("sess_b", "desk", ["other"]))
    assert drain(client, "alpha") == 8
    assert texts(committed, "sess_a") == ["one", "two", "three", "four", "five", "six"]
    assert client.xlen(stream_key("alpha")) == 0
    assert client.smembers(TENANTS_KEY) == {b"beta"}
    with tenant_context(committed.alpha.tenant):
        assert not Conversation.objects.filter(pk="sess_b").exists()


def test_an_event_that_comes_during_the_last_look_is_not_left_behind(committed: World, client, monkeypatch) -> None:
    push(client, "alpha", call("sess_a", "desk", ["one"])[:2])
    late = call("sess_a", "desk", ["one", "late"])[2:3]
    looks = []
    look = draining._store_batch

    def look_and_be_overtaken(*args):
        found = look(*args)
        looks.append(found)
        if found == 0 and len(looks) == 2:
            push(client, "alpha", late)
        return found

    monkeypatch.setattr(draining, "_store_batch", look_and_be_overtaken)
    drain(client, "alpha")
    assert looks == [2, 0, 1, 0]
    assert texts(committed, "sess_a") == ["one", "late"]
    assert not client.sismember(TENANTS_KEY, "alpha")


def test_poison_goes_to_the_dead_letters_and_the_rest_goes_on(committed: World, client) -> None:
    good = call("sess_a", "desk", ["one", "two"])
    poison = [b"not json", b'{"type":"call.surprise","session_id":"s","seq":1,"at":1}']
    negative = encode_event(call("sess_b", "desk", ["bad"])[1]).replace(b'"audio_ms":900', b'"audio_ms":-1')
    push(client, "alpha", [good[0], poison[0], good[1], poison[1], negative, *good[2:]])
    client.xadd(stream_key("alpha"), {b"other": b"no event at all"})
    assert drain(client, "alpha") == 8
    assert texts(committed, "sess_a") == ["one", "two"]
    letters = [fields for _, fields in client.xrange(dead_letter_key("alpha"))]
    assert [letter.get(b"event") for letter in letters] == [*poison, None, negative]
    reasons = [letter[b"reason"].decode() for letter in letters]
    assert [reason.partition(":")[0] for reason in reasons] == [
        "DecodeError", "ValidationError", "KeyError", "IntegrityError",
    ]  # fmt: skip
    assert not any("bad" in reason for reason in reasons)


def test_a_batch_is_bounded_by_bytes_too(committed: World, client, monkeypatch) -> None:
    monkeypatch.setattr(draining, "BATCH_BYTES", 1)
    monkeypatch.setattr(draining, "PAGE_EVENTS", 2)
    push(client, "alpha", call("sess_a", "desk", ["one", "two", "three"]))
    sizes = []
    look = draining._store_batch
    monkeypatch.setattr(draining, "_store_batch", lambda *args: sizes.append(look(*args)) or sizes[-1])
    assert drain(client, "alpha") == 5
    assert sizes == [2, 2, 1, 0]
    assert texts(committed, "sess_a") == ["one", "two", "three"]


def test_an_event_that_takes_too_long_to_store_stops_no_other(committed: World, client, monkeypatch) -> None:
    store = draining.apply_events

    def slow(events):
        if any("slow" in str(event) for event in events):
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = 10")
                cursor.execute("SELECT pg_sleep(1)")
        return store(events)

    def in_a_savepoint(events):
        with transaction.atomic():
            return slow(events)

    monkeypatch.setattr(draining, "apply_events", in_a_savepoint)
    push(client, "alpha", call("sess_a", "desk", ["one", "slow", "three"]))
    assert drain(client, "alpha") == 5
    assert texts(committed, "sess_a") == ["one", "three"]
    [letter] = [fields for _, fields in client.xrange(dead_letter_key("alpha"))]
    assert letter[b"reason"].startswith(b"OperationalError")


def test_an_event_leaves_the_stream_only_after_its_rows_are_committed(committed: World, client, monkeypatch) -> None:
    push(client, "alpha", call("sess_a", "desk", ["one"]))

    class Lost(Exception):
        pass

    def lose_power(*_):
        raise Lost

    with monkeypatch.context() as patched:
        patched.setattr(draining, "_take_off", lose_power)
        with pytest.raises(Lost):
            drain(client, "alpha")
    assert client.xlen(stream_key("alpha")) == 3
    assert texts(committed, "sess_a") == ["one"]
    assert drain(client, "alpha") == 3
    assert texts(committed, "sess_a") == ["one"]


def test_a_second_worker_leaves_a_locked_tenant_alone(committed: World, client, postgres_url: str) -> None:
    from zlib import crc32

    import psycopg

    push(client, "alpha", call("sess_a", "desk", ["one"]))
    with psycopg.connect(database_url(postgres_url)) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s, %s)", [draining.LOCK_SPACE, crc32(b"alpha") - 2**31])
        assert drain(client, "alpha") == 0
        assert client.xlen(stream_key("alpha")) == 3
    assert drain(client, "alpha") == 3


def test_a_tenant_that_does_not_exist_keeps_its_stream(committed: World, client, caplog) -> None:
    push(client, "ghost", call("sess_a", "desk", ["one"]))
    worker_module.drain(tenant="ghost")
    assert client.xlen(stream_key("ghost")) == 3
    assert "does not exist" in caplog.text


def test_while_postgresql_is_away_the_stream_is_untouched_and_attempts_are_spaced(
    committed: World, client, postgres_server: EmbeddedPostgres, monkeypatch
) -> None:
    push(client, "alpha", call("sess_a", "desk", ["one"]))
    attempts = []

    def count(*args):
        attempts.append(time.monotonic())
        return drain(*args)

    monkeypatch.setattr(draining, "drain", count)
    monkeypatch.setattr(worker_module, "back_off", worker_module.BackOff())
    postgres_server.stop()
    try:
        with pytest.raises(OperationalError):
            drain(client, "alpha")
        connection.close()
        begun = time.monotonic()
        while time.monotonic() - begun < 1.5:
            worker_module.drain(tenant="alpha")
            time.sleep(0.05)
        assert 1 <= len(attempts) <= 4
        assert client.xlen(stream_key("alpha")) == 3
    finally:
        postgres_server.start()

    def stored() -> bool:
        worker_module.drain(tenant="alpha")
        return client.xlen(stream_key("alpha")) == 0

    assert until(stored, 6) < 5.5
    assert texts(committed, "sess_a") == ["one"]


def database_url(server_url: str) -> str:
    """The test database on the test server, for another process."""
    parts = urlsplit(server_url)
    return parts._replace(path="/" + connection.settings_dict["NAME"]).geturl()


@pytest.fixture
def worker(committed: World, client, postgres_url: str) -> Iterator[subprocess.Popen]:
    kept = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    environment = kept | {
        "DATABASE_URL": database_url(postgres_url),
        "AVB_SERVICE": "default",
        "AVB_METRICS_PORT": "0",
    }
    command = [
        sys.executable, "-m", "celery", "-A", "celery_workers.default", "worker", "-B", "-Q", QUEUE_DEFAULT,
        "--pool", "threads", "--concurrency", "2",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, start_new_session=True)
    try:
        until(lambda: client.zcard(workers_key(QUEUE_DEFAULT)) or process.poll() is not None, 30)
        assert process.poll() is None
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            # The test stopped PostgreSQL under this thread's connection too.
            connection.close()


async def test_from_the_gateway_to_the_row_with_a_real_worker(
    committed: World, client, worker, valkey_url: str, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Rows within a second; PostgreSQL stopped and started again in the middle; nothing lost, nothing twice."""
    import asyncio

    def ask(tenant: str) -> None:
        submit(TASK_DRAIN, QUEUE_DEFAULT, {"tenant": tenant})

    def read() -> list[str]:
        try:
            return texts(committed, "sess_live")
        except OperationalError:
            return []
        finally:
            connection.close()

    async def stored(count: int, timeout_s: float) -> None:
        begun = time.monotonic()
        while len(await asyncio.to_thread(read)) < count:
            assert time.monotonic() - begun < timeout_s, "the rows did not come in time"
            await asyncio.sleep(0.02)

    archive = RedisArchive(valkey_url, ask, tmp_path)
    await archive.start()
    history = call("sess_live", "desk", [f"word {number}" for number in range(30)])
    for event in history[:11]:
        archive.put("alpha", event)
    await stored(10, 5)
    await asyncio.to_thread(postgres_server.stop)
    try:
        for event in history[11:21]:
            archive.put("alpha", event)
        await asyncio.sleep(2)
        assert client.xlen(stream_key("alpha")) == 10
    finally:
        # Not in another thread: the server ends with the thread that started it.
        postgres_server.start()
    await stored(20, 20)
    for event in history[21:]:
        archive.put("alpha", event)
    await archive.stop()
    await stored(30, 5)
    assert await asyncio.to_thread(read) == [f"word {number}" for number in range(30)]
    assert worker.poll() is None
