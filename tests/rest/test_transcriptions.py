"""Speech to text: formats, streams, long recordings, limits."""

import json
from typing import Any

import httpx2
import numpy as np
import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.audio import TranscriptionVerbose
from pytest_django import Settings

from speech.encode import open_encoder
from speech.engines import TTS_HZ
from tests.rest.conftest import Speech


def recording(seconds: float = 2.0, audio_format: str = "wav") -> tuple[str, bytes]:
    """A named file of noise."""
    pcm = np.random.default_rng(0).normal(0, 3000, int(seconds * TTS_HZ)).astype(np.int16)
    encoder = open_encoder(audio_format)
    return f"clip.{audio_format}", encoder.push(pcm) + encoder.flush()


FILE = recording()


async def test_json(sdk: AsyncOpenAI, speech: Speech) -> None:
    answer = await sdk.audio.transcriptions.create(
        file=FILE, model="gpt-4o-transcribe", language="en", prompt="Greetings.", temperature=0.2
    )
    assert answer.text == "Hello there. How are you?"
    assert answer.usage is not None
    assert answer.usage.to_dict() == {"type": "duration", "seconds": 2}
    assert answer.logprobs is None
    [heard] = speech.heard
    assert heard["tenant"] == "alpha"
    assert heard["samples"] == pytest.approx(32_000, abs=50)
    assert (heard["sample_rate_hz"], heard["language"], heard["prompt"]) == (16_000, "en", "Greetings.")
    assert heard["translate"] is False


async def test_text(sdk: AsyncOpenAI) -> None:
    assert await sdk.audio.transcriptions.create(file=FILE, model="whisper-1", response_format="text") == (
        "Hello there. How are you?\n"
    )


async def test_srt_and_vtt(sdk: AsyncOpenAI) -> None:
    srt = await sdk.audio.transcriptions.create(file=FILE, model="whisper-1", response_format="srt")
    assert srt == (
        "1\n00:00:00,000 --> 00:00:00,900\nHello there.\n\n2\n00:00:01,000 --> 00:00:02,400\nHow are you?\n\n"
    )
    vtt = await sdk.audio.transcriptions.create(file=FILE, model="whisper-1", response_format="vtt")
    assert vtt == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:00.900\nHello there.\n\n00:00:01.000 --> 00:00:02.400\nHow are you?\n\n"
    )


@pytest.mark.parametrize("granularities", [[], ["segment"], ["word"], ["word", "segment"]])
async def test_verbose_json_has_the_times_that_were_asked_for(sdk: AsyncOpenAI, granularities: Any) -> None:
    answer = await sdk.audio.transcriptions.create(
        file=FILE,
        model="whisper-1",
        response_format="verbose_json",
        **({"timestamp_granularities": granularities} if granularities else {}),
    )
    assert isinstance(answer, TranscriptionVerbose)
    assert (answer.language, answer.duration) == ("english", pytest.approx(2.0, abs=0.01))
    assert (answer.words is not None) is ("word" in granularities)
    assert (answer.segments is not None) is (granularities != ["word"])
    if answer.words:
        assert [(word.word, word.start, word.end) for word in answer.words][:2] == [
            ("Hello", 0.0, 0.4), ("there.", 0.5, 0.9),
        ]  # fmt: skip
    if answer.segments:
        assert [segment.text for segment in answer.segments] == [" Hello there.", " How are you?"]
        assert answer.segments[0].avg_logprob == pytest.approx(-0.693, abs=0.001)
        assert answer.segments[0].compression_ratio > 0


async def test_logprobs_are_there_when_asked_for(sdk: AsyncOpenAI) -> None:
    answer = await sdk.audio.transcriptions.create(file=FILE, model="gpt-4o-transcribe", include=["logprobs"])
    assert answer.logprobs is not None
    assert [entry.token for entry in answer.logprobs] == ["Hello", "there.", "How", "are", "you?"]
    assert answer.logprobs[0].logprob == pytest.approx(-0.693, abs=0.001)
    assert bytes(int(byte) for byte in answer.logprobs[0].bytes or []) == b"Hello"


