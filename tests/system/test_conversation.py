"""A spoken conversation with the real product: PostgreSQL, Valkey, Celery, Whisper, a language model, Kokoro."""

import asyncio
import base64
import json
import wave
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from speech.engines import TTS_HZ
from speech.stt.whisper import Whisper
from tests.llm.server import ChatServer
from tests.speech.clips import plain_words
from tests.system.product import Product, words
from tests.system.words import CLIPS, TEXTS, clip_24khz, hear, word_error_rate

CLIP_FILES = ["librivox-0930.wav", "cards-005.wav"]


ANSWERS = [
    "He was a kind man, and his neighbours liked him.",
    "That is a good hand. Would you like to play another game?",
]
BRIEF = {"type": "realtime", "max_output_tokens": 40}


async def test_two_spoken_turns_are_understood_answered_and_kept(product: Product, whisper: Whisper) -> None:
    async with product.call() as caller:
        await caller.send({"type": "session.update", "session": BRIEF})
        turns = [await caller.speak(clip_24khz(file)) for file in CLIP_FILES]
        session_id = caller.session["id"]
    assert caller.errors == []
    assert word_error_rate([TEXTS[file] for file in CLIP_FILES], [turn.said for turn in turns]) <= 0.15
    answers = [turn.answer for turn in turns]
    for turn in turns:
        # A small model may say strange things; what is heard first are words of the answer all the same.
        heard = plain_words(hear(whisper, turn.pcm[: 4 * TTS_HZ])).split()
        assert sum(word in plain_words(turn.answer).split() for word in heard) >= 0.6 * len(heard) > 0

    items = await product.stored(session_id, lambda items: len(items) == 4 and bool(items[3]["text"]))
    assert [item["role"] for item in items] == ["user", "assistant", "user", "assistant"]
    assert [item["text"] for item in items] == [turns[0].said, answers[0], turns[1].said, answers[1]]
    assert set(items[3]["timings_ms"]) == {"transcript", "first_token", "first_audio"}
    [conversation] = [row for row in product.get("/api/v1/conversations/")["results"] if row["id"] == session_id]
    assert conversation["end_reason"] == "client_closed"
    log = product.logs()
    for words_said in (*answers, *(turn.said for turn in turns)):
        assert words_said not in log


@pytest.mark.parametrize("audio_format", ["audio/pcm", "audio/pcmu", "audio/pcma", "audio/opus"])
async def test_what_is_spoken_is_what_the_answer_says(
    breakable: Product, llm: ChatServer, whisper: Whisper, audio_format: str
) -> None:
    async with breakable.call(format=audio_format) as caller:
        turns = []
        for file, answer in zip(CLIP_FILES, ANSWERS, strict=True):
            llm.say(*words(answer))
            turns.append(await caller.speak(clip_24khz(file)))
    assert caller.errors == []
    assert word_error_rate([TEXTS[file] for file in CLIP_FILES], [turn.said for turn in turns]) <= 0.15
    assert [turn.answer for turn in turns] == ANSWERS
    assert word_error_rate(ANSWERS, [hear(whisper, turn.pcm) for turn in turns]) <= 0.15


@pytest.mark.parametrize("audio_format", ["audio/pcm", "audio/pcmu"])
async def test_speaking_over_an_answer_ends_it_where_it_was_heard(
    breakable: Product, llm: ChatServer, audio_format: str
) -> None:
    async with breakable.call(format=audio_format) as caller:
        first = await caller.say(clip_24khz("goforward.wav"))
        await caller.hear_first(first, 700)
        llm.say(*words(ANSWERS[0]))
        second = await caller.speak(clip_24khz("librivox-0930.wav"))
        session_id = caller.session["id"]
    assert caller.errors == []
    assert first.interrupted_after_ms is not None
    assert first.interrupted_after_ms >= 700
    assert second.status == "completed"
    items = await breakable.stored(session_id, lambda items: len(items) == 4 and bool(items[3]["text"]))
    assert len(items[1]["text"].split()) < len(first.answer.split())
    assert first.answer.startswith(items[1]["text"].strip()[:10])


