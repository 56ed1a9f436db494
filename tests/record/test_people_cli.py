"""``./avb people``, ``./avb tenant api-key``, Django's ``createsuperuser``: who can sign in then, and the audit."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from allauth.account.models import EmailAddress
from click.testing import CliRunner, Result
from django.core import mail
from django.core.management import call_command
from django_tenants.utils import tenant_context

from agentvoicebox.cli import people, tenant
from agentvoicebox.management.commands.ensure_demo import EMAIL, ensure_owner
from tenants.audit.models import Entry
from tenants.keys.queries import find_key
from tenants.lifecycle.operations import suspend_tenant
from tenants.lifecycle.platform_keys import issue_platform_key
from tenants.models import EmailDomain, Membership, Plan, User
from tenants.people import sign_on
from tenants.permissions import PLATFORM_SCOPES
from tests.record.people import Person, commits, mailed_link
from tests.record.world import PASSWORD, Api, World

__all__ = ["commits"]
pytestmark = pytest.mark.usefixtures("commits")
NEW = "new@platform.localhost"
TWICE = f"{PASSWORD}\n{PASSWORD}\n"


@pytest.fixture
def avb(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("agentvoicebox.cli.tenant.stack_environment", dict)

    def run(group: Any, *arguments: str, typed: str = "") -> Result:
        return CliRunner().invoke(group.command, arguments, input=typed)

    return run


def signs_in(email: str) -> dict[str, Any]:
    """Who they are after signing in with the password, by the pages that everybody uses."""
    person = Person(None)
    response = person.sign_in(email)
    assert (response.status_code, response["Location"]) == (302, "/accounts/"), response.content
    return dict(person.api("GET", "me/")[1]["data"])


def entries(action: str) -> list[tuple[str, str, str]]:
    found = Entry.objects.filter(action=action).order_by("seq")
    return list(found.values_list("actor_kind", "target", "actor_name"))


def test_an_operator_is_made_and_signs_in_without_proving_the_address(avb: Any) -> None:
    result = avb(people, "operator", NEW, typed=TWICE)
    assert result.exit_code == 0, result.output
    me = signs_in(NEW)
    assert (me["kind"], set(me["scopes"])) == ("operator", set(PLATFORM_SCOPES))
    person = User.objects.get(email=NEW)
    [(kind, target, name)] = entries("operator.added")
    assert (kind, target) == ("operator", str(person.pk))
    assert name.endswith("at the command line")


def test_an_existing_person_becomes_an_operator_and_keeps_the_password(avb: Any, world: World) -> None:
    result = avb(people, "operator", world.outsider.email.upper())
    assert result.exit_code == 0, result.output
    assert signs_in(world.outsider.email)["kind"] == "operator"
    assert avb(people, "operator", world.outsider.email).exit_code == 0
    assert len(entries("operator.added")) == 1, "twice is once"


@pytest.mark.parametrize(
    ("email", "typed", "words"),
    [(NEW, "123\n123\n", "too short"), ("nobody", TWICE, "looks like somebody@example.com")],
)
def test_what_cannot_be_an_operator(avb: Any, email: str, typed: str, words: str) -> None:
    result = avb(people, "operator", email, typed=typed)
    assert result.exit_code == 1
    assert words in result.output
    assert not User.objects.filter(email=email).exists()


def test_djangos_own_command_makes_somebody_who_signs_in_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    call_command("createsuperuser", email=NEW, interactive=False, verbosity=0)
    assert signs_in(NEW)["kind"] == "operator"


def test_a_tenant_gets_its_first_owner_and_key(avb: Any, world: World) -> None:
    result = avb(people, "add", "alpha", NEW, typed=TWICE)
    assert result.exit_code == 0, result.output
    me = signs_in(NEW)
    assert (me["tenant"], me["role"]) == ("alpha", "owner")
    made = avb(tenant, "api-key", "alpha", "first", "--scope", "agents:read")
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip().splitlines()[-1]
    assert find_key(secret).scopes == ["agents:read"]
    assert Api(secret)("GET", "agents/")[0] == 200
    with tenant_context(world.alpha.tenant):
        assert entries("api_key.created")
        assert entries("member.added")


def invited(result: Result) -> str:
    """The path of the link that is printed, which is the one that was mailed."""
    assert result.exit_code == 0, result.output
    printed = urlsplit(result.stdout.strip().splitlines()[-1])
    assert printed.path == mailed_link()
    return printed.path


def test_a_tenants_first_owner_joins_by_an_invitation(avb: Any, world: World) -> None:
    ended = invited(avb(tenant, "invite", "alpha", NEW, "--url", "https://voice.example/"))
    assert "https://voice.example/accounts/" in str(mail.outbox[-1].body)
    link = invited(avb(tenant, "invite", "alpha", NEW))
    assert f"https://{world.alpha.host}{link}" in str(mail.outbox[-1].body)
    person = Person(None)
    assert person.client.get(ended).status_code == 404, "the second one ended the first"
    person.post(link, name="New", password=PASSWORD)
    me = person.api("GET", "me/")[1]["data"]
    assert (me["tenant"], me["role"]) == ("alpha", "owner")
    with tenant_context(world.alpha.tenant):
        assert [kind for kind, *_ in entries("invitation.created")] == ["operator", "operator"]
        assert entries("invitation.revoked")[0][0] == "operator"
        assert entries("invitation.accepted")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere", NEW), "There is no tenant"),
        (("alpha", "nobody"), "looks like somebody@example.com"),
        (("alpha", NEW, "--role", "king"), "There is no role 'king'"),
        (("alpha", "owner@alpha.localhost"), "belongs to the tenant already"),
    ],
)
def test_who_cannot_be_invited(avb: Any, arguments: tuple[str, ...], words: str) -> None:
    result = avb(tenant, "invite", *arguments)
    assert result.exit_code == 1
    assert words in result.output
    assert mail.outbox == []


def test_nobody_is_invited_to_a_tenant_that_is_closed(avb: Any, world: World) -> None:
    suspend_tenant(tenant=world.alpha.tenant, reason="unpaid")
    result = avb(tenant, "invite", "alpha", NEW)
    assert result.exit_code == 1
    assert "'alpha' is suspended" in result.output


def test_mail_that_cannot_be_sent_is_said_and_a_link_that_was_sent_is_not_printed(
    avb: Any, settings: Any, free_port: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    result = avb(tenant, "invite", "alpha", NEW)
    assert result.exit_code == 1
    assert "was not mailed" in result.output
    monkeypatch.setattr("django.core.mail.EmailMessage.send", lambda _: 1)
    result = avb(tenant, "invite", "alpha", NEW)
    assert result.exit_code == 0, result.output
    assert "/accounts/" not in result.output


def test_programs_of_the_operator_invite_too(world: World) -> None:
    robot = Api(issue_platform_key(name="robot")[1])
    status, answer = robot("POST", "tenants/beta/invitations/", {"email": NEW, "role": "owner"})
    assert (status, answer["data"]["email"], answer["data"]["role"]) == (201, NEW, "owner")
    assert mailed_link() not in str(answer)
    person = Person(None)
    person.post(mailed_link(), name="New", password=PASSWORD)
    assert person.api("GET", "me/")[1]["data"]["role"] == "owner"
    with tenant_context(world.beta.tenant):
        assert entries("invitation.created")[0][::2] == ("operator", "robot")
    assert robot("POST", "tenants/nowhere/invitations/", {"email": NEW, "role": "owner"})[0] == 404
    assert robot("POST", "tenants/beta/invitations/", {"email": "x", "role": "owner"})[1]["error"]["param"] == "email"
    status, answer = robot("POST", "tenants/beta/invitations/", {"email": world.beta.owner.email, "role": "owner"})
    assert (status, answer["error"]["code"]) == (409, "already_member")
    suspend_tenant(tenant=world.alpha.tenant, reason="unpaid")
    status, answer = robot("POST", "tenants/alpha/invitations/", {"email": NEW, "role": "owner"})
    assert (status, answer["error"]["code"]) == (409, "status_refused")


def test_a_plan_is_made(avb: Any, world: World) -> None:
    result = avb(tenant, "plan", "basic", "--name", "Basic", "--limit", "concurrent_sessions=5")
    assert (result.exit_code, result.output) == (0, "plan basic: concurrent_sessions 5\n")
    assert Plan.objects.get(slug="basic").limits == {"concurrent_sessions": 5}
    assert entries("plan.created")[0][0] == "operator"
    assert "A plan 'basic' exists already" in avb(tenant, "plan", "basic").output
    for limit in ("wings=2", "concurrent_sessions=many", "concurrent_sessions"):
        refused = avb(tenant, "plan", "gold", "--limit", limit)
        assert refused.exit_code == 1
        assert limit.partition("=")[0] in refused.output
    assert not Plan.objects.filter(slug="gold").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "nowhere", NEW), "nowhere"),
        (("add", "alpha", NEW, "--role", "king"), "There is no role 'king'"),
        (("accept-domain", "alpha", "unknown.example"), "has not added the e-mail domain 'unknown.example'"),
    ],
)
def test_what_is_not_there_is_said_before_a_password_is_asked_for(avb: Any, arguments: Any, words: str) -> None:
    result = avb(people, *arguments)
    assert result.exit_code == 1
    assert words in result.output
    assert "Password" not in result.output


def test_an_operator_takes_a_domain_for_proven(avb: Any, world: World) -> None:
    sign_on.add_domain(tenant=world.alpha.tenant, domain="alpha.example")
    sign_on.add_domain(tenant=world.beta.tenant, domain="alpha.example")
    result = avb(people, "accept-domain", "alpha", "Alpha.Example")
    assert result.exit_code == 0, result.output
    proven = EmailDomain.objects.exclude(verified_at=None).values_list("tenant__slug", "domain")
    assert list(proven) == [("alpha", "alpha.example")]
    with tenant_context(world.alpha.tenant):
        [entry] = Entry.objects.filter(action="email_domain.verified")
        assert (entry.actor_kind, entry.target, entry.after) == ("operator", "alpha.example", {"by": "operator"})


def test_the_owner_of_the_demo_tenant_can_sign_in(world: World) -> None:
    password = ensure_owner(world.alpha.tenant, "")
    person = Person(None)
    assert person.sign_in(EMAIL, password)["Location"] == "/accounts/"
    assert ensure_owner(world.alpha.tenant, password) == password
    assert Membership.objects.filter(user__email=EMAIL).count() == 1


def test_an_owner_of_the_demo_tenant_whose_address_was_never_proven_is_repaired(world: World) -> None:
    password = ensure_owner(world.alpha.tenant, "")
    for damage in (EmailAddress.objects.all().delete, lambda: EmailAddress.objects.update(verified=False)):
        damage()
        assert ensure_owner(world.alpha.tenant, password) == password
        assert Person(None).sign_in(EMAIL, password)["Location"] == "/accounts/"
