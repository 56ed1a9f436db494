"""Names: models, agents and voices; and whoever may not ask."""

import httpx2
import pytest
from openai import AsyncOpenAI, AuthenticationError, NotFoundError

from tests.record.world import World
from tests.rest.conftest import Connect


async def test_the_list_has_openais_names_and_the_tenants_own_agents(sdk: AsyncOpenAI) -> None:
    names = [model.id async for model in sdk.models.list()]
    assert {"gpt-realtime", "whisper-1", "gpt-4o-mini-transcribe", "tts-1", "kokoro", "agent:alpha-desk"} <= set(names)
    assert "agent:beta-desk" not in names
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["gpt-realtime", "gpt-realtime-2025-08-28", "tts-1-hd", "agent:alpha-desk"])
async def test_one_model(sdk: AsyncOpenAI, name: str) -> None:
    model = await sdk.models.retrieve(name)
    assert (model.id, model.object) == (name, "model")
    assert model.created > 0


@pytest.mark.parametrize("name", ["gpt-9", "agent:beta-desk", "agent:nobody"])
async def test_a_model_that_is_not_there(sdk: AsyncOpenAI, name: str) -> None:
    with pytest.raises(NotFoundError) as refusal:
        await sdk.models.retrieve(name)
    assert refusal.value.code == "model_not_found"
    assert refusal.value.param == "model"


async def test_voices_have_their_language(http: httpx2.AsyncClient) -> None:
    voices = {voice["id"]: voice for voice in (await http.get("/v1/audio/voices")).json()["data"]}
    assert len(voices) == 54 + 13
    assert voices["alloy"]["language"] == "en-us"
    assert voices["ff_siwis"]["language"] == "fr-fr"
    assert voices["marin"]["voice"] == "af_heart"


async def test_a_wrong_key_is_refused_in_openais_words(connect: Connect) -> None:
    client = AsyncOpenAI(
        api_key="avb_live_0123456789wrong", base_url="http://localhost/v1", http_client=connect(None), max_retries=0
    )
    with pytest.raises(AuthenticationError) as refusal:
        await client.models.list()
    assert refusal.value.code == "invalid_api_key"
    assert "Incorrect API key provided: avb_live_***" in refusal.value.message
    assert "0123456789wrong" not in refusal.value.message


ADDRESSES = [
    ("GET", "models"),
    ("GET", "models/gpt-realtime"),
    ("GET", "audio/voices"),
    ("POST", "audio/speech"),
    ("POST", "audio/transcriptions"),
    ("POST", "audio/translations"),
    ("POST", "realtime/client_secrets"),
    ("POST", "realtime/sessions"),
    ("POST", "realtime/transcription_sessions"),
    ("POST", "realtime/calls"),
]


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
async def test_without_a_key_nothing_opens(connect: Connect, method: str, path: str) -> None:
    answer = await connect(None).request(method, f"/v1/{path}")
    assert answer.status_code == 401
    assert answer.json()["error"]["message"].startswith("You didn't provide an API key.")
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
async def test_the_other_method_is_not_allowed(http: httpx2.AsyncClient, method: str, path: str) -> None:
    answer = await http.request("POST" if method == "GET" else "GET", f"/v1/{path}")
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_supported"


async def test_an_address_that_is_not_there(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/images/generations")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Invalid URL (POST /v1/images/generations)"


async def test_an_ephemeral_secret_opens_no_rest(connect: Connect, http: httpx2.AsyncClient) -> None:
    value = (await http.post("/v1/realtime/client_secrets")).json()["value"]
    assert (await connect(value).get("/v1/models")).status_code == 401


@pytest.mark.parametrize(
    "body", [b"{", b'{"a": NaN}', b"\xff", b"[" * 100_000, b'"text"', b'{"input": "\\ud800 and more"}']
)
async def test_a_body_that_is_no_json_object(http: httpx2.AsyncClient, body: bytes) -> None:
    answer = await http.post("/v1/audio/speech", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_nothing_of_a_fault_shows(http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from realtime.rest import voices

    monkeypatch.setattr(voices, "voice_object", lambda name: 1 / 0)
    answer = await http.get("/v1/audio/voices")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "Zero" not in answer.text


async def test_before_the_gateway_has_started(http: httpx2.AsyncClient, world: World) -> None:
    from realtime.rest import ports

    ports._installed.clear()
    answer = await http.post("/v1/realtime/client_secrets")
    assert answer.status_code == 503