async def test_the_stock_sdk_types_and_reads(product: Product) -> None:
    client = AsyncOpenAI(api_key=product.demo["api_key"], base_url=f"{product.demo['base_url']}/v1")
    async with client.realtime.connect(model="gpt-realtime") as connection:
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        content = [{"type": "input_text", "text": "What is the capital of France?"}]
        await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        await connection.response.create()
        types, text = [], ""
        async with asyncio.timeout(60):
            async for event in connection:
                types.append(event.type)
                if event.type == "response.output_text.delta":
                    text += event.delta
                if event.type == "response.done":
                    break
    assert types[:5] == [
        "session.created",
        "session.updated",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    assert types[-4:] == [
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    assert text.strip()


async def test_the_stock_sdk_speaks_and_hears(product: Product, whisper: Whisper) -> None:
    client = AsyncOpenAI(api_key=product.demo["api_key"], base_url=f"{product.demo['base_url']}/v1")
    async with client.realtime.connect(model=f"agent:{product.demo['agent']}") as connection:
        audio = {"input": {"transcription": {"model": "whisper-1"}, "turn_detection": None}}
        await connection.session.update(session={"type": "realtime", "audio": audio})
        pcm = clip_24khz("librivox-0930.wav")
        for start in range(0, len(pcm), 4800):
            chunk = base64.b64encode(pcm[start : start + 4800].tobytes()).decode()
            await connection.input_audio_buffer.append(audio=chunk)
        await connection.input_audio_buffer.commit()
        await connection.response.create()
        said, answer, sound, types = "", "", b"", []
        async with asyncio.timeout(60):
            async for event in connection:
                types.append(event.type)
                if event.type == "conversation.item.input_audio_transcription.completed":
                    said = event.transcript
                elif event.type == "response.output_audio.delta":
                    sound += base64.b64decode(event.delta)
                elif event.type == "response.output_audio_transcript.done":
                    answer = event.transcript
                elif event.type == "response.done":
                    break
    assert "error" not in types
    assert word_error_rate([TEXTS["librivox-0930.wav"]], [said]) <= 0.15
    assert len(sound) > TTS_HZ
    assert answer.strip()


def test_the_command_calls_and_writes_what_it_heard(product: Product, tmp_path: Path) -> None:
    out = tmp_path / "reply.wav"
    called = product.avb("call", str(CLIPS / "goforward.wav"), "--json", "--out", str(out))
    assert called.returncode == 0, called.stderr
    turn = json.loads(called.stdout)
    assert word_error_rate([TEXTS["goforward.wav"]], [turn["said"]]) <= 0.25
    stages = turn["ms_after_speech"]
    assert stages["turn_end"] <= stages["first_token"] <= stages["first_audio"]
    with wave.open(str(out)) as wav:
        assert wav.getframerate() == TTS_HZ
        assert abs(wav.getnframes() / TTS_HZ * 1000 - turn["answer_ms"]) < 5


@pytest.mark.parametrize(
    ("key", "model", "code", "reason"),
    [
        ("avb_live_wrong", "gpt-realtime", 3000, "invalid_request_error.invalid_api_key"),
        (None, "agent:nobody", 4000, "invalid_request_error.agent_not_found"),
    ],
)
async def test_a_caller_who_may_not_come_in_is_told_why(
    product: Product, key: str | None, model: str, code: int, reason: str
) -> None:
    import websockets

    headers = {"Authorization": f"Bearer {key or product.demo['api_key']}"}
    async with websockets.connect(
        f"{product.demo['realtime_url']}?model={model}", additional_headers=headers
    ) as socket:
        event = json.loads(await socket.recv())
        assert event["type"] == "error"
        assert event["error"]["code"] == reason.split(".")[1]
        await socket.wait_closed()
        assert (socket.close_code, socket.close_reason) == (code, reason)


def test_probes_and_metrics_tell_of_the_calls(product: Product) -> None:
    assert json.loads(product.get("/health"))["status"] == "ok"
    ready = json.loads(product.get("/ready"))
    assert ready["status"] == "ok", ready
    metrics = product.get("/metrics")
    for name in (
        "agentvoicebox_gateway_connections_total",
        "agentvoicebox_gateway_connections_active",
        "agentvoicebox_gateway_messages_total",
        "agentvoicebox_gateway_message_duration_seconds",
        "agentvoicebox_llm_requests_total",
        "agentvoicebox_llm_tokens_total",
        "agentvoicebox_postgres_queries_total",
    ):
        assert f"# TYPE {name.removesuffix('_total')}" in metrics, name
