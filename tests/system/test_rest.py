"""OpenAI's REST with the stock SDK against the real product: ephemeral secrets, text to speech, speech to text."""

import base64
import io
import json
import time
import wave
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import websockets
from openai import AsyncOpenAI, AuthenticationError, BadRequestError
from openai.types.audio import TranscriptionVerbose

from speech.audio import from_bytes, to_bytes
from speech.encode import FORMATS, decode_upload, open_encoder
from speech.engines import STT_HZ, TTS_HZ, Pcm
from speech.stt.whisper import Whisper
from tests.speech.clips import load_clips
from tests.system.product import Product
from tests.system.words import CLIPS, TEXTS, clip_24khz, hear, word_error_rate

SENTENCE = "The library is open from Monday to Friday. You can borrow books for three weeks at a time."
CLIP = "librivox-0930.wav"


@pytest.fixture
async def sdk(product: Product) -> AsyncIterator[AsyncOpenAI]:
    async with with_key(product, product.demo["api_key"]) as client:
        yield client


def with_key(product: Product, key: str) -> AsyncOpenAI:
    return AsyncOpenAI(api_key=key, base_url=f"{product.demo['base_url']}/v1", max_retries=0)


async def test_a_browser_gets_the_session_that_its_secret_was_made_with(product: Product, sdk: AsyncOpenAI) -> None:
    session: Any = {
        "type": "realtime",
        "model": f"agent:{product.demo['agent']}",
        "instructions": "Answer with one word.",
        "output_modalities": ["text"],
        "audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}},
    }
    made = await sdk.realtime.client_secrets.create(session=session)
    # One secret opens several sessions.
    for _ in range(2):
        async with (
            with_key(product, made.value) as browser,
            browser.realtime.connect(model="gpt-realtime") as connection,
        ):
            created = await connection.recv()
            assert created.type == "session.created"
            shown = created.session
            assert shown.type == "realtime"
            assert (shown.instructions, shown.output_modalities) == ("Answer with one word.", ["text"])
            assert shown.model == f"agent:{product.demo['agent']}"
            assert shown.audio is not None
            assert shown.audio.input is not None
            assert shown.audio.input.turn_detection is not None
            assert shown.audio.input.turn_detection.type == "semantic_vad"
    # As a browser does it: the secret in the subprotocol, and no model.
    protocols: Any = ["realtime", f"openai-insecure-api-key.{made.value}"]
    async with websockets.connect(product.demo["realtime_url"], subprotocols=protocols) as socket:
        assert socket.subprotocol == "realtime"
        created = json.loads(await socket.recv())
        assert created["session"]["instructions"] == "Answer with one word."
        question = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}
        await socket.send(json.dumps({"type": "conversation.item.create", "item": question}))
        await socket.send(json.dumps({"type": "response.create"}))
        types = []
        while "response.done" not in types:
            types.append(json.loads(await socket.recv())["type"])
        assert "response.output_text.delta" in types
    assert made.value not in product.logs()


async def test_a_secret_for_transcription(product: Product, sdk: AsyncOpenAI) -> None:
    audio: Any = {"input": {"transcription": {"model": "gpt-4o-transcribe"}, "turn_detection": None}}
    made = await sdk.realtime.client_secrets.create(session={"type": "transcription", "audio": audio})
    headers = {"Authorization": f"Bearer {made.value}"}
    async with websockets.connect(product.demo["realtime_url"], additional_headers=headers) as socket:
        created = json.loads(await socket.recv())
    assert created["session"]["object"] == "realtime.transcription_session"
    assert created["session"]["audio"]["input"]["transcription"]["model"] == "gpt-4o-transcribe"


@pytest.mark.parametrize(("query", "code"), [("", "invalid_api_key"), ("?model=agent:other", "invalid_model")])
async def test_a_secret_that_is_not_there_or_for_another_agent_opens_nothing(
    product: Product, sdk: AsyncOpenAI, query: str, code: str
) -> None:
    made = await sdk.realtime.client_secrets.create()
    value = made.value if code == "invalid_model" else "ek_" + "x" * 32
    headers = {"Authorization": f"Bearer {value}"}
    async with websockets.connect(product.demo["realtime_url"] + query, additional_headers=headers) as socket:
        assert json.loads(await socket.recv())["error"]["code"] == code
        await socket.wait_closed()
        assert socket.close_reason == f"invalid_request_error.{code}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_beta_client_gets_its_flat_session(product: Product, sdk: AsyncOpenAI) -> None:
    made = await sdk.beta.realtime.sessions.create(
        model="gpt-4o-realtime-preview", instructions="Be brief.", modalities=["text"], voice="verse"
    )
    assert made.client_secret.value.startswith("ek_")
    headers = {"Authorization": f"Bearer {made.client_secret.value}", "OpenAI-Beta": "realtime=v1"}
    url = f"{product.demo['realtime_url']}?model=gpt-4o-realtime-preview"
    async with websockets.connect(url, additional_headers=headers) as socket:
        session = json.loads(await socket.recv())["session"]
    assert (session["instructions"], session["modalities"], session["voice"]) == ("Be brief.", ["text"], "verse")


