"""Members, roles and invitations: who may do what, and that a tenant never loses its last owner."""

from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone
from django_tenants.utils import tenant_context

from tenants.audit.models import Entry
from tenants.models import Invitation, Membership, Tenant, TenantStatus, User
from tenants.people.operations import add_member
from tenants.permissions import ROLE_SCOPES, Role, Scope
from tests.record.people import Person, commits, mailed_link
from tests.record.world import Api, World

__all__ = ["commits"]
pytestmark = pytest.mark.usefixtures("commits")


@pytest.fixture
def owner(world: World) -> Person:
    return Person(world.alpha.owner, world.alpha.host)


@pytest.fixture
def admin(world: World) -> Person:
    user = add_member(tenant=world.alpha.tenant, email="admin@alpha.localhost", role=Role.ADMIN).user
    return Person(user, world.alpha.host)


@pytest.fixture
def viewer(world: World) -> Person:
    return Person(world.alpha.member, world.alpha.host)


def actions(world: World) -> list[str]:
    with tenant_context(world.alpha.tenant):
        return list(Entry.objects.order_by("seq").values_list("action", flat=True))


def test_who_am_i(world: World, owner: Person) -> None:
    status, answer = owner.api("GET", "me/")
    me = answer["data"]
    assert status == 200
    assert (me["kind"], me["tenant"], me["role"]) == ("person", "alpha", "owner")
    assert set(me["scopes"]) == ROLE_SCOPES[Role.OWNER]
    assert [tenant["slug"] for tenant in me["tenants"]] == ["alpha"]


def test_what_a_key_is(world: World) -> None:
    me = Api(world.alpha.key)("GET", "me/")[1]["data"]
    assert (me["kind"], me["tenant"], me["email"], me["tenants"]) == ("key", "alpha", None, [])
    status, answer = Api(world.alpha.key)("PATCH", "me/", {"tenant": "beta"})
    assert (status, answer["error"]["code"]) == (403, "person_required")


def test_nobody_needs_to_choose_from_one(world: World) -> None:
    person = Person(world.alpha.owner)
    assert person.api("GET", "me/")[1]["data"]["tenant"] == "alpha"
    assert person.api("GET", "agents/")[0] == 200


def test_one_person_in_two_tenants_acts_in_the_chosen_one(world: World) -> None:
    add_member(tenant=world.beta.tenant, email=world.alpha.owner.email, role=Role.VIEWER)
    person = Person(world.alpha.owner)
    status, answer = person.api("GET", "agents/")
    assert (status, answer["error"]["code"]) == (403, "tenant_not_chosen")
    assert person.api("GET", "me/")[1]["data"]["refusal"]
    for slug, role in (("alpha", "owner"), ("beta", "viewer")):
        status, answer = person.api("PATCH", "me/", {"tenant": slug})
        assert (status, answer["data"]["tenant"], answer["data"]["role"]) == (200, slug, role)
        names = [agent["slug"] for agent in person.api("GET", "agents/")[1]["data"]["results"]]
        assert names == [f"{slug}-desk"]
    assert person.api("POST", "agents/", {"slug": "new", "name": "New"})[0] == 403
    assert person.api("PATCH", "me/", {"tenant": None})[1]["data"]["tenant"] is None


def test_on_a_tenants_host_nobody_acts_in_another(world: World, owner: Person) -> None:
    add_member(tenant=world.beta.tenant, email=world.alpha.owner.email, role=Role.VIEWER)
    status, answer = owner.api("PATCH", "me/", {"tenant": "beta"})
    assert (status, answer["error"]["code"]) == (403, "not_a_member")
    assert owner.api("GET", "agents/")[1]["data"]["results"][0]["slug"] == "alpha-desk"


@pytest.mark.parametrize("slug", ["beta", "nowhere", ""])
def test_nobody_chooses_a_tenant_of_others(world: World, slug: str) -> None:
    person = Person(world.alpha.owner)
    status, _ = person.api("PATCH", "me/", {"tenant": slug})
    assert status in (400, 403)
    assert person.api("GET", "me/")[1]["data"]["tenant"] == "alpha"


def test_an_outsider_gets_nothing_anywhere(world: World) -> None:
    for host in (world.alpha.host, world.beta.host, "testserver.localhost"):
        outsider = Person(world.outsider, host)
        for path in ("agents/", "members/", "invitations/", "oauth-clients/", "sso/", "sso/domains/"):
            assert outsider.api("GET", path)[0] == 403, (host, path)
        me = outsider.api("GET", "me/")[1]["data"]
        assert (me["tenant"], me["scopes"], me["tenants"]) == (None, [], [])


