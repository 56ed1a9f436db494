"""Whoever hangs up is not worked for any more."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application

from realtime.rest.limits import BodyLimit
from speech.engines import SpokenChunk, Transcript
from tests.record.world import World
from tests.rest.conftest import Connect, Speech
from tests.rest.test_transcriptions import FILE


class Held(Speech):
    """Never comes to an end by itself; ``began`` and ``ended`` tell of each job."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.ended = asyncio.Event(), asyncio.Event()

    async def hold(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def synthesise(self, text: str, **job: Any) -> AsyncGenerator[SpokenChunk, None]:
        if self.spoken:
            await self.hold()
        self.spoken.append((job["tenant"], text, job["voice"], job["speed"]))
        async for chunk in Speech().synthesise("A.", **job):
            yield chunk

    async def transcribe(self, pcm: Any, **job: Any) -> Transcript:
        await self.hold()
        raise AssertionError("held for ever")


@pytest.fixture
def speech() -> Held:
    return Held()


def open_request(path: str, key: str, content_type: str) -> ApplicationCommunicator:
    headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", content_type.encode())]
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": [*headers, (b"host", b"localhost")], "scheme": "http",
    }  # fmt: skip
    return ApplicationCommunicator(BodyLimit(get_asgi_application()), scope)


async def hang_up(request: ApplicationCommunicator, speech: Held) -> None:
    async with asyncio.timeout(5):
        await speech.began.wait()
        assert not speech.ended.is_set()
        await request.send_input({"type": "http.disconnect"})
        await speech.ended.wait()


async def test_speech_stops(connect: Connect, world: World, speech: Held) -> None:
    request = open_request("/v1/audio/speech", world.alpha.key, "application/json")
    body = {"model": "tts-1", "voice": "alloy", "input": "One sentence. And another one.", "response_format": "pcm"}
    await request.send_input({"type": "http.request", "body": json.dumps(body).encode()})
    assert (await request.receive_output(5))["status"] == 200
    await hang_up(request, speech)


async def test_transcription_stops(connect: Connect, world: World, speech: Held) -> None:
    import httpx2

    form = httpx2.Request("POST", "http://x", files={"file": FILE}, data={"model": "whisper-1"})
    request = open_request("/v1/audio/transcriptions", world.alpha.key, form.headers["content-type"])
    await request.send_input({"type": "http.request", "body": form.read()})
    await hang_up(request, speech)
