"""Nobody gets by a detour what they do not have: by a key that they make or change, or by a person that they invite."""

from datetime import timedelta
from typing import Any

import pytest
import redis
from django.utils import timezone

from tenants.ended import CHANNEL, AccessEnded, decode
from tenants.keys.operations import issue_key
from tenants.models import ApiKey, Invitation, Membership
from tenants.permissions import ROLE_SCOPES, Role, Scope
from tests.record.people import commits
from tests.record.world import Api, World

__all__ = ["commits"]
pytestmark = pytest.mark.usefixtures("commits")


def key_of(world: World, **fields: Any) -> tuple[ApiKey, Api]:
    key, secret = issue_key(tenant=world.alpha.tenant, **({"name": "k", "scopes": [Scope.KEYS_WRITE]} | fields))
    return key, Api(secret)


@pytest.mark.parametrize("role", [Role.ADMIN, Role.DEVELOPER])
def test_a_key_makes_nobody_more_than_it_is_itself(world: World, role: Role) -> None:
    _, api = key_of(world, scopes=[Scope.MEMBERS_READ, Scope.MEMBERS_WRITE])
    status, answer = api("POST", "invitations/", {"email": "mallory@elsewhere.localhost", "role": role})
    assert (status, answer["error"]["code"]) == (403, "scope_not_held")
    assert not Invitation.objects.filter(email="mallory@elsewhere.localhost").exists()
    status, answer = api("PATCH", f"members/{world.alpha.member.pk}/", {"role": role})
    assert (status, answer["error"]["code"]) == (403, "scope_not_held")
    assert Membership.objects.get(user=world.alpha.member, tenant=world.alpha.tenant).role == Role.VIEWER


def test_a_key_does_not_send_an_invitation_again_that_it_could_not_make(world: World, alpha_api: Api) -> None:
    _, answer = alpha_api("POST", "invitations/", {"email": "mallory@elsewhere.localhost", "role": Role.ADMIN})
    _, api = key_of(world, scopes=[Scope.MEMBERS_WRITE])
    status, answer = api("POST", f"invitations/{answer['data']['id']}/resend/", {})
    assert (status, answer["error"]["code"]) == (403, "scope_not_held")


def test_a_key_with_all_of_a_roles_scopes_gives_the_role(world: World) -> None:
    _, api = key_of(world, scopes=ROLE_SCOPES[Role.ADMIN])
    assert api("POST", "invitations/", {"email": "ada@elsewhere.localhost", "role": Role.ADMIN})[0] == 201
    assert api("PATCH", f"members/{world.alpha.member.pk}/", {"role": Role.DEVELOPER})[0] == 200


BOUND: dict[str, Any] = {
    "allowed_networks": ["127.0.0.0/8"],
    "limits": {"requests_per_minute": 50},
    "expires_at": timezone.now() + timedelta(days=1),
}


@pytest.mark.parametrize(
    ("bound", "wider"),
    [
        ("allowed_networks", []),
        ("allowed_networks", ["0.0.0.0/0"]),
        ("allowed_networks", ["127.0.0.0/8", "192.0.2.1"]),
        ("limits", {}),
        ("limits", {"requests_per_minute": 51}),
        ("limits", {"tokens_per_minute": 1}),
        ("expires_at", None),
        ("expires_at", "2099-01-01T00:00:00Z"),
    ],
)
def test_a_key_that_is_bound_neither_frees_itself_nor_makes_a_freer_one(world: World, bound: str, wider: Any) -> None:
    scopes = [Scope.KEYS_WRITE, Scope.KEYS_READ, Scope.LIMITS_WRITE]
    key, api = key_of(world, scopes=scopes, **{bound: BOUND[bound]})
    before = getattr(key, bound)
    status, answer = api("PATCH", f"keys/{key.public_id}/", {bound: wider})
    assert (status, answer["error"]["code"]) == (403, "key_bound")
    status, answer = api("POST", "keys/", {"name": "freer", "scopes": [Scope.KEYS_READ], bound: wider})
    assert (status, answer["error"]["code"]) == (403, "key_bound")
    status, answer = api("POST", "oauth-clients/", {"name": "freer", "scopes": [Scope.KEYS_READ]})
    assert (status, answer["error"]["code"]) == (403, "key_bound")
    key.refresh_from_db()
    assert getattr(key, bound) == before
    assert not ApiKey.objects.filter(name="freer").exists()


def test_a_key_that_is_bound_makes_keys_that_are_bound_as_tightly(world: World) -> None:
    scopes = [Scope.KEYS_WRITE, Scope.LIMITS_WRITE]
    _, api = key_of(world, scopes=scopes, **BOUND)
    body = {
        "name": "child", "scopes": [Scope.KEYS_WRITE], "allowed_networks": ["127.0.0.1"],
        "limits": {"requests_per_minute": 50, "tokens_per_minute": 5},
        "expires_at": (timezone.now() + timedelta(hours=1)).isoformat(),
    }  # fmt: skip
    status, answer = api("POST", "keys/", body)
    assert status == 201, answer


@pytest.mark.parametrize("change", [{"allowed_networks": []}, {"expires_at": None}, {"limits": {}}])
def test_who_holds_less_than_a_key_does_not_loosen_it(world: World, change: dict[str, Any]) -> None:
    stronger, _ = key_of(
        world,
        scopes=[Scope.AUDIT_READ],
        allowed_networks=["192.0.2.1"],
        limits={"requests_per_minute": 5},
        expires_at=timezone.now() - timedelta(days=1),
    )
    _, api = key_of(world, scopes=[Scope.KEYS_WRITE, Scope.LIMITS_WRITE])
    status, answer = api("PATCH", f"keys/{stronger.public_id}/", change)
    assert (status, answer["error"]["code"]) == (403, "scope_not_held")
    status, _ = api("PATCH", f"keys/{stronger.public_id}/", {"name": "known", "scopes": []})
    assert status == 200, "to take away needs nothing"


def test_a_key_that_loses_the_scope_for_calls_ends_its_calls(world: World, alpha_api: Api, valkey_url: str) -> None:
    key, _ = key_of(world, scopes=[Scope.REALTIME, Scope.SPEECH])
    with redis.Redis.from_url(valkey_url) as client, client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(CHANNEL)
        heard.get_message(timeout=1)
        assert alpha_api("PATCH", f"keys/{key.public_id}/", {"scopes": [Scope.SPEECH]})[0] == 200
        told = heard.get_message(timeout=2) or heard.get_message(timeout=2)
    assert told is not None
    assert decode(told["data"]) == AccessEnded(tenant="alpha", key_id=key.public_id, reason="api_key_revoked")
