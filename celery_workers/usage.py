"""Budgets, stored bytes and Stripe. Tasks of the ``default`` queue, one tenant each; all may run twice."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, transaction
from django.db.models import Sum
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context, tenant_context

from celery_workers.app import QUEUE_DEFAULT, app, config, submit
from realtime.archive.draining import USAGE_TENANTS_KEY
from realtime.recordings.models import Recording
from speech.logs import log_context
from tenants.models import Tenant, TenantStatus
from tenants.prices.models import StripeCustomer
from tenants.usage import budgets, metering
from tenants.usage.operations import store_kept_bytes

log = logging.getLogger(__name__)

TASK_WATCH_BUDGETS = "celery_workers.usage.watch_budgets"
TASK_CHECK_BUDGETS = "celery_workers.usage.check_budgets"
TASK_LOOK_AROUND = "celery_workers.usage.look_around"
TASK_COUNT_STORED = "celery_workers.usage.count_stored"
TASK_METER = "celery_workers.usage.meter"
TASK_METER_ONE = "celery_workers.usage.meter_one"

SCHEDULE: dict[str, dict[str, Any]] = {
    "usage-budgets": {"task": TASK_WATCH_BUDGETS, "schedule": 30.0},
    "usage-hourly": {"task": TASK_LOOK_AROUND, "schedule": 3600.0},
    "usage-stripe": {"task": TASK_METER, "schedule": 300.0},
}

client = redis.Redis.from_url(config.redis_url, socket_timeout=5, socket_connect_timeout=2)


@contextmanager
def tenant_of(schema: str) -> Iterator[Tenant | None]:
    """The tenant, and its schema around what runs inside; None when it is no more. A database that does not answer is
    logged: the next round does it."""
    with log_context(tenant_id=schema):
        close_old_connections()
        try:
            with schema_context(get_public_schema_name()):
                tenant = Tenant.objects.filter(schema_name=schema).exclude(status=TenantStatus.CREATING).first()
            if tenant is None:
                yield None
            else:
                with tenant_context(tenant):
                    yield tenant
        except (OperationalError, InterfaceError) as error:
            log.warning("the usage of a tenant was not looked at: %s", type(error).__name__)
        finally:
            close_old_connections()


@app.task(name=TASK_WATCH_BUDGETS)
def watch_budgets() -> None:
    """Have the budgets of those tenants looked at that have used something since."""
    for schema in client.smembers(USAGE_TENANTS_KEY):
        submit(TASK_CHECK_BUDGETS, QUEUE_DEFAULT, {"tenant": schema.decode()})


@app.task(name=TASK_CHECK_BUDGETS)
def check_budgets(*, tenant: str) -> None:
    # Before the look: what is used meanwhile puts the tenant on the set again.
    client.srem(USAGE_TENANTS_KEY, tenant)
    done = False
    try:
        with tenant_of(tenant) as found:
            if found is not None:
                budgets.note_passed_thresholds()
                budgets.tell_alerts(tenant=found)
            done = True
    except OSError as error:  # what smtplib raises is one too
        log.warning("the mail of a budget was not sent: %s", type(error).__name__)
    if not done:
        client.sadd(USAGE_TENANTS_KEY, tenant)


@app.task(name=TASK_LOOK_AROUND)
def look_around() -> None:
    """Once an hour, for every tenant: what it stores, and budgets whose moment was missed."""
    for schema in Tenant.objects.exclude(status=TenantStatus.CREATING).values_list("schema_name", flat=True):
        submit(TASK_COUNT_STORED, QUEUE_DEFAULT, {"tenant": schema})
        submit(TASK_CHECK_BUDGETS, QUEUE_DEFAULT, {"tenant": schema})


@app.task(name=TASK_COUNT_STORED)
def count_stored(*, tenant: str) -> None:
    with tenant_of(tenant) as found:
        if found is not None:
            with transaction.atomic():
                recordings = Recording.objects.aggregate(total=Sum("bytes"))["total"] or 0
                store_kept_bytes(at=timezone.now(), object_bytes=recordings)


@app.task(name=TASK_METER)
def meter() -> None:
    """Have Stripe told what the tenants that it bills have used."""
    if not settings.STRIPE_API_KEY:
        return
    for schema in StripeCustomer.objects.values_list("tenant__schema_name", flat=True):
        submit(TASK_METER_ONE, QUEUE_DEFAULT, {"tenant": schema})


@app.task(name=TASK_METER_ONE)
def meter_one(*, tenant: str) -> None:
    if not settings.STRIPE_API_KEY:
        return
    with tenant_of(tenant) as found:
        customer = StripeCustomer.objects.filter(tenant=found).first() if found else None
        if customer is None:
            return
        while metering.gather_events(customer=customer) == metering.GATHER_ENTRIES:
            pass
        metering.send_events(customer=customer, client=metering.connect(), most=settings.STRIPE_BATCH)
