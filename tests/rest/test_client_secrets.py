"""Ephemeral secrets: what they hold, how long, and what is refused."""

import dataclasses
import time
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI
from openai.types.realtime import ClientSecretCreateResponse
from pytest_django import Settings

from realtime.rest import ports
from realtime.runtime.secrets import ClientSecret, ClientSecrets, TooManySecrets, live_key, secret_key
from tenants.permissions import Scope
from tests.record.world import World
from tests.rest.conftest import Connect
from tests.rest.keys import committed_key


async def test_the_session_is_frozen_into_the_secret_and_echoed(
    sdk: AsyncOpenAI, secrets: ClientSecrets, world: World
) -> None:
    session: Any = {
        "type": "realtime",
        "model": "agent:alpha-desk",
        "instructions": "Speak like a sailor.",
        "audio": {"output": {"voice": "cedar"}, "input": {"turn_detection": None}},
    }
    made = await sdk.realtime.client_secrets.create(
        expires_after={"anchor": "created_at", "seconds": 30}, session=session
    )
    assert made.value.startswith("ek_")
    assert len(made.value) == 35
    assert 28 <= made.expires_at - time.time() <= 31
    echoed = made.session
    assert echoed.type == "realtime"
    assert echoed.object == "realtime.session"
    assert echoed.id.startswith("sess_")
    assert (echoed.model, echoed.instructions) == ("agent:alpha-desk", "Speak like a sailor.")
    assert echoed.audio is not None
    assert echoed.audio.output is not None
    assert echoed.audio.output.voice == "cedar"
    assert echoed.audio.input is not None
    assert echoed.audio.input.turn_detection is None
    kept = await secrets.find(made.value)
    assert kept is not None
    assert (kept.tenant, kept.agent, kept.session, kept.expires_at) == ("alpha", "alpha-desk", session, made.expires_at)


async def test_without_a_body_it_is_the_default_agents_for_ten_minutes(http: httpx2.AsyncClient) -> None:
    answer = (await http.post("/v1/realtime/client_secrets")).json()
    ClientSecretCreateResponse.model_validate(answer)
    assert answer["expires_at"] - time.time() == pytest.approx(600, abs=2)
    assert answer["session"]["type"] == "realtime"
    assert answer["session"]["model"] == "gpt-realtime"
    assert answer["session"]["instructions"] == "Secret of alpha"
    assert answer["session"]["expires_at"] == 0


