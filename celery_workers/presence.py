"""A worker's sign of life: once a second a key with a short life, by which ``/ready`` knows which queues are served."""

import logging
import threading
import time

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_workers.job import Workbench
from speech import jobs

log = logging.getLogger(__name__)


class Presence:
    """Writes ``WorkerState`` while the worker lives, and samples its gauges."""

    def __init__(self, bench: Workbench, redis_url: str, state: jobs.WorkerState) -> None:
        self._bench = bench
        self._state = state
        # Not the bench's patient client: a beat that fails is followed by the next one.
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
        )
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)
        self._reachable = True
        self._gpu = _gpu_utilization if state.device == "cuda" else None

    def start(self) -> None:
        self.beat()
        self._thread.start()

    def close(self) -> None:
        """Gone: the gateway need not wait for the key to lapse."""
        self._closing.set()
        self._thread.join(2)
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.delete(jobs.worker_key(self._bench.queue, self._bench.worker))
                pipe.zrem(jobs.workers_key(self._bench.queue), self._bench.worker)
                pipe.execute()
        except redis.RedisError as error:
            log.warning("the worker's key stays until it lapses: %s", type(error).__name__)

    def beat(self) -> None:
        queue, worker, metrics = self._bench.queue, self._bench.worker, self._bench.metrics
        metrics.sample_utilization(self._state.concurrency)
        if self._gpu:
            metrics.gpu_utilization.set(self._gpu())
        state = msgspec.structs.replace(self._state, busy=self._bench.busy)
        now = time.time()
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(jobs.worker_key(queue, worker), msgspec.json.encode(state), ex=jobs.WORKER_TTL_S)
                pipe.zadd(jobs.workers_key(queue), {worker: now})
                pipe.zremrangebyscore(jobs.workers_key(queue), 0, now - jobs.WORKER_TTL_S)
                pipe.llen(queue)
                metrics.queue_depth.set(pipe.execute()[-1])
            self._say_reachable(True, "")
        except redis.RedisError as error:
            self._say_reachable(False, type(error).__name__)

    def _run(self) -> None:
        while not self._closing.wait(jobs.WORKER_REFRESH_S):
            self.beat()

    def _say_reachable(self, reachable: bool, why: str) -> None:
        if reachable != self._reachable:
            self._reachable = reachable
            log.warning("Redis is %s", "back" if reachable else f"not reachable: {why}")


def _gpu_utilization() -> float:
    import pynvml  # comes with the extra "gpu" only

    pynvml.nvmlInit()
    return float(pynvml.nvmlDeviceGetUtilizationRates(pynvml.nvmlDeviceGetHandleByIndex(0)).gpu) / 100
