"""API keys over REST: made once, changed, rotated with overlap, revoked; and nobody grants what they do not have."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.test import Client
from django.utils import timezone
from django_tenants.utils import schema_context
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from agents.queries import admit, find_credential
from tenants.access import AccessEnded, announce, decode
from tenants.audit.models import Entry
from tenants.keys import credential as credentials
from tenants.keys.networks import client_address, is_allowed
from tenants.keys.operations import issue_key
from tenants.keys.queries import AddressRefused, KeyExpired, KeyRevoked, credential_of, find_ended_access, find_key
from tenants.models import ApiKey, OAuthClient, Tenant, TenantStatus
from tenants.people.oauth.clients import create_client
from tenants.permissions import ROLE_SCOPES, Role, Scope
from tests.record.world import Api, World


def make(api: Api, **fields: Any) -> dict[str, Any]:
    status, answer = api("POST", "keys/", {"name": "new", "scopes": ["realtime"], **fields})
    assert status == 201, answer
    return dict(answer["data"])


def audited(tenant: str) -> list[Entry]:
    with schema_context(tenant):
        return list(Entry.objects.order_by("-seq")[:3])


@pytest.fixture
def channel(valkey_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(valkey_url) as client, client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe("avb:access:ended")
        heard.get_message(timeout=1)
        yield heard


def test_a_key_is_made_shown_once_and_opens_what_it_may(world: World, alpha_api: Api) -> None:
    made = make(alpha_api, agent="alpha-desk", allowed_networks=["192.0.2.0/24", "2001:db8::1"])
    assert made["secret"].startswith(made["prefix"])
    assert (made["status"], made["scopes"], made["agent"]) == ("active", ["realtime"], "alpha-desk")
    assert made["allowed_networks"] == ["192.0.2.0/24", "2001:db8::1/128"]
    status, answer = alpha_api("GET", f"keys/{made['id']}/")
    assert status == 200
    assert "secret" not in answer["data"]
    assert made["secret"] not in str(alpha_api("GET", "keys/"))
    assert admit(made["secret"], None).agent.slug == "alpha-desk"
    [entry, *_] = audited("alpha")
    assert (entry.action, entry.target) == ("api_key.created", made["id"])
    assert made["secret"] not in str(entry.after)
    assert entry.actor_kind == "key"


def test_the_other_tenant_sees_and_touches_none_of_it(world: World, alpha_api: Api, beta_api: Api) -> None:
    made = make(alpha_api)
    for method, path in [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "rotate/")]:
        status, _ = beta_api(method, f"keys/{made['id']}/{path}", {} if method in ("PATCH", "POST") else None)
        assert status == 404
    listed = beta_api("GET", "keys/")[1]["data"]["results"]
    assert made["id"] not in [key["id"] for key in listed]
    assert find_key(made["secret"]).revoked_at is None


@pytest.mark.parametrize("role", list(Role))
def test_people_make_keys_as_their_role_lets_them(world: World, role: Role) -> None:
    from tenants.people.operations import add_member

    member = add_member(tenant=world.alpha.tenant, email=f"{role}@alpha.localhost", role=role)
    client = Client(headers={"Host": world.alpha.host}, raise_request_exception=False)
    client.force_login(member.user)
    body = {"name": "mine", "scopes": [Scope.AUDIT_READ]}
    answer = client.post("/api/v1/keys/", body, content_type="application/json")
    # A developer makes keys, and not with what only an admin may.
    assert answer.status_code == (201 if role in (Role.OWNER, Role.ADMIN) else 403), answer.content


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"scopes": ["realtime"]}, "name"),
        ({"name": "", "scopes": ["realtime"]}, "name"),
        ({"name": "n" * 201, "scopes": ["realtime"]}, "name"),
        ({"name": "n"}, "scopes"),
        ({"name": "n", "scopes": ["fly"]}, "scopes.0"),
        ({"name": "n", "scopes": ["platform:tenants"]}, "scopes.0"),
        ({"name": "n", "scopes": ["realtime"], "agent": "No Slug"}, "agent"),
        ({"name": "n", "scopes": ["realtime"], "allowed_networks": ["10.0.0.1/8"]}, "allowed_networks"),
        ({"name": "n", "scopes": ["realtime"], "allowed_networks": ["here"]}, "allowed_networks"),
        ({"name": "n", "scopes": ["realtime"], "allowed_networks": ["10.0.0.1"] * 101}, "allowed_networks"),
        ({"name": "n", "scopes": ["realtime"], "limits": {"speed": 3}}, "limits.speed"),
        ({"name": "n", "scopes": ["realtime"], "limits": {"tokens_per_minute": -1}}, "limits.tokens_per_minute"),
        ({"name": "n", "scopes": ["realtime"], "limits": {"tokens_per_minute": 100_001}}, "limits.tokens_per_minute"),
        ({"name": "n", "scopes": ["realtime"], "expires_at": "soon"}, "expires_at"),
        ({"name": "n", "scopes": ["realtime"], "mode": "demo"}, "mode"),
        ({"name": "n", "scopes": ["realtime"], "secret": "mine"}, "secret"),
        ({"name": "n", "scopes": ["realtime"], "tenant": "beta"}, "tenant"),
    ],
)
def test_what_cannot_be_is_refused_by_name(world: World, alpha_api: Api, body: dict[str, Any], param: str) -> None:
    status, answer = alpha_api("POST", "keys/", body)
    assert status == 400
    assert str(answer["error"]["param"]).startswith(param.removesuffix(".0"))


def test_a_key_grants_no_scope_that_it_does_not_have(world: World) -> None:
    _, secret = issue_key(tenant=world.alpha.tenant, name="weak", scopes=[Scope.KEYS_WRITE, Scope.KEYS_READ])
    weak, strong = Api(secret), find_key(world.alpha.key).public_id
    assert make(weak, scopes=["keys:read"])["scopes"] == ["keys:read"]
    for method, path, body in [
        ("POST", "keys/", {"name": "more", "scopes": ["realtime"]}),
        ("POST", f"keys/{strong}/rotate/", {}),
        ("PATCH", f"keys/{find_key(secret).public_id}/", {"scopes": ["keys:write", "audit:read"]}),
    ]:
        status, answer = weak(method, path, body)
        assert (status, answer["error"]["code"]) == (403, "scope_not_held"), answer
    # What it takes away, or leaves as it is, it need not have.
    assert weak("PATCH", f"keys/{strong}/", {"name": "renamed"})[0] == 200
    assert weak("PATCH", f"keys/{strong}/", {"limits": {"requests_per_minute": 5}})[0] == 403


def test_a_change_is_seen_at_once_and_in_the_audit(world: World, alpha_api: Api) -> None:
    made = make(alpha_api)
    status, answer = alpha_api(
        "PATCH", f"keys/{made['id']}/", {"scopes": ["speech"], "limits": {"tokens_per_minute": 9}}
    )
    assert (status, answer["data"]["scopes"]) == (200, ["speech"])
    key = find_key(made["secret"])
    assert credential_of(key).allowance.effective("tokens_per_minute") == 9
    [entry, *_] = audited("alpha")
    assert (entry.action, entry.before, entry.after) == (
        "api_key.updated",
        {"scopes": ["realtime"], "limits": {}},
        {"scopes": ["speech"], "limits": {"tokens_per_minute": 9}},
    )


def test_rotation_overlaps_and_the_old_key_names_the_new_one(world: World, alpha_api: Api, settings: Settings) -> None:
    made = make(alpha_api, limits={"requests_per_minute": 50}, agent="alpha-desk")
    status, answer = alpha_api("POST", f"keys/{made['id']}/rotate/", {"overlap_hours": 2})
    assert status == 201
    fresh = answer["data"]
    assert fresh["secret"] != made["secret"]
    assert (fresh["scopes"], fresh["limits"], fresh["agent"]) == (made["scopes"], made["limits"], made["agent"])
    old = find_key(made["secret"])
    assert timedelta(hours=1.9) < old.expires_at - timezone.now() <= timedelta(hours=2)
    assert alpha_api("GET", f"keys/{made['id']}/")[1]["data"]["replaced_by"] == fresh["id"]
    assert alpha_api("POST", f"keys/{made['id']}/rotate/", {})[1]["error"]["code"] == "api_key_ended"
    assert alpha_api("PATCH", f"keys/{made['id']}/", {"expires_at": None})[0] == 400
    ApiKey.objects.filter(pk=old.pk).update(expires_at=timezone.now())
    with pytest.raises(KeyExpired):
        find_key(made["secret"])
    assert find_key(fresh["secret"]).expires_at is None


def test_rotation_without_overlap_ends_the_old_key_at_once(
    world: World, alpha_api: Api, channel: Any, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    made = make(alpha_api)
    with django_capture_on_commit_callbacks(execute=True):
        assert alpha_api("POST", f"keys/{made['id']}/rotate/", {"overlap_hours": 0})[0] == 201
    with pytest.raises(KeyRevoked):
        find_key(made["secret"])
    told = decode(channel.get_message(timeout=2)["data"])
    assert told == AccessEnded(tenant="alpha", key_id=made["id"], reason="api_key_revoked")


def test_revocation_forgets_the_key_and_tells_every_gateway(
    world: World,
    alpha_api: Api,
    channel: Any,
    valkey_url: str,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    made = make(alpha_api)
    known = find_credential(made["secret"], "192.0.2.1")
    place = credentials.credential_key(known.secret_hash)
    with redis.Redis.from_url(valkey_url) as client:
        client.set(place, credentials.encode(known))
        assert credentials.decode(client.get(place), known.secret_hash) == known
        with django_capture_on_commit_callbacks(execute=True):
            assert alpha_api("DELETE", f"keys/{made['id']}/")[0] == 204
        assert client.get(place) == b""
        # Whoever read the row a moment before the change cannot bring it back.
        assert client.set(place, credentials.encode(known), nx=True) is None
    assert decode(channel.get_message(timeout=2)["data"]).key_id == made["id"]
    assert alpha_api("GET", f"keys/{made['id']}/")[1]["data"]["status"] == "revoked"
    assert Api(made["secret"])("GET", "agents/")[1]["error"]["code"] == "api_key_revoked"
    assert audited("alpha")[0].action == "api_key.revoked"
    assert [key["id"] for key in alpha_api("GET", "keys/?status=revoked")[1]["data"]["results"]] == [made["id"]]


def test_what_ends_stays_ended_while_redis_is_away(
    world: World, settings: Settings, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    from tenants.keys.operations import revoke_key

    key, secret = issue_key(tenant=world.alpha.tenant, name="lost")
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    with django_capture_on_commit_callbacks(execute=True):
        revoke_key(key=key)
    with pytest.raises(KeyRevoked):
        find_key(secret)
    assert find_ended_access({("key", "alpha", key.public_id, "realtime")}) == [
        AccessEnded(tenant="alpha", key_id=key.public_id, reason="api_key_revoked")
    ]


def test_those_inside_are_looked_up_by_what_holds_now(world: World, django_assert_num_queries: Any) -> None:
    live, _ = issue_key(tenant=world.alpha.tenant, name="live")
    over, _ = issue_key(tenant=world.alpha.tenant, name="over", expires_at=timezone.now())
    other, _ = issue_key(tenant=world.beta.tenant, name="other")
    Tenant.objects.filter(pk=world.beta.tenant.pk).update(status=TenantStatus.SUSPENDED)
    inside = {
        ("key", "alpha", live.public_id, "realtime"), ("key", "alpha", over.public_id, ""),
        ("key", "beta", other.public_id, ""), ("key", "beta", live.public_id, ""), ("key", "alpha", "key_gone", ""),
    }  # fmt: skip
    ended = find_ended_access(inside)
    assert {(one.tenant, one.key_id, one.reason) for one in ended} == {
        ("alpha", over.public_id, "api_key_expired"),
        ("beta", "", "tenant_suspended"),
        ("beta", live.public_id, "api_key_revoked"),
        ("alpha", "key_gone", "api_key_revoked"),
    }


def test_those_inside_leave_when_their_key_has_lost_what_they_came_in_with(world: World) -> None:
    key, _ = issue_key(tenant=world.alpha.tenant, name="both", scopes=[Scope.REALTIME, Scope.SPEECH])
    client, _ = create_client(
        tenant=world.alpha.tenant, name="both", scopes=[Scope.REALTIME, Scope.SPEECH], held=ROLE_SCOPES[Role.OWNER]
    )
    who = [("key", "alpha", key.public_id), ("client", "alpha", client.client_id)]
    calls, streams = [{(*one, scope) for one in who} for scope in (Scope.REALTIME, Scope.SPEECH)]
    assert find_ended_access(calls | streams) == []
    ApiKey.objects.filter(pk=key.pk).update(scopes=[Scope.SPEECH])
    OAuthClient.objects.filter(pk=client.pk).update(scopes=[Scope.SPEECH])
    assert {(one.key_id, one.reason) for one in find_ended_access(calls)} == {
        (key.public_id, "api_key_revoked"),
        (client.client_id, "oauth_client_revoked"),
    }
    assert find_ended_access(streams) == []


def test_suspending_a_tenant_forgets_all_its_keys_and_no_others(
    world: World, valkey_url: str, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    places = [credentials.credential_key(find_key(secret).secret_hash) for secret in (world.alpha.key, world.beta.key)]
    with redis.Redis.from_url(valkey_url) as client:
        client.mset(dict.fromkeys(places, b"kept"))
        with django_capture_on_commit_callbacks(execute=True):
            announce(AccessEnded(tenant="alpha", reason="tenant_suspended"))
        assert client.mget(places) == [b"", b"kept"]


def test_a_key_opens_from_its_networks_only(world: World, settings: Settings) -> None:
    _, secret = issue_key(tenant=world.alpha.tenant, name="office", allowed_networks=["192.0.2.0/24"])

    def ask(peer: str, forwarded_for: str = "") -> Any:
        headers = {"Authorization": f"Bearer {secret}"} | ({"X-Forwarded-For": forwarded_for} if forwarded_for else {})
        return Client(headers=headers, REMOTE_ADDR=peer).get("/api/v1/agents/")

    assert ask("192.0.2.9").status_code == 200
    refused = ask("198.51.100.1")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "ip_not_allowed")
    assert ask("198.51.100.1", "192.0.2.9").status_code == 403, "anybody can write X-Forwarded-For"
    settings.TRUSTED_PROXIES = ["198.51.100.0/24"]
    assert ask("198.51.100.1", "192.0.2.9").status_code == 200
    assert ask("198.51.100.1", "192.0.2.9, 203.0.113.5").status_code == 403, "what stands before is the caller's own"
    with pytest.raises(AddressRefused):
        find_credential(secret, "").require(None, "203.0.113.5")


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "address"),
    [
        ("192.0.2.1", "", [], "192.0.2.1"),
        ("192.0.2.1", "203.0.113.9", [], "192.0.2.1"),
        ("192.0.2.1", "203.0.113.9", ["192.0.2.0/24"], "203.0.113.9"),
        ("192.0.2.1", "1.2.3.4, 203.0.113.9", ["192.0.2.0/24"], "203.0.113.9"),
        ("192.0.2.1", "203.0.113.9, 192.0.2.8", ["192.0.2.0/24"], "203.0.113.9"),
        ("192.0.2.1", "nonsense", ["192.0.2.0/24"], "192.0.2.1"),
        ("192.0.2.1", "203.0.113.9, nonsense", ["192.0.2.0/24"], "192.0.2.1"),
        ("::ffff:192.0.2.1", "", [], "192.0.2.1"),
        ("2001:db8::5", "2001:db8::7", ["2001:db8::5"], "2001:db8::7"),
        ("", "203.0.113.9", ["192.0.2.0/24"], ""),
        ("unix", "203.0.113.9", ["192.0.2.0/24"], ""),
    ],
)
def test_only_trusted_proxies_say_where_a_caller_is(
    peer: str, forwarded: str, trusted: list[str], address: str
) -> None:
    assert client_address(peer, forwarded, trusted) == address


@pytest.mark.parametrize(
    ("address", "networks", "allowed"),
    [
        ("192.0.2.1", [], True), ("192.0.2.1", ["192.0.2.1/32"], True), ("192.0.2.2", ["192.0.2.1/32"], False),
        ("::ffff:192.0.2.1", ["192.0.2.0/24"], True), ("2001:db8::1", ["2001:db8::/32"], True),
        ("2001:db9::1", ["2001:db8::/32", "192.0.2.0/24"], False), ("", ["0.0.0.0/0"], False),
        ("nonsense", ["0.0.0.0/0", "::/0"], False),
    ],
)  # fmt: skip
def test_an_address_is_in_its_network_or_refused(address: str, networks: list[str], allowed: bool) -> None:
    assert is_allowed(address, networks) is allowed


def test_a_key_from_a_new_address_is_in_the_audit_once(world: World) -> None:
    client = Client(headers={"Authorization": f"Bearer {world.alpha.key}"})
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        assert client.get("/api/v1/agents/", REMOTE_ADDR=address).status_code == 200
    with schema_context("alpha"):
        used = list(Entry.objects.filter(action="api_key.used").order_by("seq"))
    assert [entry.address for entry in used[-2:]] == ["192.0.2.1", "192.0.2.2"]


def test_a_tenant_has_so_many_keys(world: World, alpha_api: Api, settings: Settings) -> None:
    settings.API_KEYS_PER_TENANT = ApiKey.objects.filter(tenant=world.alpha.tenant, revoked_at=None).count()
    status, answer = alpha_api("POST", "keys/", {"name": "one more", "scopes": ["realtime"]})
    assert (status, answer["error"]["code"]) == (400, "too_many_keys")


def test_what_lies_in_redis_opens_for_its_own_secret_only(world: World) -> None:
    known = find_credential(world.alpha.key, "")
    kept = credentials.encode(known)
    assert credentials.decode(kept, known.secret_hash) == known
    assert credentials.decode(kept, "0" * 64) is None
    assert credentials.decode(b"\xff", known.secret_hash) is None
