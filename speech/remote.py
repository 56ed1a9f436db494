"""Speech served by the queues: hearing and speaking as a call needs them, whatever happens to workers in between.

Rules:
1. A job that shows no sign for 3 s is submitted again, same id, next attempt. Its worker may have died, its message may
   have been lost. If the queue is just long, the second message finds the lease taken or the job done, and is left.
2. Audio is passed on by its sample offset: each sample once, in order, whichever attempt it comes from.
3. A failure that another worker might not have is tried once more; then the caller gets SpeechFailed.
4. Whoever stops waiting drops the job: here at once, on the worker by a flag and a message.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from redis.exceptions import RedisError

from speech import audio, jobs
from speech.answers import wait_for_answer
from speech.connections import close_redis, open_redis
from speech.engines import TTS_HZ, Heard, Pcm, Segment, SpeechFailed, SpokenChunk, Transcript, Word
from speech.replies import Inbox, Replies
from speech.tts.voices import resolve_voice

log = logging.getLogger(__name__)

Submit = Callable[[str, str, dict[str, Any]], None]
"""(task name, queue, keyword arguments): puts one task on a queue; blocks, and raises when there is no broker."""

AnyJob = TypeVar("AnyJob", jobs.TranscribeJob, jobs.SynthesiseJob)

UNAVAILABLE = "speech_unavailable"
# So few that a page of the longest chunks is read within ``Patience.read_s``.
REPLAYED_AT_ONCE = 16
LAST_FRAMES = (jobs.Transcribed, jobs.SpokenAll, jobs.Failed)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a gateway waits. ``outage_s`` is how long Redis may be away before callers are told, ``read_s`` how long
    one read from it may take."""

    answer_s: float = 10.0
    progress_s: float = 3.0
    outage_s: float = 1.0
    read_s: float = 0.1
    retries: int = 1
    longest_phrase_s: float = 120.0


