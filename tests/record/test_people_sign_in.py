"""Signing in: passwords, second factors, passkeys, sessions, what is limited, and what the audit keeps of it."""

import json
import re

import pytest
from allauth.mfa.models import Authenticator
from django.core import mail
from django.db import connection
from django.test import Client
from django_tenants.utils import tenant_context

from tenants.audit.models import Entry
from tenants.models import User
from tests.record.authenticators import SecurityKey, app_code
from tests.record.people import PLATFORM, Person, commits, mailed_link
from tests.record.world import PASSWORD, House, World

__all__ = ["commits"]
pytestmark = pytest.mark.usefixtures("commits")


def entries(house: House | None = None) -> list[tuple[str, object]]:
    if house is None:
        return list(Entry.objects.order_by("seq").values_list("action", "after"))
    with tenant_context(house.tenant):
        return list(Entry.objects.order_by("seq").values_list("action", "after"))


def reauthenticate(person: Person) -> None:
    assert person.post("/accounts/reauthenticate/", password=PASSWORD).status_code == 302


def add_app(person: Person) -> str:
    """Turns second factors on; returns the app's secret."""
    reauthenticate(person)
    page = person.client.get("/accounts/2fa/totp/activate/")
    secret = page.context["form"].secret
    assert person.post("/accounts/2fa/totp/activate/", code=app_code(secret)).status_code == 302
    return secret


def test_an_owner_signs_in_on_their_host(world: World) -> None:
    person = Person(None, world.alpha.host)
    response = person.sign_in(world.alpha.owner.email.upper(), following="/admin/")
    assert (response.status_code, response["Location"]) == (302, "/admin/")
    assert person.client.get("/admin/").status_code == 200
    assert ("sign_in.succeeded", {"method": "password_or_passkey"}) in entries(world.alpha)
    assert person.client.get("/accounts/").status_code == 200


