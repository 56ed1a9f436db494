"""Requests leave in the ledger what their ``usage`` said, once each."""

import json
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from realtime.archive.events import UsageMetered
from tests.record.world import World
from tests.rest.conftest import Archive, Connect, Speech
from tests.rest.test_transcriptions import recording

TEXT = "The library is open. You can borrow books for three weeks."


def used(archive: Archive) -> dict[str, Decimal]:
    """By meter; each of one request, of the first tenant."""
    events = [event for _, event in archive.events if isinstance(event, UsageMetered)]
    assert {tenant for tenant, _ in archive.events} <= {"alpha"}
    assert len({event.session_id for event in events}) <= 1
    assert all(event.session_id.startswith("req_") and event.key_id.startswith("key_") for event in events)
    pairs = [(meter, quantity) for event in events for meter, quantity in event.quantities.items()]
    assert len(dict(pairs)) == len(pairs), "each meter once"
    return dict(pairs)


@pytest.mark.parametrize("form", ["audio", "sse"])
async def test_speech_counts_characters_and_seconds(
    http: httpx2.AsyncClient, speech: Speech, archive: Archive, form: str
) -> None:
    body = {"model": "kokoro", "voice": "alloy", "input": TEXT, "response_format": "pcm", "stream_format": form}
    answer = await http.post("/v1/audio/speech", json=body)
    assert answer.status_code == 200
    total = used(archive)
    assert total["tts_characters"] == len(TEXT)
    spoken_s = Decimal(len(TEXT)) / 10
    assert total["audio_seconds_out"] == spoken_s
    if form == "sse":
        done = json.loads(answer.text.strip().split("\n\n")[-1].removeprefix("data: "))
        assert done["usage"]["output_tokens"] == spoken_s * 20
    [event] = [event for _, event in archive.events if "tts_characters" in event.quantities]
    assert (event.provider, event.model, event.source) == ("scripted", "voice-1", "request")


async def test_what_breaks_off_counts_what_was_spoken(
    http: httpx2.AsyncClient, speech: Speech, archive: Archive
) -> None:
    speech.fails, speech.fails_from = "tts_failed", 1
    body = {"model": "kokoro", "voice": "alloy", "input": TEXT, "response_format": "pcm", "stream_format": "sse"}
    await http.post("/v1/audio/speech", json=body)
    first = speech.spoken[0][1]
    assert Decimal(len(first)) <= used(archive)["tts_characters"] <= Decimal(len(first)) + 1


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("transcriptions", {"model": "whisper-1"}),
        ("transcriptions", {"model": "whisper-1", "response_format": "verbose_json"}),
        ("transcriptions", {"model": "gpt-4o-transcribe", "stream": "true"}),
        ("translations", {"model": "whisper-1"}),
    ],
)
async def test_recognition_counts_whole_seconds(
    http: httpx2.AsyncClient, speech: Speech, archive: Archive, path: str, fields: dict[str, Any]
) -> None:
    speech.model = "whisper-tiny"
    answer = await http.post(f"/v1/audio/{path}", data=fields, files={"file": recording(2.3)})
    assert answer.status_code == 200, answer.text
    assert used(archive) == {"stt_seconds": Decimal(3)}
    [event] = [event for _, event in archive.events if isinstance(event, UsageMetered)]
    assert (event.provider, event.model) == ("whisper", "whisper-tiny")
    if "usage" in answer.text and "stream" not in fields:
        assert answer.json()["usage"]["seconds"] == 3


async def test_what_is_refused_or_fails_costs_nothing(
    http: httpx2.AsyncClient, connect: Connect, world: World, speech: Speech, archive: Archive
) -> None:
    body = {"model": "kokoro", "voice": "nobody", "input": TEXT}
    assert (await http.post("/v1/audio/speech", json=body)).status_code == 400
    speech.fails = "tts_failed"
    assert (await http.post("/v1/audio/speech", json=body | {"voice": "alloy"})).status_code == 500
    files = {"file": recording(1.0)}
    answer = await http.post("/v1/audio/transcriptions", data={"model": "whisper-1"}, files=files)
    assert answer.status_code == 500
    assert (await connect(None).post("/v1/audio/speech", json=body)).status_code == 401
    assert used(archive) == {}