async def test_a_long_recording_is_heard_in_pieces(sdk: AsyncOpenAI, speech: Speech) -> None:
    speech.said = ["One two.", "", "Three four."]
    answer = await sdk.audio.transcriptions.create(
        file=recording(70, "opus"), model="whisper-1", response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert answer.text == "One two. Three four."
    sizes = [int(str(heard["samples"])) for heard in speech.heard]
    assert sum(sizes) == pytest.approx(70 * 16_000, abs=800)
    assert max(sizes) <= 30 * 16_000
    assert answer.words is not None
    second = sum(sizes[:2]) / 16_000
    assert [word.start for word in answer.words] == pytest.approx([0.0, 0.5, second, second + 0.5], abs=0.002)


async def test_a_stream_tells_the_pieces_as_they_are_understood(sdk: AsyncOpenAI, speech: Speech) -> None:
    speech.said = ["One two.", "", "Three four."]
    stream = await sdk.audio.transcriptions.create(
        file=recording(70, "mp3"), model="gpt-4o-mini-transcribe", stream=True, include=["logprobs"]
    )
    events: list[Any] = [event async for event in stream]
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == "One two. Three four."
    assert [entry.token for entry in events[1].logprobs] == ["Three", "four."]
    assert len(events[-1].logprobs) == 4
    usage = events[-1].usage
    assert usage.input_token_details.audio_tokens == pytest.approx(700, abs=2)
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


async def test_whisper_1_does_not_stream(http: httpx2.AsyncClient) -> None:
    answer = await http.post(
        "/v1/audio/transcriptions", files={"file": FILE}, data={"model": "whisper-1", "stream": "true"}
    )
    assert answer.json()["text"] == "Hello there. How are you?"


async def test_a_failure_on_the_way_is_the_streams_last_event(http: httpx2.AsyncClient, speech: Speech) -> None:
    speech.fails, speech.fails_from = "stt_timeout", 1
    answer = await http.post(
        "/v1/audio/transcriptions",
        files={"file": recording(70, "opus")},
        data={"model": "gpt-4o-transcribe", "stream": "true"},
    )
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    assert [event["type"] for event in events] == ["transcript.text.delta", "error"]
    assert events[1]["error"]["code"] == "stt_timeout"


async def test_a_failure_without_a_stream_has_its_status(http: httpx2.AsyncClient, speech: Speech) -> None:
    speech.fails = "stt_timeout"
    answer = await http.post("/v1/audio/transcriptions", files={"file": FILE}, data={"model": "whisper-1"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


async def test_keywords_and_languages_go_to_the_recogniser(sdk: AsyncOpenAI, speech: Speech) -> None:
    await sdk.audio.transcriptions.create(
        file=FILE,
        model="gpt-transcribe",
        keywords=["Kokoro", "Valkey"],
        languages=["en"],
        prompt="Names.",
        chunking_strategy={"type": "server_vad", "threshold": 0.4},
    )
    assert (speech.heard[0]["prompt"], speech.heard[0]["language"]) == ("Kokoro Valkey Names.", "en")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"model": ""}, "model_not_found", "model"),
        ({}, "missing_required_parameter", "model"),
        ({"model": "whisper-1", "response_format": "diarized_json"}, "invalid_value", "response_format"),
        ({"model": "whisper-1", "temperature": "2"}, "decimal_above_max_value", "temperature"),
        ({"model": "whisper-1", "temperature": "hot"}, "invalid_type", "temperature"),
        ({"model": "whisper-1", "language": "English"}, "string_above_max_length", "language"),
        ({"model": "whisper-1", "language": "de"}, "invalid_value", "language"),
        ({"model": "whisper-1", "stream": "yes"}, "invalid_type", "stream"),
        ({"model": "whisper-1", "include[]": "everything"}, "invalid_value", "include[0]"),
        ({"model": "whisper-1", "timestamp_granularities[]": "word"}, "invalid_value", "timestamp_granularities"),
        ({"model": "whisper-1", "speakers": "2"}, "unknown_parameter", "speakers"),
        ({"model": "whisper-1", "known_speaker_names[]": "a"}, "unknown_parameter", "known_speaker_names"),
    ],
)
async def test_what_is_refused(
    http: httpx2.AsyncClient, speech: Speech, fields: dict[str, str], code: str, param: str
) -> None:
    answer = await http.post("/v1/audio/transcriptions", files={"file": FILE}, data=fields)
    assert answer.status_code == (404 if code == "model_not_found" else 400)
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)
    assert speech.heard == []


