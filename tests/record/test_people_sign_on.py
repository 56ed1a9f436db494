"""Single sign-on: a tenant's own provider opens the tenant, and nothing else, whatever it says.

The provider is scripted (``identity_provider``): it speaks OpenID Connect for real and vouches for anybody, as a
hostile one would.
"""

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
import requests
from allauth.socialaccount.models import SocialAccount
from django.db import connection
from django_tenants.utils import tenant_context

from tenants.audit.models import Entry
from tenants.models import EmailDomain, Membership, SingleSignOn, TenantStatus, User
from tenants.people import invitations, sign_on
from tenants.people.connecting import PublicSession
from tenants.people.operations import add_member
from tenants.permissions import Role
from tests.record.identity_provider import IdentityProvider, NameServer
from tests.record.people import PLATFORM, Person, commits
from tests.record.world import PASSWORD, Api, House, World

__all__ = ["commits"]
pytestmark = pytest.mark.usefixtures("commits")


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()
    yield provider
    provider.close()


@pytest.fixture
def names(settings) -> Iterator[NameServer]:
    server = NameServer()
    settings.SSO_DNS_SERVERS = [server.address]
    yield server
    server.close()


def connect(house: House, provider: IdentityProvider, domain: str = "", **changes: Any) -> SingleSignOn:
    """The house signs on by the provider, its domain proven."""
    domain = domain or f"{house.tenant.slug}.example"
    sign_on.accept_domain(domain=sign_on.add_domain(tenant=house.tenant, domain=domain), by="operator")
    return sign_on.configure(
        tenant=house.tenant, issuer=provider.issuer, client_id=provider.CLIENT_ID,
        client_secret=provider.CLIENT_SECRET, **({"default_role": "viewer", "required": False} | changes),
    )  # fmt: skip


def come(house: House, provider: IdentityProvider, host: str = "", **claims: Any) -> tuple[Person, Any]:
    """Somebody whom the provider vouches for, and the last page that they see."""
    provider.claims = {"sub": "1", "email_verified": True} | claims
    person = Person(None, host or house.host)
    page = person.post(f"/accounts/sso/{house.tenant.slug}/")
    assert page.status_code == 200, page.content.decode()
    onward = unescape(re.search(r'content="0; url=([^"]+)"', page.content.decode())[1])  # type: ignore[index]
    back = provider.sign_in(onward)
    return person, person.client.get(back[back.index("/accounts/") :])


def me(person: Person) -> dict[str, Any]:
    status, answer = person.api("GET", "me/")
    return answer["data"] if status == 200 else {"status": status}


def test_somebody_new_comes_and_belongs_with_the_default_role(world: World, provider: IdentityProvider) -> None:
    connect(world.alpha, provider, default_role="support")
    person, page = come(world.alpha, provider, email="Ada@Alpha.example", name="Ada")
    assert (page.status_code, page["Location"]) == (302, "/accounts/")
    told = me(person)
    assert (told["email"], told["name"], told["tenant"], told["role"]) == (
        "ada@alpha.example",
        "Ada",
        "alpha",
        "support",
    )
    assert not User.objects.get(email="ada@alpha.example").has_usable_password()
    assert SocialAccount.objects.get(uid="1").extra_data == {}
    with tenant_context(world.alpha.tenant):
        acts = list(Entry.objects.values_list("action", flat=True))
    assert {"single_sign_on.configured", "member.added", "sign_in.succeeded"} <= set(acts)
    again, _ = come(world.alpha, provider, email="ada@alpha.example")
    assert me(again)["id"] == told["id"]


def test_it_works_on_the_platforms_host_by_the_tenants_path(world: World, provider: IdentityProvider) -> None:
    connect(world.alpha, provider)
    person, _ = come(world.alpha, provider, PLATFORM, email="ada@alpha.example")
    assert me(person)["tenant"] == "alpha"


def test_a_member_keeps_their_role_and_an_invitation_decides_it(world: World, provider: IdentityProvider) -> None:
    connect(world.alpha, provider)
    add_member(tenant=world.alpha.tenant, email="ada@alpha.example", role=Role.ADMIN)
    person, _ = come(world.alpha, provider, email="ada@alpha.example")
    assert me(person)["role"] == "admin"
    invited, _ = invitations.invite(
        tenant=world.alpha.tenant, email="bob@alpha.example", role=Role.DEVELOPER, invited_by=None, as_owner=False
    )
    person, _ = come(world.alpha, provider, sub="2", email="bob@alpha.example")
    assert me(person)["role"] == "developer"
    invited.refresh_from_db()
    assert invited.accepted_at


