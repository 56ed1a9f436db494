"""Any OpenAI-compatible API: what is asked, what comes back, and every way in which it goes wrong."""

import asyncio
from contextlib import aclosing

import pytest

from agents.llm.choice import choose
from agents.llm.degraded import Degraded, WithFallback
from agents.llm.openai_compatible import OpenAiCompatible
from agents.llm.types import Delta, Finished, LlmError, Message, Request, TextDelta, ToolCall, ToolCallDelta
from tests.llm.server import ChatServer

ASK = Request((Message("system", "Be brief."), Message("user", "Hi")), temperature=0.3)


async def read(model: OpenAiCompatible | WithFallback | Degraded, request: Request = ASK) -> list[Delta]:
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
            Message("user", "Add", images=("data:image/png;base64,AA==",)),
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
        assert asked["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/png")
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


def test_the_environment_chooses() -> None:
    nowhere = {"OLLAMA_HOST": "127.0.0.1:9"}
    assert choose(nowhere).name == "degraded"
    assert choose({"OPENAI_API_KEY": "sk-x"}).name == "openai"
    assert choose({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "AVB_LLM_MODEL": "m"}).name == "openai-compatible"
    with pytest.raises(ValueError, match="AVB_LLM_MODEL must name a model"):
        choose({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})
