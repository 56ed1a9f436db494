"""Limits over REST: which hold, what is left, and every address answering 429 when nothing is."""

import re
from typing import Any

import pytest
import redis
from django.test import Client
from django_tenants.utils import schema_context
from pytest_django import Settings

from agents.queries import admit_credential, find_credential
from agentvoicebox.stack.valkey import EmbeddedValkey
from tenants import authentication
from tenants.audit.models import Entry
from tenants.keys.operations import issue_key
from tenants.limits.headers import duration
from tenants.limits.models import EndUserLimits
from tenants.limits.names import LimitInvalid, check_limits
from tenants.limits.queries import tenant_limits
from tenants.models import ApiKey, Plan, Tenant
from tenants.permissions import Scope
from tests.isolation.walk import PUBLIC, Route, fill, routes
from tests.record.world import PASSWORD, Api, World


def limit(world: World, **limits: int) -> None:
    Tenant.objects.filter(pk=world.alpha.tenant.pk).update(limits=limits)


def ask(secret: str, path: str = "/api/v1/agents/", **options: Any) -> Any:
    return Client(headers={"Authorization": f"Bearer {secret}"}, raise_request_exception=False).get(path, **options)


def test_the_answer_tells_what_is_left_in_the_drafts_words(world: World) -> None:
    limit(world, requests_per_minute=2)
    first = ask(world.alpha.key)
    assert first.status_code == 200
    assert first["RateLimit-Policy"] == '"requests_per_minute";q=2;w=60'
    assert re.fullmatch(r'"requests_per_minute";r=1;t=(59|60)', first["RateLimit"])
    assert ask(world.alpha.key).status_code == 200
    refused = ask(world.alpha.key)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert "requests_per_minute is 2" in refused.json()["error"]["message"]
    assert 1 <= int(refused["Retry-After"]) <= 60
    assert refused["RateLimit"] == f'"requests_per_minute";r=0;t={refused["Retry-After"]}'
    limit(world, requests_per_minute=0)
    never = ask(world.alpha.key)
    assert (never["RateLimit"], never["Retry-After"]) == ('"requests_per_minute";r=0;t=60', "60")


def test_one_tenants_requests_cost_the_other_nothing(world: World) -> None:
    limit(world, requests_per_minute=1)
    assert ask(world.alpha.key).status_code == 200
    assert ask(world.alpha.key).status_code == 429
    assert ask(world.beta.key).status_code == 200


def test_a_key_with_a_lower_limit_is_refused_first_and_alone(world: World) -> None:
    _, secret = issue_key(tenant=world.alpha.tenant, name="narrow", limits={"requests_per_minute": 1})
    answer = ask(secret)
    assert '"key_requests_per_minute";q=1;w=60' in answer["RateLimit-Policy"]
    refused = ask(secret)
    assert refused.status_code == 429
    assert f'"key_requests_per_minute";r=0;t={refused["Retry-After"]}' in refused["RateLimit"]
    assert ask(world.alpha.key).status_code == 200


def test_people_count_for_themselves_so_that_programs_lock_nobody_out(world: World) -> None:
    limit(world, requests_per_minute=1)
    ask(world.alpha.key)
    assert ask(world.alpha.key).status_code == 429
    client = Client(headers={"Host": world.alpha.host}, raise_request_exception=False)
    client.force_login(world.alpha.owner)
    assert client.get("/api/v1/agents/").status_code == 200
    assert client.get("/api/v1/agents/").status_code == 429


@pytest.mark.parametrize("route", routes(), ids=str)
def test_every_address_of_the_api_is_throttled(world: World, settings: Settings, route: Route) -> None:
    limit(world, requests_per_minute=1)
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 1
    path = fill(route, world.alpha)
    for secret in (world.alpha.key, None, "avb_live_" + "x" * 40):
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        client = Client(headers=headers, raise_request_exception=False, REMOTE_ADDR=f"192.0.2.{len(secret or '')}")
        assert client.get(path).status_code != 429
        for method in ("GET", "POST", "PATCH", "DELETE", "OPTIONS"):
            refused = client.generic(method, path)
            assert (refused.status_code, refused["Retry-After"] > "0") == (429, True), (method, secret)


