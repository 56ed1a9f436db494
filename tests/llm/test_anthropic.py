"""Anthropic's Messages API: what is asked, what comes back, and every way in which it goes wrong."""

from dataclasses import replace
from typing import Any

import pytest

from agents.llm.anthropic import Anthropic
from agents.llm.types import Finished, Image, LlmError, Message, Request, TextDelta, ToolCall, ToolCallDelta
from tests.llm.models import ASK, TOOL, read
from tests.llm.server import CUT, MessagesServer

WHO = {"provider": "anthropic", "model": "claude"}
STARTED = {
    "type": "message_start",
    "message": {"usage": {"input_tokens": 9, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2}},
}
PING = {"type": "ping"}
STOP = {"type": "message_stop"}


def text(words: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words}}


def tool(index: int, call_id: str, name: str, *pieces: str) -> list[dict[str, Any]]:
    block = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
    deltas = [
        {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": piece}}
        for piece in pieces
    ]
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *deltas,
        {"type": "content_block_stop", "index": index},
    ]


def ended(reason: str = "end_turn", output_tokens: int = 3) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": output_tokens}}


def connect(server: MessagesServer, *, sees: bool = True) -> Anthropic:
    return Anthropic("anthropic", server.origin, "secret", "claude", sees=sees)


async def test_words_and_counts_come_back() -> None:
    async with MessagesServer() as server:
        server.events = [STARTED, PING, text("Hi "), text("there."), ended(), STOP]
        assert await read(connect(server)) == [TextDelta("Hi "), TextDelta("there."), Finished("stop", 15, 3, 4, **WHO)]
        [asked] = server.requests
        assert asked["path"] == "/v1/messages"
        assert asked["system"] == [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
        assert asked["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
        assert (asked["model"], asked["temperature"], asked["stream"], asked["max_tokens"]) == (
            "claude",
            0.3,
            True,
            4096,
        )
        assert not {"tools", "tool_choice"} & asked.keys()
        assert "x-api-key: secret" in server.headers[0]
        assert "anthropic-version: 2023-06-01" in server.headers[0]


async def test_an_address_with_its_v1_is_the_same() -> None:
    async with MessagesServer() as server:
        server.events = [STARTED, text("Hi"), ended(), STOP]
        await read(Anthropic("anthropic", f"{server.origin}/v1/", "", "claude"))
        assert server.requests[0]["path"] == "/v1/messages"


async def test_tools_go_out_and_two_calls_come_back() -> None:
    async with MessagesServer() as server:
        calls = [*tool(1, "toolu_1", "add", '{"a":', "1}"), *tool(2, "toolu_2", "now")]
        server.events = [STARTED, text("One moment."), *calls, ended("tool_use"), STOP]
        described = TOOL | {"description": "Adds.", "parameters": {"type": "object", "properties": {"a": {}}}}
        request = replace(ASK, tools=(described, {"type": "function", "name": "now"}), parallel_tool_calls=False)
        assert await read(connect(server), request) == [
            TextDelta("One moment."),
            ToolCallDelta(1, "", "toolu_1", "add"),
            ToolCallDelta(1, '{"a":'),
            ToolCallDelta(1, "1}"),
            ToolCallDelta(2, "", "toolu_2", "now"),
            Finished("tool_calls", 15, 3, 4, **WHO),
        ]
        [asked] = server.requests
        assert asked["tools"] == [
            {"name": "add", "description": "Adds.", "input_schema": {"type": "object", "properties": {"a": {}}}},
            {"name": "now", "description": "", "input_schema": {"type": "object", "properties": {}}},
        ]
        assert asked["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [("none", {"type": "none"}), ("required", {"type": "any"}), ("add", {"type": "tool", "name": "add"})],
)
async def test_which_tool_to_call(choice: str, sent: dict[str, Any]) -> None:
    async with MessagesServer() as server:
        server.events = [STARTED, text("Hi"), ended(), STOP]
        await read(connect(server), replace(ASK, tools=(TOOL,), tool_choice=choice))
        assert server.requests[0]["tool_choice"] == sent


async def test_a_conversation_is_brought_into_the_form_that_it_wants() -> None:
    """Greeting first, a noise, two calls and their answers, an image; the tools of earlier are not offered any more."""
    messages = (
        Message("system", "Be brief."),
        Message("assistant", "Hello."),
        Message("user", " "),
        Message(
            "user", "What is this?", images=(Image("data:image/png;base64,AA=="), Image("https://a.example/b.png"))
        ),
        Message("assistant", "I look.", tool_calls=(ToolCall("call 1/ä", "look", '{"at":1}'),)),
        Message("assistant", "", tool_calls=(ToolCall("call_2", "see", "{"),)),
        Message("tool", "a dot", tool_call_id="call 1/ä"),
        Message("tool", "", tool_call_id="call_2"),
        Message("system", "The caller is in a hurry."),
        Message("user", "And?"),
        Message("assistant", "A dot."),
    )
    async with MessagesServer() as server:
        server.events = [STARTED, text("Yes."), ended(), STOP]
        await read(connect(server), Request(messages, temperature=1.7, max_tokens=50))
        [asked] = server.requests
        assert asked["system"][0]["text"] == "Be brief.\n\nThe caller is in a hurry."
        assert (asked["temperature"], asked["max_tokens"]) == (1.0, 50)
        assert [message["role"] for message in asked["messages"]] == [
            "user", "assistant", "user", "assistant", "user", "assistant", "user",
        ]  # fmt: skip
        opening, hello, question, calls, answers, dot, continuing = (each["content"] for each in asked["messages"])
        assert opening == [{"type": "text", "text": "[The conversation begins.]"}]
        assert hello == [{"type": "text", "text": "Hello."}]
        assert question == [
            {"type": "text", "text": "What is this?"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
            {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
        ]
        assert calls == [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "call_1__", "name": "look", "input": {"at": 1}},
            {"type": "tool_use", "id": "call_2", "name": "see", "input": {"malformed_arguments": "{"}},
        ]
        assert answers == [
            {"type": "tool_result", "tool_use_id": "call_1__", "content": "a dot"},
            {"type": "tool_result", "tool_use_id": "call_2", "content": ""},
            {"type": "text", "text": "And?"},
        ]
        assert dot == [{"type": "text", "text": "A dot."}]
        assert continuing == [{"type": "text", "text": "[The other side says nothing.]"}]
        assert [each["name"] for each in asked["tools"]] == ["look", "see"]
        assert asked["tool_choice"] == {"type": "none"}


async def test_a_model_that_takes_no_temperature_is_asked_without() -> None:
    async with MessagesServer() as server:
        server.events = [STARTED, text("Hi"), ended(), STOP]
        server.refuses = lambda asked: 400 if "temperature" in asked else 0
        model = connect(server)
        for _ in range(2):
            assert (await read(model))[0] == TextDelta("Hi")
        assert ["temperature" in asked for asked in server.requests] == [True, False, False]


async def test_a_model_that_sees_nothing_is_told_of_images() -> None:
    async with MessagesServer() as server:
        server.events = [STARTED, text("No."), ended(), STOP]
        await read(connect(server, sees=False), Request((Message("user", "", images=(Image("data:,"),)),)))
        parts = server.requests[0]["messages"][0]["content"]
        assert parts == [{"type": "text", "text": "[an image that you cannot see]"}]


@pytest.mark.parametrize(
    ("reason", "means"),
    [
        ("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("refusal", "content_filter"),
        ("tool_use", "tool_calls"), ("model_context_window_exceeded", "length"), ("something_new", "stop"),
    ],
)  # fmt: skip
async def test_why_it_ended(reason: str, means: str) -> None:
    async with MessagesServer() as server:
        server.events = [STARTED, text("We"), ended(reason), STOP]
        assert (await read(connect(server)))[-1] == Finished(means, 15, 3, 4, **WHO)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("overloaded_error", "llm_unavailable"), ("api_error", "llm_unavailable"), ("timeout_error", "llm_timeout"),
        ("rate_limit_error", "llm_rate_limited"), ("authentication_error", "llm_auth"),
        ("invalid_request_error", "llm_refused"), ("news", "llm_unavailable"),
    ],
)  # fmt: skip
async def test_an_error_in_the_stream_has_a_code_and_quotes_nothing(kind: str, code: str) -> None:
    async with MessagesServer() as server:
        server.events = [STARTED, {"type": "error", "error": {"type": kind, "message": "You said Hi."}}]
        with pytest.raises(LlmError) as error:
            await read(connect(server))
        assert error.value.code == code
        assert "You said" not in error.value.message


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "llm_auth"), (429, "llm_rate_limited"), (529, "llm_unavailable"), (413, "llm_refused")],
)
async def test_a_refusal_has_a_code(status: int, code: str) -> None:
    async with MessagesServer() as server:
        server.status = status
        with pytest.raises(LlmError) as error:
            await read(connect(server))
        assert error.value.code == code


@pytest.mark.parametrize(("last", "code"), [(CUT, "llm_unavailable"), (PING, "llm_bad_response")])
async def test_an_answer_that_breaks_off_is_an_error(last: Any, code: str) -> None:
    async with MessagesServer() as server:
        server.events = [STARTED, text("We"), last]
        with pytest.raises(LlmError) as error:
            await read(connect(server))
        assert error.value.code == code
