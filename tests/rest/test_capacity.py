"""How much a process does at a time for recordings, and that it does it off the event loop."""

import asyncio
from typing import Any

import httpx2
import pytest
from django.http import HttpResponse
from pytest_django import Settings

from realtime.rest import speech as speech_endpoint
from realtime.rest import sse, transcriptions, transcripts
from realtime.rest.capacity import Capacity
from realtime.rest.errors import ApiError
from speech.engines import Transcript
from tests.record.world import World
from tests.rest.conftest import Connect, Speech
from tests.rest.test_disconnect import open_request
from tests.rest.test_transcriptions import FILE, recording


class Waiting(Speech):
    """Hears nothing until ``go`` is set, but for the first ``free`` pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.free = 0
        self.began = asyncio.Semaphore(0)

    async def transcribe(self, pcm: Any, **job: Any) -> Transcript:
        self.began.release()
        if len(self.heard) >= self.free:
            await self.go.wait()
        return await super().transcribe(pcm, **job)


@pytest.fixture
def speech() -> Waiting:
    return Waiting()


@pytest.fixture
def capacity() -> Capacity:
    return Capacity(recordings=2, pieces=2, wait_s=0.05)


async def transcribe(http: httpx2.AsyncClient, address: str = "transcriptions") -> httpx2.Response:
    return await http.post(f"/v1/audio/{address}", files={"file": FILE}, data={"model": "whisper-1"})


async def free_places(capacity: Capacity) -> int:
    async with asyncio.timeout(5):
        try:
            async with capacity.recordings:
                return 1 + await free_places(capacity)
        except ApiError:
            return 0


def test_the_defaults(settings: Settings) -> None:
    assert (settings.TRANSCRIPTION_MAX_RECORDINGS, settings.TRANSCRIPTION_MAX_PIECES) == (4, 2)
    assert (settings.TRANSCRIPTION_WAIT_S, settings.TRANSCRIPTION_ANSWER_S) == (2.0, 60.0)


@pytest.mark.parametrize("address", ["transcriptions", "translations"])
async def test_one_recording_too_many_hears_to_try_again(
    http: httpx2.AsyncClient, speech: Waiting, capacity: Capacity, address: str
) -> None:
    speech.model = "whisper-base"
    async with asyncio.TaskGroup() as group:
        first = [group.create_task(transcribe(http)) for _ in range(2)]
        for _ in first:
            await speech.began.acquire()
        refused = await transcribe(http, address)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "2"
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("server_error", "server_overloaded")
        speech.go.set()
    assert [task.result().status_code for task in first] == [200, 200]
    assert (await transcribe(http, address)).status_code == 200
    assert await free_places(capacity) == 2


async def test_a_refused_file_gives_its_place_back(http: httpx2.AsyncClient, capacity: Capacity) -> None:
    for _ in range(3):
        answer = await http.post("/v1/audio/transcriptions", files={"file": b"?"}, data={"model": "whisper-1"})
        assert answer.status_code == 400
    assert await free_places(capacity) == 2


async def test_all_recordings_together_have_so_many_pieces_on_the_queue(
    http: httpx2.AsyncClient, speech: Waiting, settings: Settings
) -> None:
    speech.go.set()
    form = {"files": {"file": recording(100, "opus")}, "data": {"model": "whisper-1"}}
    answers = await asyncio.gather(*(http.post("/v1/audio/transcriptions", **form) for _ in range(2)))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(speech.heard) >= 8
    assert speech.most_at_once == 2
    assert {heard["answer_s"] for heard in speech.heard} == {settings.TRANSCRIPTION_ANSWER_S}


async def test_a_stream_holds_its_place_to_its_end(
    http: httpx2.AsyncClient, speech: Waiting, capacity: Capacity
) -> None:
    speech.go.set()
    form = {"files": {"file": recording(40, "opus")}, "data": {"model": "gpt-4o-transcribe", "stream": "true"}}
    for _ in range(3):
        answer = await http.post("/v1/audio/transcriptions", **form)
        assert "transcript.text.done" in answer.text
    assert await free_places(capacity) == 2


async def test_an_abandoned_stream_gives_its_place_back(
    connect: Connect, speech: Waiting, capacity: Capacity, world: World
) -> None:
    speech.free = 1
    form = httpx2.Request(
        "POST",
        "http://x",
        files={"file": recording(70, "opus")},
        data={"model": "gpt-4o-transcribe", "stream": "true"},
    )
    request = open_request("/v1/audio/transcriptions", world.alpha.key, form.headers["content-type"])
    await request.send_input({"type": "http.request", "body": form.read()})
    assert (await request.receive_output(5))["status"] == 200
    assert await free_places(capacity) == 1
    await request.send_input({"type": "http.disconnect"})
    await request.wait(5)
    assert await free_places(capacity) == 2


async def test_a_stream_that_nobody_reads_gives_its_place_back(
    speech: Waiting, capacity: Capacity, world: World, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is gone between the first words and the first byte."""

    def lose(events: Any) -> HttpResponse:
        return HttpResponse(status=204)

    speech.go.set()
    monkeypatch.setattr(transcriptions, "event_stream", lose)
    answer = await connect(world.alpha.key).post(
        "/v1/audio/transcriptions", files={"file": FILE}, data={"model": "gpt-4o-transcribe", "stream": "true"}
    )
    assert answer.status_code == 204
    await asyncio.sleep(0.05)
    assert await free_places(capacity) == 2


@pytest.mark.parametrize("stream", ["true", "false"])
@pytest.mark.parametrize("answer_format", ["json", "text", "verbose_json", "srt", "vtt"])
async def test_transcripts_are_put_together_off_the_event_loop(
    http: httpx2.AsyncClient, speech: Waiting, monkeypatch: pytest.MonkeyPatch, answer_format: str, stream: str
) -> None:
    speech.go.set()
    done = watch(monkeypatch, (transcripts, "join"), (transcriptions, "respond_with"), (sse, "_frame"))
    answer = await http.post(
        "/v1/audio/transcriptions",
        files={"file": FILE},
        data={"model": "gpt-4o-transcribe", "response_format": answer_format, "stream": stream},
    )
    assert answer.status_code == 200
    assert done == {"join": False, **({"_frame": False} if stream == "true" else {"respond_with": False})}


async def test_text_to_be_spoken_is_split_off_the_event_loop(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = watch(monkeypatch, (speech_endpoint, "split"))
    body = {"model": "tts-1", "voice": "alloy", "input": "A. B.", "response_format": "pcm"}
    assert (await http.post("/v1/audio/speech", json=body)).status_code == 200
    assert done == {"split": False}


def watch(monkeypatch: pytest.MonkeyPatch, *functions: tuple[Any, str]) -> dict[str, bool]:
    """Fills up with the functions that were called, and whether one was on an event loop."""
    done: dict[str, bool] = {}

    def watched(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            done[name] = done.get(name, False) or asyncio._get_running_loop() is not None
            return function(*args, **kwargs)

        return call

    for module, name in functions:
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    return done
