"""The socket's door with real keys and limits: a consumer, an admission, two tenants; the engines are scripted."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django_tenants.utils import schema_context
from pytest_django import Settings

from agentvoicebox.stack.valkey import EmbeddedValkey
from realtime.runtime.door import ConnectGate
from realtime.runtime.keys import Keys
from realtime.runtime.passes import Passes
from realtime.runtime.secrets import ClientSecret, ClientSecrets
from tenants.keys.operations import change_key, revoke_key
from tenants.keys.queries import find_key
from tenants.limits.models import EndUserLimits
from tenants.models import ApiKey
from tests.record.world import World
from tests.rest.office import Office, key_of, office

__all__ = ["office"]


async def test_a_call_is_let_in_with_the_keys_own_agent_and_its_end_user(office: Office, world: World) -> None:
    call = office.call(await key_of(world, agent="alpha-desk"), OpenAI_Safety_Identifier="caller:1")
    created = await call.until("session.created")
    assert created["session"]["instructions"] == "Secret of alpha"
    started = office.archive.events[0][1]
    assert started.end_user == "caller:1"  # type: ignore[union-attr]
    query = office.call(await key_of(world), "model=gpt-realtime&user=from-query")
    await query.until("session.created")
    assert {event.end_user for _, event in office.archive.events if hasattr(event, "channel")} == {
        "caller:1", "from-query",
    }  # fmt: skip


@pytest.mark.parametrize("named", ["real", ""])
async def test_a_client_secret_names_the_end_user_whatever_the_browser_says(
    office: Office, world: World, secrets: ClientSecrets, named: str
) -> None:
    key = await database_sync_to_async(find_key)(world.alpha.key)
    secret = ClientSecret(
        tenant="alpha", key_id=key.public_id, agent=None, session={"type": "realtime"},
        expires_at=int(time.time()) + 60, end_user=named,
    )  # fmt: skip
    call = office.call(await secrets.create(secret, 60), "user=forged")
    await call.until("session.created")
    assert office.archive.events[0][1].end_user == named  # type: ignore[union-attr]


async def test_what_is_left_is_told_after_a_response_and_shared_with_rest(office: Office, world: World) -> None:
    call = office.call(await key_of(world, limits={"requests_per_minute": 2}))
    await call.until("session.created")
    call.send(type="response.create")
    requests, tokens = (await call.until("rate_limits.updated"))["rate_limits"]
    assert (requests["name"], requests["limit"], requests["remaining"]) == ("requests", 2, 1)
    assert (tokens["name"], tokens["limit"]) == ("tokens", 100_000)
    assert 99_000 < tokens["remaining"] < 100_000
    call.events.clear()
    call.send(type="response.create")
    await call.until("rate_limits.updated")
    call.send(type="response.create", event_id="third")
    error = (await call.until("error"))["error"]
    assert (error["type"], error["code"], error["event_id"]) == ("rate_limit_error", "rate_limit_exceeded", "third")
    assert not call.task.done()


async def test_revocation_ends_the_calls_of_the_key_within_a_second_and_no_others(office: Office, world: World) -> None:
    secret = await key_of(world)
    mine, other = office.call(secret), office.call(world.beta.key)
    await mine.until("session.created")
    await other.until("session.created")
    await asyncio.sleep(0.1)  # the subscription is there
    key = await database_sync_to_async(find_key)(secret)
    began = time.monotonic()
    await database_sync_to_async(revoke_key)(key=key)
    async with asyncio.timeout(5):
        await mine.task
    assert time.monotonic() - began < 4  # sooner than the re-check would find it
    assert mine.closed == (3000, "invalid_request_error.api_key_revoked")
    assert mine.events[-1]["error"]["code"] == "api_key_revoked"
    assert not other.task.done()
    assert await office.call(secret).refusal() == (3000, "invalid_request_error", "api_key_revoked")
    # One of nobody's is told by its own words, as OpenAI's are.
    assert await office.call("avb_live_" + "x" * 40).refusal() == (3000, "invalid_request_error", "invalid_api_key")


async def test_a_key_opens_calls_from_its_networks_only(office: Office, world: World) -> None:
    secret = await key_of(world, allowed_networks=["198.51.100.0/24"])
    assert await office.call(secret).refusal() == (3000, "invalid_request_error", "ip_not_allowed")
    forged = office.call(secret, X_Forwarded_For="198.51.100.7")
    assert (await forged.refusal())[2] == "ip_not_allowed"
    await office.call(secret, peer="198.51.100.7").until("session.created")


async def test_a_warm_key_needs_no_query_but_the_agents(office: Office, world: World, keys: Keys) -> None:
    secret = await key_of(world)
    await office.call(secret).until("session.created")

    async def nobody(secret: str, address: str) -> Any:
        raise AssertionError("the key was looked up")

    keys._look_up = nobody
    await office.call(secret).until("session.created")


async def test_no_more_sessions_than_there_may_be_and_a_place_is_free_when_one_ends(
    office: Office, world: World
) -> None:
    secret = await key_of(world, limits={"concurrent_sessions": 2})
    first, second = office.call(secret), office.call(secret)
    await first.until("session.created")
    await second.until("session.created")
    refused = office.call(secret)
    assert await refused.refusal() == (1013, "rate_limit_error", "too_many_sessions")
    assert "concurrent_sessions of this API key: Limit 2" in refused.events[0]["error"]["message"]
    await first.hang_up()
    await asyncio.sleep(0.2)
    await office.call(secret).until("session.created")


async def test_three_sessions_of_one_end_user_and_others_are_let_in(office: Office, world: World) -> None:
    for _ in range(3):
        await office.call(world.alpha.key, OpenAI_Safety_Identifier="a:b").until("session.created")
    refused = office.call(world.alpha.key, OpenAI_Safety_Identifier="a:b")
    assert await refused.refusal() == (1013, "rate_limit_error", "too_many_sessions")
    await office.call(world.alpha.key, OpenAI_Safety_Identifier="a").until("session.created")
    await office.call(world.beta.key, OpenAI_Safety_Identifier="a:b").until("session.created")


async def test_an_end_user_with_a_limit_of_their_own(office: Office, world: World) -> None:
    def lower() -> None:
        with schema_context("alpha"):
            EndUserLimits.objects.update_or_create(
                end_user="heavy", defaults={"public_id": "eul_1", "limits": {"sessions_per_end_user": 1}}
            )

    def restore() -> None:
        with schema_context("alpha"):
            EndUserLimits.objects.all().delete()

    await database_sync_to_async(lower)()
    try:
        await office.call(world.alpha.key, OpenAI_Safety_Identifier="heavy").until("session.created")
        refused = office.call(world.alpha.key, OpenAI_Safety_Identifier="heavy")
        assert (await refused.refusal())[2] == "too_many_sessions"
    finally:
        await database_sync_to_async(restore)()


async def test_connections_per_second_of_a_key_and_of_an_instance(office: Office, world: World) -> None:
    secret = await key_of(world, limits={"connections_per_second": 1})
    await office.call(secret).until("session.created")
    assert await office.call(secret).refusal() == (1013, "rate_limit_error", "rate_limit_exceeded")
    await asyncio.sleep(1.05)
    await office.call(secret).until("session.created")
    office.voice = replace(office.voice, gate=ConnectGate(2))
    for _ in range(2):
        await office.call(world.beta.key).until("session.created")
    assert await office.call(world.beta.key).refusal() == (1013, "rate_limit_error", "too_many_connections")


async def test_one_address_takes_only_its_share_of_an_instance(office: Office, world: World) -> None:
    office.voice = replace(office.voice, gate=ConnectGate(100, 2))
    for _ in range(2):
        assert (await office.call("avb_live_guess", peer="8.8.8.8").refusal())[2] == "invalid_api_key"
    assert (await office.call("avb_live_guess", peer="8.8.8.8").refusal())[2] == "too_many_connections"
    await office.call(world.beta.key, peer="8.8.4.4").until("session.created")
    for _ in range(3):  # behind a load balancer that nobody named
        assert (await office.call("avb_live_guess", peer="10.0.0.7").refusal())[2] == "invalid_api_key"


async def test_a_refused_session_gives_its_place_back(office: Office, world: World, secrets: ClientSecrets) -> None:
    secret = await key_of(world, limits={"concurrent_sessions": 1})
    key = await database_sync_to_async(find_key)(secret)
    broken = ClientSecret(
        tenant="alpha", key_id=key.public_id, agent=None, expires_at=int(time.time()) + 60,
        session={"type": "realtime", "audio": {"output": {"voice": "gone"}}},
    )  # fmt: skip
    assert (await office.call(await secrets.create(broken, 60), "").refusal())[0] == 4000
    await office.call(secret).until("session.created")


async def test_without_redis_new_sessions_are_refused_and_running_ones_go_on(
    office: Office, world: World, valkey_server: EmbeddedValkey
) -> None:
    call = office.call(world.alpha.key)
    await call.until("session.created")
    valkey_server.stop()
    try:
        assert await office.call(world.beta.key).refusal() == (1013, "server_error", "service_unavailable")
        call.send(type="response.create")
        assert (await call.until("response.done"))["response"]["status"] == "completed"
        await call.until("rate_limits.updated")
    finally:
        valkey_server.start()


async def test_a_scope_that_is_taken_away_closes_the_door_at_once(office: Office, world: World) -> None:
    secret = await key_of(world)
    await office.call(secret).until("session.created")
    key = await database_sync_to_async(find_key)(secret)
    await database_sync_to_async(change_key)(key=key, scopes=["speech"])
    assert (await office.call(secret).refusal())[2] == "insufficient_scope"


async def test_expiry_ends_what_is_inside(office: Office, world: World, passes: Passes, settings: Settings) -> None:
    secret = await key_of(world)
    call = office.call(secret)
    await call.until("session.created")
    key = await database_sync_to_async(find_key)(secret)

    def expire() -> None:
        from django.utils import timezone

        ApiKey.objects.filter(pk=key.pk).update(expires_at=timezone.now())

    await database_sync_to_async(expire)()
    passes._missed.set()  # the next look, without the wait for it
    async with asyncio.timeout(5):
        await call.task
    assert call.closed == (3000, "invalid_request_error.api_key_expired")