def test_an_address_that_guessed_too_often_is_not_looked_up_but_for_good_keys(
    world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 2
    here = {"REMOTE_ADDR": "192.0.2.40"}
    assert ask(world.alpha.key, **here).status_code == 200
    looked_up: list[str] = []
    find = authentication.find_key
    monkeypatch.setattr(authentication, "find_key", lambda secret: looked_up.append(secret) or find(secret))
    guesses = [ask(f"avb_live_{number}{'x' * 39}", **here) for number in range(4)]
    assert [guess.status_code for guess in guesses] == [401, 401, 429, 429]
    assert len(looked_up) == 2
    assert guesses[-1]["Retry-After"] > "0"
    assert ask(world.alpha.key, **here).status_code == 200
    assert ask(world.beta.key, **here).status_code == 429, "it has not been good from there"
    assert ask(world.beta.key, REMOTE_ADDR="192.0.2.41").status_code == 200
    assert looked_up[2:] == [world.alpha.key, world.beta.key]


@pytest.mark.parametrize("path", ["", "admin/login/", "accounts/login/", *sorted(PUBLIC - {""})])
def test_pages_are_throttled_by_address(world: World, settings: Settings, path: str) -> None:
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 1
    client = Client(REMOTE_ADDR="192.0.2.7")
    assert client.get(f"/{path}").status_code != 429
    refused = client.get(f"/{path}")
    assert refused.status_code == 429
    assert "Retry-After" in refused
    assert Client(REMOTE_ADDR="192.0.2.8").get(f"/{path}").status_code != 429


def test_without_redis_the_api_says_so_and_pages_are_served(world: World, valkey_server: EmbeddedValkey) -> None:
    valkey_server.stop()
    try:
        answer = ask(world.alpha.key)
        assert (answer.status_code, answer["Retry-After"]) == (503, "2")
        assert answer.json()["error"]["code"] == "service_unavailable"
        assert Client().get("/").status_code == 200
    finally:
        valkey_server.start()


def test_what_holds_and_what_is_left(world: World) -> None:
    plan = Plan.objects.create(slug="small", name="Small", limits={"tokens_per_minute": 5_000, "forgotten": 1})
    Tenant.objects.filter(pk=world.alpha.tenant.pk).update(plan=plan, limits={"requests_per_minute": 50})
    _, secret = issue_key(
        tenant=Tenant.objects.get(pk=world.alpha.tenant.pk), name="k", limits={"concurrent_sessions": 2}
    )
    answer = ask(secret, "/api/v1/limits/").json()["data"]["limits"]
    found = {(one["name"], one["level"]): one for one in answer}
    assert {name for name, _ in found} == {
        "requests_per_minute", "tokens_per_minute", "concurrent_sessions", "sessions_per_end_user",
        "audio_minutes_per_day", "connections_per_second",
    }  # fmt: skip
    requests = found["requests_per_minute", "tenant"]
    assert (requests["limit"], requests["used"], requests["remaining"], requests["source"]) == (50, 1, 49, "tenant")
    tokens = found["tokens_per_minute", "tenant"]
    assert (tokens["limit"], tokens["source"], tokens["window_s"]) == (5_000, "plan", 60)
    assert found["audio_minutes_per_day", "tenant"]["limit"] == 15_000
    assert found["concurrent_sessions", "key"]["limit"] == 2
    assert "beta" not in str(answer)


def test_an_end_users_limits_live_in_the_tenant_and_hold_at_the_door(
    world: World, alpha_api: Api, beta_api: Api
) -> None:
    body = {"end_user": "caller:17", "limits": {"sessions_per_end_user": 1}}
    status, answer = alpha_api("POST", "limits/end-users/", body)
    assert status == 201, answer
    made = answer["data"]
    credential = find_credential(world.alpha.key, "")
    caller = admit_credential(credential, None, "caller:17")
    assert (caller.end_user, caller.limits) == ("caller:17", {"sessions_per_end_user": 1})
    assert admit_credential(credential, None, "caller:18").limits == {}
    assert admit_credential(find_credential(world.beta.key, ""), None, "caller:17").limits == {}
    assert beta_api("GET", f"limits/end-users/{made['id']}/")[0] == 404
    assert beta_api("GET", "limits/end-users/")[1]["data"]["results"] == []
    assert alpha_api("GET", "limits/end-users/?end_user=caller:17")[1]["data"]["results"][0]["id"] == made["id"]
    assert alpha_api("POST", "limits/end-users/", body)[1]["error"]["code"] == "end_user_taken"
    changed = alpha_api("PATCH", f"limits/end-users/{made['id']}/", {"limits": {"tokens_per_minute": 7}})[1]["data"]
    assert changed["limits"] == {"tokens_per_minute": 7}
    assert alpha_api("DELETE", f"limits/end-users/{made['id']}/")[0] == 204
    with schema_context("alpha"):
        assert not EndUserLimits.objects.exists()
        entries = list(Entry.objects.order_by("-seq").filter(target=made["id"]))
    assert [entry.action.rpartition(".")[2] for entry in entries] == ["deleted", "updated", "created"]
    assert "caller:17" not in str([(entry.before, entry.after) for entry in entries])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"end_user": "", "limits": {}}, "end_user"),
        ({"end_user": "u" * 201, "limits": {}}, "end_user"),
        ({"end_user": "u\0", "limits": {}}, "end_user"),
        ({"end_user": "u"}, "limits"),
        ({"end_user": "u", "limits": []}, "limits"),
        ({"end_user": "u", "limits": {"concurrent_sessions": 1}}, "limits.concurrent_sessions"),
        ({"end_user": "u", "limits": {"sessions_per_end_user": 4}}, "limits.sessions_per_end_user"),
        ({"end_user": "u", "limits": {"tokens_per_minute": "many"}}, "limits.tokens_per_minute"),
        ({"end_user": "u", "limits": {}, "tenant": "beta"}, "tenant"),
    ],
)
def test_an_end_users_limits_only_lower(world: World, alpha_api: Api, body: dict[str, Any], param: str) -> None:
    status, answer = alpha_api("POST", "limits/end-users/", body)
    assert (status, answer["error"]["param"]) == (400, param), answer


