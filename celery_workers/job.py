"""One speech job on a worker: at most one attempt at a time, under a lease, stoppable, its frames published at once.

Rules:
1. Whoever holds the lease works. It is refreshed every 0.8 s and lapses 2.5 s after its holder died. A message that
   finds it held, or the job done, is left: deliveries and submissions may repeat.
2. A job that succeeded, was refused or ran out of time is done for good; one that failed may be tried again by a
   message with a higher attempt number.
3. Nothing is published for a job that was cancelled, and nothing after an attempt's last frame.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from celery_workers.metrics import QueueMetrics
from speech import jobs
from speech.engines import EngineError, EngineRefused
from speech.logs import kind_and_place
from speech.stop import StopSignal

log = logging.getLogger(__name__)

TICK_S = 0.2
# An engine that does not come back this long after its time limit never will: the process gives way to a fresh one.
HANG_GRACE_S = 10.0

ACQUIRE = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 'cancelled' end
local held = redis.call('GET', KEYS[1])
if held then
  local failed = string.match(held, '^failed:(%d+)$')
  if not failed then return held == 'done' and 'done' or 'held' end
  if tonumber(ARGV[2]) <= tonumber(failed) then return 'done' end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return 'ok'
"""
REFRESH = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 'cancelled' end
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 'lost' end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 'ok'
"""
SETTLE = """
local held = redis.call('GET', KEYS[1])
if not held or held == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
return 'ok'
"""

AnyJob = TypeVar("AnyJob", jobs.TranscribeJob, jobs.SynthesiseJob)
Names = tuple[str, str]


class Attempt(Generic[AnyJob]):
    """One try at a job by this worker, under the lease."""

    def __init__(self, bench: "Workbench", job: AnyJob) -> None:
        self.job = job
        self.stop = StopSignal()
        self.started = time.monotonic()
        self.outcome = ""
        self._bench = bench
        self._lock = threading.Lock()
        self._seq = 0
        self.token = f"held:{job.attempt}:{bench.worker}:{secrets.token_hex(4)}"

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    @property
    def names(self) -> Names:
        return (jobs.lease_key(self.job.tenant, self.job.job_id), jobs.cancelled_key(self.job.tenant, self.job.job_id))

    def publish(self, kind: Callable[..., jobs.AnyFrame], **fields: Any) -> None:
        """One frame to the gateway and into the job's stream; nothing once the attempt is over or stopped."""
        self.publish_all([(kind, fields)])

    def publish_all(self, frames: Iterable[tuple[Callable[..., jobs.AnyFrame], dict[str, Any]]]) -> None:
        """Several frames in one round trip."""
        with self._lock:
            if not self.outcome and not self.stop.requested:
                self._send(frames)

    def finish(self, outcome: str, kind: Callable[..., jobs.AnyFrame], marker: str = "done", **fields: Any) -> bool:
        """The last frame; says whether it was sent, as only the first is. ``marker`` stays in the lease's place."""
        with self._lock:
            if self.outcome or self.stop.requested:
                return False
            self.outcome = outcome
            self._send([(kind, fields)], marker)
            return True

    def abandon(self, outcome: str) -> None:
        """Over without a word: nobody waits, or somebody else is at it."""
        with self._lock:
            if not self.outcome:
                self.outcome = outcome

    def alive(self) -> jobs.Alive:
        job = self.job
        return jobs.Alive(tenant=job.tenant, job_id=job.job_id, attempt=job.attempt, seq=max(0, self._seq - 1))

    def _send(self, frames: Iterable[tuple[Callable[..., jobs.AnyFrame], dict[str, Any]]], marker: str = "") -> None:
        job, out = self.job, jobs.out_key(self.job.tenant, self.job.job_id)
        channel = jobs.replies_channel(job.gateway_id)
        pipe = self._bench.redis.pipeline(transaction=False)
        for kind, fields in frames:
            frame = kind(tenant=job.tenant, job_id=job.job_id, attempt=job.attempt, seq=self._seq, **fields)
            self._seq += 1
            raw = jobs.encode_frame(frame)
            pipe.xadd(out, {"f": raw})
            pipe.publish(channel, raw)
        pipe.expire(out, jobs.JOB_TTL_S)
        if marker:
            pipe.eval(SETTLE, 1, self.names[0], self.token, marker, jobs.JOB_TTL_S)
        pipe.execute()