def test_a_suspended_tenant_opens_to_nobody(world: World) -> None:
    Tenant.objects.filter(pk=world.alpha.tenant.pk).update(status=TenantStatus.SUSPENDED)
    for host in (world.alpha.host, "testserver.localhost"):
        status, answer = Person(world.alpha.owner, host).api("GET", "agents/")
        assert (status, answer["error"]["code"]) == (403, "tenant_suspended")
    me = Person(world.alpha.owner).api("GET", "me/")[1]["data"]
    assert (me["tenant"], me["scopes"]) == (None, [])
    assert "suspended" in me["refusal"]


def test_the_operator_is_one_and_opens_no_tenant(world: World) -> None:
    operator = Person(world.operator)
    me = operator.api("GET", "me/")[1]["data"]
    assert (me["kind"], me["tenant"]) == ("operator", None)
    assert all(scope.startswith("platform:") for scope in me["scopes"])
    assert operator.api("GET", "agents/")[0] == 403
    assert Person(world.operator, world.alpha.host).api("GET", "me/")[1]["data"]["kind"] == "person"


def test_a_form_from_elsewhere_writes_nothing(world: World, owner: Person) -> None:
    response = owner.client.patch("/api/v1/me/", '{"tenant": null}', content_type="application/json")
    assert response.status_code == 403
    assert "CSRF" in response.content.decode()


def test_members_are_listed_to_members_only(world: World, viewer: Person) -> None:
    emails = [member["email"] for member in viewer.api("GET", "members/")[1]["data"]["results"]]
    assert emails == ["owner@alpha.localhost", "viewer@alpha.localhost"]
    assert viewer.api("GET", f"members/{world.beta.owner.pk}/")[0] == 404
    assert viewer.api("PATCH", f"members/{world.alpha.owner.pk}/", {"role": "viewer"})[0] == 403


def test_a_role_changes_at_the_next_request(world: World, owner: Person, viewer: Person) -> None:
    assert viewer.api("GET", "audit/")[0] in (403, 404)
    assert viewer.api("POST", "invitations/", {"email": "x@y.example", "role": "viewer"})[0] == 403
    status, answer = owner.api("PATCH", f"members/{world.alpha.member.pk}/", {"role": "admin"})
    assert (status, answer["data"]["role"]) == (200, "admin")
    assert viewer.api("POST", "invitations/", {"email": "x@y.example", "role": "viewer"})[0] == 201
    assert "member.role_changed" in actions(world)


def test_who_is_removed_is_out_at_the_next_request(world: World, owner: Person, viewer: Person) -> None:
    add_member(tenant=world.beta.tenant, email=world.alpha.member.email, role=Role.VIEWER)
    assert viewer.api("GET", "agents/")[0] == 200
    assert owner.api("DELETE", f"members/{world.alpha.member.pk}/")[0] == 204
    assert viewer.api("GET", "agents/")[0] == 403
    assert Person(world.alpha.member, world.beta.host).api("GET", "agents/")[0] == 200


def test_the_last_owner_stays(world: World, owner: Person) -> None:
    own = f"members/{world.alpha.owner.pk}/"
    for method, path, body in (
        ("PATCH", own, {"role": "admin"}), ("DELETE", own, None), ("POST", "me/leave/", {}),
    ):  # fmt: skip
        status, answer = owner.api(method, path, body)
        assert (status, answer["error"]["code"]) == (409, "last_owner"), (method, path)
    add_member(tenant=world.alpha.tenant, email="second@alpha.localhost", role=Role.OWNER)
    assert owner.api("POST", "me/leave/", {})[0] == 204
    assert owner.api("GET", "agents/")[0] == 403


def test_an_owner_whose_account_is_closed_counts_for_nothing(world: World, owner: Person) -> None:
    closed = add_member(tenant=world.alpha.tenant, email="second@alpha.localhost", role=Role.OWNER).user
    closed.is_active = False
    closed.save()
    assert owner.api("POST", "me/leave/", {})[0] == 409


def test_only_owners_make_and_unmake_owners(world: World, admin: Person) -> None:
    person = f"members/{world.alpha.member.pk}/"
    refusals = [
        admin.api("PATCH", person, {"role": "owner"}),
        admin.api("PATCH", f"members/{world.alpha.owner.pk}/", {"role": "viewer"}),
        admin.api("DELETE", f"members/{world.alpha.owner.pk}/"),
        admin.api("POST", "invitations/", {"email": "x@y.example", "role": "owner"}),
        Api(world.alpha.key)("PATCH", person, {"role": "owner"}),
        Api(world.alpha.key)("POST", "invitations/", {"email": "x@y.example", "role": "owner"}),
    ]
    assert [(status, answer["error"]["code"]) for status, answer in refusals] == [(403, "owners_only")] * 6
    assert Membership.objects.get(user=world.alpha.owner, tenant=world.alpha.tenant).role == Role.OWNER


