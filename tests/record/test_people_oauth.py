"""OAuth clients and their access tokens: made, fetched, used, rotated, revoked; and every way in which one is wrong."""

import base64
import json
import time
from datetime import timedelta
from typing import Any

import jwt
import pytest
import redis
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_tenants.utils import tenant_context

from tenants.audit.models import Entry
from tenants.ended import CHANNEL, decode
from tenants.keys.refusals import KeyRefused, TenantSuspended
from tenants.models import OAuthClient, SigningKey, TenantStatus
from tenants.people.oauth import signing
from tenants.people.oauth.clients import create_client, revoke_client
from tenants.people.oauth.tokens import (
    ClientRevoked,
    InvalidToken,
    TokenExpired,
    find_client_principal,
    issue_token,
)
from tenants.people.operations import add_member
from tenants.permissions import Role, Scope
from tests.record.people import Person, commits
from tests.record.world import Api, House, World

__all__ = ["commits"]
pytestmark = pytest.mark.usefixtures("commits")
BOTH = [Scope.AGENTS_READ.value, Scope.MEMBERS_READ.value]


def make(house: House, scopes: list[str] | None = None) -> tuple[OAuthClient, str]:
    return create_client(tenant=house.tenant, name="crm", scopes=scopes or BOTH)


def ask(client_id: str, secret: str, **form: str) -> tuple[int, Any, Any]:
    """The status, the parsed answer and the headers of the token endpoint, asked by HTTP Basic."""
    basic = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    fields = {"grant_type": "client_credentials"} | form
    response = Client(headers={"Authorization": f"Basic {basic}"}).post("/oauth/token", fields_of(fields), FORM)
    return response.status_code, response.json(), response.headers


FORM = "application/x-www-form-urlencoded"


def fields_of(fields: dict[str, str]) -> str:
    from urllib.parse import urlencode

    return urlencode(fields)


def test_a_client_fetches_a_token_and_reads_its_tenant(world: World) -> None:
    for house in (world.alpha, world.beta):
        client, secret = make(house)
        status, answer, headers = ask(client.client_id, secret)
        assert (status, answer["token_type"], answer["expires_in"]) == (200, "Bearer", 3600)
        assert answer["scope"].split() == BOTH
        assert headers["Cache-Control"] == "no-store"
        api = Api(answer["access_token"])
        assert [agent["slug"] for agent in api("GET", "agents/")[1]["data"]["results"]] == [house.agent]
        assert api("POST", "agents/", {"slug": "x", "name": "X"})[0] == 403
        me = api("GET", "me/")[1]["data"]
        assert (me["kind"], me["id"], me["tenant"]) == ("client", client.client_id, house.tenant.slug)
        client.refresh_from_db()
        assert client.last_used_at


def test_the_secret_may_come_in_the_form_and_scopes_may_be_fewer(world: World) -> None:
    client, secret = make(world.alpha)
    form = {"grant_type": "client_credentials", "client_id": client.client_id, "client_secret": secret}
    answer = Client().post("/oauth/token", fields_of(form | {"scope": "agents:read"}), FORM).json()
    assert answer["scope"] == "agents:read"
    assert Api(answer["access_token"])("GET", "members/")[0] == 403


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"grant_type": ""}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, 400, "unsupported_grant_type"),
        ({"scope": "agents:write"}, 400, "invalid_scope"),
        ({"scope": "platform:tenants"}, 400, "invalid_scope"),
        ({"scope": "agents:read nonsense"}, 400, "invalid_scope"),
        ({"client_secret": "twice"}, 400, "invalid_request"),
    ],
)
def test_errors_are_those_of_rfc_6749(world: World, form: dict[str, str], status: int, error: str) -> None:
    client, secret = make(world.alpha)
    answered, answer, headers = ask(client.client_id, secret, **form)
    assert (answered, answer["error"]) == (status, error)
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"nocolon").decode(),
        "Bearer x",
        "Basic " + "eDp5" * 2000,
        "Basic /w==",
    ],
)
def test_who_proves_nothing_is_no_client(world: World, header: str) -> None:
    response = Client(headers={"Authorization": header}).post("/oauth/token", "grant_type=client_credentials", FORM)
    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")
    assert response["WWW-Authenticate"].startswith("Basic")


