"""The wire alone: what each client event may carry, what its refusal says, and how server events are spelt."""

import base64
from typing import Any

import msgspec
import pytest

from realtime.protocol import events as ev
from realtime.protocol.wire import GA, MAX_APPEND_BYTES
from realtime.protocol.wire_beta import Beta
from tests.protocol.frames import MCP, TOOL


def parse(kind: str, **fields: Any) -> ev.ClientEvent:
    return GA.parse(msgspec.json.encode({"type": kind, **fields}).decode())


def refusal(kind: str, **fields: Any) -> tuple[str | None, str, str | None]:
    event = parse(kind, **fields)
    assert isinstance(event, ev.Refused), event
    return event.code, event.message, event.param


def update(**session: Any) -> Any:
    """The session of an update that is accepted."""
    event = parse("session.update", session={"type": "realtime", **session})
    assert isinstance(event, ev.SessionUpdate), event
    return event.session


def refused_update(**session: Any) -> tuple[str | None, str, str | None]:
    return refusal("session.update", session={"type": "realtime", **session})


# ---- audio, the frame that comes most ----


def test_audio_arrives_as_bytes_with_and_without_an_event_id() -> None:
    audio = base64.b64encode(b"\x01\x02" * 100).decode()
    assert parse("input_audio_buffer.append", audio=audio) == ev.InputAudioAppend(audio=b"\x01\x02" * 100)
    named = parse("input_audio_buffer.append", audio=audio, event_id="x" * 512)
    assert named == ev.InputAudioAppend(audio=b"\x01\x02" * 100, event_id="x" * 512)


def test_audio_is_at_most_15_mib() -> None:
    whole = base64.b64encode(bytes(MAX_APPEND_BYTES)).decode()
    event = parse("input_audio_buffer.append", audio=whole)
    assert isinstance(event, ev.InputAudioAppend)
    assert len(event.audio) == 15 * 1024 * 1024
    code, message, param = refusal(
        "input_audio_buffer.append", audio=base64.b64encode(bytes(MAX_APPEND_BYTES + 1)).decode()
    )
    assert (code, param) == ("string_above_max_length", "audio")
    assert message == "Invalid 'audio': audio too long. Expected at most 15728640 bytes, but got 15728641 instead."


def test_an_audio_delta_is_what_an_encoder_would_write() -> None:
    event = ev.OutputAudioDelta(
        event_id="event_1", response_id="resp_1", item_id="item_1", output_index=0, content_index=0, delta=b"\x00\xff"
    )
    assert msgspec.json.decode(GA.encode(event)) == msgspec.to_builtins(event)
    beta = msgspec.json.decode(Beta().encode(event))
    assert beta == {**msgspec.to_builtins(event), "type": "response.audio.delta"}


# ---- event ids ----


@pytest.mark.parametrize("event_id", ["mine", "", "é" * 512])
def test_a_refusal_repeats_the_event_id(event_id: str) -> None:
    event = parse("session.update", event_id=event_id)
    assert isinstance(event, ev.Refused)
    assert event.event_id == event_id


@pytest.mark.parametrize(
    ("event_id", "code"),
    [("x" * 513, "string_above_max_length"), (1, "invalid_type"), (True, "invalid_type"), ([], "invalid_type")],
)
def test_an_event_id_that_is_none_is_refused_and_not_repeated(event_id: Any, code: str) -> None:
    for event in (
        parse("input_audio_buffer.clear", event_id=event_id),
        parse("input_audio_buffer.append", audio="AAAA", event_id=event_id),
    ):
        assert isinstance(event, ev.Refused)
        assert (event.code, event.param, event.event_id) == (code, "event_id", None)


def test_null_means_absent_but_not_for_a_boolean() -> None:
    assert parse("response.create", response=None, event_id=None) == ev.ResponseCreate()
    asked = parse("response.create", response={"instructions": None, "metadata": None})
    assert asked == ev.ResponseCreate(response={"metadata": None})
    assert refusal("response.create", response={"parallel_tool_calls": None}) == (
        "invalid_type",
        "Invalid type for 'response.parallel_tool_calls': expected a boolean, but got null instead.",
        "response.parallel_tool_calls",
    )


# ---- tools ----


def test_tools_of_both_kinds_are_taken_in_whole() -> None:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {"a": {}}}
    tools = [{**TOOL, "parameters": schema}, MCP]
    assert update(tools=tools)["tools"] == tools
    assert update(tools=[{"name": "add"}])["tools"] == [{"type": "function", "name": "add"}]
    assert update(tools=[])["tools"] == []


