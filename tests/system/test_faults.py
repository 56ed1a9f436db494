"""The product with parts taken away in the middle of a call. The language model is scripted; all else is real."""

import asyncio

from agentvoicebox.stack.postgres import EmbeddedPostgres
from speech.stt.whisper import Whisper
from tests.system.conftest import LONG_ANSWER
from tests.system.product import Product
from tests.system.words import TEXTS, clip_24khz, hear, word_error_rate

CLIP = "librivox-0930.wav"


async def test_a_recogniser_killed_in_the_middle_of_its_work_costs_no_words(breakable: Product) -> None:
    async with breakable.call() as caller:
        turn = await caller.say(clip_24khz(CLIP))
        killed = breakable.kill("stt")
        await caller.hear_first(turn, 200)
    assert word_error_rate([TEXTS[CLIP]], [turn.said]) <= 0.15
    assert breakable.pid("stt") != killed


async def test_a_voice_killed_in_the_middle_of_an_answer_goes_on_without_gap_or_repeat(
    breakable: Product, whisper: Whisper
) -> None:
    async with breakable.call() as caller:
        turn = await caller.say(clip_24khz(CLIP))
        await caller.hear_first(turn, 100)
        breakable.kill("tts")
        await caller.hear_out(turn)
        session_id = caller.session["id"]
    assert turn.status == "completed"
    assert turn.answer == LONG_ANSWER
    assert word_error_rate([LONG_ANSWER], [hear(whisper, turn.pcm)]) <= 0.15
    await breakable.stored(session_id, lambda items: [item["text"] for item in items] == [turn.said, LONG_ANSWER])


async def test_a_call_goes_on_while_the_database_is_away_and_all_of_it_is_kept(
    breakable: Product, database: EmbeddedPostgres
) -> None:
    async with breakable.call() as caller:
        session_id = caller.session["id"]
        database.stop()
        turn = await caller.say(clip_24khz(CLIP))
        await caller.hear_first(turn, 500)
        await caller.send({"type": "response.cancel"})
        await caller.hear_out(turn)
        await asyncio.sleep(5)
        database.start()  # in this thread: the server ends with the thread that started it
    assert word_error_rate([TEXTS[CLIP]], [turn.said]) <= 0.15
    items = await breakable.stored(session_id, lambda items: len(items) == 2 and bool(items[0]["text"]))
    assert [item["role"] for item in items] == ["user", "assistant"]
    assert items[0]["text"] == turn.said
    assert items[1]["text"] == turn.answer


async def test_new_calls_are_told_to_come_again_while_the_database_is_away(
    breakable: Product, database: EmbeddedPostgres
) -> None:
    import json

    import websockets

    database.stop()
    try:
        headers = {"Authorization": f"Bearer {breakable.demo['api_key']}"}
        url = f"{breakable.demo['realtime_url']}?model=gpt-realtime"
        async with websockets.connect(url, additional_headers=headers) as socket:
            event = json.loads(await socket.recv())
            await socket.wait_closed()
            assert event["error"]["type"] == "server_error"
            assert event["error"]["code"] == "service_unavailable"
            assert socket.close_code == 1013
    finally:
        database.start()  # in this thread: the server ends with the thread that started it
    async with breakable.call() as caller:
        assert caller.session["id"]