def test_the_scopes_of_limits(world: World) -> None:
    _, reader = issue_key(tenant=world.alpha.tenant, name="r", scopes=[Scope.LIMITS_READ])
    _, outsider = issue_key(tenant=world.alpha.tenant, name="o", scopes=[Scope.AGENTS_READ])
    assert ask(reader, "/api/v1/limits/").status_code == 200
    assert Api(reader)("POST", "limits/end-users/", {"end_user": "u", "limits": {}})[0] == 403
    assert ask(outsider, "/api/v1/limits/").status_code == 403
    client = Client(headers={"Host": world.alpha.host}, raise_request_exception=False)
    client.force_login(world.alpha.member)
    assert client.get("/api/v1/limits/").status_code == 200
    client.force_login(world.outsider)
    assert client.get("/api/v1/limits/").status_code == 403


def test_the_number_that_holds_is_the_tenants_then_the_plans_then_the_default(world: World, settings: Settings) -> None:
    settings.LIMITS = settings.LIMITS | {"requests_per_minute": 7}
    tenant = world.alpha.tenant
    assert tenant_limits(tenant)["requests_per_minute"] == 7
    tenant = Tenant(plan=Plan(slug="p", name="P", limits={"requests_per_minute": 8}))
    assert tenant_limits(tenant)["requests_per_minute"] == 8
    tenant.limits = {"requests_per_minute": 9}
    assert tenant_limits(tenant)["requests_per_minute"] == 9


