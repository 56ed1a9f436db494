"""``/v1`` within the limits: OpenAI's 429 with its headers, keys from Redis, and answers that end with their key."""

from typing import Any

import httpx2
import openai
import pytest
from channels.db import database_sync_to_async
from openai import AsyncOpenAI
from pytest_django import Settings

from agentvoicebox.stack.valkey import EmbeddedValkey
from realtime.runtime.keys import Keys
from realtime.runtime.passes import Passes
from tenants.ended import AccessEnded
from tenants.keys.operations import change_key, issue_key, revoke_key
from tenants.keys.queries import find_key
from tenants.limits.counters import LimitsUnavailable
from tests.isolation.test_routes import OPENAI
from tests.record.world import World
from tests.rest.conftest import Connect, Speech, look_up


async def limited_key(world: World, **limits: int) -> str:
    _, secret = await database_sync_to_async(issue_key)(tenant=world.alpha.tenant, name="limited", limits=limits)
    return str(secret)


async def test_what_is_left_is_told_in_openais_headers(connect: Connect, world: World) -> None:
    client = connect(await limited_key(world, requests_per_minute=2))
    first = await client.get("/v1/models")
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-reset-requests"] == "1m0s"
    assert first.headers["x-ratelimit-remaining-tokens"] == "100000"
    await client.get("/v1/models")
    refused = await client.get("/v1/models")
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("requests", "rate_limit_exceeded", None)
    assert "requests per min (RPM): Limit 2, Used 2, Requested 1" in error["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert 0 < int(refused.headers["retry-after-ms"]) <= 60_000
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"


async def test_the_stock_sdk_knows_the_error(connect: Connect, world: World) -> None:
    key = await limited_key(world, requests_per_minute=0)
    sdk = AsyncOpenAI(api_key=key, base_url="http://localhost/v1", http_client=connect(None), max_retries=0)
    with pytest.raises(openai.RateLimitError):
        await sdk.models.list()


@pytest.mark.parametrize("address", OPENAI)
async def test_every_address_is_throttled(connect: Connect, world: World, settings: Settings, address: str) -> None:
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 1
    key = await limited_key(world, requests_per_minute=0)
    path = "/" + address.replace("<str:model>", "agent:alpha-desk").replace("(?P<address>.*)", "nothing")
    for secret in (key, None, "avb_live_" + "x" * 40):
        client = connect(secret)
        statuses = [
            (await client.request(method, path)).status_code for _ in range(2) for method in ("GET", "POST", "DELETE")
        ]
        assert statuses.count(429) >= 4, (secret, statuses)
        assert statuses[-1] == 429


async def test_a_known_key_costs_no_query(connect: Connect, world: World, keys: Keys) -> None:
    asked: list[str] = []

    async def noted(secret: str, address: str) -> Any:
        asked.append(secret)
        return await look_up(secret, address)

    keys._look_up = noted
    client = connect(world.alpha.key)
    for _ in range(5):
        assert (await client.get("/v1/audio/voices")).status_code == 200
    assert len(asked) == 1


async def test_a_changed_key_is_looked_up_anew(connect: Connect, world: World) -> None:
    secret = await limited_key(world)
    client = connect(secret)
    assert (await client.get("/v1/models")).status_code == 200
    key = await database_sync_to_async(find_key)(secret)
    await database_sync_to_async(change_key)(key=key, allowed_networks=["192.0.2.0/24"])
    refused = await client.get("/v1/models")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "ip_not_allowed")
    await database_sync_to_async(change_key)(key=key, allowed_networks=[])
    assert (await client.get("/v1/models")).status_code == 200
    await database_sync_to_async(revoke_key)(key=key)
    assert (await client.get("/v1/models")).json()["error"]["code"] == "api_key_revoked"


async def test_an_answer_under_way_ends_with_its_key(
    connect: Connect, world: World, speech: Speech, passes: Passes
) -> None:
    key = await database_sync_to_async(find_key)(world.alpha.key)
    ended = AccessEnded(tenant="alpha", key_id=key.public_id, reason="api_key_revoked")
    synthesise, phrases = speech.synthesise, 0

    async def revoked_meanwhile(text: str, **job: Any) -> Any:
        nonlocal phrases
        phrases += 1
        if phrases > 2:
            passes.end(ended)
        async for chunk in synthesise(text, **job):
            yield chunk

    speech.synthesise = revoked_meanwhile  # type: ignore[method-assign]
    text = "This is one whole sentence of many. " * 20
    body = {"model": "tts-1", "voice": "alloy", "input": text, "stream_format": "sse"}
    answer = await connect(world.alpha.key).post("/v1/audio/speech", json=body)
    assert answer.status_code == 200
    assert '"code":"api_key_revoked"' in answer.text
    assert "speech.audio.done" not in answer.text


async def test_audio_of_requests_counts_in_the_day(connect: Connect, world: World) -> None:
    client = connect(await limited_key(world, audio_minutes_per_day=1))
    body = {"model": "tts-1", "voice": "alloy", "input": "x" * 700, "response_format": "pcm"}
    assert (await client.post("/v1/audio/speech", json=body)).status_code == 200
    for _ in range(100):
        refused: httpx2.Response = await client.post("/v1/audio/speech", json=body | {"input": "Hi."})
        if refused.status_code == 429:
            break
    assert "audio_minutes_per_day: Limit 60000" in refused.json()["error"]["message"]
    assert (await client.get("/v1/models")).status_code == 200


async def test_without_redis_requests_are_told_to_come_again(
    connect: Connect, world: World, valkey_server: EmbeddedValkey
) -> None:
    valkey_server.stop()
    try:
        answer = await connect(world.alpha.key).get("/v1/models")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    finally:
        valkey_server.start()


async def test_an_address_may_try_so_many_unknown_keys(world: World, keys: Keys, settings: Settings) -> None:
    from realtime.runtime.keys import TooManyUnknown
    from tenants.keys.refusals import InvalidKey

    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 3
    for n in range(3):
        with pytest.raises(InvalidKey):
            await keys.find(f"avb_live_{n:040}", "192.0.2.1")
    with pytest.raises(TooManyUnknown):
        await keys.find(world.alpha.key, "192.0.2.1")
    assert (await keys.find(world.alpha.key, "192.0.2.2")).tenant == "alpha"
    # At hand now, it is nothing unknown: a neighbour's guesses lock nobody out who was here before.
    assert (await keys.find(world.alpha.key, "192.0.2.1")).tenant == "alpha"


async def test_no_key_can_be_found_without_redis(keys: Keys, valkey_server: EmbeddedValkey, world: World) -> None:
    valkey_server.stop()
    try:
        with pytest.raises(LimitsUnavailable):
            await keys.find(world.alpha.key, "192.0.2.1")
    finally:
        valkey_server.start()


async def test_the_end_user_of_a_request_has_to_fit(connect: Connect, world: World) -> None:
    client = connect(world.alpha.key)
    answer = await client.get("/v1/models", headers={"OpenAI-Safety-Identifier": "u" * 201})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_end_user")
    assert (await client.get("/v1/models", headers={"OpenAI-Safety-Identifier": "u" * 200})).status_code == 200


async def test_without_a_cache_good_keys_are_as_welcome(world: World, keys: Keys, settings: Settings) -> None:
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 2
    keys._ttl_s = 0
    for _ in range(5):
        assert (await keys.find(world.alpha.key, "192.0.2.1")).tenant == "alpha"