@pytest.mark.parametrize(
    "data", [b"", b"not audio at all" * 50, FILE[1][:20], b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"]
)
async def test_a_file_that_is_no_recording(http: httpx2.AsyncClient, data: bytes) -> None:
    answer = await http.post("/v1/audio/transcriptions", files={"file": ("a.wav", data)}, data={"model": "whisper-1"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "file"


async def test_no_file_and_no_form(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/audio/transcriptions", files={"other": FILE}, data={"model": "whisper-1"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
    answer = await http.post("/v1/audio/transcriptions", json={"model": "whisper-1"})
    assert answer.status_code == 400
    assert "multipart/form-data" in answer.json()["error"]["message"]
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answer = await http.post("/v1/audio/transcriptions", content=b"--y\r\n", headers={"Content-Type": content_type})
        assert answer.status_code == 400


async def test_the_largest_file_and_one_byte_more(http: httpx2.AsyncClient, settings: Settings) -> None:
    assert settings.TRANSCRIPTION_MAX_FILE_BYTES == 25 * 1024 * 1024
    for limit, status in ((len(FILE[1]), 200), (len(FILE[1]) - 1, 413)):
        settings.TRANSCRIPTION_MAX_FILE_BYTES = limit
        answer = await http.post("/v1/audio/transcriptions", files={"file": FILE}, data={"model": "whisper-1"})
        assert answer.status_code == status
    assert answer.json()["error"]["message"].startswith(f"Maximum content size limit ({limit}) exceeded")


async def test_the_longest_recording(http: httpx2.AsyncClient, settings: Settings) -> None:
    for limit_s, status in ((3, 200), (1, 400)):
        settings.TRANSCRIPTION_MAX_AUDIO_S = limit_s
        answer = await http.post("/v1/audio/transcriptions", files={"file": FILE}, data={"model": "whisper-1"})
        assert answer.status_code == status
    assert "longer than 1 seconds" in answer.json()["error"]["message"]


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_beyond_the_limit_is_not_taken_in(
    http: httpx2.AsyncClient, settings: Settings, announced: bool
) -> None:
    settings.TRANSCRIPTION_MAX_FILE_BYTES = settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_000

    taken = 0

    async def endless() -> Any:
        nonlocal taken
        for _ in range(100):
            taken += 1000
            yield b"x" * 1000

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    content = b"x" * 100_000 if announced else endless()
    answer = await http.post("/v1/audio/transcriptions", content=content, headers=headers)
    assert answer.status_code == 413
    assert "Maximum content size limit (20000)" in answer.json()["error"]["message"]
    assert taken <= 22_000


async def test_a_json_body_beyond_the_limit(http: httpx2.AsyncClient, settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    answer = await http.post("/v1/realtime/client_secrets", json={"session": {"instructions": "a" * 100}})
    assert answer.status_code == 413


async def test_a_model_that_knows_english_only_does_not_translate(sdk: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError, match=r"'whisper-tiny\.en', knows English only") as refusal:
        await sdk.audio.translations.create(file=FILE, model="whisper-1")
    assert refusal.value.param == "model"


async def test_a_chunked_upload(http: httpx2.AsyncClient, speech: Speech) -> None:
    form = httpx2.Request("POST", "http://x", files={"file": FILE}, data={"model": "whisper-1"})
    body = form.read()

    async def chunks() -> Any:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    headers = {"Content-Type": form.headers["content-type"]}
    answer = await http.post("/v1/audio/transcriptions", content=chunks(), headers=headers)
    assert answer.json()["text"] == "Hello there. How are you?"


@pytest.mark.parametrize("answer_format", ["json", "text", "srt", "vtt", "verbose_json"])
async def test_translation(sdk: AsyncOpenAI, speech: Speech, answer_format: Any) -> None:
    speech.model = "whisper-base"
    answer: Any = await sdk.audio.translations.create(file=FILE, model="whisper-1", response_format=answer_format)
    assert "Hello there." in (answer if isinstance(answer, str) else answer.text)
    assert speech.heard[0]["translate"] is True
    assert answer_format != "verbose_json" or answer.language == "english"
