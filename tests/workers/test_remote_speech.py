"""Speech over the queues: what a call gets, whatever happens to workers and Redis."""

import asyncio
import contextlib
import json
import time

import httpx2
import numpy as np
import pytest
import redis

from speech import jobs
from speech.engines import STT_HZ, TTS_HZ, Pcm, Segment, SpeechFailed, SpokenChunk, Transcript
from speech.remote import Patience, RemoteSpeech
from speech.scripted import MS_PER_CHARACTER, spoken_as, tone
from speech.tts.voices import UnknownVoice
from tests.workers.conftest import StartWorker, Submissions, Submit, Valkey, Worker

CALL = {"tenant": "acme", "session_id": "sess_1"}
PHRASE = "the quick brown fox jumps over the lazy dog"
PHRASE_SAMPLES = len(PHRASE) * MS_PER_CHARACTER * TTS_HZ // 1000


async def hear(speech: RemoteSpeech, pcm: Pcm, language: str | None = None) -> Transcript:
    return await speech.transcribe(pcm, **CALL, sample_rate_hz=STT_HZ, language=language, prompt=None)


async def say(speech: RemoteSpeech, text: str) -> list[SpokenChunk]:
    return [chunk async for chunk in speech.synthesise(text, **CALL, voice="alloy", speed=1.0)]


def assert_whole_phrase(chunks: list[SpokenChunk]) -> None:
    """Sample for sample the tone that the engine makes: nothing missing, repeated or out of order."""
    pcm = np.concatenate([chunk.pcm for chunk in chunks])
    assert np.array_equal(pcm, tone(PHRASE_SAMPLES, TTS_HZ))


async def test_an_utterance_comes_back_as_its_words(speech: RemoteSpeech, start_worker: StartWorker) -> None:
    await start_worker("stt")
    transcript = await hear(speech, spoken_as("go forward ten meters", 2000), language="en")
    assert transcript.text == "go forward ten meters"
    assert [word.text for word in transcript.words] == ["go", "forward", "ten", "meters"]
    assert transcript.audio_s == 2.0
    assert (transcript.engine, transcript.model) == ("scripted", "")


async def test_segments_come_as_they_are_understood_and_the_last_with_the_transcript(
    speech: RemoteSpeech, submissions: Submissions, start_worker: StartWorker
) -> None:
    await start_worker("stt")
    segments: list[Segment] = []
    transcript = await speech.transcribe(
        spoken_as("One two. Three four. Five.", 2000),
        **CALL,
        sample_rate_hz=STT_HZ,
        language="en",
        prompt=None,
        heard=segments.append,
    )
    assert [segment.text for segment in segments] == ["One two.", " Three four."]
    assert [word.text for word in segments[1].words] == ["Three", "four."]
    assert transcript.text == "One two. Three four. Five."
    assert (await hear(speech, spoken_as("One. Two.", 500))).text == "One. Two."
    assert [job["segments"] for _, _, arguments in submissions for job in arguments.values()] == [True, False]


async def test_segments_of_a_second_attempt_are_not_said_again(
    valkey: Valkey, speech: RemoteSpeech, submissions: Submissions
) -> None:
    """The first worker dies behind its first segment; another begins anew."""
    segments: list[Segment] = []
    hearing = asyncio.create_task(
        speech.transcribe(
            spoken_as("x", 500), **CALL, sample_rate_hz=STT_HZ, language=None, prompt=None, heard=segments.append
        )
    )
    async with asyncio.timeout(5):
        while not submissions:  # noqa: ASYNC110 - a test polls
            await asyncio.sleep(0.01)
    [(_, _, arguments)] = submissions
    job = arguments["job"]
    assert isinstance(job, dict)
    client = redis.Redis.from_url(valkey.url)
    place = {"tenant": job["tenant"], "job_id": job["job_id"]}

    def publish(kind: type, **fields: object) -> None:
        client.publish(jobs.replies_channel(speech.gateway_id), jobs.encode_frame(kind(**place, **fields)))

    publish(jobs.Understood, attempt=1, seq=0, index=0, text="One.")
    for index, text in enumerate(("One.", " Two.")):
        publish(jobs.Understood, attempt=2, seq=index, index=index, text=text)
    publish(
        jobs.Transcribed, attempt=2, seq=2, text="One. Two. Three.", language="en", audio_s=0.5, compute_s=0.1, words=[]
    )
    assert (await hearing).text == "One. Two. Three."
    assert [segment.text for segment in segments] == ["One.", " Two."]