async def test_a_secrets_time_ends(product: Product, sdk: AsyncOpenAI) -> None:
    made = await sdk.realtime.client_secrets.create(expires_after={"anchor": "created_at", "seconds": 10})
    time.sleep(10.2)  # noqa: ASYNC251 - nothing else runs here
    headers = {"Authorization": f"Bearer {made.value}"}
    async with websockets.connect(product.demo["realtime_url"], additional_headers=headers) as socket:
        assert json.loads(await socket.recv())["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("audio_format", FORMATS)
async def test_what_is_spoken_is_the_text(sdk: AsyncOpenAI, whisper: Whisper, audio_format: Any) -> None:
    answer = await sdk.audio.speech.create(
        model="gpt-4o-mini-tts", voice="marin", input=SENTENCE, response_format=audio_format
    )
    if audio_format == "pcm":
        said = hear(whisper, from_bytes(answer.content))
    else:
        said = whisper.transcribe(decode_upload(answer.content, longest_s=60)).text
    assert word_error_rate([SENTENCE], [said]) <= 0.15


async def test_speech_begins_before_it_is_all_spoken(sdk: AsyncOpenAI) -> None:
    began, first_s, size = time.monotonic(), 0.0, 0
    async with sdk.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=SENTENCE * 3, response_format="wav"
    ) as answer:
        async for piece in answer.iter_bytes():
            first_s = first_s or time.monotonic() - began
            size += len(piece)
    assert first_s < 0.5 * (time.monotonic() - began)
    assert size / 2 / TTS_HZ > 10


@pytest.mark.parametrize("speed", [0.25, 4.0])
async def test_the_slowest_and_the_fastest_speech(sdk: AsyncOpenAI, speed: float) -> None:
    lengths = []
    for asked in (1.0, speed):
        answer = await sdk.audio.speech.create(
            model="tts-1", voice="alloy", input="The weather is nice today.", response_format="pcm", speed=asked
        )
        lengths.append(len(answer.content))
    assert lengths[1] * speed == pytest.approx(lengths[0], rel=0.35)


def wav(pcm_24khz: Pcm) -> tuple[str, bytes]:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(TTS_HZ)
        file.writeframes(to_bytes(pcm_24khz))
    return "clip.wav", stream.getvalue()


@pytest.mark.parametrize("answer_format", ["json", "text", "srt", "verbose_json", "vtt"])
async def test_a_recording_becomes_text(sdk: AsyncOpenAI, answer_format: Any) -> None:
    file = (CLIPS / CLIP).read_bytes()
    answer: Any = await sdk.audio.transcriptions.create(
        file=(CLIP, file),
        model="whisper-1",
        response_format=answer_format,
        **({"timestamp_granularities": ["word", "segment"]} if answer_format == "verbose_json" else {}),
    )
    text = answer if isinstance(answer, str) else answer.text
    spoken = " ".join(
        line for line in text.splitlines() if "-->" not in line and not line.isdigit() and line != "WEBVTT"
    )
    assert word_error_rate([TEXTS[CLIP]], [spoken]) <= 0.15
    assert ("-->" in text) is (answer_format in ("srt", "vtt"))
    if isinstance(answer, TranscriptionVerbose):
        assert answer.words
        assert answer.segments
        assert answer.language == "english"
        starts = [word.start for word in answer.words]
        assert starts == sorted(starts)
        assert answer.words[-1].end <= answer.duration + 0.2
        assert -1 < answer.segments[0].avg_logprob <= 0


async def test_a_long_recording_streams_its_text(product: Product, sdk: AsyncOpenAI) -> None:
    clips = [clip.file for clip in load_clips()]
    pause = np.zeros(TTS_HZ, np.int16)
    pcm = np.concatenate([part for file in clips for part in (clip_24khz(file), pause)])
    assert len(pcm) / TTS_HZ > 30
    encoder = open_encoder("opus")
    data = encoder.push(pcm) + encoder.flush()
    stream = await sdk.audio.transcriptions.create(
        file=("long.opus", data), model="gpt-4o-mini-transcribe", stream=True, include=["logprobs"]
    )
    events: list[Any] = [event async for event in stream]
    assert [event.type for event in events[:-1]] == ["transcript.text.delta"] * (len(events) - 1)
    assert len(events) >= 3
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert all(entry.logprob <= 0 for event in events for entry in event.logprobs)
    assert word_error_rate([" ".join(TEXTS[file] for file in clips)], [events[-1].text]) <= 0.2
    assert events[-1].text not in product.logs()


async def test_speech_that_was_made_here_is_understood_here(sdk: AsyncOpenAI) -> None:
    spoken = await sdk.audio.speech.create(model="kokoro", voice="bm_george", input=SENTENCE)
    answer = await sdk.audio.transcriptions.create(file=("a.mp3", spoken.content), model="gpt-4o-transcribe")
    assert word_error_rate([SENTENCE], [answer.text]) <= 0.15


async def test_a_model_of_english_alone_says_that_it_cannot_translate(sdk: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError, match="knows English only"):
        await sdk.audio.translations.create(file=wav(clip_24khz(CLIP)), model="whisper-1")


async def test_models_and_wrong_keys(product: Product, sdk: AsyncOpenAI) -> None:
    names = [model.id async for model in sdk.models.list()]
    assert {"gpt-realtime", "whisper-1", "tts-1", f"agent:{product.demo['agent']}"} <= set(names)
    assert (await sdk.models.retrieve("gpt-realtime")).object == "model"
    async with with_key(product, "avb_live_wrong_and_long_enough") as stranger:
        with pytest.raises(AuthenticationError, match="Incorrect API key provided"):
            await stranger.models.list()


async def test_sse_speech(product: Product, sdk: AsyncOpenAI, whisper: Whisper) -> None:
    answer = await sdk.audio.speech.create(
        model="gpt-4o-mini-tts", voice="alloy", input=SENTENCE, response_format="wav", stream_format="sse"
    )
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    data = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert events[-1]["type"] == "speech.audio.done"
    pcm = decode_upload(data, longest_s=60)
    assert events[-1]["usage"]["output_tokens"] == pytest.approx(len(pcm) / STT_HZ * 20, abs=2)
    assert word_error_rate([SENTENCE], [whisper.transcribe(pcm).text]) <= 0.15
