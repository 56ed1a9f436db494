"""A refusal for want of a scope says whose scopes those are."""

import pytest

from tenants.keys.operations import issue_key
from tenants.lifecycle.platform_keys import issue_platform_key
from tenants.people.oauth.clients import create_client
from tenants.people.oauth.tokens import issue_token
from tenants.permissions import Scope
from tests.record.people import Person, commits
from tests.record.world import Api, World

__all__ = ["commits"]
pytestmark = pytest.mark.usefixtures("commits")
BODY = {"slug": "x", "name": "X"}


def words_of(answer: tuple[int, dict]) -> str:
    status, body = answer
    assert (status, body["error"]["code"]) == (403, "insufficient_scope")
    return body["error"]["message"]


def test_an_api_key(world: World) -> None:
    _, secret = issue_key(tenant=world.alpha.tenant, name="reader", scopes=[Scope.AGENTS_READ])
    assert words_of(Api(secret)("POST", "agents/", BODY)) == "The API key lacks the scope 'agents:write'."


def test_an_oauth_client(world: World) -> None:
    client, _ = create_client(tenant=world.alpha.tenant, name="crm", scopes=[Scope.AGENTS_READ, Scope.AGENTS_WRITE])
    token = issue_token(client, [Scope.AGENTS_READ])
    words = words_of(Api(token)("POST", "agents/", BODY))
    assert words == "The OAuth client's token lacks the scope 'agents:write'."


def test_a_person(world: World) -> None:
    words = words_of(Person(world.alpha.member, world.alpha.host).api("POST", "agents/", BODY))
    assert words == "Your role in this tenant lacks the scope 'agents:write'."


def test_an_operator_and_a_platform_key(world: World) -> None:
    words = words_of(Person(world.operator).api("POST", "agents/", BODY))
    assert words == "This platform operator lacks the scope 'agents:write'."
    _, secret = issue_platform_key(name="plans", scopes=[Scope.PLATFORM_PLANS])
    words = words_of(Api(secret)("POST", "tenants/", BODY))
    assert words == "This platform operator lacks the scope 'platform:tenants'."
