"""``/api/v1/usage/``: reports, single calls and the export, for those who may see them and of their own tenant only."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import AsyncClient
from django_tenants.utils import tenant_context

from tenants.audit.models import Entry as AuditEntry
from tenants.keys.operations import issue_key
from tenants.permissions import TENANT_SCOPES, Scope
from tenants.prices.models import Price
from tenants.usage.operations import Use, forget_end_user, store_uses
from tests.record.people import PLATFORM, Person
from tests.record.world import Api, House, World

pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
NOVEMBER = "from=2026-11-01&to=2026-11-30"


def fill(house: House, *, calls: int = 3, end_user: str = "ada") -> None:
    """Calls on consecutive days, each with tokens of two models, seconds and characters; the last on 1 December."""
    with tenant_context(house.tenant):
        for number in range(calls):
            at = datetime(2026, 12, 1, 12, tzinfo=UTC) - timedelta(days=calls - 1 - number)
            who: dict[str, Any] = {
                "at": at, "session_id": f"sess_{house.tenant.slug}_{number}", "agent": f"desk-{number % 2}",
                "key_id": "key_a", "end_user": end_user if number == 0 else "",
            }  # fmt: skip
            store_uses(
                [
                    Use(**who, source="resp_1", provider="openai", model="m", quantities=_q(llm_tokens_in="100")),
                    Use(**who, source="resp_2", provider="groq", model="n", quantities=_q(llm_tokens_in="10")),
                    Use(**who, source="in/1", quantities=_q(audio_seconds_in="1.500")),
                    Use(**who, source="resp_1", provider="kokoro", quantities=_q(tts_characters="20")),
                ]
            )


def _q(**quantities: str) -> dict[str, Decimal]:
    return {meter: Decimal(quantity) for meter, quantity in quantities.items()}


@pytest.fixture
def used(world: World) -> World:
    fill(world.alpha)
    fill(world.beta, calls=1, end_user="bob")
    prices = [("llm_tokens_in", "openai", "m", "2"), ("llm_tokens_in", "", "", "1"), ("tts_characters", "", "", "0.5")]
    for meter, provider, model, amount in prices:
        Price.objects.create(
            meter=meter, provider=provider, model=model, amount=Decimal(amount), per=100, currency="EUR",
            effective_from=date(2026, 1, 1),
        )  # fmt: skip
    return world


def test_a_month_is_added_up_and_priced(used: World, alpha_api: Api) -> None:
    status, answer = alpha_api("GET", f"usage/?{NOVEMBER}")
    assert status == 200, answer
    report = answer["data"]
    assert report["total"] == {
        "quantities": {"audio_seconds_in": "3", "llm_tokens_in": "220", "tts_characters": "40"},
        "cost": {"EUR": "4.400000"},
        "unpriced": ["audio_seconds_in"],
    }
    assert [row["day"] for row in report["rows"]] == ["2026-11-29", "2026-11-30"]
    assert report["rows"][0]["quantities"] == {
        "audio_seconds_in": "1.5", "llm_tokens_in": "110", "tts_characters": "20",
    }  # fmt: skip
    assert report["rows"][0]["cost"] == {"EUR": "2.200000"}
    assert (report["from"], report["to"], report["group_by"]) == ("2026-11-01", "2026-11-30", "day")


@pytest.mark.parametrize(
    ("query", "groups"),
    [
        ("group_by=month&from=2026-11-01&to=2026-12-31", [{"month": "2026-11-01"}, {"month": "2026-12-01"}]),
        (f"group_by=agent&{NOVEMBER}", [{"agent": "desk-0"}, {"agent": "desk-1"}]),
        (f"group_by=key&{NOVEMBER}", [{"key": "key_a"}]),
        (
            f"group_by=model&{NOVEMBER}",
            [
                {"provider": "", "model": ""},
                {"provider": "groq", "model": "n"},
                {"provider": "kokoro", "model": ""},
                {"provider": "openai", "model": "m"},
            ],
        ),
        (f"group_by=total&{NOVEMBER}", [{}]),
        (f"group_by=day&agent=desk-1&{NOVEMBER}", [{"day": "2026-11-30"}]),
        (f"group_by=day&end_user=ada&{NOVEMBER}", [{"day": "2026-11-29"}]),
        (f"group_by=day&end_user=bob&{NOVEMBER}", []),
        (f"group_by=day&key=key_b&{NOVEMBER}", []),
        ("group_by=day&from=2027-01-01", []),
    ],
)
def test_reports_by_what_is_asked(used: World, alpha_api: Api, query: str, groups: list[dict[str, str]]) -> None:
    status, answer = alpha_api("GET", f"usage/?{query}")
    assert status == 200, answer
    rows = answer["data"]["rows"]
    assert [{name: value for name, value in row.items() if name in groups[0]} for row in rows] == groups
    total = sum(Decimal(row["quantities"].get("llm_tokens_in", "0")) for row in rows)
    assert total == Decimal(answer["data"]["total"]["quantities"].get("llm_tokens_in", "0"))
    cost = sum(Decimal(row["cost"].get("EUR", "0")) for row in rows)
    assert cost == Decimal(answer["data"]["total"]["cost"].get("EUR", "0"))


def test_each_call_has_its_own_sum(used: World, alpha_api: Api) -> None:
    first = alpha_api("GET", "usage/calls/?from=2026-11-01&to=2026-12-31&limit=2")[1]["data"]
    assert [row["session_id"] for row in first["results"]] == ["sess_alpha_2", "sess_alpha_1"]
    second = alpha_api("GET", first["next"].partition("/api/v1/")[2])[1]["data"]
    [row] = second["results"]
    assert second["next"] is None
    assert row["cost"] == {"EUR": "2.200000"}
    assert row["quantities"]["audio_seconds_in"] == "1.5"
    assert (row["agent"], row["key"], row["end_user"]) == ("desk-0", "key_a", "ada")
    one = alpha_api("GET", "usage/calls/?from=2026-11-01&to=2026-12-31&end_user=ada")[1]["data"]["results"]
    assert [row["session_id"] for row in one] == ["sess_alpha_0"]


def read_csv(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_the_export_has_every_entry_with_its_cost(used: World) -> None:
    client = Api(used.alpha.key).client
    response = client.get(f"/api/v1/usage.csv?{NOVEMBER}")
    assert response.status_code == 200
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"] == 'attachment; filename="usage-2026-11-01-2026-11-30.csv"'
    rows = read_csv(b"".join(response))
    assert len(rows) == 8
    assert sum(Decimal(row["cost"] or "0") for row in rows) == Decimal("4.4")
    assert {row["cost"] for row in rows if row["meter"] == "audio_seconds_in"} == {""}
    assert {row["session_id"] for row in rows} == {"sess_alpha_0", "sess_alpha_1"}
    with tenant_context(used.alpha.tenant):
        entry = AuditEntry.objects.get(action="usage.exported")
    assert entry.after == {"from": "2026-11-01", "to": "2026-11-30"}
    assert entry.actor_kind == "key"


@pytest.mark.parametrize(("accept", "status"), [("text/csv", 200), ("*/*", 200), ("text/html", 406)])
def test_the_export_may_be_asked_for_by_its_type(used: World, accept: str, status: int) -> None:
    client = Api(used.alpha.key).client
    assert client.get(f"/api/v1/usage.csv?{NOVEMBER}", headers={"Accept": accept}).status_code == status
    refused = client.get("/api/v1/usage.csv?from=never", headers={"Accept": "text/csv"})
    assert (refused.status_code, refused["Content-Type"]) == (400, "application/json")


def test_the_export_goes_on_behind_a_page(used: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenants.usage.api.PAGE_ROWS", 3)
    content = b"".join(Api(used.alpha.key).client.get(f"/api/v1/usage.csv?{NOVEMBER}"))
    rows = read_csv(content)
    assert len(rows) == len({tuple(row.values()) for row in rows}) == 8
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)


def test_no_cell_is_taken_for_a_formula(used: World) -> None:
    with tenant_context(used.alpha.tenant):
        for number, name in enumerate(["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", 'say "hi", you', "fine=1"]):
            store_uses(
                [
                    Use(
                        at=datetime(2026, 11, 5, tzinfo=UTC), session_id="sess_f", source=str(number), end_user=name,
                        quantities=_q(llm_tokens_out="1"),
                    )
                ]
            )  # fmt: skip
    response = Api(used.alpha.key).client.get("/api/v1/usage.csv?from=2026-11-05&to=2026-11-05")
    found = {row["end_user"] for row in read_csv(b"".join(response))}
    assert found == {"'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "'\r=1", 'say "hi", you', "fine=1"}


async def test_the_export_streams_under_asgi(committed_use: House) -> None:
    response = await AsyncClient().get(
        "/api/v1/usage.csv?from=2026-11-01&to=2026-12-31", headers={"Authorization": f"Bearer {committed_use.key}"}
    )
    assert response.status_code == 200, response.content
    assert response.is_async
    pieces = [piece async for piece in response.streaming_content]
    assert len(pieces) == 2, "the head, and a page"
    assert {row["session_id"][:11] for row in read_csv(b"".join(pieces))} >= {"sess_alpha_"}


@pytest.fixture
def committed_use(committed: World) -> House:
    fill(committed.alpha)
    return committed.alpha


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("group_by=hour", "group_by"),
        ("group_by=call", "group_by"),
        ("from=yesterday", "from"),
        ("from=2026-13-01", "from"),
        ("from=2026-11-02&to=2026-11-01", "to"),
        ("from=2026-01-01&to=2027-01-02", "to"),
        ("from=9999-12-01", "to"),
        ("agent=" + "a" * 64, "agent"),
        ("agent=", "agent"),
        ("end_user=%00", "end_user"),
        ("tenant=beta", "tenant"),
        ("first=2026-11-01", "first"),
        ("from=2026-11-01&from=2026-11-02", "from"),
    ],
)
def test_a_wrong_question_is_refused_by_name(alpha_api: Api, query: str, param: str) -> None:
    for path in ("usage/", "usage/calls/", "usage.csv") if "group_by" not in query else ("usage/",):
        status, answer = alpha_api("GET", f"{path}?{query}")
        assert (status, answer["error"]["param"]) == (400, param), (path, answer)


def test_the_longest_report_can_be_set(alpha_api: Api, settings: Any) -> None:
    settings.USAGE_REPORT_DAYS = 30
    assert alpha_api("GET", f"usage/?{NOVEMBER}")[0] == 200
    assert alpha_api("GET", "usage/?from=2026-11-01&to=2026-12-01")[0] == 400


PATHS = ["usage/", "usage/calls/", "usage.csv", "budgets/"]


@pytest.mark.parametrize("path", PATHS)
def test_who_may_see_it(used: World, path: str) -> None:
    query = f"?{NOVEMBER}" if path != "budgets/" else ""
    get = f"/api/v1/{path}{query}"
    for someone in (used.alpha.owner, used.alpha.member):
        assert Person(someone, used.alpha.host).client.get(get).status_code == 200
        assert Person(someone, used.beta.host).client.get(get).status_code == 403
    assert Person(used.outsider, used.alpha.host).client.get(get).status_code == 403
    assert Person(used.operator, PLATFORM).client.get(get).status_code == 403
    assert Api(None).client.get(get).status_code == 401
    _, blind = issue_key(tenant=used.alpha.tenant, name="blind", scopes=TENANT_SCOPES - {Scope.USAGE_READ})
    assert Api(blind).client.get(get).status_code == 403


@pytest.mark.parametrize("path", ["usage/", "usage/calls/", "usage.csv"])
def test_another_tenants_use_is_never_in_it(used: World, path: str) -> None:
    def read(api: Api) -> str:
        response = api.client.get(f"/api/v1/{path}?from=2026-11-01&to=2026-12-31")
        return b"".join(response).decode() if response.streaming else response.content.decode()

    alpha, beta = read(Api(used.alpha.key)), read(Api(used.beta.key))
    if path == "usage/":
        assert '"llm_tokens_in":"330"' in alpha.replace(" ", "")
        assert '"llm_tokens_in":"110"' in beta.replace(" ", "")
    else:
        assert "sess_beta" not in alpha
        assert "sess_alpha" not in beta
        assert "sess_beta_0" in beta


def test_a_forgotten_person_is_in_no_report(used: World, alpha_api: Api) -> None:
    with tenant_context(used.alpha.tenant):
        forget_end_user(end_user="ada")
    assert alpha_api("GET", f"usage/?{NOVEMBER}&end_user=ada")[1]["data"]["rows"] == []
    assert alpha_api("GET", f"usage/?{NOVEMBER}")[1]["data"]["total"]["cost"] == {"EUR": "4.400000"}
