"""OpenAI's REST addresses and client secrets show and open nothing of another tenant."""

import httpx2
import pytest
from channels.db import database_sync_to_async

from agents.queries import AgentUnknown, KeyRefused, admit_key_id
from realtime.runtime.secrets import ClientSecrets
from tenants.keys.operations import issue_key, revoke_key
from tenants.models import ApiKey
from tenants.permissions import Scope
from tests.isolation.test_routes import OPENAI
from tests.record.world import World
from tests.rest.conftest import Connect, archive, budgets, capacity, connect, keys, limiter, passes, secrets, speech

__all__ = ["archive", "budgets", "capacity", "connect", "keys", "limiter", "passes", "secrets", "speech"]

# An address to the address of something that the other tenant owns.
OTHERS = {"v1/models/<str:model>": "v1/models/agent:beta-desk", "v1/(?P<address>.*)": "v1/agents/beta-desk"}


@pytest.fixture
def alpha(connect: Connect, world: World) -> httpx2.AsyncClient:
    return connect(world.alpha.key)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("address", OPENAI)
async def test_a_key_reaches_nothing_of_another_tenant(alpha: httpx2.AsyncClient, address: str, method: str) -> None:
    answer = await alpha.request(method, f"/{OTHERS.get(address, address)}")
    assert "Secret of beta" not in answer.text
    if address in OTHERS:
        assert answer.status_code in (404, 405)
    else:
        assert "<" not in address
        assert "beta-desk" not in answer.text


@pytest.mark.parametrize("address", OPENAI)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_a_key_no_address_opens(connect: Connect, address: str, method: str) -> None:
    answer = await connect(None).request(method, f"/{OTHERS.get(address, address)}")
    assert answer.status_code in (401, 404, 405)
    assert "error" in answer.json()


@pytest.mark.parametrize("host", ["beta.localhost", "localhost"])
async def test_the_host_does_not_choose_the_tenant(alpha: httpx2.AsyncClient, host: str) -> None:
    names = [model["id"] for model in (await alpha.get("/v1/models", headers={"Host": host})).json()["data"]]
    assert "agent:alpha-desk" in names
    assert "agent:beta-desk" not in names


async def test_a_client_secret_belongs_to_the_tenant_of_its_key(
    alpha: httpx2.AsyncClient, secrets: ClientSecrets
) -> None:
    refused = await alpha.post("/v1/realtime/client_secrets", json={"session": {"prompt": {"id": "beta-desk"}}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "agent_not_found")
    body = {"session": {"instructions": "x"}}
    value = (await alpha.post("/v1/realtime/client_secrets", json=body)).json()["value"]
    secret = await secrets.find(value)
    assert secret is not None
    caller = await database_sync_to_async(admit_key_id)(secret.key_id, secret.agent)
    assert (secret.tenant, caller.tenant, caller.agent.slug) == ("alpha", "alpha", "alpha-desk")
    assert await secrets.find(value + "x") is None
    with pytest.raises(AgentUnknown):
        await database_sync_to_async(admit_key_id)(secret.key_id, "beta-desk")


def test_a_secret_dies_with_its_key(world: World) -> None:
    key, _ = issue_key(tenant=world.alpha.tenant, name="short")
    assert admit_key_id(key.public_id, None).tenant == "alpha"
    revoke_key(key=key)
    with pytest.raises(KeyRefused):
        admit_key_id(key.public_id, None)
    with pytest.raises(KeyRefused):
        admit_key_id("key_nobody", None)
    reader, _ = issue_key(tenant=world.alpha.tenant, name="reader", scopes=[Scope.SPEECH])
    with pytest.raises(KeyRefused, match="realtime"):
        admit_key_id(reader.public_id, None)
    assert ApiKey.objects.filter(pk=reader.pk).exists()
