"""Data protection in the background: keys, retention, exports, erasures. Tasks of the ``default`` queue.

Each may be repeated, and a long one is: the work is in batches, each of them one transaction, and jobs have a lease.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, transaction
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context, schema_exists, tenant_context

from celery_workers.app import QUEUE_DEFAULT, app, config, submit
from realtime.archive import draining
from realtime.privacy import erasure as erasing
from realtime.privacy import export as exporting
from realtime.privacy import jobs, queue
from realtime.privacy.cold import freeze_batch, reseal_next_frozen
from realtime.privacy.models import Erasure, Export
from realtime.privacy.retention import expire_batch, remove_late_recordings, retention_days
from realtime.recordings.resealing import reseal_next
from realtime.recordings.storage import StorageUnavailable
from speech.logs import log_context
from tenants.encryption import operations, resealing
from tenants.encryption.errors import EncryptionError
from tenants.encryption.keyring import current_master_key
from tenants.encryption.queries import list_tenant_keys
from tenants.models import Tenant, TenantStatus

log = logging.getLogger(__name__)

TASK_RESEAL = "celery_workers.privacy.reseal"
TASK_ROTATE_AGED = "celery_workers.privacy.rotate_aged"
TASK_ENTER_COUNTS = "celery_workers.privacy.enter_counts"
TASK_RETAIN_ALL = "celery_workers.privacy.retain_all"
FROZEN = "frozen:"
ROUND_S = 3.0
"""A task that has worked for so long asks for itself again, before its message is given to somebody else."""

SCHEDULE: dict[str, dict[str, Any]] = {
    "data-keys-count": {"task": TASK_ENTER_COUNTS, "schedule": 60.0},
    "data-keys-rotate": {"task": TASK_ROTATE_AGED, "schedule": 3_600.0},
    "retention": {"task": TASK_RETAIN_ALL, "schedule": queue.RETAIN_S},
    "privacy-sweep": {"task": queue.TASK_SWEEP, "schedule": queue.SWEEP_S},
}

FAULTS = (EncryptionError, StorageUnavailable, redis.RedisError, DatabaseError, InterfaceError)
"""What may be over in a while: the next round goes on."""

client = redis.Redis.from_url(config.redis_url, socket_timeout=5, socket_connect_timeout=2)
T = TypeVar("T")

if not settings.DEV:
    try:
        current_master_key()
    except EncryptionError as error:
        raise SystemExit(f"celery: {error}") from None


# --- keys ---


@app.task(name=TASK_ENTER_COUNTS)
def enter_counts() -> None:
    """How often data keys were opened, and what failed, into the audit logs."""
    _work(operations.enter_counts)


@app.task(name=TASK_ROTATE_AGED)
def rotate_aged() -> None:
    """New versions for keys of age, and another look at what older versions have sealed."""
    _work(lambda: operations.rotate_aged_keys(days=settings.DATA_KEY_DAYS))
    for keys in _work(list_tenant_keys) or ():
        if keys.versions > 1:
            submit(TASK_RESEAL, QUEUE_DEFAULT, {"tenant": keys.tenant})


@app.task(name=TASK_RESEAL)
def reseal(*, tenant: str, after: str = "") -> None:
    """What older versions of the tenant's key have sealed, sealed by the active one: rows, then recordings."""
    with log_context(tenant_id=tenant):
        done, broken = _work(lambda: resealing.reseal_rows(tenant=tenant)) or (0, 0)
        if done or broken:
            log.info("%d rows are sealed anew, %d do not open", done, broken)
        if after := _work(lambda: _reseal_objects(tenant, after)):
            submit(TASK_RESEAL, QUEUE_DEFAULT, {"tenant": tenant, "after": after})


def _reseal_objects(tenant: str, after: str) -> str:
    """The last object that was looked at, when there may be more: recordings, then cold conversations."""
    until = time.monotonic() + ROUND_S
    with schema_context(get_public_schema_name()), transaction.atomic():
        if not schema_exists(tenant) or tenant == get_public_schema_name():
            return ""
    with schema_context(tenant):
        for prefix, reseal_one in (("", reseal_next), (FROZEN, reseal_next_frozen)):
            if not prefix and after.startswith(FROZEN):
                continue
            place = after.removeprefix(prefix) if after.startswith(prefix) else ""
            while found := reseal_one(after=place):
                place = found[0]
                if time.monotonic() > until:
                    return prefix + place
    return ""


# --- retention ---