def test_lowering_the_tenants_limit_lowers_a_key_that_had_more(world: World) -> None:
    key, secret = issue_key(tenant=world.alpha.tenant, name="k", limits={"tokens_per_minute": 50_000})
    limit(world, tokens_per_minute=10)
    allowance = find_credential(secret, "").allowance
    assert allowance.effective("tokens_per_minute") == 10
    assert ApiKey.objects.get(pk=key.pk).limits == {"tokens_per_minute": 50_000}


@pytest.mark.parametrize("wrong", [[], "x", {"x": 1}, {"requests_per_minute": True}, {"requests_per_minute": 10**13}])
def test_limits_are_known_names_and_whole_numbers(wrong: object) -> None:
    with pytest.raises(LimitInvalid):
        check_limits(wrong)


def test_redis_knows_no_address_and_no_end_user_by_name(world: World, valkey_url: str) -> None:
    ask(world.alpha.key, REMOTE_ADDR="192.0.2.77")
    Client(REMOTE_ADDR="192.0.2.78").get("/")
    party = find_credential(world.alpha.key, "").party("caller 17", {"requests_per_minute": 5})
    keys = {counter.key for counter in [*party.counters("requests_per_minute", 1), *party.places("sess_1")]}
    with redis.Redis.from_url(valkey_url) as client:
        keys |= {key.decode() for key in client.keys("avb:*")}
    assert keys
    assert not [key for key in keys if "192.0.2" in key or "caller" in key]


@pytest.mark.parametrize(
    ("seconds", "written"), [(0, "0ms"), (0.006, "6ms"), (1.5, "1.5s"), (60.052, "1m0.052s"), (61, "1m1s")]
)
def test_durations_are_written_as_openai_writes_them(seconds: float, written: str) -> None:
    assert duration(seconds) == written


def sign_in(world: World, address: str) -> Client:
    client = Client(headers={"Host": world.alpha.host}, REMOTE_ADDR=address)
    client.post("/accounts/login/?next=/admin/", {"login": world.alpha.owner.email, "password": PASSWORD})
    return client


def test_people_who_are_signed_in_count_for_themselves_on_pages_too(world: World, settings: Settings) -> None:
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 3
    limit(world, requests_per_minute=6)
    owner = sign_in(world, "192.0.2.50")
    assert [owner.get("/admin/").status_code for _ in range(7)] == [200] * 6 + [429]
    refused = owner.get("/admin/")
    assert "requests_per_minute is 6" in refused.content.decode()
    assert owner.get("/api/v1/agents/").status_code == 429, "the same counter as over REST"
    assert Client(REMOTE_ADDR="192.0.2.50").get("/accounts/login/").status_code == 200, "one of three is left"


def test_cookies_that_are_made_up_count_by_address_before_they_are_looked_up(
    world: World, settings: Settings, django_assert_num_queries: Any
) -> None:
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 2
    client = Client(headers={"Host": world.alpha.host}, REMOTE_ADDR="192.0.2.51")
    answers = []
    for number in range(2):
        client.cookies["sessionid"] = f"{number}{'x' * 31}"
        answers.append(client.get("/admin/").status_code)
    assert answers == [302, 302]
    client.cookies["sessionid"] = "y" * 32
    with django_assert_num_queries(0):
        assert client.get("/admin/").status_code == 429


def test_a_session_that_has_ended_counts_by_address(world: World, settings: Settings) -> None:
    owner = sign_in(world, "192.0.2.52")
    assert owner.get("/admin/").status_code == 200
    cookie = owner.cookies["sessionid"].value
    assert owner.post("/accounts/logout/").status_code == 302
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 5  # three of them are spent: signing in, the first page
    left = Client(headers={"Host": world.alpha.host}, REMOTE_ADDR="192.0.2.52")
    left.cookies["sessionid"] = cookie
    assert 429 in [left.get("/admin/").status_code for _ in range(6)]