def test_wrong_secrets_and_strangers_are_refused_alike(world: World) -> None:
    client, secret = make(world.alpha)
    other, other_secret = make(world.beta)
    refused = [
        ask(client.client_id, secret + "x"), ask("client_nobody", secret), ask(client.client_id, other_secret),
        ask("", secret), ask(client.client_id, ""), ask("\0", "\0"),
    ]  # fmt: skip
    assert [(status, answer) for status, answer, _ in refused] == [(401, {"error": "invalid_client"})] * 6
    assert other.client_id != client.client_id


def test_only_a_form_by_post_is_taken(world: World) -> None:
    assert Client().get("/oauth/token").status_code == 405
    assert Client().get("/oauth/token")["Allow"] == "POST"
    assert Client().post("/oauth/token", {"grant_type": "x"}, "application/json").json()["error"] == "invalid_request"
    client, secret = make(world.alpha)
    form = fields_of({"grant_type": "client_credentials", "client_id": client.client_id, "client_secret": secret})
    assert Client().post("/oauth/token?scope=agents:read", form, FORM).json()["error"] == "invalid_request"
    twice = Client().post("/oauth/token", form + "&grant_type=client_credentials", FORM)
    assert twice.json()["error"] == "invalid_request"


# --- tokens ---


def test_a_token_is_a_signed_jwt_that_anybody_can_check(world: World) -> None:
    client, _ = make(world.alpha)
    token = issue_token(client, BOTH)
    header = jwt.get_unverified_header(token)
    keys = Client().get("/.well-known/jwks.json").json()["keys"]
    assert [key["kid"] for key in keys] == [header["kid"]]
    assert (header["typ"], header["alg"], keys[0]["kty"]) == ("at+jwt", "ES256", "EC")
    assert "d" not in keys[0]
    claims = jwt.decode(token, jwt.PyJWK(keys[0]).key, algorithms=["ES256"], audience="agentvoicebox")
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["client_id"] == claims["sub"] == client.client_id


def test_the_private_key_lies_sealed(world: World) -> None:
    issue_token(make(world.alpha)[0], BOTH)
    with connection.cursor() as cursor:
        cursor.execute("SELECT encode(sealed_private_key, 'escape') FROM tenants_signingkey")
        assert "PRIVATE KEY" not in cursor.fetchone()[0]


def tampered(world: World) -> dict[str, str]:
    client, _ = make(world.alpha)
    good = issue_token(client, BOTH)
    head, body, signature = good.split(".")
    kid, key = signing.signing_key()
    claims = jwt.decode(good, options={"verify_signature": False})
    stranger = ec.generate_private_key(ec.SECP256R1())
    public_pem = "public key as a secret, 32 bytes or more"

    def sign(change: dict[str, Any], using: Any = key, algorithm: str = "ES256", **header: Any) -> str:
        payload = {name: value for name, value in (claims | change).items() if value is not None}
        return jwt.encode(payload, using, algorithm=algorithm, headers={"kid": kid, "typ": "at+jwt"} | header)

    def unsigned(header: dict[str, Any]) -> str:
        encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        return f"{encoded}.{body}."

    return {
        "cut": good[:-4], "no signature": f"{head}.{body}.", "another's signature": f"{head}.{body}.{signature[::-1]}",
        "alg none": unsigned({"alg": "none", "typ": "at+jwt", "kid": kid}),
        "symmetric": sign({}, public_pem, "HS256"), "stranger's key": sign({}, stranger),
        "unknown key": sign({}, stranger, kid="nobody"), "another type": sign({}, typ="JWT"),
        "another audience": sign({"aud": "other"}), "another issuer": sign({"iss": "other"}),
        "no expiry": sign({"exp": None}), "no client": sign({"client_id": None}),
        "another subject": sign({"sub": "client_other"}), "unknown client": sign({"sub": "c", "client_id": "c"}),
        "not yet": sign({"iat": int(time.time()) + 3600, "nbf": int(time.time()) + 3600}),
        "long": good + "a" * 5000, "nonsense": "ey.ey.ey", "dots": "ey..", "number in the header": unsigned({"kid": 5}),
    }  # fmt: skip


def test_a_token_that_is_wrong_in_any_way_opens_nothing(world: World) -> None:
    for name, token in tampered(world).items():
        with pytest.raises(InvalidToken):
            find_client_principal(token)
        status, answer = Api(token)("GET", "agents/")
        assert (status, answer["error"]["code"]) == (401, "invalid_token"), name


def test_an_expired_token_says_so(world: World, settings) -> None:
    settings.OAUTH_TOKEN_S = -1
    token = issue_token(make(world.alpha)[0], BOTH)
    with pytest.raises(TokenExpired):
        find_client_principal(token)
    assert Api(token)("GET", "agents/")[1]["error"]["code"] == "token_expired"


