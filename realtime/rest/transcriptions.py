"""``POST /v1/audio/transcriptions`` and ``/translations``: a recording becomes text."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase

from realtime.protocol.shapes import Choice, Flag, Invalid, ListOf, Number, Object, Shape, Text, WordOr
from realtime.rest import transcripts
from realtime.rest.authentication import KeyHolder, authenticate
from realtime.rest.errors import endpoint
from realtime.rest.metering import meter
from realtime.rest.names import TRANSCRIPTION_MODELS, require_model
from realtime.rest.ports import FileHearing, RestPorts, installed
from realtime.rest.sse import event_stream
from realtime.rest.uploads import read_upload
from realtime.rest.usage import transcription_usage
from speech.engines import STT_HZ, Pcm, Transcript
from speech.jobs import QUEUE_STT
from speech.pauses import split_at_pauses
from tenants.permissions import Scope
from tenants.usage.meters import Meter

PIECES_AHEAD = 2
Piece = tuple[float, Transcript]
"""(second at which it begins, what was said)"""
LANGUAGE = Text(3, "^[a-z]{2,3}$")
SHARED_FIELDS: dict[str, Shape] = {
    "model": Text(),
    "prompt": Text(4_096),
    "response_format": Choice(("json", "text", "srt", "verbose_json", "vtt")),
    "temperature": Number(0, 1),
}
TRANSCRIPTION = Object(
    {
        **SHARED_FIELDS,
        "language": LANGUAGE,
        "languages": ListOf(LANGUAGE, min_length=1),
        "keywords": ListOf(Text(100), min_length=1, max_length=100),
        "timestamp_granularities": ListOf(Choice(("word", "segment"))),
        "include": ListOf(Choice(("logprobs",))),
        "stream": Flag(),
        "chunking_strategy": WordOr(
            ("auto",),
            Object(
                {
                    "type": Choice(("server_vad",)),
                    "prefix_padding_ms": Number(0, whole=True),
                    "silence_duration_ms": Number(0, whole=True),
                    "threshold": Number(0, 1),
                },
                ("type",),
            ),
        ),
    },
    ("model",),
)
TRANSLATION = Object(SHARED_FIELDS, ("model",))


@endpoint("POST")
async def create_transcription(request: HttpRequest) -> HttpResponseBase:
    """``temperature`` and ``chunking_strategy`` are taken and change nothing: recognition is greedy, and long
    recordings are always cut at pauses. As at OpenAI, ``whisper-1`` does not stream."""
    holder, ports = await authenticate(request, Scope.SPEECH), installed()
    async with AsyncExitStack() as place:
        await place.enter_async_context(ports.capacity.recordings)
        asked, pcm = await read_upload(request, TRANSCRIPTION)
        require_model(asked["model"], TRANSCRIPTION_MODELS)
        answer_format = asked.get("response_format", "json")
        granularities = asked.get("timestamp_granularities", [])
        if granularities and answer_format != "verbose_json":
            raise Invalid(
                "invalid_value",
                "Timestamp granularities are only there with response_format 'verbose_json'.",
                "timestamp_granularities",
            )
        language = asked.get("language") or (asked["languages"][0] if len(asked.get("languages", [])) == 1 else None)
        if language not in (None, "en"):
            await require_languages(ports.hearing, f"understand '{language}'", "language")
        job = Job(ports, holder, request.request_id, language, prompt_of(asked))
        with_logprobs = "logprobs" in asked.get("include", [])
        if asked.get("stream") and asked["model"] != "whisper-1":
            pieces = hold(place.pop_all(), job.pieces(pcm))
            # What fails before the first words still has a status to fail with.
            first = await anext(pieces)
            return event_stream(transcript_events(first, pieces, prompt_of(asked), len(pcm) / STT_HZ, with_logprobs))
        recording = await job.recording(pcm)
        return await asyncio.to_thread(
            respond_with, recording, answer_format, "transcribe", granularities, with_logprobs
        )


@endpoint("POST")
async def create_translation(request: HttpRequest) -> HttpResponseBase:
    """Into English, by a model that knows more than English."""
    holder, ports = await authenticate(request, Scope.SPEECH), installed()
    async with ports.capacity.recordings:
        asked, pcm = await read_upload(request, TRANSLATION)
        require_model(asked["model"], TRANSCRIPTION_MODELS)
        await require_languages(ports.hearing, "translate", "model")
        job = Job(ports, holder, request.request_id, None, asked.get("prompt", ""), translate=True)
        recording = await job.recording(pcm)
        if asked.get("response_format", "json") == "json":
            return JsonResponse({"text": recording.text})
        return await asyncio.to_thread(respond_with, recording, asked["response_format"], "translate")


def prompt_of(asked: dict[str, Any]) -> str:
    return " ".join([*asked.get("keywords", []), asked.get("prompt", "")]).strip()


async def require_languages(hearing: FileHearing, what: str, param: str) -> None:
    """Raises Invalid when every recogniser that serves now knows English only, which its model's name tells."""
    models = sorted({worker.model for worker in await hearing.live_workers(QUEUE_STT)})
    if models and all(model.endswith(".en") for model in models):
        raise Invalid(
            "invalid_value",
            f"The speech model here, '{models[0]}', knows English only: it cannot {what}. "
            "Set AVB_STT_MODEL to a multilingual one.",
            param,
        )


