"""Any OpenAI-compatible API: what is asked, what comes back, and every way in which it goes wrong."""

import json
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from agents.llm.adapter import EVENT_BYTES
from agents.llm.openai_compatible import OpenAiCompatible
from agents.llm.pool import make_adapter
from agents.llm.providers import Provider
from agents.llm.types import (
    Finished,
    Image,
    LlmError,
    Message,
    Request,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)
from tests.llm.models import ASK, TOOL, connect, read
from tests.llm.server import CUT, ChatServer, called, chat

WHO = {"provider": "local", "model": "small"}


async def test_words_and_counts_come_back() -> None:
    async with ChatServer() as server:
        usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
        server.say({"role": "assistant", "content": ""}, {"content": "Hi "}, {"content": "there."}, usage=usage)
        deltas = await read(connect(server))
        assert deltas == [TextDelta("Hi "), TextDelta("there."), Finished("stop", 9, 2, 4, **WHO)]
        [asked] = server.requests
        assert asked["path"] == "/v1/chat/completions"
        assert asked["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        assert (asked["model"], asked["temperature"], asked["stream"]) == ("small", 0.3, True)
        assert "max_tokens" not in asked
        assert "authorization: bearer secret" in server.headers[0]


async def test_tools_go_out_and_calls_come_back_piece_by_piece() -> None:
    async with ChatServer() as server:
        server.say(
            called(0, "call_1", "add", ""),
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]},
            called(1, "call_2", "sub", "{}"),
            reason="tool_calls",
        )
        messages = (
            Message("user", "Add", images=(Image("data:image/png;base64,AA==", "low"),)),
            Message("assistant", "", tool_calls=(ToolCall("call_0", "add", '{"a": 1}'),)),
            Message("tool", "3", tool_call_id="call_0"),
        )
        deltas = await read(connect(server), Request(messages, tools=(TOOL,), tool_choice="add", max_tokens=5))
        assert deltas == [
            ToolCallDelta(0, "", "call_1", "add"),
            ToolCallDelta(0, '{"a":1}'),
            ToolCallDelta(1, "{}", "call_2", "sub"),
            Finished("tool_calls", **WHO),
        ]
        [asked] = server.requests
        assert asked["tools"] == [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
        assert asked["tool_choice"] == {"type": "function", "function": {"name": "add"}}
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
        assert asked["messages"][0]["content"] == [{"type": "text", "text": "Add"}, image]
        function = {"name": "add", "arguments": '{"a": 1}'}
        assert asked["messages"][1]["tool_calls"] == [{"id": "call_0", "type": "function", "function": function}]
        assert asked["messages"][2] == {"role": "tool", "content": "3", "tool_call_id": "call_0"}
        assert asked["max_tokens"] == 5


async def test_two_calls_under_one_number_are_two_and_one_without_an_id_gets_one() -> None:
    async with ChatServer() as server:
        nameless = {"tool_calls": [{"function": {"name": "third", "arguments": {"c": 3}}, "index": 1}]}
        server.say(called(0, "a", "first", "{}"), called(0, "b", "second", "{}"), nameless, reason="tool_calls")
        first, second, third, _ = await read(connect(server))
        assert (first, second) == (ToolCallDelta(0, "{}", "a", "first"), ToolCallDelta(1, "{}", "b", "second"))
        assert isinstance(third, ToolCallDelta)
        assert (third.index, third.name, third.arguments) == (2, "third", '{"c":3}')
        assert third.call_id.startswith("call_")


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", "soon"])
async def test_a_malformed_call_goes_back_in_a_form_that_servers_take(arguments: str) -> None:
    async with ChatServer() as server:
        server.say({"content": "Sorry."})
        messages = (
            Message("assistant", "", tool_calls=(ToolCall("a", "add", arguments), ToolCall("b", "add", ""))),
            Message("tool", "The arguments are no JSON object.", tool_call_id="a"),
            Message("tool", "1", tool_call_id="b"),
        )
        await read(connect(server), Request(messages))
        sent = [call["function"]["arguments"] for call in server.requests[0]["messages"][0]["tool_calls"]]
        assert [json.loads(each) for each in sent] == [{"malformed_arguments": arguments}, {}]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "llm_refused"), (401, "llm_auth"), (403, "llm_auth"), (404, "llm_refused"), (408, "llm_timeout"),
        (429, "llm_rate_limited"), (500, "llm_unavailable"), (503, "llm_unavailable"), (504, "llm_timeout"),
        (529, "llm_unavailable"), (302, "llm_bad_response"),
    ],
)  # fmt: skip
async def test_a_refusal_has_a_code_and_quotes_nothing(status: int, code: str) -> None:
    async with ChatServer() as server:
        server.status = status
        with pytest.raises(LlmError) as error:
            await read(connect(server))
        assert error.value.code == code
        assert error.value.message == f"local answered HTTP {status}."


@pytest.mark.parametrize(
    ("events", "code"),
    [
        (['{"choices":[{"delta":{"content":"We"}}]}'], "llm_bad_response"),
        (['{"choices":[{"delta":{"content":"We"}}]}', CUT], "llm_unavailable"),
        (["not json"], "llm_bad_response"),
        (["[]"], "llm_bad_response"),
        (['{"error":{"message":"overloaded"}}'], "llm_unavailable"),
    ],
    ids=["no end", "cut", "no JSON", "no object", "error inside"],
)
async def test_a_broken_answer_is_an_error(events: list[Any], code: str) -> None:
    async with ChatServer() as server:
        server.events = events
        with pytest.raises(LlmError) as error:
            await read(connect(server))
        assert error.value.code == code


