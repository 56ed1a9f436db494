"""No address of the product shows, or changes, anything of another tenant."""

import json
import re
from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django_tenants.utils import tenant_context

from agents.models import Agent
from realtime.archive.models import Conversation
from tests.record.world import PASSWORD, Api, House, World

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PUBLIC = {"", "api/v1/schema/", "api/v1/docs/"}


def addresses(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[str]:
    """Every address of the URLconf, with ``<names>`` where something is to be filled in."""
    for pattern in (resolver or get_resolver()).url_patterns:
        path = prefix + str(pattern.pattern).removeprefix("^").removesuffix("$").replace(r"\Z", "")
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern, path)
        elif isinstance(pattern, URLPattern):
            yield path


def fill(address: str, house: House) -> str:
    """The address as it leads to something that the house owns."""
    with tenant_context(house.tenant):
        agent = Agent.objects.get(slug=house.agent)
    values = {"slug": house.agent, "session_id": house.session_id}
    object_id = str(agent.pk) if "agents/agent" in address else house.session_id
    address = re.sub(r"<(?:\w+:)?(\w+)>", lambda match: values.get(match[1], object_id), address)
    return re.sub(r"\(\?P<\w+>[^)]*\)", "agents", address)


API = sorted(address for address in addresses() if address.startswith("api/") and address not in PUBLIC)
OPENAI = sorted(address for address in addresses() if address.startswith("v1/"))
ADMIN = sorted(address for address in addresses() if address.startswith("admin/"))


def test_the_walk_sees_the_product() -> None:
    assert "api/v1/agents/<slug:slug>/" in API
    assert "api/v1/conversations/<str:session_id>/" in API
    assert "admin/archive/conversation/<path:object_id>/change/" in ADMIN
    assert "v1/models/<str:model>" in OPENAI
    others = set(addresses()) - set(API) - set(ADMIN) - set(OPENAI)
    assert others == PUBLIC


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("address", [address for address in API if "<" in address])
def test_a_key_reaches_nothing_of_another_tenant(world: World, address: str, method: str) -> None:
    path = fill(address, world.beta).removeprefix("api/v1/")
    body = json.dumps({"name": "stolen"}) if method in ("POST", "PUT", "PATCH") else None
    status, answer = Api(world.alpha.key)(method, path, body)
    # 405 says that the address never takes this method; OPTIONS describes the address and nothing in it.
    assert status in ((404, 405) if method != "OPTIONS" else (200, 404))
    assert "Secret of beta" not in str(answer)
    assert "hello from beta" not in str(answer)
    with tenant_context(world.beta.tenant):
        assert Agent.objects.get(slug="beta-desk").name == "Beta desk"
        assert Conversation.objects.filter(pk="sess_beta").exists()


@pytest.mark.parametrize("address", [address for address in API if "<" not in address])
def test_lists_hold_only_the_tenants_own(world: World, address: str) -> None:
    status, answer = Api(world.alpha.key)("GET", address.removeprefix("api/v1/"))
    assert status == 200
    assert "alpha" in json.dumps(answer["data"])
    assert "beta" not in json.dumps(answer["data"])


@pytest.mark.parametrize("address", API)
@pytest.mark.parametrize("method", METHODS)
def test_without_a_key_no_address_of_the_api_opens(world: World, address: str, method: str) -> None:
    status, answer = Api(None)(method, fill(address, world.beta).removeprefix("api/v1/"))
    assert status == 401
    assert method == "HEAD" or answer["error"]["code"] == "not_authenticated"


@pytest.mark.parametrize("parameter", ["tenant", "schema", "schema_name", "key_id"])
def test_no_parameter_chooses_the_tenant(world: World, parameter: str) -> None:
    status, _ = Api(world.alpha.key)("GET", f"conversations/?{parameter}=beta")
    assert status == 400


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
        response = client.generic(method, "/" + fill(address, world.beta))
        body = response.content.decode(errors="replace")
        assert "Secret of beta" not in body
        assert "hello from beta" not in body
        assert response.status_code in (302, 403, 404, 405) or address in OPEN_ADMIN, (method, response.status_code)


# The sign-in form, the sign-out, and translations of the interface: they show nothing of anybody.
OPEN_ADMIN = {"admin/login/", "admin/logout/", "admin/jsi18n/"}


def test_an_owner_signs_in_on_their_own_host_only(world: World) -> None:
    for host, entered in ((world.alpha.host, True), (world.beta.host, False)):
        client = Client(headers={"Host": host})
        client.post("/admin/login/", {"username": world.alpha.owner.email, "password": PASSWORD, "next": "/admin/"})
        assert (client.get("/admin/archive/conversation/").status_code == 200) is entered
