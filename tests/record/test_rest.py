"""What every address of the platform API does alike: ETags, idempotency keys, CORS, problem details, request ids."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import redis
from django.conf import settings as project
from django.db import connections
from django.test import Client
from django_tenants.utils import schema_context, tenant_context
from pytest_django import Settings

from agents import operations
from agents.models import Agent
from tenants.api.cors import check_origins
from tenants.keys.operations import issue_key
from tenants.lifecycle.platform_keys import issue_platform_key, revoke_platform_key
from tenants.models import Tenant, TenantStatus
from tests.record.world import World

NEW = {"slug": "desk", "name": "Desk"}
ORIGIN = "https://app.alpha.example"


@pytest.fixture
def alpha(world: World, valkey_url: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {world.alpha.key}"}, raise_request_exception=False)


@pytest.fixture
def beta(world: World, valkey_url: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {world.beta.key}"}, raise_request_exception=False)


def post(client: Client, body: dict = NEW, **headers: str):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/api/v1/agents/", json.dumps(body), "application/json", headers=names)


def patch(client: Client, body: dict, **headers: str):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.patch("/api/v1/agents/alpha-desk/", json.dumps(body), "application/json", headers=names)


# --- idempotency keys ---


def test_a_post_that_is_sent_again_is_answered_again_and_done_once(world: World, alpha: Client) -> None:
    first = post(alpha, Idempotency_Key="k-1")
    again = post(alpha, Idempotency_Key='"k-1"')
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert "Idempotency-Replayed" not in first
    assert again["Idempotency-Replayed"] == "true"
    assert again["Content-Type"] == first["Content-Type"]
    with tenant_context(world.alpha.tenant):
        assert Agent.objects.filter(slug="desk").count() == 1


def test_the_same_key_with_another_request_is_refused(alpha: Client) -> None:
    post(alpha, Idempotency_Key="k-1")
    for other in (post(alpha, NEW | {"name": "Other"}, Idempotency_Key="k-1"),):
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
        assert other.json()["error"]["param"] == "Idempotency-Key"


def test_keys_belong_to_one_principal_of_one_tenant(world: World, alpha: Client, beta: Client) -> None:
    _, secret = issue_key(tenant=world.alpha.tenant, name="second")
    second = Client(headers={"Authorization": f"Bearer {secret}"})
    assert post(alpha, Idempotency_Key="k-1").status_code == 201
    assert post(beta, Idempotency_Key="k-1").status_code == 201
    assert post(second, Idempotency_Key="k-1").json()["error"]["code"] == "slug_taken"


def test_what_was_refused_or_failed_may_be_tried_again(alpha: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert post(alpha, {"slug": "desk"}, Idempotency_Key="k-1").status_code == 400
    with monkeypatch.context() as broken:
        broken.setattr("agents.operations.create_agent", lambda **_: 1 / 0)
        assert post(alpha, Idempotency_Key="k-1").status_code == 500
    assert post(alpha, Idempotency_Key="k-1").status_code == 201


def test_while_the_first_runs_the_second_is_told_to_wait(alpha: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    create, inner = operations.create_agent, []

    def during(**fields):
        inner.append(post(alpha, Idempotency_Key="k-1"))
        with schema_context("alpha"):
            return create(**fields)

    monkeypatch.setattr("agents.operations.create_agent", during)
    assert post(alpha, Idempotency_Key="k-1").status_code == 201
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in inner] == [
        (409, "idempotency_key_in_use")
    ]
    assert inner[0]["Retry-After"] == "1"


@pytest.mark.parametrize("key", ["", " ", '"', "a b", "x" * 256, "ä"])
def test_a_malformed_key_is_refused(alpha: Client, key: str) -> None:
    answer = post(alpha, Idempotency_Key=key)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")


def test_what_lies_in_redis_says_nothing_and_lapses(world: World, alpha: Client, valkey_url: str) -> None:
    post(alpha, NEW | {"instructions": "a secret plan"}, Idempotency_Key="guessable")
    with redis.Redis.from_url(valkey_url) as client:
        [name] = client.keys("avb:alpha:idempotency:*")
        stored = client.get(name)
        assert 0 < client.ttl(name) <= project.API_IDEMPOTENCY_S
    for text in (b"secret plan", b"guessable", b"Desk"):
        assert text not in stored
        assert text not in name


def test_of_a_large_answer_only_that_it_was_given_is_kept(
    world: World, alpha: Client, valkey_url: str, settings: Settings
) -> None:
    assert settings.IDEMPOTENCY_ANSWER_BYTES == 16_384
    body = NEW | {"instructions": "x" * 17_000}
    assert post(alpha, body, Idempotency_Key="k-1").status_code == 201
    again = post(alpha, body, Idempotency_Key="k-1")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "idempotency_answer_not_kept")
    assert "answered 201" in again.json()["error"]["message"]
    assert "GET /api/v1/agents/" in again.json()["error"]["message"]
    with redis.Redis.from_url(valkey_url) as client:
        [name] = client.keys("avb:alpha:idempotency:*")
        assert client.strlen(name) < 500
    with tenant_context(world.alpha.tenant):
        assert Agent.objects.filter(slug="desk").count() == 1


def test_a_principal_has_only_so_many_keys(world: World, alpha: Client, beta: Client, settings: Settings) -> None:
    assert settings.IDEMPOTENCY_KEYS == 5_000
    settings.IDEMPOTENCY_KEYS = 2
    assert post(alpha, {"slug": "desk"}, Idempotency_Key="failed").status_code == 400
    for number in (1, 2):
        assert post(alpha, NEW | {"slug": f"desk-{number}"}, Idempotency_Key=f"k-{number}").status_code == 201
    refused = post(alpha, NEW, Idempotency_Key="k-3")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_idempotency_keys")
    assert 86_390 <= int(refused["Retry-After"]) <= settings.API_IDEMPOTENCY_S
    assert post(alpha, NEW | {"slug": "desk-1"}, Idempotency_Key="k-1")["Idempotency-Replayed"] == "true"
    assert post(beta, Idempotency_Key="k-3").status_code == 201
    assert post(alpha).status_code == 201


def test_without_redis_a_key_is_not_promised_and_other_posts_go_on(
    alpha: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable = redis.Redis.from_url("redis://127.0.0.1:1/0")
    monkeypatch.setattr("tenants.api.idempotency._client", lambda: unreachable)
    answer = post(alpha, Idempotency_Key="k-1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "idempotency_unavailable")
    assert post(alpha).status_code == 201


def test_many_at_once_do_it_once(committed: World, valkey_url: str) -> None:
    barrier = Barrier(8)

    def send(_: int) -> int:
        client = Client(headers={"Authorization": f"Bearer {committed.alpha.key}"}, raise_request_exception=False)
        barrier.wait()
        try:
            return post(client, NEW | {"slug": "once"}, Idempotency_Key="together").status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(send, range(8)))
    assert set(statuses) <= {201, 409}
    assert 201 in statuses
    with tenant_context(committed.alpha.tenant):
        assert Agent.objects.filter(slug="once").count() == 1


# --- ETags ---


def test_a_get_that_changed_nothing_is_304(alpha: Client) -> None:
    first = alpha.get("/api/v1/agents/alpha-desk/")
    etag = first["ETag"]
    assert etag.startswith('"')
    assert first["Cache-Control"] == "private, no-cache"
    for header in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = alpha.get("/api/v1/agents/alpha-desk/", headers={"If-None-Match": header})
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", etag)
    assert alpha.head("/api/v1/agents/alpha-desk/")["ETag"] == etag
    assert alpha.get("/api/v1/agents/alpha-desk/", headers={"If-Match": '"x"'}).status_code == 412
    patch(alpha, {"speed": 1.2})
    assert alpha.get("/api/v1/agents/alpha-desk/", headers={"If-None-Match": etag}).status_code == 200


def test_a_change_decided_on_an_old_state_is_refused(world: World, alpha: Client) -> None:
    etag = alpha.get("/api/v1/agents/alpha-desk/")["ETag"]
    changed = patch(alpha, {"speed": 1.2}, If_Match=etag)
    assert changed.status_code == 200
    assert changed["ETag"] == alpha.get("/api/v1/agents/alpha-desk/")["ETag"]
    refused = patch(alpha, {"speed": 0.5}, If_Match=etag)
    assert (refused.status_code, refused.json()["error"]["code"]) == (412, "precondition_failed")
    gone = alpha.delete("/api/v1/agents/alpha-desk/", headers={"If-Match": etag})
    assert gone.status_code == 412
    with tenant_context(world.alpha.tenant):
        assert Agent.objects.get(slug="alpha-desk").speed == 1.2
    assert patch(alpha, {"speed": 0.5}, If_Match=changed["ETag"]).status_code == 200
    assert patch(alpha, {"slug": "renamed"}, If_Match="*").status_code == 200
    assert alpha.delete("/api/v1/agents/renamed/").status_code == 204


@pytest.mark.parametrize("header", ["abc", '"abc', "W/"])
def test_a_malformed_if_match_is_refused(alpha: Client, header: str) -> None:
    answer = patch(alpha, {"speed": 1.2}, If_Match=header)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "If-Match")


def test_an_installation_may_want_if_match_on_every_change(alpha: Client, settings) -> None:
    settings.API_REQUIRE_IF_MATCH = True
    answer = patch(alpha, {"speed": 1.2})
    assert (answer.status_code, answer.json()["error"]["code"]) == (428, "precondition_required")
    etag = alpha.get("/api/v1/agents/alpha-desk/")["ETag"]
    assert patch(alpha, {"speed": 1.2}, If_Match=etag).status_code == 200


def test_of_two_changes_decided_on_the_same_state_one_is_made(committed: World) -> None:
    key = {"Authorization": f"Bearer {committed.alpha.key}"}
    etag = Client(headers=key).get("/api/v1/agents/alpha-desk/")["ETag"]
    barrier = Barrier(6)

    def send(number: int) -> int:
        barrier.wait()
        try:
            return patch(Client(headers=key), {"name": f"Name {number}"}, If_Match=etag).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as threads:
        statuses = sorted(threads.map(send, range(6)))
    assert statuses == [200, 412, 412, 412, 412, 412]


# --- errors ---


def test_problem_details_for_who_asks_for_them(alpha: Client) -> None:
    answer = alpha.get("/api/v1/agents/nobody/", headers={"Accept": "application/json, application/problem+json"})
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert answer.json() == {
        "type": "/api/v1/docs/errors/#404", "title": "Not Found", "status": 404,
        "detail": "There is no agent 'nobody'.", "code": "not_found", "param": None,
    }  # fmt: skip
    only = alpha.get("/api/v1/agents/alpha-desk/", headers={"Accept": "application/problem+json"})
    assert (only.status_code, only["Content-Type"], only.json()["status"]) == (200, "application/json", "success")


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("PUT", {}, 405), ("GET", {"Accept": "text/html"}, 406), ("PATCH", {"Content-Type": "text/csv"}, 415)],
)
def test_refusals_of_http_itself_have_the_same_shape(alpha: Client, method: str, headers: dict, status: int) -> None:
    kind = headers.get("Content-Type", "application/json")
    accept = {name: value for name, value in headers.items() if name == "Accept"}
    answer = alpha.generic(method, "/api/v1/agents/alpha-desk/", "{}", kind, headers=accept)
    assert (answer.status_code, answer.json()["status"]) == (status, "error")
    assert answer.json()["error"]["documentation"] == f"/api/v1/docs/errors/#{status}"
    if status == 405:
        assert answer["Allow"] == "GET, PATCH, DELETE, HEAD, OPTIONS"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "agents"), ("POST", "agents"), ("PATCH", "agents/alpha-desk"), ("DELETE", "keys/key_x")],
)
def test_without_its_slash_an_address_is_named_and_nothing_is_lost(alpha: Client, method: str, path: str) -> None:
    answer = alpha.generic(method, f"/api/v1/{path}", json.dumps(NEW), "application/json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert answer.json()["error"]["message"] == f"There is nothing at /api/v1/{path}; send it to /api/v1/{path}/."
    nowhere = alpha.generic(method, "/api/v1/nothing", "", "application/json")
    assert nowhere.json()["error"]["message"] == "There is nothing at /api/v1/nothing."


@pytest.mark.usefixtures("world", "valkey_url")
def test_a_platform_key_is_told_where_it_opens_and_a_wrong_one_nothing() -> None:
    key, secret = issue_platform_key(name="ops")

    def ask(bearer: str) -> tuple[int, str, str]:
        answer = Client(headers={"Authorization": f"Bearer {bearer}"}).get("/api/v1/agents/")
        error = answer.json()["error"]
        return answer.status_code, error["code"], error["message"]

    status, code, message = ask(secret)
    assert (status, code) == (403, "platform_key")
    assert all(words in message for words in ("a platform operator's key", "/api/v1/tenants/", "avb_live_"))
    wrong = ask("avb_live_" + "x" * 40)
    assert wrong == (401, "invalid_api_key", "The API key is not valid.")
    assert ask(secret[:-1] + "~") == ask("avb_platform_") == wrong
    revoke_platform_key(key=key)
    assert ask(secret)[0] == 401


def test_each_status_is_explained_where_errors_point_to(client: Client) -> None:
    page = client.get("/api/v1/docs/errors/").content.decode()
    for status in (400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 428, 429, 500, 503):
        assert f'id="{status}"' in page


def test_a_refused_write_leaves_nothing_behind(world: World, alpha: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    create = operations.create_agent

    def write_and_refuse(**fields):
        create(**fields)
        raise operations.SlugTaken("desk")

    monkeypatch.setattr("agents.operations.create_agent", write_and_refuse)
    assert post(alpha).status_code == 400
    with tenant_context(world.alpha.tenant):
        assert not Agent.objects.filter(slug="desk").exists()


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_write_takes_no_query_parameters(alpha: Client, method: str) -> None:
    path = "/api/v1/agents/" if method == "POST" else "/api/v1/agents/alpha-desk/"
    answer = alpha.generic(method, f"{path}?tenant=beta", "{}", "application/json")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tenant")


# --- request ids ---


def test_a_request_has_an_id_of_the_callers_or_of_its_own(alpha: Client) -> None:
    assert alpha.get("/api/v1/agents/", headers={"X-Request-Id": "order-7.1"})["X-Request-Id"] == "order-7.1"
    for strange in ("", "x" * 129, "a b"):
        assert alpha.get("/api/v1/agents/", headers={"X-Request-Id": strange})["X-Request-Id"].startswith("req_")


# --- CORS ---


@pytest.fixture
def listed(world: World) -> World:
    Tenant.objects.filter(pk=world.alpha.tenant.pk).update(cors_origins=[ORIGIN])
    return world


def preflight(origin: str, path: str = "/api/v1/agents/alpha-desk/"):
    asked = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
    return Client().options(path, headers=asked | {"Access-Control-Request-Headers": "authorization, if-match"})


def test_a_preflight_passes_when_an_active_tenant_lists_the_origin(listed: World) -> None:
    answer = preflight(ORIGIN)
    assert answer.status_code == 200
    assert answer["Access-Control-Allow-Origin"] == ORIGIN
    assert "PATCH" in answer["Access-Control-Allow-Methods"]
    assert {"authorization", "if-match", "idempotency-key"} <= set(answer["Access-Control-Allow-Headers"].split(", "))
    assert "origin" in answer["Vary"].lower()
    assert "Access-Control-Allow-Credentials" not in answer
    for other in ("https://evil.example", "null", "*", ORIGIN + ".evil.example", ORIGIN.upper(), ORIGIN + "/"):
        assert "Access-Control-Allow-Origin" not in preflight(other)
    assert "Access-Control-Allow-Origin" not in preflight(ORIGIN, "/admin/")
    Tenant.objects.filter(pk=listed.alpha.tenant.pk).update(status=TenantStatus.SUSPENDED)
    assert "Access-Control-Allow-Origin" not in preflight(ORIGIN)


def test_only_the_keys_own_tenant_lets_its_answer_be_read(listed: World, alpha: Client, beta: Client) -> None:
    own = alpha.get("/api/v1/agents/", headers={"Origin": ORIGIN})
    assert own["Access-Control-Allow-Origin"] == ORIGIN
    assert "ETag" in own["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in own
    for answer in (
        beta.get("/api/v1/agents/", headers={"Origin": ORIGIN}),
        Client().get("/api/v1/agents/", headers={"Origin": ORIGIN}),
        alpha.get("/api/v1/agents/", headers={"Origin": "https://evil.example"}),
    ):
        assert "Access-Control-Allow-Origin" not in answer
        assert "origin" in answer["Vary"].lower()
    assert alpha.get("/api/v1/agents/nobody/", headers={"Origin": ORIGIN})["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize(
    "origins",
    ["https://a.example", [1], ["*"], ["null"], ["https://a.example/"], ["https://a.example/x"], ["ftp://a.example"],
     ["https://A.example"], ["https://u@a.example"], ["https://a.example:x"], ["https://"], ["https://a.example"] * 51],
)  # fmt: skip
def test_what_is_no_origin_is_refused(origins: object) -> None:
    with pytest.raises(Exception, match=r"origin|At most"):
        check_origins(origins)
    check_origins([ORIGIN, "http://localhost:3000", "http://[::1]:8080"])
