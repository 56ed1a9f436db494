"""``/api/v1/audit/`` and its exports: who sees what, filters, pages; and ``./avb audit``."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_tenants.utils import tenant_context

from tenants.audit.models import Entry
from tenants.audit.operations import record
from tenants.keys.operations import issue_key
from tenants.lifecycle.platform_keys import issue_platform_key
from tenants.people.operations import add_member
from tenants.permissions import TENANT_SCOPES, Role, Scope
from tenants.principal import Principal
from tests.record.people import PLATFORM, Person
from tests.record.world import Api, World

pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
ADA = Principal("person", "7", "=Ada", "alpha", frozenset(), "203.0.113.7")
EVE = Principal("key", "key_e", "eve", "alpha", frozenset(), "2001:db8::1")


@pytest.fixture
def logged(world: World) -> World:
    for house in (world.alpha, world.beta):
        schema = house.tenant.schema_name
        for number in range(3):
            record(action="thing.done", target=f"{schema}-{number}", after={"n": number}, tenant=schema, actor=ADA)
        record(action="thing.undone", target=f"{schema}-0", before={"n": 0}, tenant=schema, actor=EVE)
        record(action="other.done", target="=1+1", tenant=schema, actor=EVE)
    return world


def targets(api: Api, query: str = "") -> list[str]:
    status, answer = api("GET", f"audit/?{query}")
    assert status == 200, answer
    return [row["target"] for row in answer["data"]["results"]]


def test_entries_are_listed_newest_first_a_page_at_a_time(logged: World, alpha_api: Api) -> None:
    first = alpha_api("GET", "audit/?action=thing.&limit=3")[1]["data"]
    assert [row["target"] for row in first["results"]] == ["alpha-0", "alpha-2", "alpha-1"]
    second = alpha_api("GET", first["next"].partition("/api/v1/")[2])[1]["data"]
    assert [row["target"] for row in second["results"]] == ["alpha-0"]
    row = first["results"][1]
    assert (row["actor_kind"], row["actor_id"], row["actor_name"], row["address"]) == (
        "person", "7", "=Ada", "203.0.113.7",
    )  # fmt: skip
    assert (row["before"], row["after"], len(row["hash"])) == (None, {"n": 2}, 64)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("action=thing.undone", ["alpha-0"]),
        ("action=thing.", ["alpha-0", "alpha-2", "alpha-1", "alpha-0"]),
        ("actor=key_e", ["=1+1", "alpha-0"]),
        ("actor=key_e&action=other.done", ["=1+1"]),
        ("target=alpha-1", ["alpha-1"]),
        ("target=beta-1", []),
        ("address=2001:db8::1", ["=1+1", "alpha-0"]),
        ("address=2001:DB8:0::1", ["=1+1", "alpha-0"]),
        ("actor=7&from=2099-01-01T00:00:00Z", []),
        ("actor=7&to=2020-01-01T00:00:00Z", []),
    ],
)
def test_entries_are_found(logged: World, alpha_api: Api, query: str, expected: list[str]) -> None:
    assert targets(alpha_api, query) == expected


def test_a_time_is_asked_from_its_begin_and_before_its_end(logged: World, alpha_api: Api) -> None:
    with tenant_context(logged.alpha.tenant):
        entry = Entry.objects.get(target="alpha-1")
    at = entry.at.isoformat().replace("+00:00", "Z")
    later = (entry.at + timedelta(microseconds=1)).isoformat().replace("+00:00", "Z")
    assert targets(alpha_api, f"from={at}&to={later}") == ["alpha-1"]
    assert targets(alpha_api, f"from={at}&to={at}") == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("action=Thing", "action"),
        ("action=thing", "action"),
        ("action=" + "a" * 99 + ".b", "action"),
        ("address=here", "address"),
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
        ("actor=%00", "actor"),
        ("target=" + "t" * 501, "target"),
        ("tenant=beta", "tenant"),
        ("begin=2026-01-01T00:00:00Z", "begin"),
        ("action=a.b&action=c.d", "action"),
        ("limit=0", "limit"),
    ],
)
def test_a_wrong_question_is_refused_by_name(alpha_api: Api, query: str, param: str) -> None:
    status, answer = alpha_api("GET", f"audit/?{query}")
    assert (status, answer["error"]["param"]) == (400, param), answer
    if param != "limit":
        assert alpha_api("GET", f"audit.csv?{query}")[0] == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nobody_writes(alpha_api: Api, method: str) -> None:
    assert alpha_api(method, "audit/", {})[0] == 405


def test_the_exports_hold_everything_and_are_in_the_log_themselves(
    logged: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenants.audit.api.PAGE_ROWS", 2)
    client = Api(logged.alpha.key).client
    response = client.get("/api/v1/audit.csv?action=thing.")
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(b"".join(response).decode())))
    assert [row["target"] for row in rows] == ["alpha-0", "alpha-1", "alpha-2", "alpha-0"]
    assert rows[0]["actor_name"] == "'=Ada", "no cell is taken for a formula"
    assert (rows[0]["before"], json.loads(rows[0]["after"])) == ("", {"n": 0})
    response = client.get("/api/v1/audit.jsonl")
    assert response["Content-Type"] == "application/x-ndjson; charset=utf-8"
    lines = [json.loads(line) for line in b"".join(response).decode().splitlines()]
    with tenant_context(logged.alpha.tenant):
        assert [line["hash"] for line in lines] == list(Entry.objects.order_by("seq").values_list("hash", flat=True))
        exports = Entry.objects.filter(action="audit.exported").order_by("seq")
        assert [(entry.target, entry.after, entry.actor_kind) for entry in exports] == [
            ("csv", {"filters": {"action": "thing."}}, "key"), ("jsonl", {"filters": {}}, "key"),
        ]  # fmt: skip
    assert next(line for line in lines if line["target"] == "=1+1")["actor_name"] == "eve"


PATHS = ["audit/", "audit.csv", "audit.jsonl"]


@pytest.mark.parametrize("path", PATHS)
def test_who_may_read_it(logged: World, path: str) -> None:
    get = f"/api/v1/{path}"
    admin = add_member(tenant=logged.alpha.tenant, email="admin@alpha.localhost", role=Role.ADMIN).user
    developer = add_member(tenant=logged.alpha.tenant, email="dev@alpha.localhost", role=Role.DEVELOPER).user
    for someone, expected in ((logged.alpha.owner, 200), (admin, 200), (developer, 403), (logged.alpha.member, 403)):
        response = Person(someone, logged.alpha.host).client.get(get)
        assert response.status_code == expected
        if expected == 200:
            content = b"".join(response) if response.streaming else response.content
            assert b"alpha-1" in content
            assert b"beta-1" not in content
        assert Person(someone, logged.beta.host).client.get(get).status_code == 403
    assert Person(logged.outsider, logged.alpha.host).client.get(get).status_code == 403
    assert Person(logged.operator, PLATFORM).client.get(get).status_code == 403
    assert Api(None).client.get(get).status_code == 401
    _, blind = issue_key(tenant=logged.alpha.tenant, name="blind", scopes=TENANT_SCOPES - {Scope.AUDIT_READ})
    assert Api(blind).client.get(get).status_code == 403


def test_operators_read_the_platforms_log_and_nobody_else(logged: World) -> None:
    record(action="plan.created", target="gold")
    _, secret = issue_platform_key(name="tests", scopes=[Scope.PLATFORM_AUDIT])
    operator = Api(secret)
    found = operator("GET", "platform/audit/?action=plan.created")[1]["data"]["results"]
    assert [row["target"] for row in found] == ["gold"]
    assert operator("GET", "platform/audit/?target=alpha-1")[1]["data"]["results"] == []
    content = b"".join(operator.client.get("/api/v1/platform/audit.csv")).decode()
    assert "plan.created" in content
    assert Entry.objects.filter(action="audit.exported").exists()
    assert operator("GET", "audit/")[0] in (401, 403)
    for path in ("platform/audit/", "platform/audit.csv"):
        for house in (logged.alpha, logged.beta):
            assert Api(house.key).client.get(f"/api/v1/{path}").status_code == 403
            assert Person(house.owner, house.host).client.get(f"/api/v1/{path}").status_code == 403
            assert Person(house.member, house.host).client.get(f"/api/v1/{path}").status_code == 403
        assert Person(logged.outsider, PLATFORM).client.get(f"/api/v1/{path}").status_code == 403
        assert Person(logged.operator, PLATFORM).client.get(f"/api/v1/{path}").status_code == 200
        _, wrong = issue_platform_key(name="plans", scopes=[Scope.PLATFORM_PLANS])
        assert Api(wrong).client.get(f"/api/v1/{path}").status_code == 403


def test_a_longer_page_asks_no_more_of_the_database(logged: World, alpha_api: Api) -> None:
    for number in range(60):
        record(action="thing.done", target=str(number), tenant="alpha")
    targets(alpha_api)
    asked = []
    for limit in (5, 50):
        with CaptureQueriesContext(connection) as queries:
            assert len(targets(alpha_api, f"limit={limit}")) == limit
        asked.append(len(queries))
    assert asked[0] == asked[1]


def test_the_clock_of_an_entry_is_now(logged: World, alpha_api: Api) -> None:
    row = alpha_api("GET", "audit/?limit=1")[1]["data"]["results"][0]
    assert abs(timezone.now() - timezone.datetime.fromisoformat(row["at"])) < timedelta(minutes=5)