@app.task(name=TASK_RETAIN_ALL)
def retain_all() -> None:
    """Ask for each tenant: what is past its time goes."""
    for tenant in _work(_tenants) or ():
        submit(queue.TASK_RETAIN, QUEUE_DEFAULT, {"tenant": tenant.schema_name})


@app.task(name=queue.TASK_RETAIN)
def retain(*, tenant: str) -> None:
    """One tenant's conversations and recordings past their time, recordings that came late, and expired exports; then
    what goes into cold storage."""
    with log_context(tenant_id=tenant):
        if _work(lambda: _retain(tenant) or _freeze(tenant)):
            submit(queue.TASK_RETAIN, QUEUE_DEFAULT, {"tenant": tenant})


def _retain(schema_name: str) -> bool:
    """Whether there may be more to do."""
    tenant = Tenant.objects.filter(schema_name=schema_name).first()
    if tenant is None:
        return False
    until, now = time.monotonic() + ROUND_S, timezone.now()
    with tenant_context(tenant):
        with transaction.atomic():
            exporting.expire_exports()
        while time.monotonic() < until:
            removed = expire_batch(days=retention_days(tenant), now=now)
            if not removed and not remove_late_recordings():
                return False
            log.info("%d conversations are past their time", removed.conversations)
    return True


def _freeze(schema_name: str) -> bool:
    """Whether there may be more to do."""
    tenant = Tenant.objects.filter(schema_name=schema_name).first()
    if tenant is None or not settings.COLD_AFTER_DAYS:
        return False
    until, now = time.monotonic() + ROUND_S, timezone.now()
    with tenant_context(tenant):
        while time.monotonic() < until:
            if not (frozen := freeze_batch(days=settings.COLD_AFTER_DAYS, now=now)):
                return False
            log.info("%d conversations went into cold storage", frozen)
    return True


# --- exports and erasures ---


@app.task(name=queue.TASK_EXPORT)
def export(*, tenant: str, job: str) -> None:
    """Write an end user's export."""
    _run(tenant, UUID(job), Export, lambda job_id: exporting.run_export(export_id=job_id), most=exporting.ATTEMPTS)


@app.task(name=queue.TASK_ERASE)
def erase(*, tenant: str, job: str) -> None:
    """Erase an end user, or go on with it."""
    _run(tenant, UUID(job), Erasure, lambda job_id: erasing.run_erasure(erasure_id=job_id, client=client))


@app.task(name=queue.TASK_SWEEP)
def sweep() -> None:
    """Ask for each job that nobody works on: a message that was lost, a worker that was killed, a call that ended."""
    for tenant in _work(_tenants) or ():
        found = _work(lambda tenant=tenant: _find_due(tenant))
        for task, job_ids in zip((queue.TASK_EXPORT, queue.TASK_ERASE), found or (), strict=False):
            for job_id in job_ids:
                submit(task, QUEUE_DEFAULT, {"tenant": tenant.schema_name, "job": str(job_id)})


def _run(
    tenant: str, job_id: UUID, model: type[Any], work: Callable[[UUID], Export | Erasure], most: int | None = None
) -> None:
    with log_context(tenant_id=tenant):
        close_old_connections()
        try:
            # What is on its way into the archive belongs to the person, too.
            draining.drain(client, tenant)
            with schema_context(tenant):
                done = work(job_id)
            log.info("job %s is %s", job_id, done.state)
        except jobs.LeaseLost:
            log.debug("job %s is not to be worked on now", job_id)
        except draining.TenantUnknown:
            log.warning("a job of a tenant that is gone is left")
        except FAULTS as error:
            log.warning("job %s will be tried again: %s", job_id, type(error).__name__)
            _work(lambda error=error: _let_go(tenant, model, job_id, error, most))
        finally:
            close_old_connections()


def _let_go(tenant: str, model: type[Any], job_id: UUID, error: Exception, most: int | None) -> None:
    with schema_context(tenant), transaction.atomic():
        jobs.let_go(model.objects.get(pk=job_id), error, most=most)


def _tenants() -> list[Tenant]:
    return list(Tenant.objects.exclude(status__in=(TenantStatus.CREATING, TenantStatus.DELETING)))


def _find_due(tenant: Tenant) -> tuple[list[UUID], list[UUID]]:
    with tenant_context(tenant), transaction.atomic():
        return jobs.find_due()


def _work(work: Callable[[], T]) -> T | None:
    """None after a fault that may be over in a while."""
    close_old_connections()
    try:
        return work()
    except FAULTS as error:
        log.warning("data protection waits: %s", type(error).__name__)
        return None
    finally:
        close_old_connections()
