"""Budgets: who is told what, once for each threshold and month, whoever looks at the same time."""

import logging
import smtplib
from datetime import UTC, date, datetime
from decimal import Decimal
from threading import Barrier, Thread
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.core import mail
from django.db import connections
from django.utils import timezone
from django_tenants.utils import tenant_context

from celery_workers import usage as worker
from realtime.archive.draining import USAGE_TENANTS_KEY
from tenants.audit.models import Entry as AuditEntry
from tenants.keys.operations import issue_key
from tenants.people.operations import add_member
from tenants.permissions import Role, Scope
from tenants.prices.models import Price
from tenants.usage import budgets, queries
from tenants.usage.models import Budget, BudgetAlert
from tenants.usage.operations import Use, store_uses
from tests.record.people import PLATFORM, Person
from tests.record.world import Api, World

NEW = {"name": "All calls", "amount": "10.00", "currency": "EUR"}


def spend(amount: str, *, at: datetime | None = None, agent: str = "desk", source: str | None = None) -> None:
    """Inside a tenant's schema: tokens at a price of 1 EUR each."""
    Price.objects.get_or_create(
        meter="llm_tokens_out", tenant=None, provider="", model="", effective_from=date(2020, 1, 1),
        defaults={"amount": Decimal(1), "currency": "EUR"},
    )  # fmt: skip
    use = Use(
        at=at or timezone.now(), session_id="sess_b", source=source or str(uuid4()), agent=agent,
        quantities={"llm_tokens_out": Decimal(amount)},
    )  # fmt: skip
    store_uses([use])


def look(world: World, house: str = "alpha") -> list[int]:
    """What was passed and is told now."""
    tenant = getattr(world, house).tenant
    with tenant_context(tenant):
        budgets.note_passed_thresholds()
        told = set(BudgetAlert.objects.exclude(told_at=None).values_list("pk", flat=True))
        budgets.tell_alerts(tenant=tenant)
        return list(BudgetAlert.objects.exclude(pk__in=told).order_by("threshold").values_list("threshold", flat=True))


def test_each_threshold_is_told_once_to_owners_and_admins(world: World, caplog: pytest.LogCaptureFixture) -> None:
    admin = add_member(tenant=world.alpha.tenant, email="admin@alpha.localhost", role=Role.ADMIN).user
    gone = add_member(tenant=world.alpha.tenant, email="gone@alpha.localhost", role=Role.ADMIN).user
    gone.is_active = False
    gone.save()
    with tenant_context(world.alpha.tenant):
        budgets.set_budget(name="All calls", amount=Decimal(10), currency="EUR")
        spend("4")
    assert look(world) == []
    with tenant_context(world.alpha.tenant):
        spend("1")
    with caplog.at_level(logging.WARNING):
        assert look(world) == [50]
    assert look(world) == []
    with tenant_context(world.alpha.tenant):
        spend("6")
    assert look(world) == [80, 100]
    assert [message.subject for message in mail.outbox] == [
        f"Alpha: {threshold} % of the budget 'All calls' is used up" for threshold in (50, 100)
    ]
    assert {tuple(message.to) for message in mail.outbox} == {(admin.email, world.alpha.owner.email)}
    assert "has cost 5.00 EUR. That is 50 % of the monthly budget 'All calls' (10.00 EUR)" in str(mail.outbox[0].body)
    assert "has cost 11.00 EUR. That is 110 % of" in str(mail.outbox[1].body)
    assert "past its threshold of 100 %" in str(mail.outbox[1].body)
    assert "a budget's threshold was passed" in caplog.text
    assert "@" not in caplog.text