def test_who_was_removed_does_not_come_back_by_it(world: World, provider: IdentityProvider) -> None:
    connect(world.alpha, provider)
    person, _ = come(world.alpha, provider, email="ada@alpha.example")
    Membership.objects.filter(user__email="ada@alpha.example").delete()
    assert person.api("GET", "agents/")[0] == 403
    again, page = come(world.alpha, provider, email="ada@alpha.example")
    assert page.status_code == 403
    assert "any more" in page.content.decode()
    assert me(again) == {"status": 401}


# --- attacks: alpha's owners run alpha's provider, and it says whatever they like ---


@pytest.mark.parametrize("email", ["owner@beta.localhost", "operator@platform.localhost", "nobody@beta.example"])
def test_a_provider_cannot_vouch_for_people_of_other_domains(
    world: World, provider: IdentityProvider, email: str
) -> None:
    connect(world.alpha, provider)
    before = User.objects.count()
    person, page = come(world.alpha, provider, email=email)
    assert page.status_code == 403
    assert "has not proven" in page.content.decode()
    assert me(person) == {"status": 401}
    assert User.objects.count() == before
    assert not SocialAccount.objects.exists()
    with tenant_context(world.alpha.tenant):
        failed = Entry.objects.get(action="sign_in.failed")
    assert email not in json.dumps([failed.target, failed.after, failed.actor_name])


def test_a_domain_that_is_claimed_but_not_proven_counts_for_nothing(world: World, provider: IdentityProvider) -> None:
    connect(world.alpha, provider)
    sign_on.add_domain(tenant=world.alpha.tenant, domain="beta.localhost")
    _, page = come(world.alpha, provider, email=world.beta.owner.email)
    assert page.status_code == 403


def test_a_session_of_one_provider_opens_no_other_tenant(world: World, provider: IdentityProvider) -> None:
    """The victim belongs to both tenants and has an address in alpha's domain: alpha's provider may well vouch for
    them, but it must not carry its owners into beta, nor into the victim's account."""
    victim = add_member(tenant=world.beta.tenant, email="eve@alpha.example", role=Role.OWNER).user
    add_member(tenant=world.alpha.tenant, email="eve@alpha.example", role=Role.VIEWER)
    User.objects.filter(pk=victim.pk).update(is_superuser=True)
    connect(world.alpha, provider)
    for host in (PLATFORM, world.alpha.host):
        person, _ = come(world.alpha, provider, host, email="eve@alpha.example")
        told = me(person)
        assert (told["tenant"], told["role"], told["kind"]) == ("alpha", "viewer", "person")
        assert [tenant["slug"] for tenant in told["tenants"]] == ["alpha"]
        status, answer = person.api("PATCH", "me/", {"tenant": "beta"})
        assert (status, answer["error"]["code"]) == (403, "session_bound" if host == PLATFORM else "not_a_member")
        person.client.cookies["sessionid"]["domain"] = ""
        elsewhere = Person(None, world.beta.host)
        elsewhere.client.cookies["sessionid"] = person.client.cookies["sessionid"].value
        status, answer = elsewhere.api("GET", "agents/")
        assert (status, answer["error"]["code"]) == (403, "session_bound")
        assert elsewhere.client.get("/admin/").status_code == 302
        assert Person(None, PLATFORM).client.get("/admin/").status_code == 302
        assert "Beta" not in person.client.get("/accounts/").content.decode()
        person.client.defaults["HTTP_HOST"] = PLATFORM
        assert person.client.get("/admin/tenants/tenant/").status_code in (302, 403)
        for path in (
            "password/change/", "password/set/", "email/", "2fa/", "2fa/totp/activate/", "2fa/webauthn/add/",
            "2fa/recovery-codes/", "sessions/", "reauthenticate/",
        ):  # fmt: skip
            for call in (person.client.get, person.post):
                assert call(f"/accounts/{path}").status_code == 403, path


def test_a_password_typed_later_does_not_unbind_a_session(world: World, provider: IdentityProvider) -> None:
    add_member(tenant=world.alpha.tenant, email="eve@alpha.example", role=Role.VIEWER)
    User.objects.get(email="eve@alpha.example").set_password(PASSWORD)
    connect(world.alpha, provider)
    person, _ = come(world.alpha, provider, email="eve@alpha.example")
    assert person.post("/accounts/reauthenticate/", password=PASSWORD).status_code == 403