@pytest.mark.parametrize(
    ("tool", "code", "message", "param"),
    [
        (
            {"type": "function", "name": "add two"},
            "invalid_value",
            "Invalid 'session.tools[0].name': string does not match pattern. "
            "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
            "session.tools[0].name",
        ),
        (
            {"type": "function", "name": "x" * 65},
            "string_above_max_length",
            "Invalid 'session.tools[0].name': string too long. Expected a string with maximum length 64, "
            "but got a string with length 65 instead.",
            "session.tools[0].name",
        ),
        (
            {"type": "function", "name": "add", "description": "x" * 1025},
            "string_above_max_length",
            "Invalid 'session.tools[0].description': string too long. Expected a string with maximum length 1024, "
            "but got a string with length 1025 instead.",
            "session.tools[0].description",
        ),
        (
            {"type": "function"},
            "missing_required_parameter",
            "Missing required parameter: 'session.tools[0].name'.",
            "session.tools[0].name",
        ),
        (
            {"type": "code"},
            "invalid_value",
            "Invalid value: 'code'. Supported values are: 'function' and 'mcp'.",
            "session.tools[0].type",
        ),
        (
            {"type": "mcp", "server_url": "https://example.com"},
            "missing_required_parameter",
            "Missing required parameter: 'session.tools[0].server_label'.",
            "session.tools[0].server_label",
        ),
        (
            {"type": "mcp", "server_label": "docs"},
            "missing_required_parameter",
            "Invalid 'session.tools[0]': expected exactly one of 'server_url', 'connector_id', and 'tunnel_id', "
            "but got none of them instead.",
            "session.tools[0]",
        ),
        (
            {**MCP, "connector_id": "connector_gmail"},
            "invalid_value",
            "Invalid 'session.tools[0]': expected exactly one of 'server_url', 'connector_id', and 'tunnel_id', "
            "but got 'server_url' and 'connector_id' instead.",
            "session.tools[0]",
        ),
        (
            {"type": "mcp", "server_label": "docs", "tunnel_id": "tunnel_x"},
            "invalid_value",
            "Invalid 'session.tools[0].tunnel_id': string does not match pattern. "
            "Expected a string that matches the pattern '^tunnel_[a-z0-9]{32}$'.",
            "session.tools[0].tunnel_id",
        ),
        (
            {**MCP, "require_approval": "sometimes"},
            "invalid_value",
            "Invalid value: 'sometimes'. Supported values are: 'always' and 'never'.",
            "session.tools[0].require_approval",
        ),
        (
            {**MCP, "allowed_callers": ["anyone"]},
            "invalid_value",
            "Invalid value: 'anyone'. Supported values are: 'direct' and 'programmatic'.",
            "session.tools[0].allowed_callers[0]",
        ),
    ],
)
def test_a_wrong_tool_is_named(tool: dict[str, Any], code: str, message: str, param: str) -> None:
    assert refused_update(tools=[tool]) == (code, message, param)


def test_at_most_128_tools() -> None:
    assert len(update(tools=[TOOL] * 128)["tools"]) == 128
    assert refused_update(tools=[TOOL] * 129)[0] == "array_above_max_length"


@pytest.mark.parametrize(
    "choice", ["none", "auto", "required", {"type": "function", "name": "add"}, {"type": "mcp", "server_label": "docs"}]
)
def test_every_tool_choice(choice: Any) -> None:
    assert update(tool_choice=choice)["tool_choice"] == choice


# ---- the rest of a session ----