@pytest.mark.parametrize("onward", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_nobody_is_sent_elsewhere(world: World, onward: str) -> None:
    person = Person(None, world.alpha.host)
    assert person.sign_in(world.alpha.owner.email, following=onward)["Location"] == "/accounts/"
    assert person.client.get("/admin/login/", {"next": onward})["Location"] == "/admin/"


def test_a_wrong_password_is_audited_without_it_and_without_the_address(world: World) -> None:
    person = Person(None, world.alpha.host)
    response = person.sign_in(world.alpha.owner.email, "a-wrong-password")
    unknown = person.sign_in("nobody@elsewhere.example", "a-wrong-password")
    assert response.status_code == unknown.status_code == 200
    words = [re.sub(r"\s+", " ", str(page.context["form"].errors)) for page in (response, unknown)]
    assert words[0] == words[1], "a stranger must not learn who has an account"
    with tenant_context(world.alpha.tenant):
        failed = Entry.objects.filter(action="sign_in.failed")
        kept = json.dumps(list(failed.values("target", "after", "actor_id", "actor_name", "address")))
        assert failed.count() == 2
    assert "@" not in kept
    assert "a-wrong-password" not in kept
    assert kept.count("email:") == 2


def test_failures_are_limited_by_address_of_the_mail(world: World) -> None:
    for _ in range(5):
        assert Person(None, world.alpha.host).sign_in(world.alpha.owner.email, "wrong").status_code == 200
    refused = Person(None, world.alpha.host).sign_in(world.alpha.owner.email)
    assert "Too many failed" in refused.content.decode()
    assert Person(None, world.alpha.host).sign_in(world.alpha.member.email).status_code == 302


def test_sign_ins_are_limited_by_ip_address(world: World, settings) -> None:
    settings.ACCOUNT_RATE_LIMITS = settings.ACCOUNT_RATE_LIMITS | {"login": "2/m/ip"}
    for _ in range(2):
        assert Person(None, world.alpha.host).sign_in(world.alpha.owner.email).status_code == 302
    assert Person(None, world.alpha.host).sign_in(world.alpha.owner.email).status_code == 429


def test_without_redis_nobody_signs_in_and_who_is_signed_in_stays_so(world: World, settings) -> None:
    signed_in = Person(world.alpha.owner, world.alpha.host)
    person = Person(None, world.alpha.host)
    token = person.token()
    settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": "redis://127.0.0.1:1/0"}}
    response = person.client.post(
        "/accounts/login/", {"login": world.alpha.owner.email, "password": PASSWORD}, headers={"X-CSRFToken": token}
    )
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert signed_in.client.get("/accounts/").status_code == 200


def test_a_closed_account_does_not_open(world: World) -> None:
    signed_in = Person(world.alpha.owner, world.alpha.host)
    User.objects.filter(pk=world.alpha.owner.pk).update(is_active=False)
    person = Person(None, world.alpha.host)
    assert person.sign_in(world.alpha.owner.email)["Location"] == "/accounts/inactive/"
    assert person.client.get("/accounts/inactive/").status_code == 200
    assert signed_in.api("GET", "me/")[0] == 401


def test_a_second_factor_is_asked_for_at_the_admin_too(world: World) -> None:
    add_app(Person(world.alpha.owner, world.alpha.host))
    secret = Authenticator.objects.get(user=world.alpha.owner, type="totp")
    person = Person(None, world.alpha.host)
    assert person.sign_in(world.alpha.owner.email, following="/admin/")["Location"].startswith(
        "/accounts/2fa/authenticate/"
    )
    assert person.client.get("/admin/").status_code == 302
    assert person.api("GET", "me/")[0] == 401
    assert person.post("/accounts/2fa/authenticate/", code="000000").status_code == 200
    assert ("sign_in.failed", {"method": "second_factor"}) in entries(world.alpha)
    assert person.client.get("/admin/").status_code == 302
    assert ("second_factor.added", {"type": "totp"}) in entries(world.alpha)
    assert "secret" in secret.data


def test_the_app_opens_and_its_secret_lies_sealed(world: World) -> None:
    secret = add_app(Person(world.alpha.owner, world.alpha.host))
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(data::text, ' ') FROM mfa_authenticator")
        kept = cursor.fetchone()[0]
    assert secret not in kept
    from django.core.cache import cache

    cache.clear()  # a code is good once, and the one that turned the app on was this minute's
    person = Person(None, world.alpha.host)
    person.sign_in(world.alpha.owner.email, following="/admin/")
    code = app_code(secret)
    assert person.post("/accounts/2fa/authenticate/", code=code).status_code == 302
    assert person.client.get("/admin/").status_code == 200
    again = Person(None, world.alpha.host)
    again.sign_in(world.alpha.owner.email)
    assert again.post("/accounts/2fa/authenticate/", code=code).status_code == 200, "a code is good once"


def test_a_recovery_code_opens_once(world: World) -> None:
    add_app(Person(world.alpha.owner, world.alpha.host))
    codes = Authenticator.objects.get(user=world.alpha.owner, type="recovery_codes").wrap().get_unused_codes()
    assert len(codes) == 10
    for status in (302, 200):
        person = Person(None, world.alpha.host)
        person.sign_in(world.alpha.owner.email)
        assert person.post("/accounts/2fa/authenticate/", code=codes[0]).status_code == status


def test_a_passkey_opens_without_a_password(world: World) -> None:
    owner, key = Person(world.alpha.owner, world.alpha.host), SecurityKey(f"http://{world.alpha.host}")
    reauthenticate(owner)
    page = owner.client.get("/accounts/2fa/webauthn/add/")
    credential = key.create(page.context["js_data"]["creation_options"])
    added = owner.post("/accounts/2fa/webauthn/add/", name="Phone", passwordless="on", credential=credential)
    assert added.status_code == 302
    listed = owner.client.get("/accounts/2fa/webauthn/").content.decode()
    assert "Phone" in listed
    assert "Passkey" in listed
    person = Person(None, world.alpha.host)
    options = person.client.get("/accounts/2fa/webauthn/login/", headers={"Accept": "application/json"}).json()
    answer = key.get(options["request_options"])
    assert person.post("/accounts/2fa/webauthn/login/", credential=answer, next="/admin/").status_code == 302
    assert person.client.get("/admin/").status_code == 200
    replayed = Person(None, world.alpha.host)
    replayed.post("/accounts/2fa/webauthn/login/", credential=answer)
    assert replayed.api("GET", "me/")[0] == 401


def test_changes_to_an_account_ask_for_the_password_again(world: World) -> None:
    person = Person(world.alpha.owner, world.alpha.host)
    for path in ("2fa/totp/activate/", "2fa/webauthn/add/"):
        assert person.client.get(f"/accounts/{path}")["Location"].startswith("/accounts/reauthenticate/")


def test_a_forgotten_password_is_set_by_a_mailed_link(world: World) -> None:
    person = Person(None, world.alpha.host)
    for email in (world.alpha.owner.email, "nobody@elsewhere.example"):
        assert person.post("/accounts/password/reset/", email=email).status_code == 302
    assert [message.to for message in mail.outbox] == [[world.alpha.owner.email]]
    form = person.client.get(mailed_link())["Location"]
    fields = {"password1": "tulip-anvil-94-harbour", "password2": "tulip-anvil-94-harbour"}
    assert person.post(form, **fields).status_code == 302
    assert person.api("GET", "me/")[0] == 401
    assert person.sign_in(world.alpha.owner.email, "tulip-anvil-94-harbour").status_code == 302
    assert "password.reset" in [action for action, _ in entries(world.alpha)]
    assert person.client.get(mailed_link(0)).status_code == 200  # says that it was used


def test_a_changed_password_ends_other_sessions(world: World) -> None:
    here, there = Person(None, world.alpha.host), Person(None, world.alpha.host)
    for person in (here, there):
        person.sign_in(world.alpha.owner.email)
    new = "tulip-anvil-94-harbour"
    reauthenticate(here)
    changed = here.post("/accounts/password/change/", oldpassword=PASSWORD, password1=new, password2=new)
    assert changed.status_code == 302
    assert (here.api("GET", "me/")[0], there.api("GET", "me/")[0]) == (200, 401)
    assert "password.changed" in [action for action, _ in entries(world.alpha)]


def test_other_sessions_are_listed_and_ended(world: World) -> None:
    here, there = Person(None, world.alpha.host), Person(None, world.alpha.host)
    for person in (here, there):
        person.sign_in(world.alpha.owner.email)
    page = here.client.get("/accounts/sessions/").content.decode()
    assert page.count("127.0.0.1") == 2
    assert here.post("/accounts/sessions/").status_code == 302
    assert (here.api("GET", "me/")[0], there.api("GET", "me/")[0]) == (200, 401)


def test_an_address_changes_when_the_new_one_is_proven(world: World) -> None:
    person = Person(world.alpha.owner, world.alpha.host)
    reauthenticate(person)
    assert person.post("/accounts/email/", action_add="", email="moved@alpha.localhost").status_code == 302
    user = User.objects.get(pk=world.alpha.owner.pk)
    assert user.email == "owner@alpha.localhost"
    link = next(
        re.search(r"https?://[^/\s]+(/accounts/confirm-email/\S+)", str(message.body))[1]  # type: ignore[index]
        for message in mail.outbox
        if message.to == ["moved@alpha.localhost"]
    )
    assert person.post(link).status_code == 302
    user.refresh_from_db()
    assert user.email == "moved@alpha.localhost"


def test_sign_up_is_closed_unless_the_setting_opens_it(world: World, settings) -> None:
    fields = {
        "email": "me@people.example",
        "password1": "tulip-anvil-94-harbour",
        "password2": "tulip-anvil-94-harbour",
    }
    stranger = Person(None)
    assert "closed" in stranger.post("/accounts/signup/", **fields).content.decode().lower()
    assert not User.objects.filter(email="me@people.example").exists()
    settings.OPEN_SIGNUP = True
    assert stranger.post("/accounts/signup/", **fields).status_code == 302
    assert stranger.sign_in("me@people.example", fields["password1"])["Location"].startswith("/accounts/confirm-email/")
    assert stranger.api("GET", "me/")[0] == 401, "an address that is not proven opens nothing"
    assert stranger.post(mailed_link(0)).status_code == 302
    assert stranger.sign_in("me@people.example", fields["password1"]).status_code == 302
    assert stranger.api("GET", "me/")[1]["data"]["tenants"] == []


def test_the_admin_has_no_way_in_of_its_own(world: World) -> None:
    client = Client(headers={"Host": PLATFORM})
    client.post("/admin/login/", {"username": world.operator.email, "password": PASSWORD})
    assert client.get("/admin/").status_code == 302
    assert client.get("/admin/login/?next=/admin/")["Location"] == "/accounts/login/?next=/admin/"
    client.force_login(world.operator)
    assert client.get("/admin/").status_code == 200
    assert client.get("/admin/password_change/")["Location"] == "/accounts/password/change/"
    for model in ("account/emailaddress", "mfa/authenticator", "socialaccount/socialapp", "usersessions/usersession"):
        assert client.get(f"/admin/{model}/").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "login/", "signup/", "logout/", "password/reset/", "password/reset/done/", "password/change/", "email/",
        "confirm-email/", "2fa/", "2fa/totp/activate/", "2fa/webauthn/", "2fa/webauthn/add/",
        "2fa/recovery-codes/generate/",
        "sessions/", "reauthenticate/", "sso/", "inactive/", "",
    ],
)  # fmt: skip
def test_pages_keep_the_content_security_policy(world: World, path: str) -> None:
    """No script of a page stands in the page, and nothing comes from elsewhere."""
    person = Person(world.alpha.owner, world.alpha.host)
    add_app(person)
    for client in (person.client, Client(headers={"Host": world.alpha.host})):
        response = client.get(f"/accounts/{path}", follow=True)
        page = response.content.decode()
        if response.redirect_chain and response.redirect_chain[-1][0] == "/":
            continue  # who is not signed in need not sign out
        assert response.status_code == (404 if path == "sso/" else 200)
        assert "script-src 'self'" in response["Content-Security-Policy"]
        assert "unsafe-inline" not in response["Content-Security-Policy"].split("script-src")[1].split(";")[0]
        for script in re.findall(r"<script([^>]*)>", page):
            assert 'src="/static/' in script or "application/json" in script
        assert not re.search(r"""\son\w+=["']|(src|href)=["'](https?:)?//""", page)
        assert 'lang="en"' in page
        assert 'href="/static/people.css"' in page


def test_nothing_of_a_tenant_shows_on_a_page_to_strangers(world: World) -> None:
    page = Client(headers={"Host": world.alpha.host}).get("/accounts/login/").content.decode()
    assert "Alpha" in page
    assert "owner@" not in page


def test_passwords_are_hashed_off_the_event_loop() -> None:
    """Each request runs in a thread of its own: no view of this room is async, so none hashes on the loop."""
    from asgiref.sync import iscoroutinefunction
    from django.urls import get_resolver

    for name in ("account_login", "account_signup", "account_reauthenticate", "people_invitation", "oauth_token"):
        pattern = get_resolver().reverse_dict.getlist(name)
        assert pattern
    from allauth.account import views

    from tenants.people import pages
    from tenants.people.oauth import endpoint

    for view in (views.login, views.signup, views.reauthenticate, pages.invitation, endpoint.token):
        assert not iscoroutinefunction(view)
