"""Any OpenAI-compatible API: what is asked, what comes back, and every way in which it goes wrong."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from agents.llm.choice import choose, ollama_models
from agents.llm.degraded import Degraded, WithFallback
from agents.llm.openai_compatible import OpenAiCompatible
from agents.llm.types import (
    Delta,
    Finished,
    Image,
    LanguageModel,
    LlmError,
    Message,
    Request,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)
from agentvoicebox.stack.processes import find_llm
from tests.llm.server import ChatServer

ASK = Request((Message("system", "Be brief."), Message("user", "Hi")), temperature=0.3)


async def read(model: LanguageModel, request: Request = ASK) -> list[Delta]:
    async with aclosing(model.stream(request)) as deltas:
        return [delta async for delta in deltas]


def connect(server: ChatServer, **options: float) -> OpenAiCompatible:
    return OpenAiCompatible("local", server.url, "secret", "small", **options)


async def test_words_and_counts_come_back() -> None:
    async with ChatServer() as server:
        usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
        server.say({"role": "assistant", "content": ""}, {"content": "Hi "}, {"content": "there."}, usage=usage)
        deltas = await read(connect(server))
        assert deltas == [TextDelta("Hi "), TextDelta("there."), Finished("stop", 9, 2, 4)]
        [asked] = server.requests
        assert asked["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        assert (asked["model"], asked["temperature"], asked["stream"]) == ("small", 0.3, True)
        assert "max_tokens" not in asked
        assert "authorization: bearer secret" in server.headers[0]


async def test_tools_go_out_and_calls_come_back_piece_by_piece() -> None:
    async with ChatServer() as server:
        first = {"index": 0, "id": "call_1", "function": {"name": "add", "arguments": ""}}
        server.say(
            {"tool_calls": [first]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]},
            {"tool_calls": [{"index": 1, "id": "call_2", "function": {"name": "sub", "arguments": "{}"}}]},
            reason="tool_calls",
        )
        tool = {"type": "function", "name": "add", "parameters": {"type": "object"}}
        messages = (
            Message("user", "Add", images=(Image("data:image/png;base64,AA==", "low"),)),
            Message("assistant", "", tool_calls=(ToolCall("call_0", "add", "{}"),)),
            Message("tool", "3", tool_call_id="call_0"),
        )
        deltas = await read(connect(server), Request(messages, tools=(tool,), tool_choice="add", max_tokens=5))
        assert deltas == [
            ToolCallDelta(0, "", "call_1", "add"),
            ToolCallDelta(0, '{"a":1}'),
            ToolCallDelta(1, "{}", "call_2", "sub"),
            Finished("tool_calls"),
        ]
        [asked] = server.requests
        assert asked["tools"] == [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
        assert asked["tool_choice"] == {"type": "function", "function": {"name": "add"}}
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
        assert asked["messages"][0]["content"] == [{"type": "text", "text": "Add"}, image]
        assert asked["messages"][1]["tool_calls"][0]["id"] == "call_0"
        assert asked["messages"][2] == {"role": "tool", "content": "3", "tool_call_id": "call_0"}
        assert asked["max_tokens"] == 5


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "llm_auth"), (403, "llm_auth"), (429, "llm_rate_limited"), (500, "llm_unavailable")],
)
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
        (["not json"], "llm_bad_response"),
        (["[]"], "llm_bad_response"),
        (['{"error":{"message":"overloaded"}}'], "llm_unavailable"),
    ],
    ids=["cut", "no JSON", "no object", "error inside"],
)
async def test_a_broken_answer_is_an_error(events: list[str | float], code: str) -> None:
    async with ChatServer() as server:
        server.events = events
        with pytest.raises(LlmError) as error:
            await read(connect(server))
        assert error.value.code == code


async def test_a_model_that_stalls_is_given_up() -> None:
    async with ChatServer() as server:
        server.say({"content": "We"}, 5.0, {"content": "ll"})
        with pytest.raises(LlmError) as error:
            await read(connect(server, total_s=0.2))
        assert error.value.code == "llm_timeout"


async def test_a_slow_reader_does_not_use_up_the_models_time() -> None:
    async with ChatServer() as server:
        server.say({"content": "We"}, {"content": "ll."})
        said = []
        async with aclosing(connect(server, total_s=0.2).stream(ASK)) as deltas:
            async for delta in deltas:
                said.append(delta)
                await asyncio.sleep(0.15)
        assert said[-1] == Finished("stop")


async def test_nobody_there_is_unavailable() -> None:
    async with ChatServer() as server:
        url = server.url
    with pytest.raises(LlmError) as error:
        await read(OpenAiCompatible("local", url, "", "small"))
    assert error.value.code == "llm_unavailable"


async def test_the_second_model_answers_where_the_first_has_not_begun() -> None:
    async with ChatServer() as server:
        server.status = 500
        deltas = await read(WithFallback(connect(server), Degraded()))
        text = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
        assert text == "I am sorry, I cannot think at the moment. I heard you say: Hi"


async def test_a_model_that_has_begun_is_not_replaced() -> None:
    async with ChatServer() as server:
        server.events = ['{"choices":[{"delta":{"content":"We"}}]}']
        with pytest.raises(LlmError):
            await read(WithFallback(connect(server), Degraded()))


EMPTY = ['{"choices":[{"delta":{"role":"assistant","content":""}}]}', '{"choices":[{"delta":{"content":"\\n "}}]}']
NOTHING: list[str | float] = [*EMPTY, '{"choices":[{"delta":{},"finish_reason":"stop"}]}', "[DONE]"]


async def test_a_model_that_says_nothing_is_asked_once_more() -> None:
    async with ChatServer() as server:
        server.say({"content": "Here I am."})
        server.turns = [NOTHING]
        assert await read(WithFallback(connect(server), Degraded())) == [TextDelta("Here I am."), Finished("stop")]
        assert len(server.requests) == 2
        assert server.requests[0] == server.requests[1]


async def test_one_that_says_nothing_twice_is_stood_in_for() -> None:
    async with ChatServer() as server:
        server.events = NOTHING
        deltas = await read(WithFallback(connect(server), Degraded()))
        assert isinstance(deltas[0], TextDelta)
        assert deltas[0].text.startswith("I am sorry")
        assert len(server.requests) == 2


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_an_answer_that_ends_for_a_reason_is_let_be(reason: str) -> None:
    async with ChatServer() as server:
        server.say({"content": ""}, reason=reason)
        assert await read(WithFallback(connect(server), Degraded())) == [Finished(reason)]
        assert len(server.requests) == 1


async def test_a_tool_call_without_a_word_is_an_answer() -> None:
    async with ChatServer() as server:
        server.say({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]})
        assert (await read(WithFallback(connect(server), Degraded())))[0] == ToolCallDelta(0, "{}", "a", "f")


TOOL = {"type": "function", "name": "add", "parameters": {"type": "object"}}
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
        await read(model, replace(asks, model="other"))
        assert "reasoning_effort" in server.requests[3]


async def test_a_request_that_is_wrong_in_itself_stays_refused_and_teaches_nothing() -> None:
    async with ChatServer() as server:
        server.status = 400
        model, asks = connect(server), replace(ASK, reasoning_effort="low")
        for _ in range(2):
            with pytest.raises(LlmError):
                await read(model, asks)
        assert ["reasoning_effort" in asked for asked in server.requests] == [True, False, True, False]


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
        server.say({"content": "Ok."})
        environment = {"OPENAI_BASE_URL": server.url, "AVB_LLM_MODEL": "small"}
        for extra in ({"AVB_LLM_EMBEDDED": "1"}, {"AVB_LLM_IMAGES": "false"}, {}):
            await read(choose(environment | extra), SEEN)
        content = [asked["messages"][0]["content"] for asked in server.requests]
        assert content[:2] == ["What is this? [an image that you cannot see]"] * 2
        assert isinstance(content[2], list)
        with pytest.raises(ValueError, match="AVB_LLM_IMAGES must be true or false"):
            choose(environment | {"AVB_LLM_IMAGES": "perhaps"})


async def test_an_ollama_is_found_by_its_models() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"models":[{"name":"small:latest"}]}' if models else b'{"models":null}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for models in (True, False):
            found = await asyncio.to_thread(ollama_models, {"OLLAMA_HOST": host})
            assert found == (["small:latest"] if models else [])
            # What ./avb up asks is the same question.
            llm = await asyncio.to_thread(find_llm, {"OLLAMA_HOST": host})
            assert llm == ("ollama" if models else "embedded")
    assert ollama_models({"OLLAMA_HOST": "no address at all"}) == []


def test_the_environment_chooses() -> None:
    nowhere = {"OLLAMA_HOST": "127.0.0.1:9"}
    assert choose(nowhere).name == "degraded"
    assert choose({"OPENAI_API_KEY": "sk-x"}).name == "openai"
    assert choose({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "AVB_LLM_MODEL": "m"}).name == "openai-compatible"
    with pytest.raises(ValueError, match="AVB_LLM_MODEL must name a model"):
        choose({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})
