"""No address of the product shows, or changes, anything of another tenant; and each is guarded in the same way."""

import json

import pytest
from django.test import Client

from tenants.keys.operations import issue_key
from tenants.permissions import TENANT_SCOPES
from tests.isolation.walk import (
    METHODS,
    PUBLIC,
    Route,
    addresses,
    fill,
    fill_admin,
    is_owned,
    routes,
    state_of,
)
from tests.record.world import PASSWORD, World

ROUTES = routes()
API = [route.address for route in ROUTES]
OPENAI = sorted(address for address, _ in addresses() if address.startswith("v1/"))
ADMIN = sorted(address for address, _ in addresses() if address.startswith("admin/"))
# Where people sign in, and programs get their tokens: tests of their own.
PEOPLE = {
    address
    for address, _ in addresses()
    if address.startswith(("accounts/", "oauth/", "people/", "join/", ".well-known/"))
}

BODY = json.dumps({"name": "stolen"})
SCOPED = [route for route in ROUTES if route.scopes]
each_route = pytest.mark.parametrize("route", ROUTES, ids=str)


def ask(secret: str | None, method: str, path: str, **headers: str):
    if secret is not None:
        headers["Authorization"] = f"Bearer {secret}"
    body = {"POST": "{}", "PUT": BODY, "PATCH": BODY}.get(method, "")
    client = Client(headers=headers, raise_request_exception=False)
    return client.generic(method, path, body, content_type="application/json")


def read(response) -> bytes:
    if not response.streaming:
        return response.content
    return b"".join(iter(response))


@pytest.fixture
def room(settings) -> None:
    """More requests than one tenant may make in a minute."""
    settings.LIMITS = settings.LIMITS | {"requests_per_minute": 100_000}
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 100_000


def test_the_walk_sees_the_product() -> None:
    assert "api/v1/agents/<slug:slug>/" in API
    assert "api/v1/conversations/<str:session_id>/" in API
    assert "api/v1/tenants/<slug:slug>/" in API
    assert "admin/archive/conversation/<path:object_id>/change/" in ADMIN
    assert "v1/models/<str:model>" in OPENAI
    others = {address for address, _ in addresses()} - set(API) - set(ADMIN) - set(OPENAI) - PEOPLE
    assert others == PUBLIC


@pytest.mark.parametrize("route", [route for route in ROUTES if is_owned(route)], ids=str)
def test_a_key_reaches_nothing_of_another_tenant(world: World, room: None, route: Route) -> None:
    path = fill(route, world.beta)
    before = state_of(world.beta.tenant)
    for method in METHODS:
        response = ask(world.alpha.key, method, path)
        # 405 says that the address never takes this method; OPTIONS describes the address and nothing in it.
        expected = 200 if method == "OPTIONS" else 404 if route.takes(method) else 405
        assert response.status_code == expected, (method, response.content)
        for secret in (b"Secret of beta", b"hello from beta", world.beta.owner.email.encode()):
            assert secret not in read(response)
    assert state_of(world.beta.tenant) == before


@pytest.mark.parametrize("route", [route for route in ROUTES if is_owned(route) and route.takes("GET")], ids=str)
def test_its_own_key_reaches_what_the_walk_names(world: World, route: Route) -> None:
    """Or the test above would pass for addresses that lead nowhere."""
    response = ask(world.beta.key, "GET", fill(route, world.beta))
    assert response.status_code == 200 or response.json()["error"]["code"] in NOT_YET, response.content


# What was only begun has nothing to hear or to fetch yet, and nobody is at the address of the walk's MCP server.
NOT_YET = {"recording_not_ready", "recording_empty", "export_not_ready", "mcp_server_failed"}


@pytest.mark.parametrize(
    "route", [route for route in SCOPED if not route.names_something and not route.is_platforms and route.takes("GET")],
    ids=str,
)  # fmt: skip
def test_lists_hold_only_the_tenants_own(world: World, route: Route) -> None:
    for owned in ROUTES:
        if is_owned(owned):
            fill(owned, world.beta)
    response = ask(world.alpha.key, "GET", fill(route, world.alpha))
    assert response.status_code in ((200, 404) if route.address == "api/v1/sso/" else (200,)), response.content
    shown = read(response).decode()
    assert "beta" not in shown.replace("hf_beta", "")
    if route.address in ("api/v1/agents/", "api/v1/conversations/"):
        assert "alpha" in shown


@each_route
def test_without_a_key_no_address_of_the_api_opens(world: World, room: None, route: Route) -> None:
    path = fill(route, world.beta)
    before = state_of(world.beta.tenant)
    for method in METHODS:
        for secret in (None, "avb_live_" + "x" * 40, "nonsense") if method == "GET" else (None,):
            response = ask(secret, method, path)
            assert response.status_code == 401, method
            assert response["WWW-Authenticate"].startswith("Bearer")
            assert method == "HEAD" or response.json()["status"] == "error"
    assert state_of(world.beta.tenant) == before