def test_connecting_a_provider_to_somebody_signed_in_is_not_possible(world: World, provider: IdentityProvider) -> None:
    connection_ = connect(world.alpha, provider)
    victim = Person(world.beta.owner, PLATFORM)
    page = victim.client.get(f"/accounts/sso/{connection_.public_id}/begin/?process=connect", follow=True)
    assert page.redirect_chain[-1][0] == "/accounts/sso/alpha/"
    provider.claims = {"sub": "9", "email": "evil@alpha.example"}
    begun = victim.post("/accounts/sso/alpha/?process=connect")
    onward = unescape(re.search(r'content="0; url=([^"]+)"', begun.content.decode())[1])  # type: ignore[index]
    back = provider.sign_in(onward)
    victim.client.get(back[back.index("/accounts/") :])
    assert not SocialAccount.objects.filter(user=world.beta.owner).exists()


def test_an_account_that_was_squatted_is_taken_from_the_squatter(world: World, provider: IdentityProvider) -> None:
    squatted = User.objects.create_user("ada@alpha.example", "the-squatters-own-password")
    squatted.emailaddress_set.update(verified=False)
    connect(world.alpha, provider)
    person, _ = come(world.alpha, provider, email="ada@alpha.example")
    assert me(person)["tenant"] == "alpha"
    squatted.refresh_from_db()
    assert not squatted.has_usable_password()


def test_another_issuer_is_another_provider(world: World, provider: IdentityProvider) -> None:
    """Who may set the provider points it elsewhere: the new one's subject 1 is not the old one's."""
    first = connect(world.alpha, provider)
    person, _ = come(world.alpha, provider, email="ada@alpha.example")
    other = IdentityProvider()
    try:
        second = sign_on.configure(
            tenant=world.alpha.tenant, issuer=other.issuer, client_id="avb", client_secret=other.CLIENT_SECRET,
            default_role="viewer", required=False,
        )  # fmt: skip
        assert first.public_id != second.public_id
        assert person.api("GET", "agents/")[0] == 403
        impostor, _ = come(world.alpha, other, sub="1", email="bob@alpha.example")
        assert me(impostor)["email"] == "bob@alpha.example"
    finally:
        other.close()


def test_the_answers_of_a_provider_must_agree(world: World, provider: IdentityProvider) -> None:
    connect(world.alpha, provider)
    for userinfo in ({"sub": "2", "email": "bob@alpha.example"}, {"sub": "2"}):
        provider.userinfo = userinfo
        _, page = come(world.alpha, provider, sub="1", email="ada@alpha.example")
        assert page.status_code == 403
    assert not SocialAccount.objects.exists()


@pytest.mark.parametrize(
    ("claims", "complaint"),
    [
        ({"email": "ada@alpha.example", "email_verified": False}, "has not verified"),
        ({"email": "ada@alpha.example", "email_verified": "false"}, "has not verified"),
        ({"email": ""}, "does not tell"),
        ({"email": "ada"}, "does not tell"),
        ({"email": "ada@alpha.example@beta.localhost"}, "does not tell"),
        ({"email": "ada@sub.alpha.example"}, "has not proven"),
        ({"email": "ada@alpha.example.evil.example"}, "has not proven"),
    ],
)
def test_wrong_claims_are_refused(world: World, provider: IdentityProvider, claims: dict, complaint: str) -> None:
    connect(world.alpha, provider)
    person, page = come(world.alpha, provider, **claims)
    assert page.status_code == 403
    assert complaint in page.content.decode()
    assert me(person) == {"status": 401}


@pytest.mark.parametrize("subject", ["", "x" * 192, "a\0b", "a\nb"])
def test_a_subject_that_cannot_be_one_opens_nothing(world: World, provider: IdentityProvider, subject: str) -> None:
    connect(world.alpha, provider)
    person, _ = come(world.alpha, provider, sub=subject, email="ada@alpha.example", name="A\0da")
    assert me(person) == {"status": 401}


def test_a_token_for_another_client_or_issuer_opens_nothing(world: World, provider: IdentityProvider) -> None:
    connect(world.alpha, provider)
    for wrong in ({"aud": "another"}, {"iss": "http://127.0.0.1:1"}, {"exp": 1}):
        person, _ = come(world.alpha, provider, email="ada@alpha.example", **wrong)
        assert me(person) == {"status": 401}
    assert not SocialAccount.objects.exists()


def test_a_provider_opens_only_on_its_tenants_host_and_the_platforms(world: World, provider: IdentityProvider) -> None:
    public_id = connect(world.alpha, provider).public_id
    stranger = Person(None, world.beta.host)
    assert stranger.post("/accounts/sso/alpha/").status_code == 404
    assert stranger.client.get(f"/accounts/sso/{public_id}/callback/?code=x&state=y").status_code == 404
    world.alpha.tenant.status = TenantStatus.SUSPENDED
    world.alpha.tenant.save()
    assert Person(None, PLATFORM).post("/accounts/sso/alpha/").status_code == 404
    world.alpha.tenant.status = TenantStatus.ACTIVE


