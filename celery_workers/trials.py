"""Whether a version of an agent is so much worse that callers must not get it. Tasks of the ``default`` queue; each may
run twice."""

import logging
from typing import Any

import redis
from django.db import InterfaceError, OperationalError, close_old_connections, transaction
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context, tenant_context

from agents.trials.judging import judge_all
from celery_workers.app import QUEUE_DEFAULT, app, config, submit
from realtime.archive.draining import OUTCOME_TENANTS_KEY
from speech.logs import log_context
from tenants.models import Tenant, TenantStatus

log = logging.getLogger(__name__)

TASK_WATCH_VERSIONS = "celery_workers.trials.watch_versions"
TASK_JUDGE_VERSIONS = "celery_workers.trials.judge_versions"

SCHEDULE: dict[str, dict[str, Any]] = {"versions-watch": {"task": TASK_WATCH_VERSIONS, "schedule": 30.0}}

client = redis.Redis.from_url(config.redis_url, socket_timeout=5, socket_connect_timeout=2)


@app.task(name=TASK_WATCH_VERSIONS)
def watch_versions() -> None:
    """Have the versions of those tenants judged that have had calls since."""
    for schema in client.smembers(OUTCOME_TENANTS_KEY):
        submit(TASK_JUDGE_VERSIONS, QUEUE_DEFAULT, {"tenant": schema.decode()})


@app.task(name=TASK_JUDGE_VERSIONS)
def judge_versions(*, tenant: str) -> None:
    # Before the look: what comes meanwhile puts the tenant on the set again.
    client.srem(OUTCOME_TENANTS_KEY, tenant)
    with log_context(tenant_id=tenant):
        close_old_connections()
        try:
            with schema_context(get_public_schema_name()), transaction.atomic():
                found = Tenant.objects.filter(schema_name=tenant, status=TenantStatus.ACTIVE).first()
            if found is not None:
                with tenant_context(found):
                    judge_all(now=timezone.now())
        except (OperationalError, InterfaceError) as error:
            log.warning("versions were not judged; the next round does it: %s", type(error).__name__)
            client.sadd(OUTCOME_TENANTS_KEY, tenant)
        finally:
            close_old_connections()
