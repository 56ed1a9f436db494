"""What a client set and showed, as the language model's provider gets it: a whole call against a real chat server."""

from typing import Any

from agents.egress.breaker import RedisBreakers
from agents.egress.config import EgressConfig
from agents.llm.failover import Failover, build
from tests.llm.server import ChatServer
from tests.runtime.ports import Table

DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
TOOL = {"type": "function", "name": "add", "description": "Adds.", "parameters": {"type": "object"}}


def connect(server: ChatServer, *, sees: bool = True) -> Failover:
    environ = {"OPENAI_BASE_URL": server.url, "AVB_LLM_MODEL": "small", "AVB_LLM_IMAGES": str(sees).lower()}
    # Nobody listens there: the process counts for itself.
    return build(environ, RedisBreakers("redis://127.0.0.1:9/0", 0.1), egress=EgressConfig())


def show(table: Table, url: str, text: str, **image: Any) -> None:
    content = [{"type": "input_text", "text": text}, {"type": "input_image", "image_url": url, **image}]
    table.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})


async def ask(table: Table, **response: Any) -> dict[str, Any]:
    asked = table.wire.types.count("response.done")
    table.send("response.create", response={"output_modalities": ["text"], **response})
    await table.until(lambda: table.wire.types.count("response.done") > asked)
    assert table.done()["status"] == "completed"
    return table.done()


def images(asked: dict[str, Any]) -> list[str]:
    parts = [
        part for message in asked["messages"] if isinstance(message["content"], list) for part in message["content"]
    ]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


async def test_an_image_reaches_the_provider_as_it_was_given() -> None:
    async with ChatServer() as server, Table(model=connect(server)) as table:
        server.say({"content": "A dot."})
        show(table, DOT, "What is this?", detail="low")
        await ask(table)
        assert server.requests[0]["messages"][-1] == {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": DOT, "detail": "low"}},
            ],
        }


async def test_an_image_stays_in_the_context_while_it_fits_and_goes_with_its_item() -> None:
    async with ChatServer() as server, Table(model=connect(server)) as table:
        server.say({"content": "A dot."})
        limits = {"type": "retention_ratio", "retention_ratio": 0.9, "token_limits": {"post_instructions": 2_000}}
        table.send("session.update", session={"type": "realtime", "truncation": limits})
        table.type_in("word " * 400)
        show(table, DOT, "What is this?")
        await ask(table)
        assert images(server.requests[-1]) == [DOT]
        # Two images are worth more than 2,000 tokens of context leave beside 500 of text: the text before them goes.
        show(table, DOT + "#2", "And this?")
        await ask(table)
        assert images(server.requests[-1]) == [DOT, DOT + "#2"]
        assert server.requests[-1]["messages"][1]["content"][0]["text"] == "What is this?"
        show(table, DOT + "#3", "And that?")
        await ask(table)
        assert images(server.requests[-1]) == [DOT + "#2", DOT + "#3"]


async def test_a_model_that_sees_nothing_says_so_and_the_call_goes_on() -> None:
    async with ChatServer() as server, Table(model=connect(server, sees=False)) as table:
        server.say({"content": "I cannot see it."})
        show(table, DOT, "What is this?")
        done = await ask(table)
        assert done["output"][0]["content"][0]["text"] == "I cannot see it."
        assert server.requests[0]["messages"][-1]["content"] == "What is this? [an image that you cannot see]"


async def test_what_a_client_sets_for_tools_and_reasoning_reaches_the_provider() -> None:
    async with ChatServer() as server, Table(model=connect(server)) as table:
        server.say({"content": "Ok."})
        await ask(table, tools=[TOOL])
        session = {"type": "realtime", "tools": [TOOL], "parallel_tool_calls": False, "reasoning": {"effort": "low"}}
        table.send("session.update", session=session)
        await ask(table)
        await ask(table, reasoning={"effort": "high"}, parallel_tool_calls=True)
        assert [
            (asked.get("parallel_tool_calls"), asked.get("reasoning_effort")) for asked in server.requests
        ] == [(None, None), (False, "low"), (True, "high")]  # fmt: skip


async def test_a_model_that_says_nothing_leaves_no_caller_in_silence() -> None:
    async with ChatServer() as server, Table(model=connect(server)) as table:
        server.say({"content": ""})
        done = await ask(table)
        assert done["output"][0]["content"][0]["text"].startswith("I am sorry")
