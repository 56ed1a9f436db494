"""The openai package's beta surface against the whole product: what installed clients still speak."""

import asyncio
import base64
import json
from typing import Any

import websockets
from openai import AsyncAzureOpenAI, AsyncOpenAI

from speech.engines import TTS_HZ
from tests.system.product import Product
from tests.system.words import TEXTS, clip_24khz, word_error_rate

ADD = {
    "type": "function",
    "name": "add",
    "description": "Adds two numbers. Always use it to add.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
        "required": ["a", "b"],
    },
}


def beta_client(product: Product) -> AsyncOpenAI:
    """Its beta surface turns any base URL into wss, except one given for sockets."""
    return AsyncOpenAI(
        api_key=product.demo["api_key"],
        base_url=f"{product.demo['base_url']}/v1",
        websocket_base_url=product.demo["realtime_url"].removesuffix("/realtime"),
    )


async def until(connection: Any, last: str) -> list[Any]:
    """Events up to the first of type ``last``; 60 s at most."""
    events = []
    async with asyncio.timeout(60):
        async for event in connection:
            events.append(event)
            if event.type == last:
                break
    return events


async def test_the_stock_sdk_types_and_reads(product: Product) -> None:
    async with beta_client(product).beta.realtime.connect(model="gpt-4o-realtime-preview") as connection:
        session = {"modalities": ["text"], "temperature": 0.7, "turn_detection": None}
        await connection.session.update(session=session)
        content = [{"type": "input_text", "text": "What is the capital of France?"}]
        await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        await connection.response.create()
        events = await until(connection, "response.done")
    types = [event.type for event in events]
    assert types[:5] == [
        "session.created",
        "conversation.created",
        "session.updated",
        "conversation.item.created",
        "response.created",
    ]
    rest = types[5:]
    deltas = rest.count("response.text.delta")
    assert deltas >= 1
    assert rest == [
        "response.output_item.added",
        "conversation.item.created",
        "response.content_part.added",
        *["response.text.delta"] * deltas,
        "response.text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]
    assert (events[2].session.modalities, events[2].session.temperature) == (["text"], 0.7)
    text = "".join(event.delta for event in events if event.type == "response.text.delta")
    [item] = events[-1].response.output
    assert (item.object, item.content[0].type, item.content[0].text) == ("realtime.item", "text", text)


async def test_the_stock_sdk_speaks_and_hears(product: Product) -> None:
    async with beta_client(product).beta.realtime.connect(model="gpt-4o-realtime-preview") as connection:
        session = {"turn_detection": None, "input_audio_transcription": {"model": "whisper-1"}, "voice": "alloy"}
        await connection.session.update(session=session)
        pcm = clip_24khz("librivox-0930.wav")
        for start in range(0, len(pcm), 4800):
            chunk = base64.b64encode(pcm[start : start + 4800].tobytes()).decode()
            await connection.input_audio_buffer.append(audio=chunk)
        await connection.input_audio_buffer.commit()
        await connection.response.create()
        events = await until(connection, "response.done")
    types = [event.type for event in events]
    assert "error" not in types
    said = next(event.transcript for event in events if event.type.endswith("transcription.completed"))
    assert word_error_rate([TEXTS["librivox-0930.wav"]], [said]) <= 0.15
    sound = b"".join(base64.b64decode(event.delta) for event in events if event.type == "response.audio.delta")
    assert len(sound) > TTS_HZ
    [transcript] = [event.transcript for event in events if event.type == "response.audio_transcript.done"]
    assert events[-1].response.output[0].content[0].transcript == transcript
    assert transcript.strip()


async def test_the_stock_sdk_hands_in_and_takes_back_items(product: Product) -> None:
    async with beta_client(product).beta.realtime.connect(model="gpt-4o-realtime-preview") as connection:
        await connection.session.update(session={"tools": [ADD], "tool_choice": "auto"})
        items = connection.conversation.item
        said = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hello."}]}
        await items.create(item={**said, "id": "item_said"})
        called = {"type": "function_call", "call_id": "call_a", "name": "add", "arguments": '{"a":1,"b":2}'}
        await items.create(item=called)
        await items.create(item={"type": "function_call_output", "call_id": "call_a", "output": "3"})
        await items.retrieve(item_id="item_said")
        await items.delete(item_id="item_said")
        await items.delete(item_id="item_said", event_id="again")
        events = await until(connection, "error")
    assert [event.type for event in events] == [
        "session.created",
        "conversation.created",
        "session.updated",
        *["conversation.item.created"] * 3,
        "conversation.item.retrieved",
        "conversation.item.deleted",
        "error",
    ]
    assert [event.item.type for event in events[3:6]] == ["message", "function_call", "function_call_output"]
    assert events[6].item.content[0].text == "Hello."
    assert (events[-1].error.code, events[-1].error.event_id) == ("item_delete_invalid_item_id", "again")


async def test_the_stock_sdk_for_azure_previews_reads_what_it_typed(product: Product) -> None:
    client = AsyncAzureOpenAI(
        api_key=product.demo["api_key"],
        api_version="2024-10-01-preview",
        azure_endpoint=product.demo["base_url"],
        websocket_base_url=product.demo["realtime_url"].replace("/v1/realtime", "/openai"),
    )
    async with client.beta.realtime.connect(model="gpt-4o-realtime-preview") as connection:
        await connection.session.update(session={"modalities": ["text"], "turn_detection": None})
        await connection.response.create(response={"instructions": "Say hello."})
        events = await until(connection, "response.done")
    assert events[-1].response.status == "completed"
    assert "".join(event.delta for event in events if event.type == "response.text.delta").strip()


async def test_browsers_ask_for_it_by_subprotocol_and_for_transcription_by_intent(product: Product) -> None:
    key = product.demo["api_key"]
    async with websockets.connect(
        f"{product.demo['realtime_url']}?intent=transcription",
        subprotocols=["realtime", f"openai-insecure-api-key.{key}", "openai-beta.realtime-v1"],  # type: ignore[list-item]
    ) as socket:
        assert socket.subprotocol == "realtime"
        created = json.loads(await socket.recv())
        assert created["type"] == "transcription_session.created"
        session = {"input_audio_transcription": {"model": "gpt-4o-transcribe"}, "turn_detection": None}
        await socket.send(json.dumps({"type": "transcription_session.update", "session": session}))
        types = []
        while "transcription_session.updated" not in types:
            types.append(json.loads(await asyncio.wait_for(socket.recv(), 10))["type"])
        pcm = clip_24khz("goforward.wav")
        audio = base64.b64encode(pcm.tobytes()).decode()
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        event: dict[str, Any] = {"type": ""}
        while not event["type"].endswith("transcription.completed"):
            event = json.loads(await asyncio.wait_for(socket.recv(), 30))
            types.append(event["type"])
    assert types[-4:] == [
        "input_audio_buffer.committed",
        "conversation.item.created",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
    ]
    assert word_error_rate([TEXTS["goforward.wav"]], [event["transcript"]]) <= 0.25