def test_an_answer_that_nobody_asked_for_opens_nothing(world: World, provider: IdentityProvider) -> None:
    public_id = connect(world.alpha, provider).public_id
    victim = Person(None, world.alpha.host)
    assert victim.client.get(f"/accounts/sso/{public_id}/callback/?code=stolen&state=forged").status_code in (200, 401)
    assert me(victim) == {"status": 401}


def test_a_provider_that_does_not_answer_is_told(world: World, provider: IdentityProvider) -> None:
    connect(world.alpha, provider)
    provider.discovery_status = 500
    page = Person(None, world.alpha.host).post("/accounts/sso/alpha/")
    assert page.status_code == 502
    assert "does not answer" in page.content.decode()


# --- required ---


def test_where_it_is_required_a_password_is_not_enough_but_for_owners(world: World, provider: IdentityProvider) -> None:
    connect(world.alpha, provider, required=True)
    for host in (PLATFORM, world.alpha.host):
        status, answer = Person(world.alpha.member, host).api("GET", "agents/")
        assert (status, answer["error"]["code"]) == (403, "single_sign_on_required")
        assert Person(world.alpha.owner, host).api("GET", "agents/")[0] == 200
    add_member(tenant=world.alpha.tenant, email="ada@alpha.example", role=Role.ADMIN)
    assert (
        Person(User.objects.get(email="ada@alpha.example"), world.alpha.host).client.get("/admin/").status_code == 302
    )
    person, _ = come(world.alpha, provider, email="ada@alpha.example")
    assert person.api("GET", "agents/")[0] == 200
    assert person.client.get("/admin/").status_code == 200
    assert Person(world.beta.member, world.beta.host).api("GET", "agents/")[0] == 200


# --- configuration ---


def settings_of(provider: IdentityProvider, **changes: Any) -> dict[str, Any]:
    return {"issuer": provider.issuer, "client_id": "avb", "client_secret": provider.CLIENT_SECRET} | changes


def test_an_owner_sets_it_and_the_secret_stays_sealed(world: World, provider: IdentityProvider) -> None:
    owner = Person(world.alpha.owner, world.alpha.host)
    assert owner.api("GET", "sso/")[0] == 404
    status, answer = owner.api("PUT", "sso/", settings_of(provider, required=True))
    assert status == 200
    assert answer["data"]["redirect_uri"].startswith(f"http://{world.alpha.host}/accounts/sso/sso_")
    assert answer["data"]["sign_in_url"] == f"http://{world.alpha.host}/accounts/sso/alpha/"
    assert provider.CLIENT_SECRET not in json.dumps(answer)
    with connection.cursor() as cursor:
        cursor.execute("SELECT encode(sealed_secret, 'escape') FROM tenants_singlesignon")
        assert provider.CLIENT_SECRET not in cursor.fetchone()[0]
    assert sign_on.open_secret(SingleSignOn.objects.get()) == provider.CLIENT_SECRET
    kept = owner.api("PUT", "sso/", {"issuer": provider.issuer, "client_id": "other"})
    assert kept[0] == 200
    assert sign_on.open_secret(SingleSignOn.objects.get()) == provider.CLIENT_SECRET
    assert Person(world.beta.owner, world.beta.host).api("GET", "sso/")[0] == 404
    assert owner.api("DELETE", "sso/")[0] == 204
    assert owner.api("GET", "sso/")[0] == 404


def test_only_owners_set_it(world: World, provider: IdentityProvider) -> None:
    """An admin who could would sign in as the owner."""
    admin = add_member(tenant=world.alpha.tenant, email="admin@alpha.localhost", role=Role.ADMIN).user
    for person in (Person(admin, world.alpha.host), Person(world.alpha.member, world.alpha.host)):
        assert person.api("PUT", "sso/", settings_of(provider))[0] == 403
        assert person.api("POST", "sso/domains/", {"domain": "x.example"})[0] == 403
        assert person.api("DELETE", "sso/")[0] == 403
        assert person.api("GET", "sso/domains/")[0] == 200


