"""Making, erasing and watching tenants. Tasks of the ``default`` queue; each may come twice, one works."""

import logging
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, InterfaceError, close_old_connections
from redis.exceptions import RedisError

from celery_workers.app import QUEUE_DEFAULT, app, submit
from speech.logs import log_context
from tenants.lifecycle.building import BuildFailed, build_tenant
from tenants.lifecycle.erasing import ErasureFailed, NotDue, erase_leftovers, erase_tenant
from tenants.lifecycle.lock import Busy
from tenants.lifecycle.queries import find_unfinished
from tenants.lifecycle.queue import (
    LEFTOVERS_INTERVAL_S,
    SWEEP_INTERVAL_S,
    TASK_BUILD,
    TASK_ERASE,
    TASK_LEFTOVERS,
    TASK_SWEEP,
)
from tenants.models import Tenant, TenantStatus

log = logging.getLogger(__name__)

SCHEDULE: dict[str, dict[str, Any]] = {
    "tenants-sweep": {"task": TASK_SWEEP, "schedule": SWEEP_INTERVAL_S},
    "tenants-leftovers": {"task": TASK_LEFTOVERS, "schedule": LEFTOVERS_INTERVAL_S},
}


@app.task(name=TASK_BUILD)
def build(*, tenant: str) -> None:
    """Make the tenant's schema and open the tenant, or go on where a killed worker stopped."""
    _work(tenant, build_tenant, "the tenant is open")


@app.task(name=TASK_ERASE)
def erase(*, tenant: str) -> None:
    """Erase the tenant, whose grace period is over."""
    _work(tenant, erase_tenant, "the tenant is erased")


@app.task(name=TASK_SWEEP)
def sweep() -> None:
    """Ask for each tenant that waits: a request that was lost, or a worker that was killed, leaves it in its row."""
    close_old_connections()
    try:
        waiting = list(find_unfinished())
    except (DatabaseError, InterfaceError) as error:
        log.debug("waiting tenants cannot be read: %s", type(error).__name__)
        return
    finally:
        close_old_connections()
    for tenant in waiting:
        task = TASK_BUILD if tenant.status == TenantStatus.CREATING else TASK_ERASE
        submit(task, QUEUE_DEFAULT, {"tenant": tenant.schema_name})


@app.task(name=TASK_LEFTOVERS)
def leftovers() -> None:
    """Take away what came to Redis for a tenant after its erasure."""
    close_old_connections()
    try:
        for slug in erase_leftovers():
            log.warning("something came for the erased tenant %s; it was taken away", slug)
    except (DatabaseError, InterfaceError, RedisError) as error:
        log.debug("leftovers cannot be looked for: %s", type(error).__name__)
    finally:
        close_old_connections()


def _work(schema_name: str, operation: Callable[[Tenant], object], words: str) -> None:
    with log_context(tenant_id=schema_name):
        close_old_connections()
        try:
            tenant = Tenant.objects.filter(schema_name=schema_name).first()
            if tenant is None:
                return  # erased since
            operation(tenant)
        except (Busy, NotDue) as error:
            log.debug("left alone: %s", error)
        except (BuildFailed, ErasureFailed) as error:
            log.error("the work on a tenant stands still: %s", error)
        except (DatabaseError, InterfaceError) as error:
            log.warning("PostgreSQL went away; the sweep asks again: %s", type(error).__name__)
        else:
            log.info(words)
        finally:
            close_old_connections()