async def test_a_transcription_session(http: httpx2.AsyncClient, secrets: ClientSecrets) -> None:
    session = {"type": "transcription", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    answer = (await http.post("/v1/realtime/client_secrets", json={"session": session})).json()
    assert answer["session"]["object"] == "realtime.transcription_session"
    assert answer["session"]["audio"]["input"]["transcription"]["model"] == "whisper-1"
    assert (await secrets.find(answer["value"])).session["type"] == "transcription"


async def test_redis_holds_the_hash_with_the_secrets_end(http: httpx2.AsyncClient, valkey_url: str) -> None:
    import redis

    body = {"expires_after": {"anchor": "created_at", "seconds": 10}}
    value = (await http.post("/v1/realtime/client_secrets", json=body)).json()["value"]
    with redis.Redis.from_url(valkey_url) as client:
        [name] = client.keys("avb:client_secret:*")
        assert name.decode() == secret_key(value)
        assert value not in name.decode()
        assert 9_000 <= client.pttl(name) <= 10_000
        client.delete(name)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"expires_after": {"seconds": 60}}, "missing_required_parameter", "expires_after.anchor"),
        ({"expires_after": {"anchor": "now"}}, "invalid_value", "expires_after.anchor"),
        ({"expires_after": {"anchor": "created_at", "seconds": 9}}, "integer_below_min_value", "expires_after.seconds"),
        (
            {"expires_after": {"anchor": "created_at", "seconds": 7201}},
            "integer_above_max_value",
            "expires_after.seconds",
        ),
        ({"session": {"colour": "red"}}, "unknown_parameter", "session.colour"),
        ({"session": {"type": "video"}}, "invalid_value", "session.type"),
        ({"session": {"audio": {"output": {"voice": "nobody"}}}}, "invalid_value", "session.audio.output.voice"),
        ({"session": {"output_modalities": ["text", "audio"]}}, "invalid_value", "session.output_modalities"),
        ({"session": {"model": "agent:nobody"}}, "agent_not_found", "session.model"),
        ({"session": {"model": "agent:beta-desk"}}, "agent_not_found", "session.model"),
        ({"session": {"model": "gpt-5"}}, "invalid_model", "session.model"),
        ({"seconds": 60}, "unknown_parameter", "seconds"),
        ([], None, None),
    ],
)
async def test_what_is_refused(http: httpx2.AsyncClient, body: Any, code: str | None, param: str | None) -> None:
    answer = await http.post("/v1/realtime/client_secrets", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert error["message"]


async def test_beta_sessions_are_flat_in_and_out(http: httpx2.AsyncClient, secrets: ClientSecrets) -> None:
    flat = {
        "model": "gpt-4o-realtime-preview",
        "modalities": ["text"],
        "voice": "verse",
        "input_audio_format": "g711_ulaw",
        "turn_detection": {"type": "none"},
        "max_response_output_tokens": 100,
        "temperature": 0.7,
    }
    answer = (await http.post("/v1/realtime/sessions", json=flat)).json()
    assert answer["client_secret"]["value"].startswith("ek_")
    assert answer["client_secret"]["expires_at"] - time.time() == pytest.approx(60, abs=2)
    kept = {name: answer[name] for name in flat if name != "temperature"}
    assert kept == {name: value for name, value in flat.items() if name != "temperature"} | {"turn_detection": None}
    found = await secrets.find(answer["client_secret"]["value"])
    assert found is not None
    assert found.session == {
        "type": "realtime",
        "model": "gpt-4o-realtime-preview",
        "max_output_tokens": 100,
        "output_modalities": ["text"],
        "audio": {"input": {"turn_detection": None, "format": {"type": "audio/pcmu"}}, "output": {"voice": "verse"}},
    }


async def test_beta_transcription_sessions(http: httpx2.AsyncClient) -> None:
    flat = {
        "input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "en"},
        "client_secret": {"expires_at": {"anchor": "created_at", "seconds": 90}},
    }
    answer = (await http.post("/v1/realtime/transcription_sessions", json=flat)).json()
    assert answer["object"] == "realtime.transcription_session"
    assert answer["input_audio_transcription"]["language"] == "en"
    assert answer["client_secret"]["expires_at"] - time.time() == pytest.approx(90, abs=2)
    assert "voice" not in answer


@pytest.mark.parametrize(
    ("flat", "param"),
    [({"voice": "nobody"}, "voice"), ({"modalities": ["audio"]}, "modalities"), ({"model": "agent:x"}, "model")],
)
async def test_beta_refusals_name_the_flat_parameter(
    http: httpx2.AsyncClient, flat: dict[str, Any], param: str
) -> None:
    answer = await http.post("/v1/realtime/sessions", json=flat)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("address", ["sessions", "transcription_sessions"])
async def test_the_beta_addresses_can_be_closed(http: httpx2.AsyncClient, settings: Settings, address: str) -> None:
    settings.REALTIME_BETA = False
    answer = await http.post(f"/v1/realtime/{address}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "beta_api_shape_disabled")


async def test_a_key_without_the_scope_makes_none(connect: Connect, world: World) -> None:
    secret = await committed_key(world.alpha.tenant, [Scope.SPEECH])
    answer = await connect(secret).post("/v1/realtime/client_secrets")
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "insufficient_scope"
    assert "realtime" in answer.json()["error"]["message"]


async def test_without_redis_the_client_hears_to_try_again(http: httpx2.AsyncClient) -> None:
    broken = ClientSecrets("redis://127.0.0.1:9/0", timeout_s=0.2, per_key=1)
    ports.install(dataclasses.replace(ports.installed(), secrets=broken))
    answer = await http.post("/v1/realtime/client_secrets")
    await broken.stop()
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "server_error"


async def test_a_session_may_be_only_so_large(http: httpx2.AsyncClient, settings: Settings) -> None:
    assert settings.CLIENT_SECRET_SESSION_BYTES == 64 * 1024
    for address, body in (
        ("client_secrets", {"session": {"type": "realtime", "instructions": "a" * 65_536}}),
        ("sessions", {"instructions": "a" * 65_536}),
    ):
        answer = await http.post(f"/v1/realtime/{address}", json=body)
        assert answer.status_code == 400
        assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("session_too_large", "session")
        assert "at most 65536 bytes of JSON" in answer.json()["error"]["message"]
    answer = await http.post(
        "/v1/realtime/client_secrets", json={"session": {"type": "realtime", "instructions": "a" * 65_000}}
    )
    assert answer.status_code == 200


async def test_a_key_has_only_so_many_live_secrets(
    connect: Connect, secrets: ClientSecrets, world: World, settings: Settings, valkey_url: str
) -> None:
    assert settings.CLIENT_SECRETS_PER_KEY == 1_000
    few = ClientSecrets(valkey_url, timeout_s=1.0, per_key=2)
    ports.install(dataclasses.replace(ports.installed(), secrets=few))
    http = connect(await committed_key(world.alpha.tenant, [Scope.REALTIME]))
    body = {"expires_after": {"anchor": "created_at", "seconds": 30}}
    answers = [await http.post("/v1/realtime/client_secrets", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    error = answers[-1].json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("requests", "rate_limit_exceeded", None)
    assert "has 2 that have not expired yet" in error["message"]
    assert 25 <= int(answers[-1].headers["retry-after"]) <= 30
    # Other keys have their own.
    assert (await connect(world.alpha.key).post("/v1/realtime/client_secrets")).status_code == 200
    await few.stop()


async def test_secrets_that_have_ended_are_not_counted(valkey_url: str) -> None:
    import redis

    few = ClientSecrets(valkey_url, timeout_s=1.0, per_key=1)
    holder = {"tenant": "alpha", "key_id": f"key_{time.time_ns()}", "agent": None, "session": {}}
    now = int(time.time())
    await few.create(ClientSecret(**holder, expires_at=now), 10)
    value = await few.create(ClientSecret(**holder, expires_at=now + 60), 60)
    with pytest.raises(TooManySecrets) as refusal:
        await few.create(ClientSecret(**holder, expires_at=now + 10), 10)
    assert 55 <= refusal.value.retry_after_s <= 60
    await few.create(ClientSecret(**holder | {"tenant": "beta"}, expires_at=now + 60), 60)
    await few.stop()
    with redis.Redis.from_url(valkey_url) as client:
        live = live_key("alpha", holder["key_id"])
        assert client.zrange(live, 0, -1) == [secret_key(value).rpartition(":")[2].encode()]
        assert 0 < client.ttl(live) <= 7_200


async def test_webrtc_calls_say_that_they_are_not_there_yet(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/realtime/calls", content=b"v=0", headers={"Content-Type": "application/sdp"})
    assert answer.status_code == 501
    assert "WebSocket" in answer.json()["error"]["message"]


async def test_a_tenants_secrets_take_only_so_many_bytes(valkey_url: str, settings: Settings) -> None:
    assert settings.CLIENT_SECRET_BYTES_PER_TENANT == 16 * 1024 * 1024
    few = ClientSecrets(valkey_url, timeout_s=1.0, per_key=100, tenant_bytes=2_500)
    now = int(time.time())

    def secret(maker: str, ends: int, tenant: str = "full") -> ClientSecret:
        session = {"instructions": "a" * 1_000}
        return ClientSecret(tenant=tenant, key_id=maker, agent=None, session=session, expires_at=ends)

    await few.create(secret("key_1", now), 10)
    for maker in ("key_1", "key_2"):  # what has ended does not count
        await few.create(secret(maker, now + 60), 60)
    with pytest.raises(TooManySecrets, match="may take 2500 bytes") as refusal:
        await few.create(secret("key_3", now + 60), 60)
    assert 55 <= refusal.value.retry_after_s <= 60
    await few.create(secret("key_1", now + 60, "other"), 60)
    await few.stop()
