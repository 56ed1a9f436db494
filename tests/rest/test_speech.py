"""Text to speech: formats, streams, limits, and what happens when it fails."""

import base64
import json
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, BadRequestError, InternalServerError, NotFoundError
from pytest_django import Settings

from speech.encode import FORMATS, decode_upload
from speech.engines import STT_HZ
from tenants.permissions import Scope
from tests.record.world import World
from tests.rest.conftest import Connect, Speech
from tests.rest.keys import committed_key

TEXT = "The library is open. You can borrow books for three weeks, and games for one."


def duration_s(data: bytes, audio_format: str) -> float:
    if audio_format == "pcm":
        return len(data) / 2 / 24_000
    return len(decode_upload(data, longest_s=60)) / STT_HZ


@pytest.mark.parametrize("audio_format", FORMATS)
async def test_every_format_holds_the_whole_text(sdk: AsyncOpenAI, speech: Speech, audio_format: Any) -> None:
    answer = await sdk.audio.speech.create(model="tts-1", voice="alloy", input=TEXT, response_format=audio_format)
    assert duration_s(answer.content, audio_format) == pytest.approx(len(TEXT) / 10, abs=0.2)
    kinds = {"mp3": "mpeg"}
    assert answer.response.headers["content-type"] == f"audio/{kinds.get(audio_format, audio_format)}"


async def test_mp3_is_what_nobody_asked_otherwise(sdk: AsyncOpenAI) -> None:
    answer = await sdk.audio.speech.create(model="gpt-4o-mini-tts", voice="marin", input="Hi.")
    assert answer.response.headers["content-type"] == "audio/mpeg"


async def test_the_text_is_spoken_in_phrases_two_at_a_time(sdk: AsyncOpenAI, speech: Speech, world: World) -> None:
    async with sdk.audio.speech.with_streaming_response.create(
        model="kokoro", voice="af_heart", input=TEXT, speed=1.5, response_format="pcm", instructions="Cheerfully."
    ) as answer:
        assert sum([len(chunk) async for chunk in answer.iter_bytes()]) == len(TEXT) * 4_800
    assert " ".join(text for _, text, _, _ in speech.spoken) == TEXT
    assert len(speech.spoken) >= 2
    assert {(tenant, voice, speed) for tenant, _, voice, speed in speech.spoken} == {("alpha", "af_heart", 1.5)}
    assert speech.most_at_once == 2
    assert speech.at_once == 0


async def test_server_sent_events_carry_the_same_audio(http: httpx2.AsyncClient) -> None:
    body = {"model": "gpt-4o-mini-tts", "voice": {"id": "alloy"}, "input": TEXT, "response_format": "pcm"}
    answer = await http.post("/v1/audio/speech", json={**body, "stream_format": "sse"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert sum(len(base64.b64decode(event["audio"])) for event in deltas) == len(TEXT) * 4_800
    usage = done["usage"]
    assert done["type"] == "speech.audio.done"
    assert usage["output_tokens"] == len(TEXT) * 2
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": None}, "missing_required_parameter", "model"),
        ({"input": None}, "missing_required_parameter", "input"),
        ({"voice": None}, "missing_required_parameter", "voice"),
        ({"voice": "nobody"}, "invalid_value", "voice"),
        ({"input": "a" * 4097}, "string_above_max_length", "input"),
        ({"input": ""}, "invalid_value", "input"),
        ({"input": "🙂 … !"}, "invalid_value", "input"),
        ({"speed": 0.2}, "decimal_below_min_value", "speed"),
        ({"speed": 4.1}, "decimal_above_max_value", "speed"),
        ({"speed": "fast"}, "invalid_type", "speed"),
        ({"response_format": "ogg"}, "invalid_value", "response_format"),
        ({"stream_format": "both"}, "invalid_value", "stream_format"),
        ({"pitch": 2}, "unknown_parameter", "pitch"),
    ],
)
async def test_what_is_refused(
    http: httpx2.AsyncClient, speech: Speech, change: dict[str, Any], code: str, param: str
) -> None:
    answer = await http.post("/v1/audio/speech", json={"model": "tts-1", "voice": "alloy", "input": "Hi.", **change})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error")
    assert speech.spoken == []


async def test_4096_characters_are_spoken(http: httpx2.AsyncClient, speech: Speech) -> None:
    body = {"model": "tts-1", "voice": "alloy", "input": "Word. " * 682 + "End.", "response_format": "pcm"}
    assert len(body["input"]) == 4096
    answer = await http.post("/v1/audio/speech", json=body)
    assert answer.status_code == 200
    assert len(speech.spoken) == 683


async def test_the_limit_of_the_text_can_be_set(http: httpx2.AsyncClient, settings: Settings) -> None:
    settings.SPEECH_MAX_CHARACTERS = 5
    answer = await http.post("/v1/audio/speech", json={"model": "tts-1", "voice": "alloy", "input": "123456"})
    assert answer.json()["error"]["code"] == "string_above_max_length"


async def test_an_unknown_model(sdk: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError) as refusal:
        await sdk.audio.speech.create(model="tts-9", voice="alloy", input="Hi.")
    assert refusal.value.code == "model_not_found"


@pytest.mark.parametrize(("code", "status"), [("tts_failed", 500), ("tts_timeout", 503), ("speech_unavailable", 503)])
async def test_a_failure_before_the_first_sound_has_its_status(
    sdk: AsyncOpenAI, speech: Speech, code: str, status: int
) -> None:
    speech.fails = code
    with pytest.raises(InternalServerError) as failure:
        await sdk.audio.speech.create(model="tts-1", voice="alloy", input="Hi.")
    assert (failure.value.status_code, failure.value.code) == (status, code)


async def test_a_failure_on_the_way_is_an_event_or_breaks_the_file_off(
    http: httpx2.AsyncClient, speech: Speech
) -> None:
    speech.fails, speech.fails_from = "tts_failed", 1
    body = {"model": "tts-1", "voice": "alloy", "input": TEXT, "response_format": "pcm"}
    answer = await http.post("/v1/audio/speech", json={**body, "stream_format": "sse"})
    last = json.loads(answer.text.strip().rsplit("\n\n", 1)[-1].removeprefix("data: "))
    assert (last["type"], last["error"]["code"]) == ("error", "tts_failed")
    speech.spoken.clear()
    with pytest.raises(Exception, match="no engine"):  # the connection breaks; in one process the cause comes through
        await http.post("/v1/audio/speech", json=body)
    assert speech.at_once == 0


async def test_a_key_without_the_scope_speaks_nothing(connect: Connect, world: World, speech: Speech) -> None:
    secret = await committed_key(world.alpha.tenant, [Scope.REALTIME])
    answer = await connect(secret).post("/v1/audio/speech", json={"model": "tts-1", "voice": "alloy", "input": "Hi."})
    assert answer.status_code == 403
    assert speech.spoken == []


async def test_text_stays_out_of_the_log(sdk: AsyncOpenAI, speech: Speech, caplog: pytest.LogCaptureFixture) -> None:
    speech.fails = "tts_failed"
    with caplog.at_level("DEBUG"):
        with pytest.raises(InternalServerError):
            await sdk.audio.speech.create(model="tts-1", voice="alloy", input="A very secret sentence.")
        with pytest.raises(BadRequestError):
            await sdk.audio.speech.create(model="tts-1", voice="secret-voice", input="A very secret sentence.")
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("openai", "httpx"))]
    assert any("tts_failed" in line for line in ours)
    assert "secret" not in "\n".join(ours)