async def test_a_phrase_comes_back_whole_and_in_order(speech: RemoteSpeech, start_worker: StartWorker) -> None:
    await start_worker("tts")
    chunks = await say(speech, PHRASE)
    assert len(chunks) > 5
    assert_whole_phrase(chunks)
    assert {(chunk.engine, chunk.degraded) for chunk in chunks} == {("scripted", False)}


async def test_the_first_chunk_does_not_wait_for_the_last(speech: RemoteSpeech, start_worker: StartWorker) -> None:
    await start_worker("tts", AVB_SCRIPTED_TTS_CHUNK_MS="100")
    begun = time.monotonic()
    arrivals = [
        time.monotonic() - begun
        async for _ in speech.synthesise(PHRASE, **CALL, voice="alloy", speed=1.0)
    ]  # fmt: skip
    assert arrivals[0] < 0.5
    assert arrivals[-1] > 1.0


async def test_many_jobs_at_once_each_get_their_own_answer(speech: RemoteSpeech, start_worker: StartWorker) -> None:
    await start_worker("stt")
    texts = [f"caller number {number}" for number in range(60)]
    transcripts = await asyncio.gather(*(hear(speech, spoken_as(text, 500)) for text in texts))
    assert [transcript.text for transcript in transcripts] == texts


async def test_overhead_of_a_job(speech: RemoteSpeech, start_worker: StartWorker) -> None:
    await start_worker("stt")
    utterance = spoken_as("hello", 3000)
    took_ms = []
    for _ in range(100):
        begun = time.perf_counter()
        await hear(speech, utterance)
        took_ms.append((time.perf_counter() - begun) * 1000)
    print(f"\njob overhead: p50 {np.median(took_ms):.1f} ms, p99 {np.percentile(took_ms, 99):.1f} ms")
    assert np.median(took_ms) < 100


async def start_and_kill(
    valkey: Valkey, speech: RemoteSpeech, submissions: Submissions, workers: list[Worker]
) -> asyncio.Task[Transcript]:
    """A transcription whose worker is killed in the middle of it."""
    job = asyncio.create_task(hear(speech, spoken_as("still here", 500)))
    await asyncio.sleep(0.5)
    (started,) = frames_of(valkey, submissions)
    assert isinstance(started, jobs.Started)
    (victim,) = [worker for worker in workers if worker.name == started.worker]
    victim.kill()
    return job


async def test_a_killed_stt_worker_s_job_is_done_by_another_within_ten_seconds(
    valkey: Valkey, speech: RemoteSpeech, submissions: Submissions, start_worker: StartWorker
) -> None:
    workers = [await start_worker("stt", AVB_SCRIPTED_STT_DELAY_MS="1000") for _ in range(2)]
    job = await start_and_kill(valkey, speech, submissions, workers)
    begun = time.monotonic()
    assert (await job).text == "still here"
    print(f"\ndone {time.monotonic() - begun:.1f} s after the kill")
    assert time.monotonic() - begun < 10


async def test_a_killed_stt_worker_s_job_is_done_by_its_successor(
    valkey: Valkey, submit: Submit, submissions: Submissions, start_worker: StartWorker
) -> None:
    # A process may take long to start on a loaded machine; what counts is the time after that.
    speech = RemoteSpeech(valkey.url, submit, "gw-patient", Patience(answer_s=30))
    await speech.start()
    workers = [await start_worker("stt", AVB_SCRIPTED_STT_DELAY_MS="1000")]
    job = await start_and_kill(valkey, speech, submissions, workers)
    await start_worker("stt")
    ready = time.monotonic()
    assert (await job).text == "still here"
    print(f"\ndone {time.monotonic() - ready:.1f} s after the successor was ready")
    assert time.monotonic() - ready < 10
    await speech.stop()


