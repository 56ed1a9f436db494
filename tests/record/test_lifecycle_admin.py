"""Tenants and plans in the platform's admin: the same operations, and only for platform operators."""

from typing import Any

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.test import Client

from tenants.audit.models import Entry
from tenants.lifecycle.plans import create_plan
from tenants.models import Plan, Tenant
from tests.record.world import World

LIST = "/admin/tenants/tenant/"
NEW = {"slug": "north", "name": "North", "plan": "", "limits": "{}", "domains": "north.example\nn.example"}
INLINES = {
    f"{prefix}-{name}": "0"
    for prefix in ("domains", "memberships", "api_keys")
    for name in ("TOTAL_FORMS", "INITIAL_FORMS")
}


def enter(host: str, person: Any) -> Client:
    client = Client(headers={"Host": host})
    client.force_login(person)
    return client


@pytest.fixture
def operator(world: World, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr("celery_workers.app.submit", lambda *_: None)
    return enter("platform.localhost", world.operator)


def act(client: Client, action: str, *tenants: Tenant, **fields: str) -> Any:
    chosen = {ACTION_CHECKBOX_NAME: [tenant.pk for tenant in tenants]}
    return client.post(LIST, {"action": action, **chosen, **fields}, follow=True)


def test_an_operator_asks_for_a_tenant_and_sees_it(operator: Client) -> None:
    assert operator.get(LIST + "add/").status_code == 200
    answer = operator.post(LIST + "add/", NEW | INLINES, follow=True)
    assert "was added successfully" in answer.content.decode()
    tenant = Tenant.objects.get(slug="north")
    assert tenant.status == "creating"
    assert list(tenant.domains.order_by("id").values_list("domain", flat=True)) == ["north.example", "n.example"]
    Tenant.objects.filter(pk=tenant.pk).update(work_done=3, work_total=9, work_step="agents.0001_initial")
    assert "3/9 agents.0001_initial" in operator.get(LIST).content.decode()
    assert Entry.objects.filter(action="tenant.requested", target="north", actor_kind="operator").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"slug": "public"}, "is reserved"),
        ({"slug": "archive"}, "is reserved"),
        ({"slug": "alpha"}, "exists"),
        ({"slug": "-x"}, "Use 1 to 63"),
        ({"limits": '{"wings": 2}'}, "There is no limit"),
        ({"domains": "alpha.localhost"}, "leads to another tenant"),
        ({"domains": "https://x.example"}, "is no host name"),
    ],
)
def test_a_bad_tenant_is_shown_its_faults(operator: Client, changes: dict[str, str], words: str) -> None:
    before = Tenant.objects.count()
    assert words in operator.post(LIST + "add/", NEW | INLINES | changes).content.decode()
    assert Tenant.objects.count() == before


def test_an_operator_changes_a_tenant(operator: Client, world: World) -> None:
    plan = create_plan(slug="gold", name="Gold", limits={"concurrent_sessions": 4})
    form = {"name": "Alpha Two", "plan": str(plan.pk), "limits": "{}", "domains": "alpha.localhost\na2.example"}
    page = f"{LIST}{world.alpha.tenant.pk}/change/"
    assert "alpha.localhost" in operator.get(page).content.decode()
    operator.post(page, form | INLINES, follow=True)
    tenant = Tenant.objects.get(slug="alpha")
    assert (tenant.name, tenant.plan, tenant.domains.count()) == ("Alpha Two", plan, 2)
    assert Entry.objects.filter(action="tenant.changed", target="alpha").exists()
    assert Tenant.objects.get(slug="beta").name == "Beta"


def test_a_life_in_the_admin(operator: Client, world: World) -> None:
    alpha, beta = world.alpha.tenant, world.beta.tenant
    assert 'name="reason"' in act(operator, "suspend", alpha).content.decode()
    assert "alpha is suspended" in act(operator, "suspend", alpha, reason="unpaid", apply="1").content.decode()
    assert Tenant.objects.get(slug="alpha").status_reason == "unpaid"
    assert "only what is active" in act(operator, "suspend", alpha, reason="again", apply="1").content.decode()
    act(operator, "resume", alpha)
    assert Tenant.objects.get(slug="alpha").status == "active"
    assert "one tenant at a time" in act(operator, "delete_tenant", alpha, beta).content.decode()
    wrong = act(operator, "delete_tenant", alpha, confirmation="beta", apply="1").content.decode()
    assert "to confirm its deletion" in wrong
    assert Tenant.objects.get(slug="alpha").status == "active"
    act(operator, "delete_tenant", alpha, confirmation="alpha", apply="1")
    assert Tenant.objects.get(slug="alpha").status == "deleting"
    act(operator, "undelete", alpha)
    assert Tenant.objects.get(slug="alpha").status == "active"
    assert "stands still" in act(operator, "retry", alpha).content.decode()
    assert Tenant.objects.get(slug="beta").status == "active"


def test_rows_of_tenants_are_not_deleted_by_the_admin(operator: Client, world: World) -> None:
    assert operator.post(f"{LIST}{world.alpha.tenant.pk}/delete/", {"post": "yes"}).status_code == 403
    act(operator, "delete_selected", world.alpha.tenant, post="yes")
    assert Tenant.objects.filter(slug="alpha").exists()


def test_plans_in_the_admin(operator: Client, world: World) -> None:
    plans = "/admin/tenants/plan/"
    bad = operator.post(plans + "add/", {"slug": "gold", "name": "Gold", "limits": '{"wings": 1}'})
    assert "There is no limit" in bad.content.decode()
    operator.post(plans + "add/", {"slug": "gold", "name": "Gold", "limits": '{"concurrent_sessions": 4}'})
    plan = Plan.objects.get(slug="gold")
    assert Entry.objects.filter(action="plan.created", target="gold").exists()
    operator.post(f"{plans}{plan.pk}/change/", {"name": "Gold Two", "limits": '{"concurrent_sessions": 5}'})
    plan.refresh_from_db()
    assert (plan.name, plan.limits) == ("Gold Two", {"concurrent_sessions": 5})
    Tenant.objects.filter(slug="beta").update(plan=plan)
    assert operator.post(f"{plans}{plan.pk}/delete/", {"post": "yes"}).status_code == 403
    Tenant.objects.filter(slug="beta").update(plan=None)
    operator.post(f"{plans}{plan.pk}/delete/", {"post": "yes"})
    assert not Plan.objects.exists()
    assert Entry.objects.filter(action="plan.deleted", target="gold").exists()


@pytest.mark.parametrize("who", ["owner", "outsider"])
def test_nobody_else_sees_tenants_and_plans(world: World, who: str) -> None:
    person = {"owner": world.alpha.owner, "outsider": world.outsider}[who]
    for host in ("platform.localhost", world.alpha.host):
        client = enter(host, person)
        for path in (LIST, LIST + "add/", "/admin/tenants/plan/", "/admin/tenants/platformkey/"):
            assert client.get(path).status_code in (302, 403, 404)
        client.post(LIST + "add/", NEW | INLINES)
    assert not Tenant.objects.filter(slug="north").exists()
