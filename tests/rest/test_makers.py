"""Client secrets are worth what their maker is: people who are signed in, and OAuth clients, beside API keys."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from channels.db import database_sync_to_async
from django.conf import settings
from django.test import Client

from agentvoicebox.stack.valkey import EmbeddedValkey
from realtime.runtime.passes import Passes
from tenants.access import announce
from tenants.ended import AccessEnded
from tenants.models import Membership, OAuthClient, Tenant, User
from tenants.people.oauth.clients import create_client, revoke_client
from tenants.people.oauth.tokens import issue_token
from tenants.people.operations import add_member, change_role, remove_member
from tenants.permissions import Role, Scope
from tests.record.world import World
from tests.rest.conftest import Connect, Speech
from tests.rest.office import Office, Socket, office
from tests.rest.test_transcriptions import recording

__all__ = ["office"]
CSRF = "c" * 32
SECRETS = "/v1/realtime/client_secrets"


async def commit(do: Callable[..., Any], **fields: Any) -> Any:
    """In another thread than the test's: there no test's transaction is open."""
    return await database_sync_to_async(do)(**fields)


@dataclass
class Browser:
    """Of a person who is signed in; its pages know the CSRF token."""

    http: httpx2.AsyncClient
    membership: Membership

    async def secret(self, **session: Any) -> str:
        answer = await self.http.post(SECRETS, json={"session": {"type": "realtime", **session}})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["value"])


def sign_in(user: User) -> str:
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


@pytest.fixture
async def browser(connect: Connect, world: World) -> AsyncIterator[Browser]:
    email = f"developer-{time.time_ns()}@alpha.localhost"
    membership = await commit(add_member, tenant=world.alpha.tenant, email=email, role=Role.DEVELOPER)
    http = connect(None)
    http.cookies.set(settings.SESSION_COOKIE_NAME, await commit(sign_in, user=membership.user))
    http.cookies.set(settings.CSRF_COOKIE_NAME, CSRF)
    http.headers["X-CSRFToken"] = CSRF
    yield Browser(http, membership)
    await database_sync_to_async(User.objects.filter(email=email).delete)()


@dataclass
class Program:
    """An OAuth client with a token."""

    client: OAuthClient
    http: httpx2.AsyncClient
    token: str

    async def secret(self) -> str:
        answer = await self.http.post(SECRETS)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["value"])


@pytest.fixture
async def program(connect: Connect, world: World) -> AsyncIterator[Program]:
    scopes = [Scope.REALTIME, Scope.SPEECH]
    client, _ = await commit(create_client, tenant=world.alpha.tenant, name="dialler", scopes=scopes)
    token = await commit(issue_token, client=client, scopes=scopes)
    yield Program(client, connect(token), token)
    await database_sync_to_async(OAuthClient.objects.filter(pk=client.pk).delete)()


async def end_of(call: Socket) -> tuple[float, str]:
    """How long it took, and the reason."""
    began = time.monotonic()
    async with asyncio.timeout(8):
        await call.task
    assert call.closed is not None
    assert call.closed[0] == 3000
    return time.monotonic() - began, call.closed[1].removeprefix("invalid_request_error.")


# ---- people ----


async def test_a_page_of_a_signed_in_person_fetches_a_secret_and_opens_the_socket_with_it(
    browser: Browser, office: Office
) -> None:
    call = office.call(await browser.secret(model="agent:alpha-desk", instructions="Be a pirate."), "")
    created = await call.until("session.created")
    assert created["session"]["instructions"] == "Be a pirate."
    tenant, started = office.archive.events[0]
    assert (tenant, started.key_id) == ("alpha", f"person_{browser.membership.user_id}")  # type: ignore[union-attr]
    call.send(type="response.create")
    assert (await call.until("response.done"))["response"]["status"] == "completed"
    assert (await call.until("rate_limits.updated"))["rate_limits"][0]["limit"] == settings.LIMITS[
        "requests_per_minute"
    ]


async def test_people_may_use_the_rest_of_v1_too(browser: Browser, speech: Speech) -> None:
    assert (await browser.http.get("/v1/models")).status_code == 200
    body = {"model": "tts-1", "voice": "alloy", "input": "Hello.", "response_format": "pcm"}
    assert (await browser.http.post("/v1/audio/speech", json=body)).status_code == 200
    files = {"file": recording(1.0)}
    answer = await browser.http.post("/v1/audio/transcriptions", data={"model": "whisper-1"}, files=files)
    assert (answer.status_code, answer.json().get("text")) == (200, speech.said[0])


async def test_without_the_csrf_token_nothing_is_done(browser: Browser, speech: Speech) -> None:
    browser.http.headers["X-CSRFToken"] = "d" * 32
    for address in (SECRETS, "/v1/audio/speech"):
        answer = await browser.http.post(address, json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "csrf_failed")
    del browser.http.headers["X-CSRFToken"]
    files = {"file": recording(1.0)}
    form = {"model": "whisper-1", "csrfmiddlewaretoken": CSRF}
    answer = await browser.http.post("/v1/audio/transcriptions", data=form, files=files)
    assert answer.json()["error"]["code"] == "csrf_failed"
    browser.http.headers |= {"X-CSRFToken": CSRF, "Origin": "https://evil.example"}
    assert (await browser.http.post(SECRETS)).json()["error"]["code"] == "csrf_failed"
    assert not speech.spoken
    assert not speech.heard
    assert (await browser.http.get("/v1/models")).status_code == 200


async def test_a_key_beside_the_cookie_counts_before_it(browser: Browser, world: World) -> None:
    answer = await browser.http.get("/v1/models/agent:alpha-desk")
    assert answer.status_code == 200
    other = {"Authorization": f"Bearer {world.beta.key}"}
    assert (await browser.http.get("/v1/models/agent:alpha-desk", headers=other)).status_code == 404
    wrong = {"Authorization": "Bearer avb_live_" + "x" * 40}
    assert (await browser.http.post(SECRETS, headers=wrong)).status_code == 401
    assert (await browser.http.post(SECRETS, headers={"Authorization": "Basic eA=="})).status_code == 401


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.VIEWER])
async def test_a_role_without_the_scope_makes_none(browser: Browser, role: Role) -> None:
    await commit(change_role, membership=browser.membership, role=role, as_owner=False)
    answer = await browser.http.post(SECRETS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")


async def test_outsiders_and_strangers_make_none(browser: Browser, connect: Connect, world: World) -> None:
    await commit(remove_member, membership=browser.membership, as_owner=False)
    answer = await browser.http.post(SECRETS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "tenant_not_chosen")
    stranger = connect(None)
    stranger.cookies.set(settings.SESSION_COOKIE_NAME, "s" * 32)
    settings_before, settings.ANONYMOUS_REQUESTS_PER_MINUTE = settings.ANONYMOUS_REQUESTS_PER_MINUTE, 3
    try:
        statuses = [(await stranger.post(SECRETS)).status_code for _ in range(4)]
    finally:
        settings.ANONYMOUS_REQUESTS_PER_MINUTE = settings_before
    assert statuses[-1] == 429
    assert set(statuses[:-1]) <= {401, 429}


async def test_a_person_has_only_so_many_live_secrets(browser: Browser) -> None:
    from realtime.rest import ports
    from realtime.runtime.secrets import ClientSecrets

    few = ClientSecrets(settings.REDIS_URL, timeout_s=1.0, per_key=1)
    import dataclasses

    ports.install(dataclasses.replace(ports.installed(), secrets=few))
    await browser.secret()
    answer = await browser.http.post(SECRETS)
    assert answer.status_code == 429
    assert "this person has 1 that have not expired yet" in answer.json()["error"]["message"]
    await few.stop()


@pytest.mark.parametrize("how", ["removed", "demoted", "demoted by an operator"])
async def test_who_is_removed_or_demoted_is_out_within_a_second(
    browser: Browser, office: Office, world: World, how: str
) -> None:
    secret = await browser.secret()
    mine, other = office.call(secret, ""), office.call(world.alpha.key)
    await mine.until("session.created")
    await other.until("session.created")
    await asyncio.sleep(0.1)  # the subscription is there
    membership = browser.membership
    if how == "removed":
        await commit(remove_member, membership=membership, as_owner=False)
    elif how == "demoted":
        await commit(change_role, membership=membership, role=Role.SUPPORT, as_owner=False)
    else:
        email = membership.user.email
        await commit(add_member, tenant=membership.tenant, email=email, role=Role.VIEWER)
    took_s, reason = await end_of(mine)
    assert took_s < 4  # sooner than the re-check would find it
    assert reason == ("member_removed" if how == "removed" else "role_changed")
    assert not other.task.done()
    refused = "member_removed" if how == "removed" else "insufficient_scope"
    assert await office.call(secret, "").refusal() == (3000, "invalid_request_error", refused)


async def test_a_change_that_keeps_the_scope_keeps_the_call(browser: Browser, office: Office) -> None:
    secret = await browser.secret()
    call = office.call(secret, "")
    await call.until("session.created")
    await commit(change_role, membership=browser.membership, role=Role.ADMIN, as_owner=False)
    await asyncio.sleep(0.3)
    assert not call.task.done()
    await office.call(secret, "").until("session.created")


@pytest.mark.parametrize("how", ["closed account", "membership gone", "role"])
async def test_what_nobody_told_is_found_by_the_next_look(
    browser: Browser, office: Office, passes: Passes, how: str
) -> None:
    secret = await browser.secret()
    call = office.call(secret, "")
    await call.until("session.created")
    user, membership = browser.membership.user, Membership.objects.filter(pk=browser.membership.pk)
    changes = {
        "closed account": lambda: User.objects.filter(pk=user.pk).update(is_active=False),
        "membership gone": membership.delete,
        "role": lambda: membership.update(role=Role.VIEWER),
    }
    await commit(changes[how])
    passes._missed.set()  # the next look, without the wait for it
    _, reason = await end_of(call)
    assert reason == ("role_changed" if how == "role" else "member_removed")
    refused = "insufficient_scope" if how == "role" else "member_removed"
    assert (await office.call(secret, "").refusal())[2] == refused


async def test_a_suspended_tenant_opens_to_no_secret_of_its_people_and_clients(
    browser: Browser, program: Program, office: Office, world: World
) -> None:
    secrets = [await browser.secret(), await program.secret()]
    calls = [office.call(secret, "") for secret in secrets]
    for call in calls:
        await call.until("session.created")
    await asyncio.sleep(0.1)
    alpha = Tenant.objects.filter(pk=world.alpha.tenant.pk)

    def turn(status: str) -> None:
        alpha.update(status=status)
        if status == "suspended":
            announce(AccessEnded(tenant="alpha", reason="tenant_suspended"))

    await commit(turn, status="suspended")
    try:
        for call in calls:
            took_s, reason = await end_of(call)
            assert took_s < 4  # sooner than the re-check would find it
            assert reason == "tenant_suspended"
        for secret in secrets:
            assert (await office.call(secret, "").refusal())[2] == "tenant_suspended"
        answer = await browser.http.post(SECRETS)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "tenant_suspended")
    finally:
        await commit(turn, status="active")


async def test_a_person_of_two_tenants_is_removed_from_one(browser: Browser, office: Office, world: World) -> None:
    elsewhere = {"tenant": world.beta.tenant, "email": browser.membership.user.email}
    secret = await browser.secret()
    await commit(add_member, **elsewhere, role=Role.DEVELOPER)
    call = office.call(secret, "")
    await call.until("session.created")
    await asyncio.sleep(0.1)
    await commit(lambda: Membership.objects.get(user=browser.membership.user, tenant=world.beta.tenant).delete())
    await commit(announce, ended=AccessEnded(tenant="beta", key_id=call_key(browser), reason="member_removed"))
    await asyncio.sleep(0.3)
    assert not call.task.done()


def call_key(browser: Browser) -> str:
    return f"person_{browser.membership.user_id}"


# ---- OAuth clients ----


async def test_a_secret_made_by_an_oauth_client_opens_the_socket(program: Program, office: Office) -> None:
    call = office.call(await program.secret(), "")
    await call.until("session.created")
    assert office.archive.events[0][1].key_id == program.client.client_id  # type: ignore[union-attr]


async def test_a_revoked_clients_calls_and_secrets_end_within_a_second(program: Program, office: Office) -> None:
    secret = await program.secret()
    calls = [office.call(program.token), office.call(secret, "")]
    for call in calls:
        await call.until("session.created")
    await asyncio.sleep(0.1)
    await commit(revoke_client, client=program.client)
    for call in calls:
        took_s, reason = await end_of(call)
        assert took_s < 4  # sooner than the re-check would find it
        assert reason == "oauth_client_revoked"
    for key, query in ((program.token, "model=gpt-realtime"), (secret, "")):
        assert (await office.call(key, query).refusal())[2] == "oauth_client_revoked"


async def test_a_revocation_that_nobody_told_is_found_by_the_next_look(
    program: Program, office: Office, passes: Passes, valkey_server: EmbeddedValkey
) -> None:
    call = office.call(program.token)
    await call.until("session.created")

    def revoke() -> None:
        from django.utils import timezone

        OAuthClient.objects.filter(pk=program.client.pk).update(revoked_at=timezone.now())

    await commit(revoke)
    passes._missed.set()
    assert (await end_of(call))[1] == "oauth_client_revoked"


async def test_a_token_that_expires_ends_no_call_and_opens_no_new_one(
    connect: Connect, program: Program, office: Office, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "OAUTH_TOKEN_S", 2)
    token = await commit(issue_token, client=program.client, scopes=[Scope.REALTIME])
    call = office.call(token)
    await call.until("session.created")
    secret = (await connect(token).post(SECRETS)).json()["value"]
    await asyncio.sleep(2.1)
    passes._missed.set()
    assert (await office.call(token).refusal())[2] == "token_expired"
    call.send(type="response.create")
    assert (await call.until("response.done"))["response"]["status"] == "completed"
    await office.call(secret, "").until("session.created")
