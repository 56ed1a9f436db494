"""``/api/v1/tenants/`` and ``/api/v1/plans/`` for operators, ``/api/v1/tenant/`` for the tenant itself."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from django_tenants.utils import tenant_context

from tenants.audit.models import Entry
from tenants.keys.operations import issue_key
from tenants.lifecycle import operations
from tenants.lifecycle.building import build_tenant
from tenants.lifecycle.erasing import erase_tenant
from tenants.lifecycle.plans import create_plan
from tenants.lifecycle.platform_keys import (
    ScopeUnknown,
    find_platform_key,
    issue_platform_key,
    revoke_platform_key,
)
from tenants.models import Plan, PlatformKey, Tenant
from tenants.permissions import PLATFORM_SCOPES, Scope
from tests.record.world import Api, World

ROUTES = [
    ("GET", "tenants/", None),
    ("POST", "tenants/", {"slug": "new", "name": "New"}),
    ("GET", "tenants/beta/", None),
    ("PATCH", "tenants/beta/", {"name": "Stolen"}),
    ("POST", "tenants/beta/suspend/", {"reason": "r"}),
    ("POST", "tenants/beta/resume/", {}),
    ("POST", "tenants/beta/retry/", {}),
    ("POST", "tenants/beta/delete/", {"confirmation": "beta"}),
    ("POST", "tenants/beta/undelete/", {}),
    ("GET", "tenants/beta/certificate/", None),
    ("GET", "plans/", None),
    ("POST", "plans/", {"slug": "gold", "name": "Gold"}),
    ("GET", "plans/basic/", None),
    ("PATCH", "plans/basic/", {"name": "Stolen"}),
    ("DELETE", "plans/basic/", None),
]


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, Any]]]:
    asked: list[tuple[str, str, dict[str, Any]]] = []
    monkeypatch.setattr("celery_workers.app.submit", lambda *task: asked.append(task))
    return asked


@pytest.fixture
def operator_api(world: World, submitted: list[Any], valkey_url: str) -> Api:
    create_plan(slug="basic", name="Basic", limits={"concurrent_sessions": 5})
    return Api(issue_platform_key(name="robot")[1])


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_only_an_operator_comes_in(operator_api: Api, world: World, method: str, path: str, body: Any) -> None:
    for secret, expected in ((world.alpha.key, 403), (world.beta.key, 403), (None, 401)):
        status, answer = Api(secret)(method, path, body)
        assert status == expected, answer
    _, plan_reader = issue_platform_key(name="plans", scopes=[Scope.PLATFORM_AUDIT])
    assert Api(plan_reader)(method, path, body)[0] == 403
    assert Tenant.objects.get(slug="beta").status == "active"
    assert not Tenant.objects.filter(slug="new").exists()
    assert Plan.objects.get().name == "Basic"
    status, answer = operator_api(method, path, body)
    assert status in (200, 201, 202, 204, 404, 409), answer


@pytest.mark.parametrize("path", ["agents/", "conversations/", "tenant/"])
def test_a_platform_key_opens_no_tenant(operator_api: Api, path: str) -> None:
    assert operator_api("GET", path)[0] in (401, 403)


def test_a_tenant_is_made_step_by_step(
    operator_api: Api,
    submitted: list[Any],
    django_capture_on_commit_callbacks: Callable[..., Any],
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        body = {"slug": "north", "name": "North", "plan": "basic", "domains": ["North.example", "n.example"]}
        status, answer = operator_api("POST", "tenants/", body)
    assert status == 202
    assert submitted == [("celery_workers.tenants.build", "default", {"tenant": "north"})]
    shown = answer["data"]
    assert (shown["status"], shown["plan"], shown["domains"]) == ("creating", "basic", ["north.example", "n.example"])
    assert shown["progress"] == {"step": "", "done": 0, "total": 0, "error": "", "at": None}
    Tenant.objects.filter(slug="north").update(work_step="agents.0001_initial", work_done=3, work_total=9)
    progress = operator_api("GET", "tenants/north/")[1]["data"]["progress"]
    assert (progress["step"], progress["done"], progress["total"]) == ("agents.0001_initial", 3, 9)
    assert [row["slug"] for row in operator_api("GET", "tenants/?status=creating")[1]["data"]["results"]] == ["north"]
    build_tenant(Tenant.objects.get(slug="north"))
    assert operator_api("GET", "tenants/north/")[1]["data"]["status"] == "active"
    assert operator_api("GET", "tenants/?status=creating")[1]["data"]["results"] == []
    assert [row["slug"] for row in operator_api("GET", "tenants/?plan=basic")[1]["data"]["results"]] == ["north"]
    entry = Entry.objects.get(action="tenant.requested", target="north")
    assert (entry.actor_kind, entry.actor_name) == ("operator", "robot")


def test_a_life_over_rest(operator_api: Api, world: World) -> None:
    assert operator_api("POST", "tenants/beta/suspend/", {"reason": "unpaid"})[1]["data"]["status"] == "suspended"
    status, answer = Api(world.beta.key)("GET", "agents/")
    assert (status, answer["error"]["code"]) == (401, "tenant_suspended")
    assert Api(world.alpha.key)("GET", "agents/")[0] == 200
    assert operator_api("POST", "tenants/beta/suspend/", {"reason": "again"})[0] == 409
    assert operator_api("POST", "tenants/beta/resume/")[1]["data"]["status"] == "active"
    assert Api(world.beta.key)("GET", "agents/")[0] == 200
    status, answer = operator_api("POST", "tenants/beta/delete/", {"confirmation": "bet"})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "confirmation_wrong", "confirmation")
    shown = operator_api("POST", "tenants/beta/delete/", {"confirmation": "beta", "reason": "leaves"})[1]["data"]
    assert (shown["status"], shown["status_reason"]) == ("deleting", "leaves")
    assert shown["delete_after"]
    assert operator_api("POST", "tenants/beta/undelete/", {})[1]["data"]["delete_after"] is None
    assert Api(world.beta.key)("GET", "agents/")[0] == 200
    operator_api("POST", "tenants/beta/delete/", {"confirmation": "beta"})
    assert operator_api("GET", "tenants/beta/certificate/")[0] == 404
    Tenant.objects.filter(slug="beta").update(delete_after=timezone.now() - timedelta(seconds=1))
    erase_tenant(Tenant.objects.get(slug="beta"))
    assert operator_api("GET", "tenants/beta/")[0] == 404
    certificate = operator_api("GET", "tenants/beta/certificate/")[1]["data"]
    assert certificate["valid"] is True
    said = json.loads(certificate["certificate"])
    assert said["requested_by"] == ["operator", PlatformKey.objects.get(name="robot").public_id]
    assert Api(world.alpha.key)("GET", "agents/")[0] == 200


def test_a_program_lengthens_the_grace_period_and_does_not_shorten_it(operator_api: Api, world: World) -> None:
    """A platform key that leaks must leave time to notice."""
    body = {"confirmation": "beta", "grace_days": 29}
    status, answer = operator_api("POST", "tenants/beta/delete/", body)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "grace_days_refused", "grace_days")
    body["grace_days"] = 40
    shown = operator_api("POST", "tenants/beta/delete/", body)[1]["data"]
    left = datetime.fromisoformat(shown["delete_after"]) - timezone.now()
    assert timedelta(days=39, hours=23) < left <= timedelta(days=40)


def test_an_operator_changes_a_tenant(operator_api: Api, world: World) -> None:
    body = {"name": "Beta Two", "plan": "basic", "limits": {"concurrent_sessions": 2}, "domains": ["b2.example"]}
    shown = operator_api("PATCH", "tenants/beta/", body)[1]["data"]
    assert {name: shown[name] for name in body} == body
    with tenant_context(world.beta.tenant):
        entry = Entry.objects.latest("seq")
    assert (entry.action, entry.before["domains"]) == ("tenant.changed", ["beta.localhost"])
    assert operator_api("PATCH", "tenants/beta/", {"plan": None})[1]["data"]["plan"] is None
    assert operator_api("GET", "tenants/alpha/")[1]["data"]["domains"] == ["alpha.localhost"]


BAD_TENANTS = [
    ({}, "slug", "required"),
    ({"slug": "x"}, "name", "required"),
    ({"slug": "Public", "name": "X"}, "slug", "slug_refused"),
    ({"slug": "public", "name": "X"}, "slug", "slug_refused"),
    ({"slug": "pg-x", "name": "X"}, "slug", "slug_refused"),
    ({"slug": "information-schema", "name": "X"}, "slug", "slug_refused"),
    ({"slug": "archive", "name": "X"}, "slug", "slug_refused"),
    ({"slug": "client-secret", "name": "X"}, "slug", "slug_refused"),
    ({"slug": "alpha", "name": "X"}, "slug", "slug_refused"),
    ({"slug": "-x", "name": "X"}, "slug", "slug_refused"),
    ({"slug": "ä", "name": "X"}, "slug", "slug_refused"),
    ({"slug": "a b", "name": "X"}, "slug", "slug_refused"),
    ({"slug": 'a"; drop', "name": "X"}, "slug", "slug_refused"),
    ({"slug": "a" * 64, "name": "X"}, "slug", "max_length"),
    ({"slug": "a\0", "name": "X"}, "slug", "null_characters_not_allowed"),
    ({"slug": ["a"], "name": "X"}, "slug", "invalid"),
    ({"slug": "x", "name": ""}, "name", "blank"),
    ({"slug": "x", "name": "n" * 201}, "name", "max_length"),
    ({"slug": "x", "name": "X", "plan": "none"}, "plan", "plan_unknown"),
    ({"slug": "x", "name": "X", "domains": ["alpha.localhost"]}, "domains", "domain_taken"),
    ({"slug": "x", "name": "X", "domains": ["https://x.example"]}, "domains", "domain_refused"),
    ({"slug": "x", "name": "X", "domains": "x.example"}, "domains", "not_a_list"),
    ({"slug": "x", "name": "X", "limits": {"wings": 2}}, "limits.wings", "limits_refused"),
    ({"slug": "x", "name": "X", "limits": {"concurrent_sessions": -1}}, "limits.concurrent_sessions", "limits_refused"),
    ({"slug": "x", "name": "X", "limits": []}, "limits", "limits_refused"),
    ({"slug": "x", "name": "X", "status": "active"}, "status", "unknown_parameter"),
    ({"slug": "x", "name": "X", "schema_name": "alpha"}, "schema_name", "unknown_parameter"),
    ({"slug": "x", "name": "X", "adopt_schema": True}, "adopt_schema", "unknown_parameter"),
]


@pytest.mark.parametrize(("body", "param", "code"), BAD_TENANTS, ids=lambda value: str(value)[:50])
def test_a_bad_tenant_is_refused_by_name(operator_api: Api, body: dict[str, Any], param: str, code: str) -> None:
    before = Tenant.objects.count()
    status, answer = operator_api("POST", "tenants/", body)
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, param, code)
    assert Tenant.objects.count() == before


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("suspend", {}, "reason"),
        ("suspend", {"reason": "x" * 501}, "reason"),
        ("suspend", {"reason": "  "}, "reason"),
        ("delete", {}, "confirmation"),
        ("delete", {"confirmation": "alpha"}, "confirmation"),
        ("delete", {"confirmation": "beta", "grace_days": -1}, "grace_days"),
        ("delete", {"confirmation": "beta", "grace_days": 3_651}, "grace_days"),
        ("resume", {"x": 1}, "x"),
        ("undelete", {"x": 1}, "x"),
    ],
)
def test_a_bad_act_is_refused_by_name(operator_api: Api, path: str, body: dict[str, Any], param: str) -> None:
    status, answer = operator_api("POST", f"tenants/beta/{path}/", body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert Tenant.objects.get(slug="beta").status == "active"


def test_plans_are_made_changed_and_deleted_while_nobody_is_on_them(operator_api: Api, world: World) -> None:
    status, answer = operator_api("POST", "plans/", {"slug": "gold", "name": "Gold", "limits": {}})
    assert (status, answer["data"]["limits"]) == (201, {})
    assert operator_api("POST", "plans/", {"slug": "gold", "name": "Gold"})[1]["error"]["code"] == "slug_taken"
    changed = operator_api("PATCH", "plans/gold/", {"limits": {"tokens_per_minute": 7}})[1]["data"]
    assert changed["limits"] == {"tokens_per_minute": 7}
    status, answer = operator_api("PATCH", "plans/gold/", {"limits": {"wings": 7}})
    assert (status, answer["error"]["param"]) == (400, "limits.wings")
    assert operator_api("POST", "plans/", {"slug": "No", "name": "N"})[1]["error"]["param"] == "slug"
    operator_api("PATCH", "tenants/beta/", {"plan": "gold"})
    status, answer = operator_api("DELETE", "plans/gold/")
    assert (status, answer["error"]["code"]) == (409, "plan_in_use")
    operator_api("PATCH", "tenants/beta/", {"plan": None})
    assert operator_api("DELETE", "plans/gold/")[0] == 204
    assert [plan["slug"] for plan in operator_api("GET", "plans/")[1]["data"]["results"]] == ["basic"]
    actions = list(Entry.objects.filter(target="gold").order_by("seq").values_list("action", flat=True))
    assert actions == ["plan.created", "plan.changed", "plan.deleted"]


# --- the tenant's own ---


def test_a_tenant_reads_and_changes_its_own_settings(alpha_api: Api, beta_api: Api, world: World) -> None:
    assert alpha_api("GET", "tenant/")[1]["data"]["slug"] == "alpha"
    body = {"name": "Alpha Two", "cors_origins": ["https://app.example"], "retention_days": 30}
    shown = alpha_api("PATCH", "tenant/", body)[1]["data"]
    assert {name: shown[name] for name in body} == body
    with tenant_context(world.alpha.tenant):
        entry = Entry.objects.latest("seq")
    assert (entry.action, entry.before["retention_days"], entry.after["retention_days"]) == (
        "settings.changed", None, 30,
    )  # fmt: skip
    assert alpha_api("PATCH", "tenant/", {"retention_days": None})[1]["data"]["retention_days"] is None
    other = beta_api("GET", "tenant/")[1]["data"]
    assert (other["name"], other["cors_origins"]) == ("Beta", [])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"retention_days": 0}, "retention_days"),
        ({"retention_days": 36_501}, "retention_days"),
        ({"retention_days": "soon"}, "retention_days"),
        ({"cors_origins": "https://x.example"}, "cors_origins"),
        ({"cors_origins": ["*"]}, "cors_origins"),
        ({"cors_origins": ["https://x.example/path"]}, "cors_origins"),
        ({"cors_origins": ["x.example"]}, "cors_origins"),
        ({"name": ""}, "name"),
        ({"slug": "beta"}, "slug"),
        ({"status": "active"}, "status"),
        ({"plan": "gold"}, "plan"),
        ({"limits": {}}, "limits"),
    ],
)
def test_bad_settings_are_refused_by_name(alpha_api: Api, world: World, body: dict[str, Any], param: str) -> None:
    status, answer = alpha_api("PATCH", "tenant/", body)
    assert (status, answer["error"]["param"].partition(".")[0]) == (400, param)
    assert Tenant.objects.get(slug="alpha").name == "Alpha"


def test_a_key_without_the_scope_changes_no_settings(world: World) -> None:
    _, secret = issue_key(tenant=world.alpha.tenant, name="reader", scopes=[Scope.SETTINGS_READ])
    assert Api(secret)("GET", "tenant/")[0] == 200
    assert Api(secret)("PATCH", "tenant/", {"name": "X"})[0] == 403


# --- platform keys ---


def test_a_platform_key_is_shown_once_and_ends_when_revoked(world: World) -> None:
    key, secret = issue_platform_key(name="robot")
    assert secret.startswith("avb_platform_")
    assert secret.startswith(key.prefix)
    assert set(key.scopes) == PLATFORM_SCOPES
    assert secret not in str(PlatformKey.objects.filter(pk=key.pk).values().get())
    assert find_platform_key(secret) == key
    assert Api(secret)("GET", "tenants/")[0] == 200
    key.refresh_from_db()
    assert key.last_used_at is not None
    revoke_platform_key(key=key)
    revoke_platform_key(key=key)
    status, answer = Api(secret)("GET", "tenants/")
    assert (status, answer["error"]["code"]) == (401, "api_key_revoked")
    _, late = issue_platform_key(name="late", expires_at=timezone.now() - timedelta(seconds=1))
    assert Api(late)("GET", "tenants/")[1]["error"]["code"] == "api_key_expired"
    assert Api("avb_platform_" + "x" * 40)("GET", "tenants/")[1]["error"]["code"] == "invalid_api_key"
    assert list(Entry.objects.filter(target=key.public_id).order_by("seq").values_list("action", flat=True)) == [
        "platform_key.issued", "platform_key.revoked",
    ]  # fmt: skip
    with pytest.raises(ScopeUnknown, match="'agents:read'"):
        issue_platform_key(name="x", scopes=["agents:read"])


def test_a_lost_broker_does_not_lose_the_request(
    operator_api: Api, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    def refuse(*_: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr("celery_workers.app.submit", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        assert operator_api("POST", "tenants/", {"slug": "north", "name": "North"})[0] == 202
    assert operations.find_plan(None) is None
    assert Tenant.objects.get(slug="north").status == "creating"
