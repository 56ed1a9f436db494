"""The ``default`` queue: housekeeping, with Django. Its tasks are in the modules named in ``TASKS``.

``celery -A celery_workers.default worker -B -Q default --pool threads``
"""

import ctypes
import logging
import os
import signal
import socket
import threading
import time
from importlib import import_module
from typing import Any

import django
import msgspec
import redis
from celery import signals
from prometheus_client import start_http_server

from celery_workers.app import QUEUE_DEFAULT, app, config, submit
from realtime.archive.events import TASK_SWEEP
from speech import jobs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentvoicebox.settings")
# One lasting connection per thread: a pool would put its own back-off between PostgreSQL's return and ours.
os.environ["AVB_POSTGRES_POOL_SIZE"] = "0"
django.setup()

log = logging.getLogger(__name__)

TASKS = (
    "celery_workers.archive",
    "celery_workers.audit",
    "celery_workers.people",
    "celery_workers.privacy",
    "celery_workers.recordings",
    "celery_workers.tenants",
    "celery_workers.trials",
    "celery_workers.usage",
)
"""Each has tasks, and ``SCHEDULE``: what of them beat asks for, and how often."""
PR_SET_PDEATHSIG = 1
WORKER = f"{socket.gethostname()}-{os.getpid()}"

app.conf.beat_schedule = {name: entry for module in TASKS for name, entry in import_module(module).SCHEDULE.items()}
# The schedule is what stands above; beat need not remember it on disk.
app.conf.beat_scheduler = "celery.beat:Scheduler"

client = redis.Redis.from_url(config.redis_url, socket_timeout=5, socket_connect_timeout=2)


class Presence(threading.Thread):
    """Says once a second that this worker lives, which is how ``/ready`` knows."""

    def __init__(self) -> None:
        super().__init__(name="presence", daemon=True)
        self.closing = threading.Event()
        self.state = jobs.WorkerState(
            worker=WORKER, pid=os.getpid(), engine="default", model="", device="cpu", busy=0, concurrency=1
        )

    def run(self) -> None:
        while True:
            try:
                self.beat()
            except redis.RedisError as error:
                log.debug("no sign of life: %s", type(error).__name__)
            if self.closing.wait(jobs.WORKER_REFRESH_S):
                return

    def beat(self) -> None:
        now = time.time()
        with client.pipeline(transaction=False) as pipe:
            pipe.set(jobs.worker_key(QUEUE_DEFAULT, WORKER), msgspec.json.encode(self.state), ex=jobs.WORKER_TTL_S)
            pipe.zadd(jobs.workers_key(QUEUE_DEFAULT), {WORKER: now})
            pipe.zremrangebyscore(jobs.workers_key(QUEUE_DEFAULT), 0, now - jobs.WORKER_TTL_S)
            pipe.execute()

    def close(self) -> None:
        self.closing.set()
        try:
            with client.pipeline(transaction=False) as pipe:
                pipe.delete(jobs.worker_key(QUEUE_DEFAULT, WORKER))
                pipe.zrem(jobs.workers_key(QUEUE_DEFAULT), WORKER)
                pipe.execute()
        except redis.RedisError as error:
            log.warning("the worker's key stays until it lapses: %s", type(error).__name__)


presence = Presence()


@signals.beat_embedded_init.connect
def end_with_worker(**_: Any) -> None:
    """Beat is a process of its own. Left behind by a worker that was killed, it would hold the worker's output open,
    and the supervisor would not see that it is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@signals.worker_ready.connect
def begin(**_: Any) -> None:
    if config.metrics_port:
        start_http_server(config.metrics_port, addr=config.metrics_host)
    presence.start()
    # What lay there before this worker came need not wait for the first round.
    submit(TASK_SWEEP, QUEUE_DEFAULT, {})
    log.info("default is ready")


@signals.worker_shutdown.connect
def end(**_: Any) -> None:
    presence.close()