def respond_with(
    recording: transcripts.Recording,
    answer_format: str,
    task: str,
    granularities: Sequence[str] = (),
    with_logprobs: bool = False,
) -> HttpResponse:
    """An hour with its words takes 50 ms: off the event loop."""
    if answer_format == "json":
        return JsonResponse(transcripts.to_json(recording, with_logprobs=with_logprobs))
    if answer_format == "verbose_json":
        return JsonResponse(transcripts.to_verbose_json(recording, task=task, granularities=granularities))
    texts = {
        "text": lambda: f"{recording.text}\n",
        "srt": lambda: transcripts.to_srt(recording),
        "vtt": lambda: transcripts.to_vtt(recording),
    }
    return HttpResponse(texts[answer_format](), content_type="text/plain; charset=utf-8")


async def hold(place: AsyncExitStack, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
    """The pieces; the recording's place becomes free with the last one, or when nobody asks for more. Ask for the
    first at once: a generator that has not begun gives nothing back."""
    async with place, aclosing(pieces):
        async for piece in pieces:
            yield piece


async def transcript_events(
    first: Piece,
    pieces: AsyncGenerator[Piece, None],
    prompt: str,
    audio_s: float,
    with_logprobs: bool,
) -> AsyncGenerator[dict[str, Any], None]:
    """One delta for each piece that has words; joined, the deltas are the text."""
    heard: list[Piece] = []

    async def all_pieces() -> AsyncGenerator[Piece, None]:
        yield first
        async for piece in pieces:
            yield piece

    async with aclosing(pieces), aclosing(all_pieces()) as every:
        async for piece in every:
            text = piece[1].text
            if text:
                delta = f" {text}" if any(earlier.text for _, earlier in heard) else text
                extra = {"logprobs": transcripts.logprobs(piece[1].words)} if with_logprobs else {}
                yield {"type": "transcript.text.delta", "delta": delta, **extra}
            heard.append(piece)
    yield await asyncio.to_thread(last_event, heard, prompt, audio_s, with_logprobs)


def last_event(heard: list[Piece], prompt: str, audio_s: float, with_logprobs: bool) -> dict[str, Any]:
    recording = transcripts.join(heard, audio_s)
    done: dict[str, Any] = {"type": "transcript.text.done", "text": recording.text}
    if with_logprobs:
        done |= {"logprobs": transcripts.logprobs(recording.words)}
    return done | {"usage": transcription_usage(prompt, recording.text, audio_s)}


class Job:
    """One recording on its way to text: pieces of at most 30 s, each a task of its own on the queue."""

    def __init__(
        self,
        ports: RestPorts,
        holder: KeyHolder,
        request_id: str,
        language: str | None,
        prompt: str,
        *,
        translate: bool = False,
    ) -> None:
        self._hearing = ports.hearing
        self._capacity = ports.capacity
        self._holder = holder
        self._request_id = request_id
        self._language = language
        self._prompt = prompt or None
        self._translate = translate

    async def recording(self, pcm_16khz: Pcm) -> transcripts.Recording:
        """Raises SpeechFailed."""
        async with aclosing(self.pieces(pcm_16khz)) as pieces:
            heard = [piece async for piece in pieces]
        return await asyncio.to_thread(transcripts.join, heard, len(pcm_16khz) / STT_HZ)

    async def pieces(self, pcm_16khz: Pcm) -> AsyncGenerator[Piece, None]:
        """In order; the next is under way meanwhile. At least one."""
        waiting = deque(await asyncio.to_thread(split_at_pauses, pcm_16khz, STT_HZ))
        running: deque[tuple[int, int, asyncio.Task[Transcript]]] = deque()
        heard_to, by = 0, ("", "")
        try:
            while waiting or running:
                while waiting and len(running) < PIECES_AHEAD:
                    start, end = waiting.popleft()
                    running.append((start, end, asyncio.create_task(self._transcribe(pcm_16khz[start:end]))))
                start, end, task = running[0]
                transcript = await task
                running.popleft()
                heard_to, by = end, (transcript.engine, transcript.model)
                self._holder.require_open()
                yield start / STT_HZ, transcript
        finally:
            for _, _, task in running:
                task.cancel()
            await asyncio.gather(*(task for _, _, task in running), return_exceptions=True)
            meter(self._holder, self._request_id, Meter.STT_SECONDS, math.ceil(heard_to / STT_HZ), *by)

    async def _transcribe(self, pcm_16khz: Pcm) -> Transcript:
        async with self._capacity.pieces:
            return await self._hearing.transcribe(
                pcm_16khz,
                tenant=self._holder.tenant,
                session_id=self._request_id,
                sample_rate_hz=STT_HZ,
                language=self._language,
                prompt=self._prompt,
                translate=self._translate,
                answer_s=settings.TRANSCRIPTION_ANSWER_S,
            )