class Workbench:
    """What the jobs of one worker process share: Redis, a thread that keeps leases, one that hears cancellations."""

    def __init__(self, queue: str, redis_url: str, time_limit_s: float, metrics: QueueMetrics) -> None:
        self.queue = queue
        self.worker = f"{socket.gethostname()}-{os.getpid()}"
        self.metrics = metrics
        # Long enough for a Redis that restarts. A command that still fails ends the attempt; the gateway asks again.
        patient = Retry(ExponentialBackoff(cap=0.5, base=0.05), 6)
        self.redis = redis.Redis.from_url(
            redis_url, socket_timeout=5, socket_connect_timeout=1, retry=patient, retry_on_timeout=False
        )
        self._listening = redis.Redis.from_url(redis_url, socket_timeout=None, socket_connect_timeout=1)
        self._time_limit_s = time_limit_s
        self._running: dict[str, Attempt[Any]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()

    @property
    def busy(self) -> int:
        return len(self._running)

    def start(self) -> None:
        for body, name in ((self._keep_leases, "leases"), (self._hear_cancellations, "cancellations")):
            threading.Thread(target=body, name=name, daemon=True).start()

    def close(self) -> None:
        self._closing.set()

    def work(self, job: AnyJob, body: Callable[[Attempt[AnyJob]], None]) -> str:
        """Run one delivery of a job; gives its outcome, which is also counted.

        ok, failed, refused, timeout, cancelled, expired (nobody waits), duplicate (somebody does it, or did), lost (the
        lease went to another worker) or unreachable (no Redis: the gateway will ask again).
        """
        attempt = Attempt(self, job)
        if time.time() > job.deadline:
            outcome = "expired"
        else:
            try:
                outcome = self._hold_and_run(attempt, body)
            except redis.RedisError as error:
                log.error("job %s: its frames do not reach Redis: %s", job.job_id, type(error).__name__)
                outcome = "unreachable"
        self.metrics.count(outcome, attempt.elapsed_s)
        log.info(
            "job %s: %s",
            job.job_id,
            outcome,
            extra={"attempt": job.attempt, "outcome": outcome, "elapsed_ms": round(attempt.elapsed_s * 1000)},
        )
        return outcome

    def _hold_and_run(self, attempt: Attempt[AnyJob], body: Callable[[Attempt[AnyJob]], None]) -> str:
        job = attempt.job
        with self._lock:
            if job.job_id in self._running:
                return "duplicate"
            # Known before the lease is asked for, so that a cancellation in between is not missed.
            self._running[job.job_id] = attempt
        self.metrics.set_busy(+1)
        try:
            answer = self.redis.eval(ACQUIRE, 2, *attempt.names, attempt.token, job.attempt, jobs.LEASE_MS)
            if answer != b"ok":
                return "cancelled" if answer == b"cancelled" else "duplicate"
            queued_s = max(0.0, time.time() - job.submitted)
            attempt.publish(jobs.Started, worker=self.worker, queued_s=queued_s)
            self._run(attempt, body)
        finally:
            self.metrics.set_busy(-1)
            with self._lock:
                del self._running[job.job_id]
        return attempt.outcome

    def _run(self, attempt: Attempt[AnyJob], body: Callable[[Attempt[AnyJob]], None]) -> None:
        code, again = f"{self.queue}_failed", f"failed:{attempt.job.attempt}"
        try:
            body(attempt)
        except EngineRefused as error:
            attempt.finish("refused", jobs.Failed, code=code, message=str(error), retryable=False)
        except EngineError as error:
            log.warning("job %s: %s", attempt.job.job_id, error)
            attempt.finish("failed", jobs.Failed, marker=again, code=code, message=str(error), retryable=True)
        except redis.RedisError:
            raise
        except Exception as error:
            log.error("job %s: the engine broke: %s", attempt.job.job_id, kind_and_place(error))
            message = f"the engine broke: {type(error).__name__}"
            attempt.finish("failed", jobs.Failed, marker=again, code=code, message=message, retryable=True)
        if attempt.stop.requested:
            attempt.abandon(attempt.stop.reason)

    def _keep_leases(self) -> None:
        refreshed = time.monotonic()
        while not self._closing.wait(TICK_S):
            running = tuple(self._running.values())
            for attempt in running:
                self._survive("time limits were not held", lambda attempt=attempt: self._hold_to_limit(attempt))
            if time.monotonic() - refreshed >= jobs.LEASE_REFRESH_S:
                refreshed = time.monotonic()
                under_way = [attempt for attempt in running if not attempt.outcome]
                self._survive("leases were not refreshed", lambda attempts=under_way: self._refresh(attempts))

    def _survive(self, complaint: str, work: Callable[[], None]) -> bool:
        """Do one round of a thread that lives as long as the process; says whether all went well."""
        try:
            work()
        except redis.RedisError as error:
            log.warning("%s: %s", complaint, type(error).__name__)
        except Exception as error:
            log.error("%s: %s", complaint, kind_and_place(error))
        else:
            return True
        return False

    def _hold_to_limit(self, attempt: Attempt[Any]) -> None:
        if attempt.elapsed_s < self._time_limit_s:
            return
        if attempt.elapsed_s > self._time_limit_s + HANG_GRACE_S:
            log.critical("job %s: the engine hangs; this process ends so that another can start", attempt.job.job_id)
            os._exit(70)
        message = f"not done within {self._time_limit_s:g} s"
        attempt.finish("timeout", jobs.Failed, code=f"{self.queue}_timeout", message=message, retryable=False)
        attempt.stop.request("timeout")

    def _refresh(self, attempts: list[Attempt[Any]]) -> None:
        if not attempts:
            return
        pipe = self.redis.pipeline(transaction=False)
        for attempt in attempts:
            pipe.eval(REFRESH, 2, *attempt.names, attempt.token, jobs.LEASE_MS)
            pipe.publish(jobs.replies_channel(attempt.job.gateway_id), jobs.encode_frame(attempt.alive()))
        for attempt, answer in zip(attempts, pipe.execute()[::2], strict=True):
            if answer == b"cancelled":
                attempt.stop.request("cancelled")
            elif answer == b"lost" and not attempt.outcome:
                attempt.stop.request("lost")

    def _hear_cancellations(self) -> None:
        while not self._closing.is_set():
            # Meanwhile the refresh of the lease looks at the job's cancelled key.
            if not self._survive("cancellations are not heard; listening again", self._listen):
                self._closing.wait(0.3)

    def _listen(self) -> None:
        with self._listening.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(jobs.CANCELLATIONS_CHANNEL)
            while not self._closing.is_set():
                message = pubsub.get_message(timeout=1.0)
                if message is not None:
                    self.cancel(message["data"].decode(errors="replace"))

    def cancel(self, job_id: str) -> None:
        """Stop that job, if it runs here."""
        attempt = self._running.get(job_id)
        if attempt is not None:
            attempt.stop.request("cancelled")