def test_a_viewer_may_leave(world: World, viewer: Person) -> None:
    assert viewer.api("POST", "me/leave/", {})[0] == 204
    assert not Membership.objects.filter(user=world.alpha.member).exists()
    assert Api(world.alpha.key)("POST", "me/leave/", {})[0] == 403


def invite(person: Person, email: str = "new@people.example", role: str = "developer") -> str:
    assert person.api("POST", "invitations/", {"email": email, "role": role})[0] == 201
    return mailed_link()


def test_somebody_new_joins_by_the_link(world: World, owner: Person) -> None:
    link = invite(owner)
    assert mail.outbox[-1].to == ["new@people.example"]
    invitation = owner.api("GET", "invitations/")[1]["data"]["results"][0]
    assert invitation["mailed_at"]
    assert link.split("/")[-2] not in str(invitation)
    assert not Invitation.objects.filter(token_hash=link.split("/")[-2]).exists()
    stranger = Person(None, world.alpha.host)
    assert "Join Alpha" in stranger.client.get(link).content.decode()
    weak = stranger.post(link, name="New Person", password="password")
    assert (weak.status_code, "too common" in weak.content.decode()) == (200, True)
    joined = stranger.post(link, name="New Person", password="tulip-anvil-94-harbour")
    assert joined.status_code == 302
    me = stranger.api("GET", "me/")[1]["data"]
    assert (me["name"], me["tenant"], me["role"]) == ("New Person", "alpha", "developer")
    assert stranger.client.get(link).status_code == 404
    assert {"invitation.created", "invitation.accepted"} <= set(actions(world))
    assert "new@people.example" not in str(list(Entry.objects.values_list("after", flat=True)))


def test_somebody_known_joins_by_the_link_and_nobody_else(world: World, owner: Person) -> None:
    link = invite(owner, world.outsider.email)
    other = Person(world.beta.owner, world.alpha.host)
    assert "somebody else" in other.client.get(link).content.decode()
    assert other.post(link).status_code == 200
    unknown = Person(None, world.alpha.host)
    assert "You have an account here" in unknown.client.get(link).content.decode()
    assert unknown.post(link, name="Thief", password="tulip-anvil-94-harbour").status_code == 200
    assert not Membership.objects.filter(tenant=world.alpha.tenant, user=world.beta.owner).exists()
    invited = Person(world.outsider, world.alpha.host)
    assert invited.post(link).status_code == 302
    assert invited.api("GET", "me/")[1]["data"]["role"] == "developer"


def test_who_signed_up_ahead_with_the_invited_address_gets_nothing(world: World, owner: Person) -> None:
    squatter = User.objects.create_user("new@people.example", "the-squatters-own-password")
    squatter.emailaddress_set.update(verified=False)
    link = invite(owner)
    invited = Person(None, world.alpha.host)
    assert invited.post(link, name="Real", password="tulip-anvil-94-harbour").status_code == 302
    user = User.objects.get(email="new@people.example")
    assert not user.check_password("the-squatters-own-password")


def test_sent_again_the_old_link_is_dead(world: World, owner: Person, settings) -> None:
    settings.INVITATION_PAUSE_S = 0
    first = invite(owner)
    number = owner.api("GET", "invitations/")[1]["data"]["results"][0]["id"]
    assert owner.api("POST", f"invitations/{number}/resend/", {})[0] == 200
    second = mailed_link()
    assert first != second
    client = Person(None, world.alpha.host).client
    assert [client.get(link).status_code for link in (first, second)] == [404, 200]


def test_revoked_or_expired_a_link_opens_nothing(world: World, owner: Person) -> None:
    link = invite(owner)
    invitation = Invitation.objects.get(email="new@people.example")
    path = f"invitations/{invitation.pk}/"
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    client = Person(None, world.alpha.host).client
    assert client.get(link).status_code == 404
    # An expired one does not stand in the way of a new one.
    invite(owner)
    assert Invitation.objects.filter(email="new@people.example").count() == 2
    newest = Invitation.objects.order_by("-pk").first()
    assert owner.api("DELETE", f"invitations/{newest.pk}/")[0] == 204
    assert client.get(mailed_link()).status_code == 404
    assert owner.api("DELETE", f"invitations/{newest.pk}/")[0] == 409
    assert owner.api("POST", f"invitations/{newest.pk}/resend/", {})[0] == 409
    assert Person(world.beta.owner, world.beta.host).api("GET", path)[0] == 404


