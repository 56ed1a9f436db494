"""Where each tenant's audit log ends, written into the platform's. Tasks of the ``default`` queue, safe to repeat."""

import logging
from datetime import timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, close_old_connections

from celery_workers.app import QUEUE_DEFAULT, app, submit
from speech.logs import log_context
from tenants.audit.verification import anchor
from tenants.models import Tenant, TenantStatus

log = logging.getLogger(__name__)

TASK_ANCHOR_ALL = "celery_workers.audit.anchor_all"
TASK_ANCHOR = "celery_workers.audit.anchor"

SCHEDULE: dict[str, dict[str, Any]] = {"audit-anchors": {"task": TASK_ANCHOR_ALL, "schedule": 3600.0}}
# Beat remembers nothing across a restart, so it asks hourly for what is done once a day.
EVERY = timedelta(hours=23)


@app.task(name=TASK_ANCHOR_ALL)
def anchor_all() -> None:
    for schema in Tenant.objects.exclude(status=TenantStatus.CREATING).values_list("schema_name", flat=True):
        submit(TASK_ANCHOR, QUEUE_DEFAULT, {"tenant": schema})


@app.task(name=TASK_ANCHOR)
def anchor_one(*, tenant: str) -> None:
    with log_context(tenant_id=tenant):
        close_old_connections()
        try:
            if Tenant.objects.filter(schema_name=tenant).exists():
                anchor(tenant, every=EVERY)
        except (OperationalError, InterfaceError) as error:
            log.warning("the audit log of a tenant was not anchored: %s", type(error).__name__)
        finally:
            close_old_connections()
