"""``POST /v1/audio/speech``: text becomes speech, sent phrase by phrase while the next one is being spoken."""

import asyncio
import base64
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.http import HttpRequest, StreamingHttpResponse

from realtime.protocol import contract
from realtime.protocol.config import check_voice
from realtime.protocol.shapes import Choice, Invalid, Number, Object, Text
from realtime.rest.authentication import KeyHolder, authenticate
from realtime.rest.body import read_json
from realtime.rest.errors import endpoint
from realtime.rest.metering import meter
from realtime.rest.names import SPEECH_MODELS, require_model
from realtime.rest.ports import installed
from realtime.rest.sse import event_stream
from realtime.rest.usage import speech_usage
from realtime.runtime.ports import Speaking
from speech.encode import FORMATS, Encoder, open_encoder
from speech.engines import TTS_HZ, Pcm, SpeechFailed
from speech.phrases import PhraseSplitter, speakable
from tenants.permissions import Scope
from tenants.usage.meters import Meter, to_ms

PHRASES_AHEAD = 2
CHUNKS_AHEAD = 64


def request_shape() -> Object:
    return Object(
        {
            "model": Text(),
            "input": Text(settings.SPEECH_MAX_CHARACTERS),
            "voice": contract.VOICE,
            "instructions": Text(settings.SPEECH_MAX_CHARACTERS),
            "response_format": Choice(FORMATS),
            "speed": Number(0.25, 4.0),
            "stream_format": Choice(("audio", "sse")),
        },
        ("model", "input", "voice"),
    )


@endpoint("POST")
async def create_speech(request: HttpRequest) -> StreamingHttpResponse:
    """``instructions`` are taken and change nothing: no voice here can be told how to speak."""
    holder = await authenticate(request, Scope.SPEECH)
    asked = request_shape().check(read_json(request), "")
    require_model(asked["model"], SPEECH_MODELS)
    check_voice(asked["voice"], "voice")
    phrases = await asyncio.to_thread(split, asked["input"])
    if not phrases:
        raise Invalid("invalid_value", "Invalid 'input': there is nothing in it that can be spoken.", "input")
    voice = asked["voice"] if isinstance(asked["voice"], str) else asked["voice"]["id"]
    phrases_spoken = Phrases(installed().speaking, holder, request.request_id, voice, asked.get("speed", 1.0))
    chunks = phrases_spoken.speak(phrases)
    # What fails before the first sound still has a status to fail with.
    first = await anext(chunks, None)
    encoder = await asyncio.to_thread(open_encoder, asked.get("response_format", "mp3"))
    if asked.get("stream_format") == "sse":
        return event_stream(speech_events(first, chunks, encoder, asked["input"]))
    return StreamingHttpResponse(encode(first, chunks, encoder), content_type=encoder.content_type)


def split(text: str) -> list[str]:
    """The phrases that can be spoken. For the longest text this takes 20 ms."""
    splitter = PhraseSplitter()
    return [phrase for phrase in splitter.push(text) + splitter.flush() if speakable(phrase)]


async def encode(first: Pcm | None, chunks: AsyncGenerator[Pcm, None], encoder: Encoder) -> AsyncGenerator[bytes, None]:
    """The file, in pieces. A failure on the way breaks it off."""
    async with aclosing(chunks):
        if first is not None and (data := await asyncio.to_thread(encoder.push, first)):
            yield data
        async for pcm in chunks:
            if data := await asyncio.to_thread(encoder.push, pcm):
                yield data
        if data := await asyncio.to_thread(encoder.flush):
            yield data


async def speech_events(
    first: Pcm | None, chunks: AsyncGenerator[Pcm, None], encoder: Encoder, text: str
) -> AsyncGenerator[dict[str, Any], None]:
    spoken_samples = 0

    async def counted() -> AsyncGenerator[Pcm, None]:
        nonlocal spoken_samples
        async with aclosing(chunks):
            async for pcm in chunks:
                spoken_samples += len(pcm)
                yield pcm

    spoken_samples += len(first) if first is not None else 0
    async with aclosing(encode(first, counted(), encoder)) as pieces:
        async for piece in pieces:
            yield {"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()}
    yield {"type": "speech.audio.done", "usage": speech_usage(text, spoken_samples / TTS_HZ)}


class Phrases:
    """One text on its way to speech."""

    def __init__(self, speaking: Speaking, holder: KeyHolder, request_id: str, voice: str, speed: float) -> None:
        self._speaking = speaking
        self._holder = holder
        self._request_id = request_id
        self._voice = voice
        self._speed = speed
        self._characters: Counter[tuple[str, str]] = Counter()

    async def speak(self, phrases: list[str]) -> AsyncGenerator[Pcm, None]:
        """PCM at 24 kHz, in order; while one phrase is passed on, the next is under way. Raises SpeechFailed."""
        waiting, samples = deque(phrases), 0
        running: deque[tuple[asyncio.Task[None], asyncio.Queue[Pcm | SpeechFailed | None]]] = deque()
        try:
            while waiting or running:
                while waiting and len(running) < PHRASES_AHEAD:
                    queue: asyncio.Queue[Pcm | SpeechFailed | None] = asyncio.Queue(CHUNKS_AHEAD)
                    running.append((asyncio.create_task(self._synthesise(waiting.popleft(), queue)), queue))
                task, queue = running[0]
                while (chunk := await queue.get()) is not None:
                    if isinstance(chunk, SpeechFailed):
                        raise chunk
                    self._holder.require_open()
                    samples += len(chunk)
                    yield chunk
                await task
                running.popleft()
        finally:
            for task, _ in running:
                task.cancel()
            await asyncio.gather(*(task for task, _ in running), return_exceptions=True)
            for (engine, model), characters in self._characters.items():
                meter(self._holder, self._request_id, Meter.TTS_CHARACTERS, characters, engine, model)
            spoken_s = Decimal(to_ms(samples, TTS_HZ)) / 1000
            meter(self._holder, self._request_id, Meter.AUDIO_SECONDS_OUT, spoken_s)

    async def _synthesise(self, phrase: str, queue: "asyncio.Queue[Pcm | SpeechFailed | None]") -> None:
        stream = self._speaking.synthesise(
            phrase, tenant=self._holder.tenant, session_id=self._request_id, voice=self._voice, speed=self._speed
        )
        try:
            async with aclosing(stream):
                charged = False
                async for chunk in stream:
                    if not charged:
                        charged = True
                        self._characters[chunk.engine, chunk.model] += len(phrase)
                    await queue.put(chunk.pcm)
        except SpeechFailed as error:
            await queue.put(error)
        except Exception as error:
            await queue.put(SpeechFailed("tts_failed", type(error).__name__))
            raise
        await queue.put(None)