def test_invitations_live_for_as_long_as_the_setting_says(world: World, owner: Person, settings) -> None:
    settings.INVITATION_DAYS = 3
    invite(owner)
    left = Invitation.objects.get(email="new@people.example").expires_at - timezone.now()
    assert timedelta(days=2, hours=23) < left <= timedelta(days=3)


def test_mail_that_fails_is_told_and_can_be_sent_again(world: World, owner: Person, settings, caplog) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    status, answer = owner.api("POST", "invitations/", {"email": "new@people.example", "role": "viewer"})
    assert status == 201
    assert owner.api("GET", f"invitations/{answer['data']['id']}/")[1]["data"]["mailed_at"] is None
    assert "was not mailed" in caplog.text
    assert "new@people.example" not in caplog.text


def test_open_invitations_have_a_limit(world: World, owner: Person, settings) -> None:
    settings.INVITATIONS_OPEN = 1
    invite(owner)
    status, answer = owner.api("POST", "invitations/", {"email": "two@people.example", "role": "viewer"})
    assert (status, answer["error"]["code"]) == (409, "too_many_invitations")
    status, answer = owner.api("POST", "invitations/", {"email": "NEW@people.example", "role": "viewer"})
    assert (status, answer["error"]["code"]) == (409, "already_invited")
    status, answer = owner.api("POST", "invitations/", {"email": world.alpha.member.email, "role": "viewer"})
    assert (status, answer["error"]["code"]) == (409, "already_member")


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "invitations/", {}, "email"),
        ("POST", "invitations/", {"email": "nobody", "role": "viewer"}, "email"),
        ("POST", "invitations/", {"email": "a" * 250 + "@b.example", "role": "viewer"}, "email"),
        ("POST", "invitations/", {"email": ["a@b.example"], "role": "viewer"}, "email"),
        ("POST", "invitations/", {"email": "a@b.example", "role": "king"}, "role"),
        ("POST", "invitations/", {"email": "a@b.example", "role": "viewer", "tenant": "beta"}, "tenant"),
        ("POST", "invitations/", [], None),
        ("PATCH", "members/{member}/", {}, "role"),
        ("PATCH", "members/{member}/", {"role": "king"}, "role"),
        ("PATCH", "members/{member}/", {"role": None}, "role"),
        ("PATCH", "members/{member}/", {"role": "viewer", "user": 1}, "user"),
        ("PATCH", "me/", {"tenant": 5}, "tenant"),
        ("PATCH", "me/", {"tenant": "x" * 64}, "tenant"),
        ("PATCH", "me/", {"scopes": ["agents:write"]}, "scopes"),
        ("POST", "me/leave/", {"tenant": "beta"}, "tenant"),
    ],
)
def test_wrong_input_is_named(world: World, owner: Person, method: str, path: str, body: object, param: str) -> None:
    status, answer = owner.api(method, path.format(member=world.alpha.member.pk), body)
    if body == {"tenant": 5}:
        assert status == 403  # numbers are taken as text, and no tenant has that name
    else:
        assert (status, answer["error"]["param"]) == (400, param)


def test_scopes_name_the_write_that_they_open(world: World) -> None:
    assert Scope.MEMBERS_WRITE not in ROLE_SCOPES[Role.DEVELOPER]
    assert ROLE_SCOPES[Role.OWNER] - ROLE_SCOPES[Role.ADMIN] == {Scope.SSO_WRITE}


def test_an_invitation_is_mailed_once_a_minute_and_a_tenants_so_often_an_hour(
    world: World, owner: Person, settings
) -> None:
    assert (settings.INVITATION_PAUSE_S, settings.INVITATION_MAILS_PER_HOUR) == (60, 200)
    invite(owner)
    number, sent = Invitation.objects.get(email="new@people.example").pk, len(mail.outbox)
    before = Invitation.objects.get(pk=number).token_hash
    refused = owner.client.post(
        f"/api/v1/invitations/{number}/resend/", "{}", "application/json", headers={"X-CSRFToken": owner.token()}
    )
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused["Retry-After"]) <= 60
    assert Invitation.objects.get(pk=number).token_hash == before, "the link that was mailed still opens"
    assert len(mail.outbox) == sent
    settings.INVITATION_MAILS_PER_HOUR = 1
    refused = owner.api("POST", "invitations/", {"email": "two@people.example", "role": "viewer"})
    assert refused[0] == 429
    assert not Invitation.objects.filter(email="two@people.example").exists()
    assert Person(world.beta.owner, world.beta.host).api(
        "POST", "invitations/", {"email": "two@people.example", "role": "viewer"}
    )[0] == 201  # fmt: skip