@pytest.mark.parametrize(
    "truncation",
    [
        "auto",
        "disabled",
        {"type": "retention_ratio", "retention_ratio": 0},
        {"type": "retention_ratio", "retention_ratio": 0.8, "token_limits": {"post_instructions": 0}},
    ],
)
def test_every_truncation(truncation: Any) -> None:
    assert update(truncation=truncation)["truncation"] == truncation


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"truncation": {"type": "retention_ratio"}}, "missing_required_parameter", "retention_ratio"),
        (
            {"truncation": {"type": "retention_ratio", "retention_ratio": 1.1}},
            "decimal_above_max_value",
            "retention_ratio",
        ),
        (
            {
                "truncation": {
                    "type": "retention_ratio",
                    "retention_ratio": 1,
                    "token_limits": {"post_instructions": -1},
                }
            },
            "integer_below_min_value",
            "post_instructions",
        ),
        ({"truncation": "never"}, "invalid_value", "truncation"),
        ({"prompt": {}}, "missing_required_parameter", "id"),
        ({"prompt": {"id": "p", "variables": {"x": 1}}}, "invalid_type", "x"),
        ({"prompt": {"id": "p", "variables": {"x": {"type": "input_video"}}}}, "invalid_value", "type"),
        ({"reasoning": {"effort": "none"}}, "invalid_value", "effort"),
        ({"max_output_tokens": 0}, "integer_below_min_value", "max_output_tokens"),
        ({"max_output_tokens": 4097}, "integer_above_max_value", "max_output_tokens"),
        ({"max_output_tokens": "all"}, "invalid_value", "max_output_tokens"),
        ({"audio": {"output": {"speed": 1.6}}}, "decimal_above_max_value", "speed"),
        ({"audio": {"output": {"speed": 0.2}}}, "decimal_below_min_value", "speed"),
        ({"audio": {"output": {"voice": {}}}}, "missing_required_parameter", "id"),
        ({"audio": {"output": {"voice": "x" * 257}}}, "string_above_max_length", "voice"),
        ({"audio": {"input": {"format": {"type": "audio/mp3"}}}}, "invalid_value", "type"),
        ({"audio": {"input": {"noise_reduction": {"type": "loud"}}}}, "invalid_value", "type"),
        ({"audio": {"input": {"transcription": {"languages": []}}}}, "array_below_min_length", "languages"),
        ({"audio": {"input": {"turn_detection": {"type": "none"}}}}, "invalid_value", "type"),
        (
            {"audio": {"input": {"turn_detection": {"idle_timeout_ms": 4999}}}},
            "integer_below_min_value",
            "idle_timeout_ms",
        ),
        (
            {"audio": {"input": {"turn_detection": {"idle_timeout_ms": 30001}}}},
            "integer_above_max_value",
            "idle_timeout_ms",
        ),
        (
            {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}}},
            "unknown_parameter",
            "threshold",
        ),
        ({"include": ["everything"]}, "invalid_value", "include[0]"),
    ],
)
def test_what_is_out_of_bounds_is_named(session: dict[str, Any], code: str, param: str) -> None:
    got_code, message, got_param = refused_update(**session)
    assert got_code == code
    assert got_param is not None
    assert got_param.startswith("session.")
    assert got_param.endswith(param)
    assert message.endswith(".")


def test_prompts_carry_their_variables() -> None:
    prompt = {"id": "p", "version": "2", "variables": {"a": "b", "c": {"type": "input_text", "text": "d"}}}
    assert update(prompt=prompt)["prompt"] == prompt
    assert update(prompt=None)["prompt"] is None


# ---- items ----


def test_an_approval_is_taken_in_by_shape() -> None:
    item = {"type": "mcp_approval_response", "id": "i", "approval_request_id": "a", "approve": False, "reason": None}
    event = parse("conversation.item.create", item=item)
    assert isinstance(event, ev.ItemCreate)
    assert event.item == item
    assert refusal("conversation.item.create", item={"type": "mcp_approval_response", "approval_request_id": "a"}) == (
        "missing_required_parameter",
        "Missing required parameter: 'item.approve'.",
        "item.approve",
    )


@pytest.mark.parametrize("item_id", ["x" * 32, "6f1c1a2b3c4d5e6f6f1c1a2b3c4d5e6f", "lk.item_1-a", "item_é"])
def test_client_ids_of_up_to_32_characters_pass(item_id: str) -> None:
    item = {"id": item_id, "type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    assert isinstance(parse("conversation.item.create", item=item), ev.ItemCreate)


@pytest.mark.parametrize(
    ("call_id", "code"), [("x" * 33, "string_above_max_length"), ("call a", "invalid_value"), ("", "invalid_value")]
)
def test_call_ids_are_short_and_plain(call_id: str, code: str) -> None:
    item = {"type": "function_call_output", "call_id": call_id, "output": "1"}
    assert refusal("conversation.item.create", item=item)[::2] == (code, "item.call_id")


# ---- answers do not outgrow questions ----


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "x" * 100_000},
        {"type": "input_audio_buffer.clear", "x" * 100_000: 1},
        {"type": "conversation.item.delete", "item_id": "x" * 100_000},
        {"type": "session.update", "session": {"type": "x" * 100_000}},
        {"type": "session.update", "session": {"type": "realtime", "audio": {"output": {"speed": 10**4000}}}},
    ],
)
def test_an_error_repeats_little_of_what_was_wrong(fields: dict[str, Any]) -> None:
    event = GA.parse(msgspec.json.encode(fields).decode())
    assert isinstance(event, ev.Refused)
    assert len(event.message) < 1_000
    assert len(event.param or "") < 300


def test_the_beta_has_none_of_the_items_that_came_later() -> None:
    item = {"type": "mcp_approval_response", "id": "i", "approval_request_id": "a", "approve": True}
    event = Beta().parse(msgspec.json.encode({"type": "conversation.item.create", "item": item}).decode())
    assert isinstance(event, ev.Refused)
    assert event.message == (
        "Invalid value: 'mcp_approval_response'. Supported values are: 'message', 'function_call', and "
        "'function_call_output'."
    )
