"""Tools, colleagues and limits of a live call, on virtual time: seconds pass in no time, and tests say how many."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from agents.llm.providers import ModelRef, Provider
from agents.llm.types import Delta, Finished, LlmError, Request, TextDelta, ToolCallDelta
from agents.spec import AgentLimits, AgentSpec, Colleague, Filler, Rule
from agents.tools.builtin import make_tool
from agents.tools.types import McpServer, ToolError, ToolSpec
from realtime.archive.events import AnyArchiveEvent, CallEnded, CallStarted, ItemStored, UsageMetered
from realtime.protocol.call import Limits
from realtime.runtime.ports import LineRefused
from realtime.runtime.runner import RunnerConfig
from tests.runtime.ports import AGENT, Directory, Speech, Table, Tools, Wire
from tests.runtime.virtual_time import on_virtual_time

NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}
BILLING = AgentSpec(slug="billing", name="Billing", instructions="You bill.", greeting="Billing here.", version=4)


def tool(name: str, **fields: Any) -> ToolSpec:
    return ToolSpec(
        **{
            "name": name,
            "description": "",
            "parameters": NO_PARAMETERS,
            "kind": "http",
            "server_label": "http",
            **fields,
        }
    )


def calls(*names: str, arguments: str = "{}") -> list[Delta]:
    """What a model streams that calls these tools."""
    deltas: list[Delta] = [ToolCallDelta(n, arguments, f"call_{n}", name) for n, name in enumerate(names)]
    return [*deltas, Finished("tool_calls", 10, 2, 4, provider="first", model="first-1")]


def says(*words: str) -> list[Delta]:
    return [*(TextDelta(word) for word in words), Finished("stop", 20, 3, 0, provider="second", model="second-1")]


class Script:
    """Answers each request with the next of its turns; the last one again and again. A number is a pause in seconds."""

    name = "scripted"
    model = "scripted-1"

    def __init__(self, *turns: list[Any]) -> None:
        self.turns = list(turns)
        self.requests: list[Request] = []

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        for delta in self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]:
            await asyncio.sleep(delta if isinstance(delta, float) else 0)
            if isinstance(delta, Exception):
                raise delta
            if not isinstance(delta, float):
                yield delta


def slow(seconds: float, answer: str = "done") -> Any:
    async def run(arguments: str) -> str:
        await asyncio.sleep(seconds)
        return answer

    return run


def archived(table: Table, kind: type[AnyArchiveEvent]) -> list[Any]:
    return [event for _, event in table.archive.events if isinstance(event, kind)]


def receipts(table: Table) -> list[dict[str, Any]]:
    """The last one of each tool that ran, by item."""
    found = {event.item["id"]: event.receipt for event in archived(table, ItemStored) if event.receipt}
    return list(found.values())


def now() -> float:
    return asyncio.get_running_loop().time()


async def ask(table: Table, words: str = "Please.", **response: Any) -> dict[str, Any]:
    """One typed turn; the response that ended last."""
    ended = table.wire.types.count("response.done")
    table.type_in(words)
    table.send("response.create", response=response)
    await table.until(lambda: table.wire.types.count("response.done") > ended, 100)
    return table.done()


# ---- tools ----


@on_virtual_time
async def test_a_slow_tool_is_bridged_by_a_filler_and_answered_in_the_same_response() -> None:
    agent = replace(AGENT, tools=(tool("look_up"),), filler=Filler(1_500, ("One moment.",)))
    tools = Tools(look_up=slow(4.0, "42"))
    async with Table(Script(calls("look_up"), says("It is ", "42.")), agent=agent, tools=tools) as table:
        began = now()
        done = await ask(table)
        assert 4.0 <= now() - began < 4.5
        kinds = [item["type"] for item in done["output"]]
        assert kinds == ["mcp_call", "message", "message"]
        said = [item["content"][0]["transcript"] for item in done["output"] if item["type"] == "message"]
        assert said == ["One moment.", "It is 42."]
        assert table.wire.types.count("response.created") == 1
        assert table.model.requests[1].messages[-1].text == "42"
    [receipt] = receipts(table)
    assert (receipt["tool"], receipt["outcome"], receipt["agent"]) == ("look_up", "completed", "test")


@on_virtual_time
async def test_a_quick_tool_needs_no_filler() -> None:
    agent = replace(AGENT, tools=(tool("look_up"),), filler=Filler(1_500, ("One moment.",)))
    tools = Tools(look_up=slow(1.0))
    speech = Speech()
    async with Table(Script(calls("look_up"), says("Done.")), speech, agent=agent, tools=tools) as table:
        await ask(table)
    assert speech.spoken == ["Done."]


@on_virtual_time
async def test_tools_that_are_called_together_run_together() -> None:
    agent = replace(AGENT, tools=(tool("first"), tool("second")))
    tools = Tools(first=slow(3.0, "1"), second=slow(2.0, "2"))
    async with Table(Script(calls("first", "second"), says("Both.")), agent=agent, tools=tools) as table:
        began = now()
        await ask(table)
        assert 3.0 <= now() - began < 3.5
        answers = [message.text for message in table.model.requests[1].messages if message.role == "tool"]
        assert answers == ["1", "2"]


@on_virtual_time
async def test_whatever_goes_wrong_with_a_tool_the_model_is_told_and_the_caller_answered() -> None:
    agent = replace(AGENT, tools=(tool("refuses"), tool("breaks"), tool("hangs", timeout_s=2.0)))
    tools = Tools(refuses=ToolError("http_error", "No such order.", 404), breaks=KeyError("secret"), hangs=slow(3_600))
    script = Script(calls("refuses", "breaks", "hangs"), says("Sorry."))
    async with Table(script, agent=agent, tools=tools) as table:
        began = now()
        done = await ask(table)
        assert done["status"] == "completed"
        assert 3.0 <= now() - began < 3.5, "its own limit, and a second"
        told = [message.text for message in table.model.requests[1].messages if message.role == "tool"]
        assert told == ["Error: No such order.", "Error: The tool failed.", "Error: No answer within 2 s."]
        assert tools.cancelled == ["hangs"]
    assert {receipt["tool"]: receipt["outcome"] for receipt in receipts(table)} == {
        "refuses": "failed", "breaks": "failed", "hangs": "timeout",
    }  # fmt: skip


@on_virtual_time
async def test_an_answer_that_is_cancelled_takes_its_tools_along() -> None:
    agent = replace(AGENT, tools=(tool("look_up"),))
    tools = Tools(look_up=slow(3_600))
    async with Table(Script(calls("look_up")), agent=agent, tools=tools) as table:
        table.send("response.create")
        await table.until(lambda: bool(tools.asked))
        table.send("response.cancel")
        await table.until("response.done")
        await table.until(lambda: tools.cancelled == ["look_up"])
        assert table.runner._work.tasks == {}
        assert table.runner._timings._responses == {}


@on_virtual_time
async def test_nothing_of_a_call_outlives_it() -> None:
    agent = replace(AGENT, tools=(tool("look_up"),), filler=Filler(60_000, ("Hm.",)))
    tools = Tools(look_up=slow(3_600))
    async with Table(Script(calls("look_up")), agent=agent, tools=tools) as table:
        table.send("response.create")
        await table.until(lambda: bool(tools.asked))
        await table.hang_up()
    assert tools.cancelled == ["look_up"]
    assert table.runner._work.timers == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}
    [ended] = archived(table, CallEnded)
    assert [outcome.hung_up for outcome in ended.outcomes] == [True]


@on_virtual_time
async def test_what_keeps_a_cancellation_to_itself_is_cancelled_again() -> None:
    async def deaf(arguments: str) -> str:
        try:
            await asyncio.sleep(3_600)
        except asyncio.CancelledError:
            await asyncio.sleep(3_600)
        return "late"

    for end in ("response.cancel", "hang up"):
        agent, tools = replace(AGENT, tools=(tool("look_up", timeout_s=9_000.0),)), Tools(look_up=deaf)
        async with Table(Script(calls("look_up")), agent=agent, tools=tools) as table:
            table.send("response.create")
            await table.until(lambda tools=tools: bool(tools.asked))
            began = now()
            if end == "response.cancel":
                table.send(end)
                await table.until(lambda tools=tools: tools.cancelled == ["look_up"])
                assert 1.0 <= now() - began < 1.1
        assert tools.cancelled == ["look_up"]
        assert now() - began < 1.2


@on_virtual_time
async def test_each_reply_of_a_response_is_metered_by_who_gave_it() -> None:
    agent = replace(AGENT, tools=(tool("look_up"),))
    async with Table(Script(calls("look_up"), says("Done.")), agent=agent, tools=Tools(look_up="1")) as table:
        usage = (await ask(table))["usage"]
    metered = [event for event in archived(table, UsageMetered) if "llm_tokens_out" in event.quantities]
    assert [(event.provider, event.model) for event in metered] == [("first", "first-1"), ("second", "second-1")]
    assert len({event.source for event in metered}) == 2, "the ledger counts each meter of a source once"
    total = {name: sum(event.quantities.get(name, 0) for event in metered) for name in metered[0].quantities}
    assert total == {"llm_tokens_in": 26, "llm_tokens_cached": 4, "llm_tokens_out": 5}
    assert usage["input_tokens"] == 30
    assert usage["output_token_details"]["text_tokens"] == 5


@on_virtual_time
async def test_the_tools_of_an_mcp_server_are_listed_and_used() -> None:
    server = McpServer("crm", "https://crm.example/mcp", never=None)
    agent = replace(AGENT, mcp_servers=(server,))
    tools = Tools(find="Ann")
    tools.servers["crm"] = (tool("find", kind="mcp", server_label="crm", config=server),)
    async with Table(Script(calls("find"), says("Ann.")), agent=agent, tools=tools) as table:
        done = await ask(table)
        assert [(item["type"], item.get("server_label")) for item in done["output"]] == [
            ("mcp_call", "crm"), ("message", None),
        ]  # fmt: skip
    async with Table(Script(says("Nothing there.")), agent=agent, tools=Tools()) as table:
        assert (await ask(table))["status"] == "completed"


@on_virtual_time
async def test_a_server_that_does_not_list_its_tools_keeps_nobody_waiting() -> None:
    class Hangs(Tools):
        async def list_tools(self, server: McpServer, *, tenant: str) -> tuple[ToolSpec, ...]:
            await asyncio.sleep(3_600)
            raise AssertionError

    agent = replace(AGENT, mcp_servers=(McpServer("crm", "https://crm.example/mcp", timeout_s=20.0),))
    limits = Limits(tools_wait_ms=3_000)
    async with Table(Script(says("Hello.")), agent=agent, tools=Hangs(), limits=limits) as table:
        began = now()
        assert (await ask(table))["status"] == "completed"
        assert now() - began < 3.5
        assert table.runner._work.tasks
        await table.until(lambda: not table.runner._work.tasks, 30)
        assert now() - began < 21.5, "its own limit, and a second"


# ---- what only a telephone can do ----


class Phone(Wire):
    """A line that transfers and presses keys. ``refuses``: what it says instead."""

    abilities = frozenset({"transfer_call", "send_dtmf"})

    def __init__(self, refuses: str = "") -> None:
        super().__init__()
        self.refuses = refuses
        self.did: list[tuple[str, str]] = []

    async def transfer(self, destination: str) -> None:
        if self.refuses:
            raise LineRefused(self.refuses)
        self.did.append(("transfer", destination))

    async def send_dtmf(self, digits: str) -> None:
        self.did.append(("dtmf", digits))


DESK = make_tool(
    {"type": "builtin", "name": "transfer_call", "destinations": {"desk": {"to": "+49 30 901820"}}}
)  # fmt: skip
KEYS = make_tool({"type": "builtin", "name": "send_dtmf"})


@on_virtual_time
async def test_a_line_transfers_and_presses_keys() -> None:
    agent = replace(AGENT, tools=(DESK, KEYS))
    script = Script(
        calls("send_dtmf", arguments='{"digits": "12#"}'),
        calls("transfer_call", arguments='{"destination": "desk"}'),
        says("I put you through."),
    )
    phone = Phone()
    async with Table(script, agent=agent, wire=phone) as table:
        await ask(table)
    assert phone.did == [("dtmf", "12#"), ("transfer", "+4930901820")]
    assert [(receipt["tool"], receipt["sent"]) for receipt in receipts(table)] == [
        ("send_dtmf", {"digits": "12#"}), ("transfer_call", {"destination": "+4930901820"}),
    ]  # fmt: skip


@on_virtual_time
async def test_a_line_that_refuses_and_a_model_that_errs_are_told_so() -> None:
    agent = replace(AGENT, tools=(DESK,))
    script = Script(
        calls("transfer_call", arguments='{"destination": "moon"}'),
        calls("transfer_call", arguments='{"destination": "desk"}'),
        says("It did not work."),
    )
    async with Table(script, agent=agent, wire=Phone("The other side is busy.")) as table:
        await ask(table)
    assert [(receipt["outcome"], receipt["answered"]["error"]) for receipt in receipts(table)] == [
        ("refused", receipts(table)[0]["answered"]["error"]), ("failed", "The other side is busy."),
    ]  # fmt: skip
    assert "desk" in receipts(table)[0]["answered"]["error"]


@on_virtual_time
async def test_a_socket_leaves_it_to_its_client() -> None:
    agent = replace(AGENT, tools=(DESK,))
    script = Script(calls("transfer_call", arguments='{"destination": "desk"}'), says("Bye."))
    async with Table(script, agent=agent) as table:
        done = await ask(table)
        [call] = done["output"]
        assert (call["type"], call["name"]) == ("function_call", "transfer_call")


# ---- the end of a call ----


@on_virtual_time
async def test_an_agent_ends_the_call_once_its_goodbye_was_heard() -> None:
    agent = replace(AGENT, tools=(make_tool({"type": "builtin", "name": "end_call"}),))
    goodbye: list[Delta] = [TextDelta("Goodbye. "), *calls("end_call")]
    async with Table(Script(goodbye), agent=agent) as table:
        table.type_in("Thanks, bye.")
        table.send("response.create")
        await table.until("response.done")
        began = now()
        assert table.wire.closed is None
        assert await asyncio.wait_for(table.running, 60) == "agent_ended"
        assert 0.09 <= now() - began < 0.2, "100 ms of speech are played first"
        assert table.wire.closed is not None
        assert table.wire.closed[0] == 1000
    [ended] = archived(table, CallEnded)
    assert ended.reason == "agent_ended"
    assert [(outcome.failed, outcome.hung_up) for outcome in ended.outcomes] == [(False, False)]
    [receipt] = receipts(table)
    assert receipt["began_at"] > 0


@on_virtual_time
async def test_who_hangs_up_on_a_goodbye_has_not_hung_up_on_the_agent() -> None:
    agent = replace(AGENT, tools=(make_tool({"type": "builtin", "name": "end_call"}),))
    goodbye: list[Delta] = [TextDelta("Goodbye. "), *calls("end_call")]
    async with Table(Script(goodbye), agent=agent) as table:
        table.send("response.create")
        await table.until("response.done")
        assert await table.hang_up() == "agent_ended"
    [ended] = archived(table, CallEnded)
    assert [outcome.hung_up for outcome in ended.outcomes] == [False]


@on_virtual_time
async def test_the_tighter_limit_of_platform_and_agent_ends_the_call() -> None:
    short = replace(AGENT, limits=AgentLimits(duration_s=60))
    for agent, platform_s, ends_s in ((short, 3_600.0, 60), (short, 30.0, 30), (AGENT, 90.0, 90)):
        async with Table(agent=agent, config=RunnerConfig(session_s=platform_s)) as table:
            began = now()
            assert await asyncio.wait_for(table.running, 4_000) == "expired"
            assert ends_s - 0.1 < now() - began < ends_s + 1
            assert table.wire.closed is not None
            assert table.wire.closed[0] == 1001


@on_virtual_time
async def test_a_greeting_is_spoken_before_anybody_asks() -> None:
    speech = Speech()
    async with Table(Script(says("x")), speech, agent=replace(AGENT, greeting="Hello, this is Test.")) as table:
        began = now()
        await table.until("response.done")
        assert now() - began < 0.5
        assert not table.model.requests
    assert speech.spoken == ["Hello, this is Test."]
    assert not [event for event in archived(table, UsageMetered) if "llm_tokens_in" in event.quantities]


# ---- several agents ----


HANDS_OVER = replace(AGENT, version=2, colleagues=(Colleague("billing", when="For invoices.", returns=True),))


@on_virtual_time
async def test_a_colleague_takes_the_call_over_with_all_that_was_said_and_without_a_greeting() -> None:
    speech, directory = Speech(), Directory(BILLING)
    script = Script(calls("hand_off_to_billing"), says("I see your invoice."))
    async with Table(script, speech, agent=HANDS_OVER, directory=directory, end_user="ann") as table:
        await ask(table, "My invoice is wrong.")
        await table.until(lambda: table.wire.types.count("response.done") == 2)
        assert directory.asked == [("acme", "billing", "ann")]
        second = table.model.requests[1]
        assert second.messages[0].text.startswith("You bill.")
        assert [message.text for message in second.messages if message.role == "user"] == ["My invoice is wrong."]
        assert speech.spoken == ["I see your invoice."]
        assert directory.remembered == [("acme", "ann", "websocket", "test", "billing")]
        assert table.register.live["sess_1"].agent == "billing"
    [started] = archived(table, CallStarted)
    assert started.agent == "test"
    made = {(event.agent, event.agent_version) for event in archived(table, ItemStored) if event.item.get("role")}
    assert made == {("test", 2), ("billing", 4)}
    [ended] = archived(table, CallEnded)
    assert [(outcome.agent, outcome.agent_version) for outcome in ended.outcomes] == [("test", 2), ("billing", 4)]
    by = {event.agent for event in archived(table, UsageMetered) if event.provider == "second"}
    assert by == {"billing"}
    assert directory.remembered[-1] == ("acme", "ann", "websocket", "test", "billing"), "the last moment counts"


@on_virtual_time
async def test_a_colleague_who_cannot_be_had_leaves_the_call_where_it_is() -> None:
    script = Script(calls("hand_off_to_billing"), says("I will help you myself."))
    async with Table(script, agent=HANDS_OVER, directory=Directory(), end_user="ann") as table:
        done = await ask(table)
        assert done["status"] == "completed"
        told = [message.text for message in table.model.requests[1].messages if message.role == "tool"]
        assert told == ["Error: There is no agent 'billing'."]
        assert table.directory.remembered == []


@on_virtual_time
async def test_the_colleagues_longest_call_counts_from_its_taking_over() -> None:
    directory = Directory(replace(BILLING, limits=AgentLimits(duration_s=60)))
    async with Table(
        Script(calls("hand_off_to_billing"), says("Yes?")), agent=HANDS_OVER, directory=directory
    ) as table:
        await asyncio.sleep(100)
        await ask(table)
        began = now()
        assert await asyncio.wait_for(table.running, 4_000) == "expired"
        assert 59 <= now() - began < 61


@on_virtual_time
async def test_a_colleague_is_consulted_with_its_own_models_and_tools() -> None:
    ref = ModelRef(Provider("other", "openai"), "big")
    expert = replace(BILLING, models=(ref,), tools=(tool("rates"),))
    agent = replace(AGENT, colleagues=(Colleague("billing", "consult"),))
    script = Script(
        calls("consult_billing", arguments='{"question": "What is the rate?"}'),
        calls("rates"),
        says("Seven percent."),
        says("It is seven."),
    )
    tools = Tools(rates="7")
    async with Table(script, agent=agent, tools=tools, directory=Directory(expert)) as table:
        before = table.budget.left
        await ask(table, "And the rate?")
        asked = table.model.requests[1]
        assert asked.models == (ref,)
        assert "You bill." in asked.messages[0].text
        assert "And the rate?" in asked.messages[1].text
        assert "What is the rate?" in asked.messages[1].text
        assert tools.asked[0][2].agent == "billing"
        told = [message.text for message in table.model.requests[3].messages if message.role == "tool"]
        assert told == ["Seven percent."]
        assert before - table.budget.left >= 12 + 12 + 23 + 23, "the colleague's tokens count too"
    [receipt] = receipts(table)
    assert (receipt["kind"], receipt["answered"]["text"]) == ("consult", "Seven percent.")
    assert [each["tool"] for each in receipt["answered"]["tools"]] == ["rates"]
    tokens = [event for event in archived(table, UsageMetered) if "llm_tokens_in" in event.quantities]
    assert len(tokens) == len({event.source for event in tokens}) == 4


@on_virtual_time
async def test_what_a_colleague_has_thought_counts_though_the_answer_is_cancelled() -> None:
    agent = replace(AGENT, colleagues=(Colleague("billing", "consult"),))
    expert = replace(BILLING, tools=(tool("rates"),))
    tools = Tools(rates=slow(3_600))
    script = Script(calls("consult_billing", arguments='{"question": "Why?"}'), calls("rates"))
    async with Table(script, agent=agent, tools=tools, directory=Directory(expert)) as table:
        table.type_in("Why?")
        table.send("response.create")
        await table.until(lambda: bool(tools.asked))
        table.send("response.cancel")
        await table.until(lambda: tools.cancelled == ["rates"])
    tokens = [event for event in archived(table, UsageMetered) if "llm_tokens_in" in event.quantities]
    assert len(tokens) == 2, "the agent's reply, and the colleague's first"


@on_virtual_time
async def test_a_colleague_who_thinks_too_long_or_is_not_there_is_gone_without() -> None:
    agent = replace(AGENT, colleagues=(Colleague("billing", "consult"), Colleague("nobody", "consult")))
    script = Script(
        calls("consult_billing", "consult_nobody", arguments='{"question": "Why?"}'), [3_600.0], says("I do not know.")
    )
    async with Table(script, agent=agent, directory=Directory(BILLING)) as table:
        began = now()
        assert (await ask(table))["status"] == "completed"
        assert 20 <= now() - began < 21.5
        told = [message.text for message in table.model.requests[-1].messages if message.role == "tool"]
        assert told == ["Error: Billing did not answer within 20 s.", "Error: There is no agent 'nobody'."]


@on_virtual_time
async def test_the_first_words_choose_who_answers() -> None:
    rules = (Rule("invoices", "billing", intent="has a question about an invoice"),)
    directory = Directory(BILLING)
    directory.chooses = "billing"
    async with Table(Script(says("Billing speaks.")), directory=directory, rules=rules, end_user="ann") as table:
        await ask(table, "My invoice, please.")
        assert directory.asked[0] == ("acme", rules, "My invoice, please.", "", "ann")
        assert table.model.requests[0].messages[0].text.startswith("You bill.")
        assert directory.remembered == [("acme", "ann", "websocket", "test", "billing")]
        await ask(table, "And another.")
        assert len(directory.asked) == 1, "only the first words choose"
    spent = [event for event in archived(table, UsageMetered) if event.source == "route"]
    assert [(event.provider, event.quantities["llm_tokens_in"]) for event in spent] == [("router", 11)]


@on_virtual_time
async def test_a_directory_that_breaks_leaves_the_call_where_it_is() -> None:
    class Broken(Directory):
        async def route(self, *args: Any, **kwargs: Any) -> AgentSpec | None:
            raise KeyError

        async def load(self, *args: Any, **kwargs: Any) -> AgentSpec:
            raise KeyError

    rules = (Rule("invoices", "billing", intent="has a question about an invoice"),)
    script = Script(calls("hand_off_to_billing"), says("I help you."))
    async with Table(script, agent=HANDS_OVER, directory=Broken(), rules=rules) as table:
        done = await ask(table)
        assert done["status"] == "completed"
        assert [message.text for message in table.model.requests[1].messages if message.role == "tool"] == [
            "Error: The colleague cannot be reached."
        ]


# ---- prompts and failing models ----


@on_virtual_time
async def test_a_fault_of_ours_in_a_prompt_ends_no_call() -> None:
    class Broken(Directory):
        async def prompt(self, *_: object, **__: object) -> str:
            raise RuntimeError("with what was said")

    async with Table(Script(says("Hi.")), agent=AGENT, directory=Broken()) as table:
        table.send("session.update", session={"type": "realtime", "prompt": {"id": "pirate"}}, event_id="mine")
        await table.until("error")
        error = next(event["error"] for event in table.wire.events if event["type"] == "error")
        assert (error["type"], error["param"], error["event_id"]) == ("server_error", "session.prompt", "mine")
        assert "said" not in error["message"]
        assert (await ask(table))["status"] == "completed"


@on_virtual_time
async def test_a_stored_prompt_is_filled_in_before_the_session_gets_it() -> None:
    directory = Directory(prompts={"pirate": "Talk like a pirate."})
    async with Table(Script(says("Arr.")), directory=directory) as table:
        table.send("session.update", session={"type": "realtime", "prompt": {"id": "pirate"}})
        await table.until("session.updated")
        await ask(table, prompt={"id": "pirate"}, input=[])
        assert table.model.requests[0].messages[0].text.startswith("Talk like a pirate.")
        table.send("response.create", response={"prompt": {"id": "nobody"}}, event_id="mine")
        await table.until("error")
        error = next(event["error"] for event in table.wire.events if event["type"] == "error")
        assert (error["code"], error["param"], error["event_id"]) == ("prompt_not_found", "response.prompt.id", "mine")
        assert table.budget.tickets == 999, "what is refused costs nothing"
        table.send("session.update", session={"type": "realtime", "prompt": None})
        await table.until(lambda: table.wire.types.count("session.updated") == 2)
        updated = [event for event in table.wire.events if event["type"] == "session.updated"][-1]
        assert updated["session"]["instructions"] == "Be brief."


@on_virtual_time
async def test_a_degraded_answer_is_said_and_counts_as_a_failure() -> None:
    sorry = [TextDelta("I am sorry."), Finished("stop", provider="degraded")]
    async with Table(Script(sorry)) as table:
        assert (await ask(table))["status"] == "completed"
    [ended] = archived(table, CallEnded)
    assert [outcome.failed for outcome in ended.outcomes] == [True]


@on_virtual_time
async def test_a_model_that_fails_after_a_tool_fails_the_response_and_leaves_the_call() -> None:
    agent = replace(AGENT, tools=(tool("look_up"),))
    script = Script(calls("look_up"), [LlmError("llm_timeout", "Too slow.")], says("Back."))
    async with Table(script, agent=agent, tools=Tools(look_up="1")) as table:
        done = await ask(table)
        assert (done["status"], done["status_details"]["error"]["code"]) == ("failed", "llm_timeout")
        assert (await ask(table))["status"] == "completed"
        assert json.dumps(done["output"]).count("mcp_call") >= 1