def test_a_principal_names_client_tenant_scopes_and_address(world: World) -> None:
    client, _ = make(world.alpha)
    principal = find_client_principal(issue_token(client, BOTH), "192.0.2.7")
    assert (principal.kind, principal.id, principal.tenant) == ("client", client.client_id, "alpha")
    assert (principal.scopes, principal.address) == (frozenset(BOTH), "192.0.2.7")
    assert KeyRefused in InvalidToken.__mro__


def test_a_suspended_tenants_clients_open_nothing(world: World) -> None:
    client, secret = make(world.alpha)
    token = issue_token(client, BOTH)
    world.alpha.tenant.status = TenantStatus.SUSPENDED
    world.alpha.tenant.save()
    try:
        with pytest.raises(TenantSuspended):
            find_client_principal(token)
        assert ask(client.client_id, secret)[0] == 401
        assert Api(token)("GET", "agents/")[0] in (401, 403)
    finally:
        world.alpha.tenant.status = TenantStatus.ACTIVE


# --- keys that sign ---


def test_a_rotated_key_proves_its_tokens_until_they_expire(world: World) -> None:
    client, _ = make(world.alpha)
    old = issue_token(client, BOTH)
    signing.rotate_signing_key()
    new = issue_token(client, BOTH)
    assert jwt.get_unverified_header(old)["kid"] != jwt.get_unverified_header(new)["kid"]
    assert [find_client_principal(token).id for token in (old, new)] == [client.client_id] * 2
    assert len(Client().get("/.well-known/jwks.json").json()["keys"]) == 2
    SigningKey.objects.exclude(expires_at=None).update(expires_at=timezone.now())
    with pytest.raises(InvalidToken):
        find_client_principal(old)
    signing.rotate_signing_key()
    assert SigningKey.objects.count() == 2


def test_housekeeping_rotates_a_key_that_is_old_enough(world: World, settings) -> None:
    assert not signing.rotate_old_signing_key()
    kid, _ = signing.signing_key()
    assert not signing.rotate_old_signing_key()
    SigningKey.objects.update(created_at=timezone.now() - timedelta(days=settings.OAUTH_KEY_DAYS, seconds=1))
    assert signing.rotate_old_signing_key()
    assert signing.signing_key()[0] != kid


# --- clients ---


def test_a_developer_makes_lists_changes_rotates_and_revokes_clients(world: World) -> None:
    user = add_member(tenant=world.alpha.tenant, email="dev@alpha.localhost", role=Role.DEVELOPER).user
    person = Person(user, world.alpha.host)
    status, answer = person.api("POST", "oauth-clients/", {"name": "crm", "scopes": BOTH})
    made = answer["data"]
    assert status == 201
    assert made["client_secret"].startswith("avb_client_")
    assert not OAuthClient.objects.filter(secret_hash=made["client_secret"]).exists()
    path = f"oauth-clients/{made['client_id']}/"
    assert "client_secret" not in person.api("GET", path)[1]["data"]
    assert len(person.api("GET", "oauth-clients/")[1]["data"]["results"]) == 1
    token = ask(made["client_id"], made["client_secret"])[1]["access_token"]
    assert person.api("PATCH", path, {"scopes": ["agents:read"]})[1]["data"]["scopes"] == ["agents:read"]
    assert Api(token)("GET", "members/")[0] == 403, "tokens that are out lose it too"
    status, answer = person.api("POST", path + "rotate/", {"overlap_s": 600})
    rotated = answer["data"]["client_secret"]
    assert [ask(made["client_id"], secret)[0] for secret in (made["client_secret"], rotated)] == [200, 200]
    OAuthClient.objects.update(previous_expires_at=timezone.now())
    assert [ask(made["client_id"], secret)[0] for secret in (made["client_secret"], rotated)] == [401, 200]
    person.api("POST", path + "rotate/", {})
    assert ask(made["client_id"], rotated)[0] == 401
    assert person.api("DELETE", path)[0] == 204
    assert Api(token)("GET", "agents/")[1]["error"]["code"] == "oauth_client_revoked"
    assert person.api("PATCH", path, {"name": "x"})[0] == 409
    with tenant_context(world.alpha.tenant):
        acts = list(Entry.objects.filter(target=made["client_id"]).order_by("seq").values_list("action", flat=True))
    assert acts == [f"oauth_client.{did}" for did in ("created", "updated", "rotated", "rotated", "revoked")]
    assert made["client_secret"] not in str(list(Entry.objects.values()))