class RemoteSpeech:
    """Both ``Hearing`` and ``Speaking`` of one gateway process, between ``start`` and ``stop``, on one event loop."""

    def __init__(self, redis_url: str, submit: Submit, gateway_id: str, patience: Patience = Patience()) -> None:
        self._submit = submit
        self.gateway_id = gateway_id
        self._patience = patience
        self._replies = Replies(redis_url, gateway_id, patience.outage_s)
        self._redis = open_redis(redis_url, patience.outage_s, connections=32)
        # One thread, so that a broker that hangs holds up the next submission and never the event loop.
        self._submitting = ThreadPoolExecutor(1, thread_name_prefix="speech-submit")
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._replies.start()
        await self._replies.wait_connected()

    @property
    def connected(self) -> bool:
        """Whether Redis answers, as far as this process knows."""
        return self._replies.connected

    async def stop(self) -> None:
        await self._replies.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._patience.outage_s)
        self._submitting.shutdown(wait=False, cancel_futures=True)
        await close_redis(self._redis)

    async def transcribe(
        self,
        pcm: Pcm,
        *,
        tenant: str,
        session_id: str,
        sample_rate_hz: int,
        language: str | None,
        prompt: str | None,
        translate: bool = False,
        answer_s: float | None = None,
        heard: Heard | None = None,
    ) -> Transcript:
        """One utterance, put into English if ``translate``. ``answer_s`` is how long it may take, ``Patience.answer_s``
        when not given; ``heard`` gets each segment once, in order. Raises SpeechFailed.

        Cancelling the task drops the job, on the worker too.
        """
        now, answer_s = time.time(), self._patience.answer_s if answer_s is None else answer_s
        job = jobs.TranscribeJob(
            job_id=new_job_id(),
            tenant=tenant,
            session_id=session_id,
            gateway_id=self.gateway_id,
            submitted=now,
            deadline=now + answer_s,
            sample_rate_hz=sample_rate_hz,
            language=language,
            prompt=prompt,
            translate=translate,
            segments=heard is not None,
        )
        segments = 0
        errand = _Errand(self, job, jobs.TASK_TRANSCRIBE, jobs.QUEUE_STT, audio.to_bytes(pcm), answer_s)
        async with contextlib.aclosing(errand.frames()) as frames:
            async for frame in frames:
                if isinstance(frame, jobs.Understood) and heard is not None and frame.index == segments:
                    segments += 1
                    heard(Segment(frame.text, tuple(Word(*word) for word in frame.words)))
                if isinstance(frame, jobs.Transcribed):
                    errand.done = True
                    return Transcript(
                        text=frame.text,
                        language=frame.language,
                        audio_s=frame.audio_s,
                        words=tuple(Word(*word) for word in frame.words),
                        engine=frame.engine,
                        model=frame.model,
                    )
        raise AssertionError("frames() ends by raising or with the answer")

    async def synthesise(
        self, text: str, *, tenant: str, session_id: str, voice: str, speed: float
    ) -> AsyncIterator[SpokenChunk]:
        """One phrase, as chunks. Raises SpeechFailed, and UnknownVoice before anything is sent.

        Closing the iterator drops the job, on the worker too.
        """
        resolve_voice(voice)
        now = time.time()
        job = jobs.SynthesiseJob(
            job_id=new_job_id(),
            tenant=tenant,
            session_id=session_id,
            gateway_id=self.gateway_id,
            submitted=now,
            deadline=now + self._patience.answer_s,
            text=text,
            voice=voice,
            speed=speed,
        )
        errand = _Errand(self, job, jobs.TASK_SYNTHESISE, jobs.QUEUE_TTS, b"", self._patience.answer_s)
        splice = Splice()
        replayed = False
        async with contextlib.aclosing(errand.frames()) as frames:
            async for frame in frames:
                if isinstance(frame, jobs.Spoken | jobs.SpokenAll):
                    splice.put(frame)
                while (chunk := splice.take()) is not None:
                    yield chunk
                    errand.extend()
                if splice.complete:
                    errand.done = True
                    return
                if isinstance(frame, jobs.SpokenAll):
                    # The end has come, but not all before it: look into the stream, then have it spoken again.
                    splice.total = None
                    if replayed:
                        await errand.redo()
                    else:
                        errand.find_missing()
                    replayed = not replayed
        raise AssertionError("frames() ends by raising or with the last frame")

    async def live_workers(self, queue: str) -> list[jobs.WorkerState]:
        """The workers that serve a queue now. Raises SpeechFailed when Redis does not answer in ``Patience.read_s``."""
        try:
            async with asyncio.timeout(self._patience.read_s):
                alive = await self._redis.zrangebyscore(
                    jobs.workers_key(queue), time.time() - jobs.WORKER_TTL_S, "+inf"
                )
                if not alive:
                    return []
                states = await self._redis.mget([jobs.worker_key(queue, name.decode()) for name in alive])
        except (RedisError, OSError, TimeoutError) as error:
            raise SpeechFailed(UNAVAILABLE, "Redis does not answer") from error
        return [msgspec.json.decode(state, type=jobs.WorkerState) for state in states if state is not None]

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Splice:
    """Chunks by offset, from any number of attempts, to one stream without gap or repeat."""

    def __init__(self) -> None:
        self.passed = 0
        self.total: int | None = None
        self._ahead: dict[int, jobs.Spoken] = {}

    @property
    def complete(self) -> bool:
        """Everything has been passed on. A second attempt may be shorter than what the first had already said."""
        return self.total is not None and self.passed >= self.total

    def put(self, frame: jobs.Spoken | jobs.SpokenAll) -> None:
        if isinstance(frame, jobs.SpokenAll):
            self.total = frame.samples
        elif frame.offset_samples + len(frame.pcm) // 2 > self.passed:
            self._ahead[frame.offset_samples] = frame

    def take(self) -> SpokenChunk | None:
        """The next samples, if they have come."""
        for offset in sorted(self._ahead):
            if offset > self.passed:
                return None
            frame = self._ahead.pop(offset)
            pcm = audio.from_bytes(frame.pcm)[self.passed - offset :]
            if len(pcm):
                self.passed += len(pcm)
                return SpokenChunk(pcm, frame.engine, frame.degraded, frame.model)
        return None