@pytest.mark.parametrize("route", SCOPED, ids=str)
def test_without_the_scope_no_address_of_the_api_opens(world: World, room: None, route: Route) -> None:
    others = sorted({str(scope) for scope in TENANT_SCOPES} - route.scopes)
    _, secret = issue_key(tenant=world.alpha.tenant, name="elsewhere", scopes=others)
    path = fill(route, world.alpha)
    before = state_of(world.alpha.tenant)
    for method in METHODS:
        response = ask(secret, method, path)
        assert response.status_code == 403, method
        assert method == "HEAD" or response.json()["error"]["code"] == "insufficient_scope"
        assert b"lpha" not in response.content
    assert state_of(world.alpha.tenant) == before


@pytest.mark.parametrize("route", [route for route in ROUTES if not route.scopes], ids=str)
def test_what_is_a_persons_own_does_nothing_for_a_key(world: World, room: None, route: Route) -> None:
    before = state_of(world.alpha.tenant)
    for method in METHODS:
        assert ask(world.alpha.key, method, fill(route, world.alpha)).status_code < 500
    assert state_of(world.alpha.tenant) == before


@each_route
def test_every_address_counts_requests(world: World, settings, route: Route) -> None:
    path = fill(route, world.alpha)
    settings.LIMITS = settings.LIMITS | {"requests_per_minute": 0}
    before = state_of(world.alpha.tenant)
    for method in METHODS:
        response = ask(world.alpha.key, method, path)
        assert response.status_code == 429, method
        assert int(response["Retry-After"]) > 0
        assert "RateLimit" in response
        assert "RateLimit-Policy" in response
        assert method == "HEAD" or response.json()["error"]["code"] == "rate_limit_exceeded"
    assert state_of(world.alpha.tenant) == before


@pytest.mark.parametrize("route", [route for route in SCOPED if not route.is_platforms], ids=str)
def test_no_parameter_chooses_the_tenant(world: World, room: None, route: Route) -> None:
    for method in METHODS:
        if not route.takes(method) or method == "OPTIONS":
            continue
        for parameter in ("tenant", "schema_name") if method == "GET" else ("tenant",):
            response = ask(world.alpha.key, method, f"{fill(route, world.alpha)}?{parameter}=beta")
            assert response.status_code == 400, (method, parameter, response.content)
            assert method == "HEAD" or response.json()["error"]["param"] == parameter


@pytest.mark.parametrize("host", ["beta.localhost", "localhost", "127.0.0.1"])
def test_the_host_does_not_choose_the_tenant_of_the_api(world: World, host: str) -> None:
    client = Client(headers={"Authorization": f"Bearer {world.alpha.key}", "Host": host})
    assert "beta" not in client.get("/api/v1/conversations/").content.decode().replace(host, "")


@pytest.mark.parametrize("who", ["owner", "member", "outsider", "operator", "nobody"])
@pytest.mark.parametrize("address", ADMIN)
def test_strangers_see_nothing_on_a_tenants_admin(world: World, address: str, who: str) -> None:
    """Alpha's owner, beta's own viewer, somebody without a tenant, and the platform operator, all on beta's host."""
    people = {
        "owner": world.alpha.owner, "member": world.beta.member, "outsider": world.outsider, "operator": world.operator,
    }  # fmt: skip
    client = Client(headers={"Host": world.beta.host}, raise_request_exception=False)
    if who != "nobody":
        client.force_login(people[who])
        assert f"authenticated as {people[who].email}" in client.get("/admin/login/?next=/admin/").content.decode()
    for method in ("GET", "POST"):
        response = client.generic(method, fill_admin(address, world.beta))
        body = response.content.decode(errors="replace")
        assert "Secret of beta" not in body
        assert "hello from beta" not in body
        assert response.status_code in (302, 403, 404, 405) or address in OPEN_ADMIN, (method, response.status_code)


# The sign-in form, the sign-out, and translations of the interface: they show nothing of anybody.
OPEN_ADMIN = {"admin/login/", "admin/logout/", "admin/jsi18n/"}


def test_an_owner_signs_in_on_their_own_host_only(world: World) -> None:
    for host, entered in ((world.alpha.host, True), (world.beta.host, False)):
        client = Client(headers={"Host": host})
        client.post("/accounts/login/", {"login": world.alpha.owner.email, "password": PASSWORD, "next": "/admin/"})
        assert (client.get("/admin/archive/conversation/").status_code == 200) is entered