def test_a_domain_is_proven_in_the_dns(world: World, names: NameServer) -> None:
    owner = Person(world.alpha.owner, world.alpha.host)
    status, answer = owner.api("POST", "sso/domains/", {"domain": "Alpha.Example"})
    domain = answer["data"]
    assert (status, domain["domain"], domain["verified_at"]) == (201, "alpha.example", None)
    status, answer = owner.api("POST", "sso/domains/alpha.example/verify/", {})
    assert (status, answer["error"]["param"]) == (409, "domain")
    names.texts[domain["record_name"]] = "agentvoicebox-verification=guessed"
    assert owner.api("POST", "sso/domains/alpha.example/verify/", {})[0] == 409
    names.texts[domain["record_name"]] = domain["record_text"]
    assert owner.api("POST", "sso/domains/alpha.example/verify/", {})[1]["data"]["verified_at"]
    other = Person(world.beta.owner, world.beta.host)
    assert other.api("POST", "sso/domains/", {"domain": "alpha.example"})[0] == 201
    assert other.api("POST", "sso/domains/alpha.example/verify/", {})[0] == 409, "each tenant has a text of its own"
    assert other.api("DELETE", "sso/domains/alpha.example/")[0] == 204
    assert EmailDomain.objects.get().tenant == world.alpha.tenant


def test_a_tenant_has_a_bounded_number_of_domains(world: World, settings) -> None:
    settings.EMAIL_DOMAINS_PER_TENANT = 1
    sign_on.add_domain(tenant=world.alpha.tenant, domain="a.example")
    with pytest.raises(sign_on.DomainRefused, match="at most 1"):
        sign_on.add_domain(tenant=world.alpha.tenant, domain="b.example")


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("PUT", "sso/", {}, "issuer"),
        ("PUT", "sso/", {"issuer": "idp", "client_id": "x", "client_secret": "y"}, "issuer"),
        ("PUT", "sso/", {"issuer": "https://u:p@idp.example", "client_id": "x", "client_secret": "y"}, "issuer"),
        ("PUT", "sso/", {"issuer": "https://idp.example?x=1", "client_id": "x", "client_secret": "y"}, "issuer"),
        ("PUT", "sso/", {"issuer": "ftp://idp.example", "client_id": "x", "client_secret": "y"}, "issuer"),
        ("PUT", "sso/", {"issuer": "https://idp.example", "client_id": ""}, "client_id"),
        ("PUT", "sso/", {"issuer": "https://idp.example", "client_id": "x" * 192, "client_secret": "y"}, "client_id"),
        ("PUT", "sso/", {"issuer": "https://idp.example", "client_id": "x"}, "client_secret"),
        (
            "PUT", "sso/",
            {"issuer": "https://idp.example", "client_id": "x", "client_secret": "y", "default_role": "owner"},
            "default_role",
        ),
        ("PUT", "sso/", {"issuer": "https://i.example", "client_id": "x", "required": "perhaps"}, "required"),
        ("PUT", "sso/", {"issuer": "https://i.example", "client_id": "x", "tenant": "beta"}, "tenant"),
        ("POST", "sso/domains/", {}, "domain"),
        ("POST", "sso/domains/", {"domain": "alpha"}, "domain"),
        ("POST", "sso/domains/", {"domain": "a b.example"}, "domain"),
        ("POST", "sso/domains/", {"domain": "*.example"}, "domain"),
        ("POST", "sso/domains/", {"domain": "x" * 254}, "domain"),
        ("POST", "sso/domains/", {"domain": None}, "domain"),
    ],
)  # fmt: skip
def test_wrong_input_is_named(world: World, method: str, path: str, body: object, param: str) -> None:
    status, answer = Api(world.alpha.key)(method, path, body)
    assert (status, answer["error"]["param"]) == (400, param), answer


def test_outside_of_dev_providers_are_public_and_encrypted(world: World, provider: IdentityProvider, settings) -> None:
    connect(world.alpha, provider)
    settings.SSO_PRIVATE_ISSUERS = False
    with pytest.raises(requests.exceptions.InvalidSchema):
        PublicSession(1).get(provider.issuer)
    with pytest.raises(requests.ConnectionError, match="not a public one"):
        PublicSession(1).get(provider.issuer.replace("http://", "https://"))
    page = Person(None, world.alpha.host).post("/accounts/sso/alpha/")
    assert page.status_code == 502
    with pytest.raises(sign_on.SignOnInvalid, match="https"):
        sign_on.configure(
            tenant=world.alpha.tenant, issuer="http://idp.example", client_id="x", client_secret="y",
            default_role="viewer", required=False,
        )  # fmt: skip


def test_answers_of_a_provider_are_bounded(world: World, provider: IdentityProvider) -> None:
    provider.userinfo = {"sub": "x" * 2_000_000}
    with pytest.raises(requests.RequestException, match="too long"):
        PublicSession(5).get(f"{provider.issuer}/userinfo")
