"""What a call may hold, and what it does at each bound."""

import base64
from typing import Any

import numpy as np
import pytest

from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Limits
from realtime.protocol.input_audio import HZ, InputAudio, InputDecoder
from speech.audio import encode_ulaw
from tests.protocol.call import SILENCE, SPEECH, TestCall, tone

MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
TEXT_ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 100}]}


def spoken_item(ms: int, **fields: Any) -> dict[str, Any]:
    audio = base64.b64encode(tone(ms).tobytes()).decode()
    return {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": audio}], **fields}


def refusal(call: TestCall) -> str:
    [error] = [event["error"] for event in call.events if event["type"] == "error"]
    return str(error["code"])


def test_a_turn_without_end_ends_and_the_next_one_goes_on() -> None:
    call = TestCall(limits=Limits(turn_s=2))
    types = call.hear(3200, SPEECH)
    assert types.count("input_audio_buffer.speech_started") == 2
    assert types.count("input_audio_buffer.committed") == 1
    [job] = call.all(do.Transcribe)
    assert 2.0 <= len(job.pcm_24khz) / HZ <= 2.1


def test_long_turns_are_recognised_once_at_their_end() -> None:
    call = TestCall(limits=Limits(ahead_s=1))
    call.hear(1600, SPEECH)
    call.hear(160, SILENCE)
    assert call.all(do.Transcribe) == []
    call.hear(512, SILENCE)
    assert len(call.all(do.Transcribe)) == 1


def test_a_full_buffer_refuses_more_and_keeps_what_it_has() -> None:
    call = TestCall(limits=Limits(input_audio_s=1))
    call.client("session.update", session=MANUAL)
    assert call.append(tone(900)) == []
    assert call.append(tone(200)) == ["error"]
    assert refusal(call) == "input_audio_buffer_full"
    call.client("input_audio_buffer.commit")
    assert len(call.one(do.Transcribe).pcm_24khz) == 900 * 24


def test_commits_and_items_stop_at_the_same_number() -> None:
    call = TestCall(limits=Limits(items=1))
    call.client("session.update", session=MANUAL)
    call.append(tone(200))
    call.client("input_audio_buffer.commit")
    call.append(tone(200))
    call.client("input_audio_buffer.commit")
    assert refusal(call) == "conversation_too_long"


def test_a_conversation_has_room_for_so_many_bytes() -> None:
    call = TestCall(limits=Limits(content_bytes=150))
    call.client("conversation.item.create", item={**TEXT_ITEM, "id": "one"})
    call.client("conversation.item.create", item=TEXT_ITEM)
    assert refusal(call) == "conversation_too_long"
    call.client("conversation.item.delete", item_id="one")
    assert call.client("conversation.item.create", item=TEXT_ITEM)[0] == "conversation.item.added"


def test_a_session_may_be_so_large() -> None:
    call = TestCall(limits=Limits(session_bytes=1000))
    call.client("session.update", session={"type": "realtime", "instructions": "x" * 1000})
    assert refusal(call) == "session_too_large"


def test_so_many_transcriptions_run_at_once() -> None:
    call = TestCall(limits=Limits(transcriptions=2))
    for _ in range(2):
        assert call.client("conversation.item.create", item=spoken_item(200))[0] == "conversation.item.added"
    job = call.one(do.Transcribe)
    call.client("conversation.item.create", item=spoken_item(200))
    assert refusal(call) == "too_many_transcriptions"
    call.recognise(job.job_id, "Hi.")
    assert call.client("conversation.item.create", item=spoken_item(200))[0] == "conversation.item.added"


def test_so_many_responses_run_beside_the_conversation() -> None:
    call = TestCall(limits=Limits(responses=2))
    first = call.ask(conversation="none")
    call.ask(conversation="none")
    call.client("response.create", response={"conversation": "none"})
    assert refusal(call) == "too_many_responses"
    call.answer(first, "Hi.", audio_ms=20)
    assert call.ask(conversation="none")


def test_old_audio_goes_and_its_words_stay() -> None:
    call = TestCall(limits=Limits(kept_audio_s=1))
    for name in ("one", "two"):
        call.client("conversation.item.create", item=spoken_item(800, id=name))
        call.recognise(call.one(do.Transcribe).job_id, name)
    kept = {item.id: item.audio_ms for item in call.session.call.conversation}
    assert kept == {"one": 0, "two": 800}
    call.ask()
    assert [m.text for m in call.one(do.StartReply).request.messages[1:]] == ["one", "two"]


def test_a_turn_is_heard_even_where_no_audio_is_kept() -> None:
    call = TestCall(limits=Limits(kept_audio_s=0))
    call.client("session.update", session=MANUAL)
    call.append(tone(200))
    call.client("input_audio_buffer.commit")
    assert len(call.one(do.Transcribe).pcm_24khz) == 200 * 24


def test_deeply_nested_tools_cost_later_updates_nothing() -> None:
    call = TestCall()
    nested: dict[str, Any] = {}
    for _ in range(400):
        nested = {"p": nested}
    tools = [{"type": "function", "name": "f", "parameters": nested}]
    assert call.client("session.update", session={"type": "realtime", "tools": tools}) == ["session.updated"]
    assert call.client("session.update", session={"type": "realtime"}) == ["session.updated"]
    assert call.ask()


def test_a_tool_call_without_its_answer_is_kept_from_the_model() -> None:
    call = TestCall()
    response_id = call.ask()
    call.result(ev.ReplyToolCall(response_id=response_id, index=0, call_id="x", name="city", arguments='{"ci'))
    call.client("response.cancel")
    call.type_in("Never mind.")
    call.ask()
    messages = call.one(do.StartReply).request.messages
    assert [(m.role, m.text, m.tool_calls) for m in messages[1:]] == [("user", "Never mind.", ())]


def test_call_ids_are_ours_and_can_be_answered() -> None:
    call = TestCall()
    response_id = call.ask(tools=[{"type": "function", "name": "f"}])
    call.result(
        ev.ReplyToolCall(response_id=response_id, index=0, call_id="functions.x:0" * 9, name="f", arguments="{}")
    )
    call.result(ev.ReplyFinished(response_id=response_id, reason="tool_calls"))
    [item] = next(e for e in call.said if e["type"] == "response.done")["response"]["output"]
    output = {"type": "function_call_output", "call_id": item["call_id"], "output": "1"}
    assert call.client("conversation.item.create", item=output)[0] == "conversation.item.added"


def test_an_update_while_the_caller_speaks_loses_no_word() -> None:
    call = TestCall()
    call.hear(640, SPEECH)
    detection = {"type": "server_vad", "interrupt_response": False}
    call.client("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": detection}}})
    types = call.hear(640, SPEECH) + call.hear(512, SILENCE)
    assert "input_audio_buffer.speech_started" not in types
    assert len(call.one(do.Transcribe).pcm_24khz) >= 1280 * 24