class _Errand(Generic[AnyJob]):
    """One job from its submission to its end, seen from the gateway."""

    def __init__(
        self, speech: RemoteSpeech, job: AnyJob, task_name: str, queue: str, utterance: bytes, answer_s: float
    ) -> None:
        self.done = False
        self._speech = speech
        self._patience = speech._patience
        self._job: AnyJob = job
        self._task_name = task_name
        self._queue = queue
        self._utterance = utterance
        self._failed: set[int] = set()
        self._answer_s = answer_s
        self._deadline = time.monotonic() + answer_s
        self._sent_at = 0.0
        limit = int(self._patience.longest_phrase_s * TTS_HZ) * 2
        self._inbox = Inbox(job.tenant, job.job_id, limit)

    def extend(self) -> None:
        """Audio came: the next may take as long again."""
        self._deadline = time.monotonic() + self._answer_s

    def find_missing(self) -> None:
        """The last frame came, but not all before it."""
        self._inbox.miss()

    async def frames(self) -> AsyncGenerator[jobs.AnyFrame]:
        """Frames as they come, until the caller says ``done`` and stops asking. Raises SpeechFailed."""
        speech, inbox = self._speech, self._inbox
        if not await speech._replies.wait_connected():
            raise SpeechFailed(UNAVAILABLE, "Redis does not answer")
        speech._replies.open(inbox)
        try:
            await self._send()
            while True:
                heard_at = max(inbox.heard_at, self._sent_at)
                wait_s = min(self._deadline, heard_at + self._patience.progress_s) - time.monotonic()
                frames: list[jobs.AnyFrame] = await inbox.take(max(0.0, wait_s))
                if inbox.missed:
                    inbox.missed = False
                    frames = [*frames, *await self._replay()]
                for frame in frames:
                    if isinstance(frame, jobs.Failed):
                        await self._fail(frame)
                    else:
                        yield frame
                if inbox.overflowed:
                    raise SpeechFailed(f"{self._queue}_failed", f"longer than {self._patience.longest_phrase_s:g} s")
                if inbox.outage and not speech._replies.connected:
                    raise SpeechFailed(UNAVAILABLE, inbox.outage)
                if not frames:
                    await self._look_at_clock()
        finally:
            speech._replies.close(inbox)
            speech._in_background(self._clear() if self.done else self._cancel())

    async def _look_at_clock(self) -> None:
        now = time.monotonic()
        if now >= self._deadline:
            raise SpeechFailed(f"{self._queue}_timeout", f"no answer within {self._answer_s:g} s")
        if now - max(self._inbox.heard_at, self._sent_at) >= self._patience.progress_s:
            await self._look_after_silence()

    async def _look_after_silence(self) -> None:
        """Whether the end was there and nobody heard it; otherwise the job goes out again."""
        ended = [frame for frame in await self._replay() if isinstance(frame, LAST_FRAMES)]
        if any(frame.attempt not in self._failed for frame in ended):
            self._inbox.miss()
        elif await self._is_done():
            await self.redo()
        else:
            # One that never began may just stand in a long queue, where a second message does no harm.
            level = logging.WARNING if self._inbox.heard_at > self._sent_at else logging.INFO
            log.log(level, "job %s shows no sign of life; submitting it again", self._job.job_id)
            await self._submit_again()

    async def _is_done(self) -> bool:
        try:
            async with asyncio.timeout(self._patience.read_s):
                key = jobs.lease_key(self._job.tenant, self._job.job_id)
                lease = await wait_for_answer(self._speech._redis.get(key))
        except (RedisError, OSError):
            return False
        return bool(lease == b"done")

    async def redo(self) -> None:
        """The job counts as done, but part of its answer is lost: clear the mark and have it done again, within the
        retries of a failure."""
        job = self._job
        self._failed.add(-job.attempt)
        if len(self._failed) > self._patience.retries:
            raise SpeechFailed(f"{self._queue}_failed", "part of the answer was lost")
        try:
            keys = jobs.lease_key(job.tenant, job.job_id), jobs.out_key(job.tenant, job.job_id)
            await wait_for_answer(self._speech._redis.unlink(*keys))
        except (RedisError, OSError) as error:
            raise SpeechFailed(UNAVAILABLE, "Redis does not answer") from error
        await self._submit_again()

    async def _fail(self, frame: jobs.Failed) -> None:
        if frame.attempt in self._failed:
            return
        self._failed.add(frame.attempt)
        if not frame.retryable or len(self._failed) > self._patience.retries:
            raise SpeechFailed(frame.code, frame.message)
        # A newer attempt is already under way, otherwise this is the moment for one.
        if frame.attempt >= self._job.attempt:
            await self._submit_again()

    async def _submit_again(self) -> None:
        remaining_s = self._deadline - time.monotonic()
        self._job = msgspec.structs.replace(
            self._job, attempt=self._job.attempt + 1, submitted=time.time(), deadline=time.time() + remaining_s
        )
        await self._send()

    async def _send(self) -> None:
        """The utterance first (a Redis that restarted has forgotten it), then the message."""
        speech, job = self._speech, self._job
        try:
            async with asyncio.timeout(self._patience.outage_s):
                if self._utterance:
                    key = jobs.audio_key(job.tenant, job.job_id)
                    await wait_for_answer(speech._redis.set(key, self._utterance, ex=jobs.JOB_TTL_S))
                await asyncio.get_running_loop().run_in_executor(
                    speech._submitting,
                    speech._submit,
                    self._task_name,
                    self._queue,
                    {"job": msgspec.to_builtins(job)},
                )
        except Exception as error:  # whatever the broker's library raises: the queue cannot be reached
            raise SpeechFailed(UNAVAILABLE, f"the queue cannot be reached: {type(error).__name__}") from error
        self._sent_at = time.monotonic()

    async def _replay(self) -> list[jobs.AnyFrame]:
        """What lies in the job's stream, as far as it can be read; frames seen before are harmless.

        What is missing shows later, by the silence after it or by the gap before the last frame.
        """
        key = jobs.out_key(self._job.tenant, self._job.job_id)
        frames: list[jobs.AnyFrame] = []
        after = "-"
        try:
            while True:
                async with asyncio.timeout(self._patience.read_s):
                    entries = await wait_for_answer(self._speech._redis.xrange(key, min=after, count=REPLAYED_AT_ONCE))
                for _, fields in entries:
                    with contextlib.suppress(msgspec.DecodeError):  # as good as missing
                        frames.append(jobs.decode_frame(fields[b"f"]))
                if len(entries) < REPLAYED_AT_ONCE:
                    return frames
                after = f"({entries[-1][0].decode()}"
        except (RedisError, OSError) as error:
            log.warning("job %s: its stream cannot be read: %s", self._job.job_id, type(error).__name__)
            return frames

    async def _cancel(self) -> None:
        job = self._job
        with contextlib.suppress(RedisError, OSError):
            async with self._speech._redis.pipeline(transaction=False) as pipe:
                pipe.set(jobs.cancelled_key(job.tenant, job.job_id), b"1", ex=jobs.JOB_TTL_S)
                pipe.publish(jobs.CANCELLATIONS_CHANNEL, job.job_id)
                pipe.unlink(jobs.audio_key(job.tenant, job.job_id), jobs.out_key(job.tenant, job.job_id))
                await pipe.execute()

    async def _clear(self) -> None:
        """The answer is here: its audio need not wait for the end of its life. The mark "done" stays."""
        job = self._job
        with contextlib.suppress(RedisError, OSError):
            await self._speech._redis.unlink(
                jobs.audio_key(job.tenant, job.job_id), jobs.out_key(job.tenant, job.job_id)
            )


def new_job_id() -> str:
    return f"job_{secrets.token_hex(12)}"
