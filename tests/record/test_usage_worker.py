"""The rounds of the default worker: one message for each tenant, with its name, and all of it safe to repeat."""

from typing import Any

import pytest
import redis
from django.db.models import Sum
from django_tenants.utils import tenant_context

from celery_workers import default
from celery_workers import usage as worker
from realtime.archive.draining import USAGE_TENANTS_KEY
from realtime.recordings.models import Recording
from tenants.models import Tenant, TenantStatus
from tenants.usage.models import Entry
from tests.record.world import World


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    messages: list[Any] = []
    monkeypatch.setattr(worker, "submit", lambda *message: messages.append(message))
    return messages


def test_beat_asks_for_all_of_it() -> None:
    scheduled = {entry["task"] for entry in default.app.conf.beat_schedule.values()}
    assert {worker.TASK_WATCH_BUDGETS, worker.TASK_LOOK_AROUND, worker.TASK_METER} <= scheduled


def test_every_hour_each_tenant_that_has_a_schema_is_looked_at(world: World, asked: list[Any]) -> None:
    Tenant.objects.filter(pk=world.beta.tenant.pk).update(status=TenantStatus.CREATING)
    worker.look_around()
    assert asked == [
        (worker.TASK_COUNT_STORED, "default", {"tenant": "alpha"}),
        (worker.TASK_CHECK_BUDGETS, "default", {"tenant": "alpha"}),
    ]


def test_only_tenants_that_used_something_have_their_budgets_looked_at(
    asked: list[Any], valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "client", redis.Redis.from_url(valkey_url))
    worker.watch_budgets()
    assert asked == []
    worker.client.sadd(USAGE_TENANTS_KEY, "alpha")
    worker.watch_budgets()
    assert asked == [(worker.TASK_CHECK_BUDGETS, "default", {"tenant": "alpha"})]
    assert worker.client.sismember(USAGE_TENANTS_KEY, "alpha"), "until the look is done"


def test_what_is_stored_counts_tables_and_recordings_once_a_day(committed: World) -> None:
    for _ in range(2):
        worker.count_stored(tenant="beta")
    worker.count_stored(tenant="ghost")
    with tenant_context(committed.beta.tenant):
        [entry] = Entry.objects.filter(meter="stored_byte_days").order_by("-at")[:1]
        assert Entry.objects.filter(meter="stored_byte_days", at__date=entry.at.date()).count() == 1
        assert entry.quantity > Recording.objects.aggregate(total=Sum("bytes"))["total"] > 0