async def test_a_killed_tts_worker_leaves_no_gap_and_no_repeat(speech: RemoteSpeech, start_worker: StartWorker) -> None:
    victim = await start_worker("tts", AVB_SCRIPTED_TTS_CHUNK_MS="300")
    chunks: list[SpokenChunk] = []
    begun = 0.0
    async for chunk in speech.synthesise(PHRASE, **CALL, voice="alloy", speed=1.0):
        chunks.append(chunk)
        if len(chunks) == 3:
            victim.kill()
            begun = time.monotonic()
            await start_worker("tts")
    print(f"\nwhole {time.monotonic() - begun:.1f} s after the kill")
    assert_whole_phrase(chunks)
    assert time.monotonic() - begun < 10


async def test_no_audio_follows_a_cancellation(valkey: Valkey, speech: RemoteSpeech, start_worker: StartWorker) -> None:
    await start_worker("tts", AVB_SCRIPTED_TTS_CHUNK_MS="10")
    spy = redis.Redis.from_url(valkey.url).pubsub(ignore_subscribe_messages=True)
    spy.subscribe(jobs.replies_channel(speech.gateway_id))
    late_ms: list[float] = []
    for _ in range(10):
        stream = speech.synthesise(PHRASE * 3, **CALL, voice="alloy", speed=1.0)
        await anext(stream)
        await stream.aclose()
        begun = time.monotonic()
        last = begun
        while time.monotonic() - begun < 0.3:
            message = await asyncio.to_thread(spy.get_message, timeout=0.05)
            if message is not None:
                frame = jobs.decode_frame(message["data"])
                assert not isinstance(frame, jobs.SpokenAll)
                last = time.monotonic()
        late_ms.append((last - begun) * 1000)
    print(f"\nlast frame after a cancellation: median {np.median(late_ms):.1f} ms, worst {max(late_ms):.1f} ms")
    assert max(late_ms) < 200


async def test_a_cancelled_transcription_is_not_answered(
    valkey: Valkey, speech: RemoteSpeech, start_worker: StartWorker, submissions: Submissions
) -> None:
    await start_worker("stt", AVB_SCRIPTED_STT_DELAY_MS="300")
    job = asyncio.create_task(hear(speech, spoken_as("never mind", 500)))
    await asyncio.sleep(0.15)
    job.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await job
    await asyncio.sleep(0.5)
    frames = frames_of(valkey, submissions)
    assert not any(isinstance(frame, jobs.Transcribed) for frame in frames)


async def test_a_failure_is_tried_once_more(
    speech: RemoteSpeech, start_worker: StartWorker, submissions: Submissions
) -> None:
    await start_worker("tts", AVB_SCRIPTED_FAULT="raise-first")
    assert_whole_phrase(await say(speech, PHRASE))
    assert attempts(submissions) == [1, 2]


@pytest.mark.parametrize("queue", ["stt", "tts"])
async def test_a_second_failure_reaches_the_caller(
    speech: RemoteSpeech, start_worker: StartWorker, submissions: Submissions, queue: str
) -> None:
    await start_worker(queue, AVB_SCRIPTED_FAULT="raise:*")
    with pytest.raises(SpeechFailed) as failure:
        await (hear(speech, tone(8000, STT_HZ)) if queue == "stt" else say(speech, PHRASE))
    assert failure.value.code == f"{queue}_failed"
    assert "scripted fault" in failure.value.message
    # A worker that is slow to begin, on a busy machine, is asked once more before it has failed at all.
    assert attempts(submissions) in ([1, 2], [1, 2, 3])