async def test_nobody_there_is_unavailable() -> None:
    async with ChatServer() as server:
        url = server.url
    with pytest.raises(LlmError) as error:
        await read(OpenAiCompatible("local", url, "", "small"))
    assert error.value.code == "llm_unavailable"


SEEN = Request((Message("user", "What is this?", images=(Image("data:image/png;base64,AA=="),)),))


async def test_options_go_out_only_where_a_client_set_them() -> None:
    async with ChatServer() as server:
        server.say({"content": "Ok."})
        model = connect(server)
        await read(model)
        await read(model, replace(ASK, tools=(TOOL,), parallel_tool_calls=False, reasoning_effort="low"))
        await read(model, replace(ASK, parallel_tool_calls=False))
        plain, asked, toolless = server.requests
        assert not {"parallel_tool_calls", "reasoning_effort"} & plain.keys()
        assert (asked["parallel_tool_calls"], asked["reasoning_effort"]) == (False, "low")
        # OpenAI refuses it beside no tools.
        assert "parallel_tool_calls" not in toolless


async def test_a_model_that_does_not_take_them_answers_without_and_is_remembered() -> None:
    async with ChatServer() as server:
        server.say({"content": "Ok."})
        server.refuses = lambda asked: 400 if "reasoning_effort" in asked else 0
        model, asks = connect(server), replace(ASK, tools=(TOOL,), parallel_tool_calls=False, reasoning_effort="low")
        for _ in range(2):
            assert (await read(model, asks))[0] == TextDelta("Ok.")
        assert ["reasoning_effort" in asked for asked in server.requests] == [True, False, False]
        # Another model's taste is its own.
        await read(connect(server), asks)
        assert "reasoning_effort" in server.requests[3]


async def test_a_request_that_is_wrong_in_itself_stays_refused_and_teaches_nothing() -> None:
    async with ChatServer() as server:
        server.status = 400
        model, asks = connect(server), replace(ASK, reasoning_effort="low")
        for _ in range(2):
            with pytest.raises(LlmError):
                await read(model, asks)
        asked = [("reasoning_effort" in asked, "temperature" in asked) for asked in server.requests]
        assert asked == [(True, True), (False, True), (False, False)] * 2


async def test_a_model_that_takes_no_temperature_is_asked_without() -> None:
    async with ChatServer() as server:
        server.say({"content": "Ok."})
        server.refuses = lambda asked: 400 if "temperature" in asked else 0
        model = connect(server)
        for _ in range(2):
            assert (await read(model, replace(ASK, reasoning_effort="low")))[0] == TextDelta("Ok.")
        assert ["temperature" in asked for asked in server.requests] == [True, True, False, False]


async def test_openai_calls_the_limit_of_an_answer_by_its_new_name() -> None:
    async with ChatServer() as server, httpx2.AsyncClient() as client:
        server.say({"content": "Ok."})
        for kind in ("openai", "groq"):
            model = make_adapter(Provider(kind, kind, server.url), "m", client)
            await read(model, replace(ASK, max_tokens=7))
        new, old = server.requests
        assert (new["max_completion_tokens"], old["max_tokens"]) == (7, 7)
        assert "max_tokens" not in new


@pytest.mark.parametrize("status", [400, 500])
async def test_a_model_that_refuses_images_is_told_of_them(status: int) -> None:
    async with ChatServer() as server:
        server.say({"content": "I cannot see it."})
        server.refuses = lambda asked: status if isinstance(asked["messages"][-1]["content"], list) else 0
        model = connect(server)
        for _ in range(2):  # another image may be to its liking
            assert (await read(model, SEEN))[0] == TextDelta("I cannot see it.")
        seen, told, *again = server.requests
        assert again == [seen, told]
        assert seen["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,AA=="
        assert told["messages"][0]["content"] == "What is this? [an image that you cannot see]"


async def test_a_model_that_is_known_to_see_nothing_gets_no_image() -> None:
    async with ChatServer() as server:
        server.events = chat({"content": "Ok."})
        await read(connect(server, sees=False), SEEN)
        assert server.requests[0]["messages"][0]["content"] == "What is this? [an image that you cannot see]"


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": "abc"},
        {"choices": [7]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"content": ["x"]}}]},
        {"choices": [{"delta": {"tool_calls": "x"}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": {}, "function": {"name": "a"}}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"id": 7, "function": {"name": ["a"]}}]}}]},
        {"choices": [], "usage": "many"},
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": "9"}},
        {"choices": [{"delta": {"content": "x" * EVENT_BYTES}}]},
    ],
    ids=lambda chunk: str(chunk)[:60],
)
async def test_what_the_api_does_not_say_is_a_bad_response(chunk: dict[str, Any]) -> None:
    async with ChatServer() as server:
        server.events = [json.dumps(chunk), "[DONE]"]
        with pytest.raises(LlmError) as refused:
            await read(connect(server))
    assert refused.value.code == "llm_bad_response"
