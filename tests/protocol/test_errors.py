"""Each documented error: its code, message and param, the echo of ``event_id``, and a session that goes on."""

from typing import Any

import pytest

from tests.protocol.call import TestCall, tone

ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
KNOWN = (
    "'session.update', 'session.close', 'input_audio_buffer.append', 'session.input_audio_buffer.append', "
    "'input_audio_buffer.commit', 'input_audio_buffer.clear', 'conversation.item.create', "
    "'conversation.item.truncate', 'conversation.item.delete', 'conversation.item.retrieve', 'response.create', "
    "and 'response.cancel'"
)


def session(**fields: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "realtime", **fields}}


def audio_input(**fields: Any) -> dict[str, Any]:
    return session(audio={"input": fields})


def create(item: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "conversation.item.create", "item": item, **fields}


TABLE: list[tuple[str, dict[str, Any], str, str, str | None]] = [
    *(
        (
            f"an image's {kind}",
            create({"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": url}]}),
            "invalid_value",
            "Invalid 'item.content[0].image_url': string does not match pattern. Expected a string that matches the "
            "pattern 'data:image/[A-Za-z0-9.+-]+;base64,.+'.",
            "item.content[0].image_url",
        )
        for kind, url in (("address", "http://10.0.0.1/"), ("file", "file:///etc/hosts"), ("page", "data:text/html,x"))
    ),
    (
        "unknown event type",
        {"type": "nope"},
        "invalid_value",
        f"Invalid value: 'nope'. Supported values are: {KNOWN}.",
        "type",
    ),
    ("no type", {}, "missing_required_parameter", "Missing required parameter: 'type'.", "type"),
    (
        "unknown field",
        session(bogus=1),
        "unknown_parameter",
        "Unknown parameter: 'session.bogus'.",
        "session.bogus",
    ),
    (
        "no session.type",
        {"type": "session.update", "session": {}},
        "missing_required_parameter",
        "Missing required parameter: 'session.type'.",
        "session.type",
    ),
    (
        "no rate for output",
        session(audio={"output": {"format": {"type": "audio/pcm"}}}),
        "missing_required_parameter",
        "Missing required parameter: 'session.audio.output.format.rate'.",
        "session.audio.output.format.rate",
    ),
    (
        "no text",
        create({"type": "message", "role": "user", "content": [{"type": "input_text"}]}),
        "missing_required_parameter",
        "Missing required parameter: 'item.content[0].text'.",
        "item.content[0].text",
    ),
    (
        "low rate",
        audio_input(format={"type": "audio/pcm", "rate": 16000}),
        "integer_below_min_value",
        "Invalid 'session.audio.input.format.rate': integer below minimum value. "
        "Expected a value >= 24000, but got 16000 instead.",
        "session.audio.input.format.rate",
    ),
    (
        "bad enum",
        audio_input(transcription={"delay": "bogus"}),
        "invalid_value",
        "Invalid value: 'bogus'. Supported values are: 'minimal', 'low', 'medium', 'high', and 'xhigh'.",
        "session.audio.input.transcription.delay",
    ),
    (
        "both modalities",
        session(output_modalities=["text", "audio"]),
        "invalid_value",
        "Invalid modalities: ['audio', 'text']. Supported combinations are: ['text'] and ['audio'].",
        "session.output_modalities",
    ),
    (
        "null for a boolean",
        audio_input(turn_detection={"type": "server_vad", "create_response": None}),
        "invalid_type",
        "Invalid type for 'session.audio.input.turn_detection.create_response': "
        "expected a boolean, but got null instead.",
        "session.audio.input.turn_detection.create_response",
    ),
    (
        "long id",
        create({**ITEM, "id": "x" * 33}),
        "string_above_max_length",
        "Invalid 'item.id': string too long. Expected a string with maximum length 32, "
        "but got a string with length 33 instead.",
        "item.id",
    ),
    (
        "wrong content for the role",
        create({"type": "message", "role": "system", "content": [{"type": "output_text", "text": "x"}]}),
        "invalid_value",
        "Invalid value: 'output_text'. Supported values are: 'input_text'.",
        "item.content[0].type",
    ),
    (
        "beta event",
        {"type": "transcription_session.update"},
        "invalid_value",
        f"Invalid value: 'transcription_session.update'. Supported values are: {KNOWN}.",
        "type",
    ),
    (
        "empty commit",
        {"type": "input_audio_buffer.commit"},
        "input_audio_buffer_commit_empty",
        "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
        "but buffer only has 0.00ms of audio.",
        None,
    ),
    (
        "nothing to cancel",
        {"type": "response.cancel"},
        "response_cancel_not_active",
        "Cancellation failed: no active response found",
        None,
    ),
    (
        "delete unknown",
        {"type": "conversation.item.delete", "item_id": "yo"},
        "item_delete_invalid_item_id",
        "Error deleting item: the item with id 'yo' does not exist.",
        None,
    ),
    (
        "retrieve unknown",
        {"type": "conversation.item.retrieve", "item_id": "yo"},
        "item_retrieve_invalid_item_id",
        "Error retrieving item: the item with id 'yo' does not exist.",
        None,
    ),
    (
        "truncate unknown",
        {"type": "conversation.item.truncate", "item_id": "yo", "content_index": 0, "audio_end_ms": 0},
        "item_truncate_invalid_item_id",
        "Error truncating item: the item with id 'yo' does not exist.",
        None,
    ),
    (
        "unknown previous item",
        create(ITEM, previous_item_id="yo"),
        "item_create_invalid_previous_item_id",
        "Error adding item: the previous item with id 'yo' does not exist.",
        None,
    ),
    (
        "output of an unknown call",
        create({"type": "function_call_output", "call_id": "call_x", "output": "1"}),
        "invalid_tool_call_id",
        "Tool call ID 'call_x' not found in conversation.",
        None,
    ),
    (
        "audio that is no base64",
        {"type": "input_audio_buffer.append", "audio": "%%%"},
        "invalid_value",
        "Invalid 'audio': expected base64-encoded audio bytes.",
        "audio",
    ),
    (
        "too much metadata",
        {"type": "response.create", "response": {"metadata": {str(n): "" for n in range(17)}}},
        "object_above_max_properties",
        "Invalid 'response.metadata': too many properties. Expected an object with at most 16 properties, "
        "but got an object with 17 properties instead.",
        "response.metadata",
    ),
    (
        "another session type",
        {"type": "session.update", "session": {"type": "transcription"}},
        "invalid_value",
        "Invalid value: 'transcription'. A session's type cannot change; this one is 'realtime'.",
        "session.type",
    ),
]