async def test_a_message_delivered_twice_runs_once(
    valkey: Valkey, speech: RemoteSpeech, submit: Submit, submissions: Submissions, start_worker: StartWorker
) -> None:
    def submit_twice(task_name: str, queue: str, kwargs: dict[str, object]) -> None:
        submit(task_name, queue, kwargs)
        submit(task_name, queue, kwargs)

    worker = await start_worker("tts", AVB_SCRIPTED_TTS_FIRST_CHUNK_MS="300")
    twice = RemoteSpeech(valkey.url, submit_twice, "gw-twice")
    await twice.start()
    assert_whole_phrase(await say(twice, PHRASE))
    await twice.stop()
    submit(*submissions[-1])
    assert [line["outcome"] for line in await taken([worker], 3)] == ["duplicate", "ok", "duplicate"]


async def test_a_job_without_a_worker_times_out(valkey: Valkey, submit: Submit, submissions: Submissions) -> None:
    speech = RemoteSpeech(valkey.url, submit, "gw-alone", Patience(answer_s=1.0, progress_s=0.3))
    await speech.start()
    with pytest.raises(SpeechFailed) as failure:
        await hear(speech, tone(8000, STT_HZ))
    await speech.stop()
    assert failure.value.code == "stt_timeout"
    assert attempts(submissions)[:3] == [1, 2, 3]
    assert len(submissions) <= 4


async def test_a_caller_may_say_how_long_it_waits(valkey: Valkey, submit: Submit, submissions: Submissions) -> None:
    speech = RemoteSpeech(valkey.url, submit, "gw-slow", Patience(answer_s=0.3))
    await speech.start()
    begun = time.monotonic()
    with pytest.raises(SpeechFailed, match=r"no answer within 1\.2 s"):
        await speech.transcribe(
            tone(8000, STT_HZ), **CALL, sample_rate_hz=STT_HZ, language=None, prompt=None, answer_s=1.2
        )
    assert 1.2 <= time.monotonic() - begun < 3
    await speech.stop()
    [(_, _, arguments)] = submissions
    assert arguments["job"]["deadline"] - arguments["job"]["submitted"] == pytest.approx(1.2)


async def test_an_engine_past_its_time_limit_is_a_timeout(speech: RemoteSpeech, start_worker: StartWorker) -> None:
    await start_worker("tts", AVB_TTS_TIME_LIMIT_S="0.5", AVB_SCRIPTED_TTS_CHUNK_MS="200")
    with pytest.raises(SpeechFailed) as failure:
        await say(speech, PHRASE)
    assert failure.value.code == "tts_timeout"


async def test_a_job_that_nobody_waits_for_is_dropped(
    speech: RemoteSpeech, submit: Submit, start_worker: StartWorker
) -> None:
    worker = await start_worker("tts")
    now = time.time()
    job = {"job_id": "job_old", "gateway_id": "gw", **CALL, "submitted": now - 20, "deadline": now - 10}
    submit(jobs.TASK_SYNTHESISE, jobs.QUEUE_TTS, {"job": {**job, "text": PHRASE, "voice": "alloy"}})
    assert [line["outcome"] for line in await taken([worker], 1)] == ["expired"]


async def test_an_unknown_voice_is_refused_at_once(speech: RemoteSpeech, submissions: Submissions) -> None:
    with pytest.raises(UnknownVoice, match="'robot'"):
        [chunk async for chunk in speech.synthesise("hi", **CALL, voice="robot", speed=1.0)]
    assert submissions == []


async def test_jobs_survive_a_redis_that_restarts_and_forgets(
    valkey: Valkey, speech: RemoteSpeech, start_worker: StartWorker
) -> None:
    await start_worker("tts", AVB_SCRIPTED_TTS_CHUNK_MS="200")
    await start_worker("stt", AVB_SCRIPTED_STT_DELAY_MS="1500")
    utterance = asyncio.create_task(hear(speech, spoken_as("still here", 500)))
    begun = time.monotonic()
    chunks: list[SpokenChunk] = []
    async for chunk in speech.synthesise(PHRASE, **CALL, voice="alloy", speed=1.0):
        chunks.append(chunk)
        if len(chunks) == 3:
            valkey.kill()
            valkey.start()
    assert_whole_phrase(chunks)
    assert (await utterance).text == "still here"
    print(f"\nboth jobs done {time.monotonic() - begun:.1f} s after they began")
    assert_whole_phrase(await say(speech, PHRASE))


