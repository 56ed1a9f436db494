"""The archive's way into PostgreSQL, and the end of calls whose gateway is gone. Tasks of the ``default`` queue."""

import logging
import time
from typing import Any

import redis
from django.db import DatabaseError, InterfaceError, close_old_connections

from celery_workers.app import QUEUE_DEFAULT, app, config, submit
from realtime.archive import draining, sweeping
from realtime.archive.events import TASK_DRAIN, TASK_SWEEP, TENANTS_KEY
from speech.logs import log_context

log = logging.getLogger(__name__)

TASK_SWEEP_SESSIONS = "celery_workers.archive.sweep_sessions"
SWEEP_INTERVAL_S = 5.0
BACK_OFF_S = (0.25, 0.5, 1.0, 2.0, 4.0)

SCHEDULE: dict[str, dict[str, Any]] = {
    "archive-sweep": {"task": TASK_SWEEP, "schedule": SWEEP_INTERVAL_S},
    "sessions-sweep": {"task": TASK_SWEEP_SESSIONS, "schedule": sweeping.SWEEP_SESSIONS_S},
}

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