def test_others_neither_see_nor_touch_a_client(world: World) -> None:
    client, _ = make(world.alpha)
    path = f"oauth-clients/{client.client_id}/"
    beta = Person(world.beta.owner, world.beta.host)
    for method, where, body in (
        ("GET", path, None), ("PATCH", path, {"name": "x"}), ("DELETE", path, None), ("POST", path + "rotate/", {}),
    ):  # fmt: skip
        assert beta.api(method, where, body)[0] == 404
        assert Person(world.alpha.member, world.alpha.host).api(method, where, body)[0] == 403
        assert Person(world.outsider, world.alpha.host).api(method, where, body)[0] == 403


def test_nobody_gives_scopes_that_they_do_not_hold(world: World) -> None:
    user = add_member(tenant=world.alpha.tenant, email="dev@alpha.localhost", role=Role.DEVELOPER).user
    person = Person(user, world.alpha.host)
    strong, _ = make(world.alpha, [Scope.SSO_WRITE.value])
    weak, _ = make(world.alpha)
    for method, path, body in (
        ("POST", "oauth-clients/", {"name": "x", "scopes": ["sso:write"]}),
        ("PATCH", f"oauth-clients/{weak.client_id}/", {"scopes": ["members:write"]}),
        ("POST", f"oauth-clients/{strong.client_id}/rotate/", {}),
    ):
        status, answer = person.api(method, path, body)
        assert (status, answer["error"]["param"]) == (403, "scopes"), path


def test_a_tenant_has_a_bounded_number_of_clients(world: World, settings) -> None:
    settings.OAUTH_CLIENTS = 1
    client, _ = make(world.alpha)
    owner = Person(world.alpha.owner, world.alpha.host)
    assert owner.api("POST", "oauth-clients/", {"name": "two", "scopes": BOTH})[0] == 409
    revoke_client(client=client)
    assert owner.api("POST", "oauth-clients/", {"name": "two", "scopes": BOTH})[0] == 201


def test_a_revoked_client_is_announced_to_the_gateways(world: World, valkey_url: str) -> None:
    client, _ = make(world.alpha)
    token = issue_token(client, BOTH)
    with redis.Redis.from_url(valkey_url) as listener, listener.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(CHANNEL)
        heard.get_message(timeout=1)
        begun = time.monotonic()
        revoke_client(client=client)
        message = heard.get_message(timeout=1)
        while message is None and time.monotonic() - begun < 1:
            message = heard.get_message(timeout=0.1)
    ended = decode(message["data"])
    assert (ended.tenant, ended.key_id, ended.reason) == ("alpha", client.client_id, "oauth_client_revoked")
    with pytest.raises(ClientRevoked):
        find_client_principal(token)


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "oauth-clients/", {}, "name"),
        ("POST", "oauth-clients/", {"name": "", "scopes": BOTH}, "name"),
        ("POST", "oauth-clients/", {"name": "x" * 201, "scopes": BOTH}, "name"),
        ("POST", "oauth-clients/", {"name": "a\0b", "scopes": BOTH}, "name"),
        ("POST", "oauth-clients/", {"name": "x"}, "scopes"),
        ("POST", "oauth-clients/", {"name": "x", "scopes": []}, "scopes"),
        ("POST", "oauth-clients/", {"name": "x", "scopes": "agents:read"}, "scopes"),
        ("POST", "oauth-clients/", {"name": "x", "scopes": [5]}, "scopes"),
        ("POST", "oauth-clients/", {"name": "x", "scopes": BOTH, "client_id": "mine"}, "client_id"),
        ("POST", "oauth-clients/{id}/rotate/", {"overlap_s": -1}, "overlap_s"),
        ("POST", "oauth-clients/{id}/rotate/", {"overlap_s": 86_401}, "overlap_s"),
        ("POST", "oauth-clients/{id}/rotate/", {"overlap_s": "soon"}, "overlap_s"),
        ("PATCH", "oauth-clients/{id}/", {"scopes": []}, "scopes"),
        ("PATCH", "oauth-clients/{id}/", {"secret_hash": "x"}, "secret_hash"),
    ],
)
def test_wrong_input_is_named(world: World, method: str, path: str, body: object, param: str) -> None:
    client, _ = make(world.alpha)
    status, answer = Person(world.alpha.owner, world.alpha.host).api(method, path.format(id=client.client_id), body)
    assert (status, answer["error"]["param"].split(".")[0]) in ((400, param), (403, param)), answer