async def test_frames_that_nobody_heard_are_read_from_the_stream(
    valkey: Valkey, speech: RemoteSpeech, start_worker: StartWorker, submissions: Submissions
) -> None:
    await start_worker("tts", AVB_SCRIPTED_TTS_CHUNK_MS="30")
    client = redis.Redis.from_url(valkey.url)
    chunks: list[SpokenChunk] = []
    async for chunk in speech.synthesise(PHRASE, **CALL, voice="alloy", speed=1.0):
        chunks.append(chunk)
        if len(chunks) in (2, 5):
            client.client_kill_filter(_type="pubsub")
    assert_whole_phrase(chunks)
    assert attempts(submissions) == [1]


async def test_what_is_lost_from_the_stream_too_is_spoken_again(
    valkey: Valkey, speech: RemoteSpeech, start_worker: StartWorker, submissions: Submissions
) -> None:
    await start_worker("tts", AVB_SCRIPTED_TTS_CHUNK_MS="30")
    client = redis.Redis.from_url(valkey.url)
    chunks: list[SpokenChunk] = []
    async for chunk in speech.synthesise(PHRASE, **CALL, voice="alloy", speed=1.0):
        chunks.append(chunk)
        if len(chunks) == 2:
            client.client_kill_filter(_type="pubsub")
            await asyncio.to_thread(time.sleep, 0.01)
            job: dict[str, str] = submissions[-1][2]["job"]  # type: ignore[assignment]
            client.delete(jobs.out_key(job["tenant"], job["job_id"]))
            for _ in range(40):  # the gateway's loop stands still, so nothing of this is heard
                time.sleep(0.01)  # noqa: ASYNC251
                client.delete(jobs.out_key(job["tenant"], job["job_id"]))
    assert_whole_phrase(chunks)


async def test_a_healthy_job_longer_than_the_visibility_timeout_runs_once(
    speech: RemoteSpeech, start_worker: StartWorker
) -> None:
    workers = [await start_worker("stt", AVB_SCRIPTED_STT_DELAY_MS="7500") for _ in range(2)]
    assert (await hear(speech, spoken_as("slow but sure", 500))).text == "slow but sure"
    # Either worker may get the message again: each of them has several threads.
    outcomes = [line["outcome"] for line in await taken(workers, 2)]
    assert sorted(outcomes) == ["duplicate", "ok"]


async def test_a_hung_engine_ends_its_process(speech: RemoteSpeech, start_worker: StartWorker) -> None:
    worker = await start_worker("stt", AVB_SCRIPTED_STT_DELAY_MS="60000", AVB_STT_TIME_LIMIT_S="0.5")
    with pytest.raises(SpeechFailed) as failure:
        await hear(speech, tone(8000, STT_HZ))
    assert failure.value.code == "stt_timeout"
    assert await asyncio.to_thread(worker.process.wait, 15) == 70


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"AVB_STT_ENGINE": "parrot"}, "AVB_STT_ENGINE"),
        ({"AVB_STT_ENGINE": "whisper", "AVB_STT_MODEL": "whisper-huge"}, "there is no model 'whisper-huge'"),
        ({"AVB_STT_ENGINE": "whisper", "AVB_MODELS_DIR": "/nonexistent"}, "is missing"),
    ],
)
async def test_a_worker_without_its_engine_does_not_start(
    start_worker: StartWorker, environment: dict[str, str], complaint: str
) -> None:
    with pytest.raises(AssertionError, match="the worker did not start") as failure:
        await start_worker("stt", **environment)
    assert complaint in str(failure.value)


