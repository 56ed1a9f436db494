"""The ``default`` queue: the archive's way into PostgreSQL.

``celery -A celery_workers.archive worker -B -Q default --pool threads``
"""

import logging
import os
import socket
import threading
import time
from typing import Any

import django
import msgspec
import redis
from celery import signals
from prometheus_client import start_http_server

from celery_workers.app import QUEUE_DEFAULT, app, config, submit
from speech import jobs
from speech.logs import log_context

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentvoicebox.settings")
# One lasting connection per thread: a pool would put its own back-off between PostgreSQL's return and ours.
os.environ["AVB_POSTGRES_POOL_SIZE"] = "0"
django.setup()

# Only now: these read the settings.
from django.db import DatabaseError, InterfaceError, close_old_connections  # noqa: E402

from realtime.archive import draining, sweeping  # noqa: E402
from realtime.archive.events import TASK_DRAIN, TENANTS_KEY  # noqa: E402

log = logging.getLogger(__name__)

TASK_SWEEP = "celery_workers.archive.sweep"
TASK_SWEEP_SESSIONS = "celery_workers.archive.sweep_sessions"
SWEEP_INTERVAL_S = 5.0
BACK_OFF_S = (0.25, 0.5, 1.0, 2.0, 4.0)
WORKER = f"{socket.gethostname()}-{os.getpid()}"

app.conf.beat_schedule = {
    "archive-sweep": {"task": TASK_SWEEP, "schedule": SWEEP_INTERVAL_S},
    "sessions-sweep": {"task": TASK_SWEEP_SESSIONS, "schedule": sweeping.SWEEP_SESSIONS_S},
}
# The schedule is what stands above; beat need not remember it on disk.
app.conf.beat_scheduler = "celery.beat:Scheduler"

client = redis.Redis.from_url(config.redis_url, socket_timeout=5, socket_connect_timeout=2)


class BackOff:
    """While PostgreSQL is away, requests to drain come five times a second: most of them need not try."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0

    def is_waiting(self) -> bool:
        return time.monotonic() < self._until

    def fail(self) -> None:
        self._until = time.monotonic() + BACK_OFF_S[min(self._failures, len(BACK_OFF_S) - 1)]
        self._failures += 1
        if self._failures == 1:
            log.warning("PostgreSQL does not take the archive; events wait in Redis")

    def clear(self) -> None:
        if self._failures:
            log.info("PostgreSQL takes the archive again")
        self._failures, self._until = 0, 0.0


back_off = BackOff()


@app.task(name=TASK_DRAIN)
def drain(*, tenant: str) -> None:
    """Store what lies in the tenant's stream. Harmless to repeat; what fails is asked for again by ``sweep``."""
    if back_off.is_waiting():
        return
    with log_context(tenant_id=tenant):
        close_old_connections()
        try:
            draining.drain(client, tenant)
        except draining.TenantUnknown:
            log.error("the archive stream of a tenant that does not exist is left as it is")
        except redis.RedisError as error:
            log.warning("the archive stream cannot be read: %s", type(error).__name__)
        except (DatabaseError, InterfaceError) as error:
            log.debug("the archive was not stored: %s", type(error).__name__)
            back_off.fail()
        else:
            back_off.clear()
        finally:
            close_old_connections()


@app.task(name=TASK_SWEEP)
def sweep() -> None:
    """Ask for each tenant whose stream is not empty: a request that was lost leaves nothing behind for long."""
    for tenant in client.smembers(TENANTS_KEY):
        submit(TASK_DRAIN, QUEUE_DEFAULT, {"tenant": tenant.decode()})


@app.task(name=TASK_SWEEP_SESSIONS)
def sweep_sessions() -> None:
    """End the calls of gateways that are gone."""
    if swept := sweeping.sweep_sessions(client):
        log.warning("%d calls were lost with their gateway", swept)


class Presence(threading.Thread):
    """Says once a second that this worker lives, which is how ``/ready`` knows."""

    def __init__(self) -> None:
        super().__init__(name="presence", daemon=True)
        self.closing = threading.Event()
        self.state = jobs.WorkerState(
            worker=WORKER, pid=os.getpid(), engine="archive", model="", device="cpu", busy=0, concurrency=1
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
