"""The stock ``openai`` SDK, pointed here: each flow as its users write it. Real product, scripted language model."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from tests.llm.server import ChatServer
from tests.system.product import Product, words
from tests.system.words import TEXTS, clip_24khz, word_error_rate

CLIP = "librivox-0930.wav"
TEXT_ONLY: dict[str, Any] = {"type": "realtime", "output_modalities": ["text"]}


@asynccontextmanager
async def connected(product: Product, **options: Any) -> AsyncIterator[AsyncRealtimeConnection]:
    client = AsyncOpenAI(api_key=product.demo["api_key"], base_url=f"{product.demo['base_url']}/v1")
    async with client.realtime.connect(**({"model": "gpt-realtime"} | options)) as connection, asyncio.timeout(90):
        assert (await connection.recv()).type == "session.created"
        yield connection


async def until(connection: AsyncRealtimeConnection, last: str) -> list[Any]:
    events: list[Any] = []
    async for event in connection:
        events.append(event)
        if event.type == last:
            break
    return events


def message(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


async def test_a_function_is_called_and_its_result_is_spoken_of(breakable: Product, llm: ChatServer) -> None:
    async with connected(breakable) as connection:
        tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
        await connection.session.update(session={**TEXT_ONLY, "tools": [tool], "tool_choice": "auto"})
        call = {"index": 0, "id": "x", "function": {"name": "weather", "arguments": '{"city":'}}
        rest = {"index": 0, "function": {"arguments": '"Paris"}'}}
        llm.say({"tool_calls": [call]}, {"tool_calls": [rest]}, reason="tool_calls")
        await connection.conversation.item.create(item=message("How is the weather in Paris?"))
        await connection.response.create()
        events = await until(connection, "rate_limits.updated")
        done = next(event for event in events if event.type == "response.function_call_arguments.done")
        assert (done.name, json.loads(done.arguments)) == ("weather", {"city": "Paris"})
        llm.say(*words("It is sunny."))
        output = {"type": "function_call_output", "call_id": done.call_id, "output": '{"sky":"clear"}'}
        await connection.conversation.item.create(item=output)
        await connection.response.create()
        events = await until(connection, "response.done")
        assert events[-1].response.output[0].content[0].text == "It is sunny."
        asked = llm.requests[-1]["messages"]
        assert [entry["role"] for entry in asked] == ["system", "user", "assistant", "tool"]
        assert asked[2]["tool_calls"][0]["id"] == asked[3]["tool_call_id"]


async def test_an_answer_is_cancelled(breakable: Product, llm: ChatServer) -> None:
    async with connected(breakable) as connection:
        llm.say({"content": "Well, "}, 20.0, {"content": "this comes too late."})
        await connection.session.update(session=TEXT_ONLY)
        await connection.response.create()
        await until(connection, "response.output_text.delta")
        await connection.response.cancel()
        events = await until(connection, "response.done")
        assert events[-1].response.status == "cancelled"
        assert events[-1].response.status_details.reason == "client_cancelled"
        await connection.send({"type": "response.cancel", "event_id": "again"})
        events = await until(connection, "error")
        assert (events[-1].error.code, events[-1].error.event_id) == ("response_cancel_not_active", "again")


async def test_side_questions_are_told_apart_by_their_metadata(breakable: Product, llm: ChatServer) -> None:
    async with connected(breakable) as connection:
        llm.say(*words("Fine."))
        for topic in ("one", "two"):
            await connection.response.create(
                response={
                    "conversation": "none",
                    "metadata": {"topic": topic},
                    "output_modalities": ["text"],
                    "input": [message(f"Classify {topic}.")],
                }
            )
        seen: dict[str, Any] = {}
        async for event in connection:
            assert not event.type.startswith("conversation.item")
            if event.type == "response.done":
                seen[event.response.metadata["topic"]] = event.response
            if len(seen) == 2:
                break
        assert {response.status for response in seen.values()} == {"completed"}
        assert {response.conversation_id for response in seen.values()} == {None}


async def test_items_are_placed_read_and_removed(breakable: Product) -> None:
    async with connected(breakable) as connection:
        await connection.conversation.item.create(item={**message("second"), "id": "two"})
        await until(connection, "conversation.item.done")
        await connection.conversation.item.create(item={**message("first"), "id": "one"}, previous_item_id="root")
        events = await until(connection, "conversation.item.done")
        assert events[0].previous_item_id is None
        await connection.conversation.item.retrieve(item_id="one")
        events = await until(connection, "conversation.item.retrieved")
        assert events[-1].item.content[0].text == "first"
        await connection.conversation.item.delete(item_id="one")
        assert (await until(connection, "conversation.item.deleted"))[-1].item_id == "one"
        await connection.conversation.item.retrieve(item_id="one")
        assert (await until(connection, "error"))[-1].error.code == "item_retrieve_invalid_item_id"


async def test_a_spoken_answer_is_cut_where_its_listener_stopped(breakable: Product) -> None:
    async with connected(breakable) as connection:
        await connection.conversation.item.create(item=message("When are you open?"))
        await connection.response.create()
        events = await until(connection, "response.done")
        [item] = events[-1].response.output
        whole = item.content[0].transcript
        await connection.conversation.item.truncate(item_id=item.id, content_index=0, audio_end_ms=2000)
        assert (await until(connection, "conversation.item.truncated"))[-1].audio_end_ms == 2000
        await connection.conversation.item.retrieve(item_id=item.id)
        cut = (await until(connection, "conversation.item.retrieved"))[-1].item.content[0]
        assert whole.startswith(cut.transcript.strip())
        assert 2 <= len(cut.transcript.split()) <= 12
        assert len(base64.b64decode(cut.audio)) == 2000 * 48


async def test_a_transcription_session_only_writes_down(breakable: Product) -> None:
    async with connected(breakable, model="", extra_query={"intent": "transcription"}) as connection:
        transcription = {"model": "gpt-4o-transcribe", "language": "en"}
        include = ["item.input_audio_transcription.logprobs"]
        session = {"type": "transcription", "audio": {"input": {"transcription": transcription}}, "include": include}
        await connection.session.update(session=session)
        await stream(connection)
        events = await until(connection, "conversation.item.input_audio_transcription.completed")
        assert word_error_rate([TEXTS[CLIP]], [events[-1].transcript]) <= 0.15
        assert events[-1].usage.type == "duration"
        assert all(entry.logprob <= 0 for entry in events[-1].logprobs)
        types = [event.type for event in events]
        assert not [name for name in types if name.startswith(("response", "rate_limits", "error"))]
        assert types[:2] == ["session.updated", "input_audio_buffer.speech_started"]


async def test_a_caller_who_has_finished_is_heard_by_meaning(breakable: Product, llm: ChatServer) -> None:
    llm.say(*words("I see."))
    async with connected(breakable) as connection:
        detection = {"type": "semantic_vad", "eagerness": "high"}
        await connection.session.update(session={**TEXT_ONLY, "audio": {"input": {"turn_detection": detection}}})
        await stream(connection)
        events = await until(connection, "response.done")
        assert events[-1].response.output[0].content[0].text == "I see."


async def stream(connection: AsyncRealtimeConnection) -> None:
    """The clip and two and a half seconds of silence, as fast as they go."""
    pcm = clip_24khz(CLIP).tobytes() + bytes(2500 * 48)
    for start in range(0, len(pcm), 9600):
        await connection.input_audio_buffer.append(audio=base64.b64encode(pcm[start : start + 9600]).decode())
