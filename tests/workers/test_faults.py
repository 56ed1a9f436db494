"""What nobody expects, in the threads and tasks that live as long as their process: logged, counted, survived."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import prometheus_client
import pytest
import redis
from redis.asyncio.client import PubSub

from celery_workers.job import Attempt, Workbench
from celery_workers.metrics import QueueMetrics
from speech import jobs
from speech.engines import SpeechFailed
from speech.remote import REPLAYED_AT_ONCE, Patience, RemoteSpeech
from speech.replies import Inbox, Replies
from tests.workers.conftest import Submissions, Submit, Valkey
from tests.workers.test_remote_speech import CALL, PHRASE

SAID = "the words of the caller"
GATEWAY = "gw-faults"


def frame(job_id: str = "job_1", seq: int = 0) -> bytes:
    return jobs.encode_frame(jobs.Alive(tenant="acme", job_id=job_id, attempt=1, seq=seq))


def counted(name: str, **labels: str) -> float:
    return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0


async def heard(inbox: Inbox, publish: Callable[[], object]) -> list[jobs.AnyFrame]:
    """What reaches the inbox, published again and again: a line that has just broken misses some."""
    for _ in range(30):
        publish()
        if frames := await inbox.take(0.1):
            return frames
    raise AssertionError("nothing was heard")


async def test_an_unexpected_error_breaks_the_line_of_replies_for_a_moment_only(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = PubSub.get_message
    faults = iter([RuntimeError(SAID), RuntimeError(SAID)])

    async def get_message(self: PubSub, *args: Any, **kwargs: Any) -> Any:
        if (fault := next(faults, None)) is not None:
            raise fault
        return await real(self, *args, **kwargs)

    monkeypatch.setattr(PubSub, "get_message", get_message)
    before = counted("agentvoicebox_speech_line_breaks_total", error="RuntimeError")
    replies, inbox = Replies(valkey.url, GATEWAY, 1.0), Inbox("acme", "job_1", 1_000)
    replies.open(inbox)
    replies.start()
    client = redis.Redis.from_url(valkey.url)
    await heard(inbox, lambda: client.publish(jobs.replies_channel(GATEWAY), frame()))
    assert replies.connected
    assert inbox.missed
    assert counted("agentvoicebox_speech_line_breaks_total", error="RuntimeError") == before + 2
    assert "RuntimeError" in caplog.text
    assert SAID not in caplog.text
    await replies.stop()


async def test_a_frame_that_cannot_be_delivered_costs_no_other(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replies = Replies(valkey.url, GATEWAY, 1.0)
    faulty, well = Inbox("acme", "job_1", 1_000), Inbox("acme", "job_2", 1_000)

    def refuse(frame: jobs.AnyFrame) -> None:
        raise RuntimeError(SAID)

    monkeypatch.setattr(faulty, "put", refuse)
    replies.start()
    assert await replies.wait_connected()
    replies.open(faulty)
    replies.open(well)
    before = counted("agentvoicebox_speech_frames_unreadable_total")
    client, channel = redis.Redis.from_url(valkey.url), jobs.replies_channel(GATEWAY)
    for raw in (b"\xff\x00", b"", frame("job_1"), frame("job_2")):
        client.publish(channel, raw)
    assert [frame.job_id for frame in await well.take(2)] == ["job_2"]
    assert not well.missed, "the line broke"
    assert counted("agentvoicebox_speech_frames_unreadable_total") == before + 3
    assert SAID not in caplog.text
    await replies.stop()


async def test_a_long_stream_with_a_broken_frame_is_read_page_by_page(
    valkey: Valkey, submit: Submit, submissions: Submissions
) -> None:
    client = redis.Redis.from_url(valkey.url)
    speech = RemoteSpeech(valkey.url, submit, GATEWAY, Patience(progress_s=0.3))
    await speech.start()
    stream = speech.synthesise(PHRASE, **CALL, voice="alloy", speed=1.0)
    answer = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.2)
    job: dict[str, Any] = submissions[0][2]["job"]  # type: ignore[assignment]
    names = {"tenant": job["tenant"], "job_id": job["job_id"], "attempt": 1}
    out = jobs.out_key(job["tenant"], job["job_id"])
    client.xadd(out, {"f": b"\xff\x00"})
    for seq in range(3 * REPLAYED_AT_ONCE):
        client.xadd(out, {"f": jobs.encode_frame(jobs.Alive(**names, seq=seq))})
    chunk = jobs.Spoken(**names, seq=0, offset_samples=0, pcm=b"\1\0" * 10, engine="scripted")
    client.xadd(out, {"f": jobs.encode_frame(chunk)})
    client.client_kill_filter(_type="pubsub")
    assert list((await asyncio.wait_for(answer, 3)).pcm) == [1] * 10
    await stream.aclose()
    await speech.stop()


async def test_a_read_from_redis_has_its_time_limit(valkey: Valkey, submit: Submit) -> None:
    speech = RemoteSpeech(valkey.url, submit, GATEWAY, Patience(outage_s=5.0, read_s=0.1))
    await speech.start()
    assert await speech.live_workers("stt") == []
    valkey.pause()
    begun = time.monotonic()
    with pytest.raises(SpeechFailed) as failure:
        await speech.live_workers("stt")
    assert time.monotonic() - begun < 1
    assert failure.value.code == "speech_unavailable"
    valkey.resume()
    assert await speech.live_workers("stt") == []
    await speech.stop()


@pytest.fixture
def bench(valkey: Valkey) -> Iterator[Workbench]:
    metrics = QueueMetrics("stt", prometheus_client.CollectorRegistry())
    bench = Workbench("stt", valkey.url, 10.0, metrics)
    yield bench
    bench.close()


def work(bench: Workbench) -> tuple[threading.Thread, list[str]]:
    """A job that runs until it is stopped, 5 s at most."""
    now = time.time()
    job = jobs.TranscribeJob(
        job_id="job_1", **CALL, gateway_id=GATEWAY, submitted=now, deadline=now + 10, sample_rate_hz=16_000
    )
    outcomes: list[str] = []

    def body(attempt: Attempt[jobs.TranscribeJob]) -> None:
        if not attempt.stop.wait(5):
            attempt.finish("ok", jobs.Transcribed, text="", language="en", audio_s=0.0, compute_s=0.0)

    thread = threading.Thread(target=lambda: outcomes.append(bench.work(job, body)))
    thread.start()
    return thread, outcomes


def test_the_thread_that_keeps_leases_survives_what_it_meets(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, faults = Attempt.alive, iter([RuntimeError(SAID)])

    def alive(self: Attempt[Any]) -> jobs.Alive:
        if (fault := next(faults, None)) is not None:
            raise fault
        return real(self)

    monkeypatch.setattr(Attempt, "alive", alive)
    monkeypatch.setattr(jobs, "LEASE_REFRESH_S", 0.1)
    bench.start()
    thread, outcomes = work(bench)
    time.sleep(0.6)
    bench.redis.set(jobs.cancelled_key("acme", "job_1"), b"1", ex=60)
    thread.join()
    assert outcomes == ["cancelled"]
    assert "leases were not refreshed: RuntimeError" in caplog.text
    assert SAID not in caplog.text


def test_one_job_that_breaks_its_time_limit_badly_costs_no_other_its_lease(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold_to_limit(self: Workbench, attempt: Attempt[Any]) -> None:
        raise RuntimeError(SAID)

    monkeypatch.setattr(Workbench, "_hold_to_limit", hold_to_limit)
    monkeypatch.setattr(jobs, "LEASE_REFRESH_S", 0.1)
    bench.start()
    thread, outcomes = work(bench)
    time.sleep(0.5)
    bench.redis.set(jobs.cancelled_key("acme", "job_1"), b"1", ex=60)
    thread.join()
    assert outcomes == ["cancelled"]


def test_the_thread_that_hears_cancellations_survives_what_it_hears(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, faults = bench.cancel, iter([RuntimeError(SAID)])

    def cancel(job_id: str) -> None:
        if (fault := next(faults, None)) is not None:
            raise fault
        real(job_id)

    monkeypatch.setattr(bench, "cancel", cancel)
    monkeypatch.setattr(jobs, "LEASE_REFRESH_S", 60)
    bench.start()
    thread, outcomes = work(bench)
    while bench.redis.publish(jobs.CANCELLATIONS_CHANNEL, b"\xff\xfe") == 0:
        time.sleep(0.05)
    while thread.is_alive():
        bench.redis.publish(jobs.CANCELLATIONS_CHANNEL, "job_1")
        thread.join(0.1)
    assert outcomes == ["cancelled"]
    assert "cancellations are not heard; listening again: RuntimeError" in caplog.text
    assert SAID not in caplog.text