def test_every_month_begins_anew_and_agents_have_their_own(world: World) -> None:
    now = timezone.now().astimezone(UTC)
    last_month = budgets.first_of_month(now.replace(day=1)) - (date(2026, 1, 2) - date(2026, 1, 1))
    with tenant_context(world.alpha.tenant):
        every = budgets.set_budget(name="All", amount=Decimal(10), currency="EUR", thresholds=[100])
        desk = budgets.set_budget(name="Desk", amount=Decimal(5), currency="EUR", thresholds=[100], agent="desk")
        dollars = budgets.set_budget(name="Dollars", amount=Decimal(1), currency="USD", thresholds=[1])
        spend("50", at=datetime(last_month.year, last_month.month, last_month.day, 23, 59, tzinfo=UTC))
        spend("5", agent="other")
        spend("5", agent="desk")
        month = budgets.first_of_month(now)
        assert [queries.spent(budget, month=month) for budget in (every, desk, dollars)] == [10, 5, 0]
        assert queries.spent(every, month=last_month) == 50
    assert look(world) == [100, 100]
    assert look(world, "beta") == []


def test_many_lookers_at_once_send_one_mail(committed: World) -> None:
    tenant = committed.alpha.tenant
    with tenant_context(tenant):
        Budget.objects.all().delete()
        budgets.set_budget(name="Raced", amount=Decimal(1), currency="EUR", thresholds=[10, 20, 30])
        spend("1")
    barrier, faults = Barrier(8), []

    def race() -> None:
        try:
            with tenant_context(tenant):
                barrier.wait(10)
                budgets.note_passed_thresholds()
                budgets.tell_alerts(tenant=tenant)
        except Exception as error:
            faults.append(error)
        finally:
            connections.close_all()

    threads = [Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    assert [message.subject for message in mail.outbox] == ["Alpha: 30 % of the budget 'Raced' is used up"]
    with tenant_context(tenant):
        assert not BudgetAlert.objects.filter(told_at=None).exists()
        Budget.objects.all().delete()


def test_a_mail_that_does_not_go_out_is_sent_the_next_time(
    committed: World, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis.Redis.from_url(valkey_url)
    monkeypatch.setattr(worker, "client", client)
    with tenant_context(committed.alpha.tenant):
        Budget.objects.all().delete()
        budgets.set_budget(name="Late", amount=Decimal(1), currency="EUR", thresholds=[100])
        spend("1")

    def refuse(*_: Any, **__: Any) -> None:
        raise smtplib.SMTPServerDisconnected("nobody there")

    client.sadd(USAGE_TENANTS_KEY, "alpha")
    with monkeypatch.context() as patched:
        patched.setattr("django.core.mail.EmailMessage.send", refuse)
        worker.check_budgets(tenant="alpha")
    assert mail.outbox == []
    assert client.sismember(USAGE_TENANTS_KEY, "alpha")
    worker.check_budgets(tenant="alpha")
    worker.check_budgets(tenant="alpha")
    assert [message.subject for message in mail.outbox] == ["Alpha: 100 % of the budget 'Late' is used up"]
    assert not client.sismember(USAGE_TENANTS_KEY, "alpha")
    worker.check_budgets(tenant="ghost")
    with tenant_context(committed.alpha.tenant):
        Budget.objects.all().delete()


def test_a_budget_is_made_changed_shown_and_deleted(world: World, alpha_api: Api) -> None:
    status, answer = alpha_api("POST", "budgets/", NEW)
    assert status == 201, answer
    made = answer["data"]
    assert made["thresholds"] == [50, 80, 100]
    assert (made["spent"], made["alerts"], made["agent"]) == ("0.000000", [], "")
    with tenant_context(world.alpha.tenant):
        spend("8")
    look(world)
    shown = alpha_api("GET", f"budgets/{made['id']}/")[1]["data"]
    assert shown["spent"] == "8.000000"
    assert [alert["threshold"] for alert in shown["alerts"]] == [80, 50]
    status, answer = alpha_api("PATCH", f"budgets/{made['id']}/", {"amount": "5.50"})
    assert (status, answer["data"]["amount"]) == (200, "5.50")
    assert [budget["id"] for budget in alpha_api("GET", "budgets/")[1]["data"]["results"]] == [made["id"]]
    assert alpha_api("DELETE", f"budgets/{made['id']}/") == (204, None)
    assert alpha_api("GET", f"budgets/{made['id']}/")[0] == 404
    with tenant_context(world.alpha.tenant):
        acts = AuditEntry.objects.filter(action__startswith="budget.").order_by("seq")
        assert [(act.action, act.before, act.after) for act in acts][1] == (
            "budget.updated", {"amount": "10.00"}, {"amount": "5.50"},
        )  # fmt: skip
        assert [act.action for act in acts] == ["budget.created", "budget.updated", "budget.deleted"]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": " "}, "name"),
    ({"name": "n" * 201}, "name"),
    ({"name": None}, "name"),
    ({"amount": "0"}, "amount"),
    ({"amount": "-1"}, "amount"),
    ({"amount": "1.001"}, "amount"),
    ({"amount": "1e13"}, "amount"),
    ({"amount": "NaN"}, "amount"),
    ({"amount": []}, "amount"),
    ({"currency": "eur"}, "currency"),
    ({"currency": ""}, "currency"),
    ({"currency": "€"}, "currency"),
    ({"thresholds": []}, "thresholds"),
    ({"thresholds": [100, 50]}, "thresholds"),
    ({"thresholds": [50, 50]}, "thresholds"),
    ({"thresholds": list(range(1, 12))}, "thresholds"),
    ({"thresholds": "50"}, "thresholds"),
    ({"agent": "a" * 64}, "agent"),
    ({"spent": "0"}, "spent"),
    ({"tenant": "beta"}, "tenant"),
]


@pytest.mark.parametrize(("fields", "param"), BAD)
def test_a_wrong_budget_is_refused_by_name(world: World, alpha_api: Api, fields: dict[str, Any], param: str) -> None:
    status, answer = alpha_api("POST", "budgets/", NEW | fields)
    assert (status, answer["error"]["param"]) == (400, param), answer
    with tenant_context(world.alpha.tenant):
        assert not Budget.objects.exists()
    made = alpha_api("POST", "budgets/", NEW)[1]["data"]
    status, answer = alpha_api("PATCH", f"budgets/{made['id']}/", fields)
    assert (status, answer["error"]["param"]) == (400, param), answer


@pytest.mark.parametrize("threshold", [0, 1001, 1.5, "x", None])
def test_a_wrong_threshold_is_refused(alpha_api: Api, threshold: Any) -> None:
    status, answer = alpha_api("POST", "budgets/", NEW | {"thresholds": [threshold]})
    assert status == 400
    assert answer["error"]["param"].startswith("thresholds")


def test_there_may_be_only_so_many(alpha_api: Api, settings: Any) -> None:
    settings.BUDGETS = 2
    assert [alpha_api("POST", "budgets/", NEW)[0] for _ in range(3)] == [201, 201, 400]


def test_who_may_set_one(world: World, alpha_api: Api) -> None:
    made = alpha_api("POST", "budgets/", NEW)[1]["data"]
    routes = [
        ("POST", "budgets/", NEW),
        ("PATCH", f"budgets/{made['id']}/", {"name": "x"}),
        ("DELETE", f"budgets/{made['id']}/", None),
    ]
    _, reader = issue_key(tenant=world.alpha.tenant, name="reader", scopes=[Scope.USAGE_READ])
    for method, path, body in routes:
        assert Person(world.alpha.member, world.alpha.host).api(method, path, body)[0] == 403
        assert Person(world.outsider, world.alpha.host).api(method, path, body)[0] == 403
        assert Person(world.operator, PLATFORM).api(method, path, body)[0] == 403
        assert Api(reader)(method, path, body)[0] == 403
        assert Api(None)(method, path, body)[0] == 401
        if method != "POST":
            assert Api(world.beta.key)(method, path, body)[0] == 404
    assert Api(world.beta.key)("GET", "budgets/")[1]["data"]["results"] == []
    assert Person(world.alpha.owner, world.alpha.host).api(*routes[2])[0] == 204