@pytest.mark.parametrize(
    ("event", "code", "message", "param"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_a_wrong_event_gets_its_error_and_the_session_goes_on(
    event: dict[str, Any], code: str, message: str, param: str | None
) -> None:
    call = TestCall()
    before = call.said[0]["session"]
    fields = {name: value for name, value in event.items() if name != "type"}
    assert call.client(event.get("type"), event_id="mine", **fields) == ["error"]  # type: ignore[arg-type]
    error = call.events[0]["error"]
    assert error == {
        "type": "invalid_request_error",
        "code": code,
        "message": message,
        "param": param,
        "event_id": "mine",
    }
    call.client("session.update", session={"type": "realtime"})
    assert call.events[0]["session"] == before
    assert call.answer(call.ask(), "Hi.", audio_ms=20)[-2] == "response.done"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", "invalid_json"),
        ('"\ud800"', "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        (b"\x00", "invalid_event"),
        ("[]", "invalid_type"),
        ("null", "invalid_type"),
        ('{"type":1}', "invalid_type"),
    ],
)
def test_a_frame_that_is_no_event_gets_an_error_without_event_id(frame: str | bytes, code: str) -> None:
    call = TestCall()
    assert call.frame(frame) == ["error"]
    assert call.events[0]["error"]["code"] == code
    assert call.events[0]["error"]["event_id"] is None


def test_a_commit_below_100_ms_says_how_much_there_was() -> None:
    call = TestCall()
    call.append(tone(50))
    call.client("input_audio_buffer.commit")
    assert "only has 50.00ms" in call.events[0]["error"]["message"]


def test_a_second_response_is_refused_while_one_is_active() -> None:
    call = TestCall()
    response_id = call.ask()
    assert call.client("response.create") == ["error"]
    assert call.events[0]["error"]["code"] == "conversation_already_has_active_response"
    assert response_id in call.events[0]["error"]["message"]


def test_the_voice_is_fixed_once_the_assistant_has_spoken() -> None:
    call = TestCall()
    call.answer(call.ask(), "Hi.", audio_ms=100)
    same = {"type": "realtime", "audio": {"output": {"voice": "alloy"}}}
    assert call.client("session.update", session=same) == ["session.updated"]
    other = {"type": "realtime", "audio": {"output": {"voice": "marin"}}}
    assert call.client("session.update", session=other) == ["error"]
    assert call.events[0]["error"]["code"] == "cannot_update_voice"


def test_an_item_id_is_used_once() -> None:
    call = TestCall()
    assert call.client("conversation.item.create", item={**ITEM, "id": "one"})[0] == "conversation.item.added"
    assert call.client("conversation.item.create", item={**ITEM, "id": "one"}) == ["error"]
    assert call.events[0]["error"]["code"] == "item_create_duplicate_item_id"


def test_only_spoken_answers_are_truncated_and_not_beyond_their_end() -> None:
    call = TestCall()
    item_id = call.type_in("Hi")
    place = {"content_index": 0, "audio_end_ms": 0}
    call.client("conversation.item.truncate", item_id=item_id, **place)
    assert call.events[0]["error"]["code"] == "unsupported_content_type"
    call.answer(call.ask(), "Hello there.", audio_ms=1000)
    spoken = call.events[-2]["response"]["output"][0]["id"]
    call.client("conversation.item.truncate", item_id=spoken, content_index=0, audio_end_ms=5000)
    assert call.events[0]["error"]["message"] == "Audio content of 1000ms is already shorter than 5000ms"
    assert call.client("conversation.item.truncate", item_id=spoken, **place) == ["conversation.item.truncated"]


def test_a_full_conversation_takes_no_more_items() -> None:
    from realtime.protocol.call import Limits

    call = TestCall(limits=Limits(items=1))
    call.type_in("one")
    assert call.client("conversation.item.create", item=ITEM) == ["error"]
    assert call.events[0]["error"]["code"] == "conversation_too_long"