def test_a_cough_while_an_answer_is_played_gets_an_answer() -> None:
    call = TestCall()
    call.answer(call.ask(), "A long answer.", audio_ms=8000)
    call.hear(160, SPEECH)
    call.hear(512, SILENCE)
    call.recognise(call.one(do.Transcribe).job_id, "")
    assert call.one(do.StartReply)


def test_a_question_beside_silent_audio_is_still_asked() -> None:
    call = TestCall()
    item = spoken_item(200)
    item["content"].insert(0, {"type": "input_text", "text": "What is in this recording?"})
    call.client("conversation.item.create", item=item)
    call.recognise(call.one(do.Transcribe).job_id, "")
    call.ask()
    assert call.one(do.StartReply).request.messages[-1].text == "What is in this recording?"


def test_an_item_of_a_responses_own_input_may_not_borrow_an_id() -> None:
    call = TestCall()
    call.client("conversation.item.create", item={**TEXT_ITEM, "id": "me"})
    call.client("response.create", response={"input": [spoken_item(200, id="me")], "conversation": "none"})
    assert refusal(call) == "item_create_duplicate_item_id"
    assert call.all(do.Transcribe) == []


def test_a_refused_response_leaves_no_work_behind() -> None:
    call = TestCall()
    reference = {"type": "item_reference", "id": "nobody"}
    call.client("response.create", response={"input": [spoken_item(200), reference]})
    assert refusal(call) == "item_reference_invalid_item_id"
    assert call.all(do.Transcribe) == []


def test_root_is_a_place_and_no_name() -> None:
    call = TestCall()
    call.client("conversation.item.create", item={**TEXT_ITEM, "id": "root"})
    assert refusal(call) == "invalid_value"
    for name, place in (("one", None), ("two", "root"), ("three", None)):
        fields = {"previous_item_id": place} if place else {}
        call.client("conversation.item.create", item={**TEXT_ITEM, "id": name}, **fields)
    assert [item.id for item in call.session.call.conversation] == ["two", "one", "three"]


def test_short_telephone_recordings_are_whole() -> None:
    decoder = InputDecoder("audio/pcmu")
    assert len(decoder.decode_all(encode_ulaw(np.zeros(80, np.int16)))) == 240


@pytest.mark.parametrize("chunk", [1, 479, 24_000, 70_001])
def test_audio_comes_out_as_it_went_in(chunk: int) -> None:
    whole = np.random.default_rng(1).integers(-30000, 30000, 100_000).astype(np.int16)
    audio = InputAudio()
    for start in range(0, len(whole), chunk):
        audio.append(whole[start : start + chunk])
        if start > 60_000:
            audio.discard_before(50_001)
    audio.discard_before(50_001)
    assert (audio.start, audio.end, len(audio)) == (50_001, 100_000, 49_999)
    assert np.array_equal(audio.read(0, 200_000), whole[50_001:])
    assert np.array_equal(audio.read(60_000, 60_010), whole[60_000:60_010])
    assert len(audio.read(10, 20)) == 0
    audio.discard_before(100_000)
    audio.append(whole[:10])
    assert np.array_equal(audio.read(100_000, 100_010), whole[:10])


def test_an_item_has_so_much_text() -> None:
    call = TestCall(limits=Limits(text_bytes=50))
    call.client("conversation.item.create", item=TEXT_ITEM)
    assert refusal(call) == "string_above_max_length"


def test_the_archive_gets_the_size_of_an_image_and_not_its_bytes() -> None:
    call = TestCall()
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 4000}
    call.client("conversation.item.create", item={"type": "message", "role": "user", "content": [image]})
    [part] = call.one(do.Store).item["content"]
    assert part == {"type": "input_image", "image_url": "data:image/png;base64", "bytes": 3000}
    call.ask()
    assert len(call.one(do.StartReply).request.messages[-1].images[0].url) > 4000