async def test_without_redis_callers_hear_so_within_a_second_and_later_it_works_again(
    valkey: Valkey, submit: Submit, start_worker: StartWorker
) -> None:
    await start_worker("stt", AVB_SCRIPTED_STT_DELAY_MS="1500")
    speech = RemoteSpeech(valkey.url, submit, "gw-outage")
    await speech.start()
    running = asyncio.create_task(hear(speech, spoken_as("lost", 500)))
    await asyncio.sleep(0.2)
    valkey.kill()
    begun = time.monotonic()
    for job in (running, hear(speech, spoken_as("hello", 500)), hear(speech, spoken_as("hello", 500))):
        with pytest.raises(SpeechFailed) as failure:
            await job
        assert failure.value.code == "speech_unavailable"
    assert time.monotonic() - begun < 2.0
    valkey.start()
    for _ in range(50):
        with contextlib.suppress(SpeechFailed):
            assert (await hear(speech, spoken_as("back again", 500))).text == "back again"
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail("speech did not come back")
    await speech.stop()


async def test_a_redis_that_hangs_does_not_hold_the_loop(valkey: Valkey, submit: Submit) -> None:
    speech = RemoteSpeech(valkey.url, submit, "gw-hang")
    await speech.start()
    valkey.pause()
    begun = time.monotonic()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    with pytest.raises(SpeechFailed) as failure:
        await say(speech, PHRASE)
    took_s = time.monotonic() - begun
    ticking.cancel()
    valkey.resume()
    await speech.stop()
    assert failure.value.code == "speech_unavailable"
    assert took_s < 2.0
    assert ticks > took_s * 50


async def test_ready_knows_which_queues_have_a_worker(speech: RemoteSpeech, start_worker: StartWorker) -> None:
    assert await speech.live_workers("stt") == []
    worker = await start_worker("stt")
    (state,) = await speech.live_workers("stt")
    assert (state.worker, state.pid, state.engine) == (worker.name, worker.process.pid, "scripted")
    worker.stop()
    assert await speech.live_workers("stt") == []


async def test_logs_hold_no_transcript_and_name_session_and_tenant(
    speech: RemoteSpeech, start_worker: StartWorker
) -> None:
    workers = [await start_worker("stt"), await start_worker("tts")]
    await hear(speech, spoken_as("my walrus word", 500))
    await say(speech, "another walrus word")
    for worker in workers:
        (line,) = await taken([worker], 1)
        assert (line["outcome"], line["session_id"], line["tenant_id"]) == ("ok", "sess_1", "acme")
        assert "walrus" not in worker.log.read_text()


async def test_metrics_have_their_names(speech: RemoteSpeech, start_worker: StartWorker, free_port: int) -> None:
    await start_worker("tts", AVB_METRICS_PORT=str(free_port))
    await say(speech, PHRASE)
    async with httpx2.AsyncClient() as client:
        page = (await client.get(f"http://127.0.0.1:{free_port}/metrics")).text
    assert 'agentvoicebox_tts_requests_total{outcome="ok"} 1.0' in page
    for name in ("duration_seconds_count 1.0", "first_chunk_seconds_count 1.0", "queue_depth 0.0", "utilization"):
        assert f"agentvoicebox_tts_{name}" in page


def frames_of(valkey: Valkey, submissions: Submissions) -> list[jobs.AnyFrame]:
    job: dict[str, str] = submissions[-1][2]["job"]  # type: ignore[assignment]
    entries = redis.Redis.from_url(valkey.url).xrange(jobs.out_key(job["tenant"], job["job_id"]))
    return [jobs.decode_frame(fields[b"f"]) for _, fields in entries]  # type: ignore[union-attr]


def attempts(submissions: Submissions) -> list[int]:
    assert len({kwargs["job"]["job_id"] for _, _, kwargs in submissions}) == 1  # type: ignore[index]
    return [kwargs["job"]["attempt"] for _, _, kwargs in submissions]  # type: ignore[index]


async def taken(workers: list[Worker], count: int) -> list[dict[str, str]]:
    """The log lines about the messages that these workers took, as soon as there are so many."""
    for _ in range(100):
        logs = [line for worker in workers for line in worker.log.read_text().splitlines()]
        lines = [json.loads(line) for line in logs if '"outcome"' in line]
        if len(lines) >= count:
            return lines
        await asyncio.sleep(0.05)
    raise AssertionError(f"{len(lines)} of {count} messages were taken")
