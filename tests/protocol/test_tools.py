"""Tools that the server runs: rounds inside one response, what ends them, what a model reads of them."""

from dataclasses import replace
from typing import Any

import pytest

from agents.llm.types import Message, ToolCall
from agents.spec import AgentLimits
from agents.tools.types import ToolError
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from tests.protocol.call import AGENT, SPEECH, TestCall, tool

CLIENTS = {"type": "function", "name": "paint", "parameters": {"type": "object"}}
LOOKUP, BOOK = tool("lookup"), tool("book")
CALLED = [
    "response.output_item.added",
    "conversation.item.added",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
]
ENDED = ["response.mcp_call.completed", "conversation.item.done", "response.output_item.done"]


def served(**fields: Any) -> TestCall:
    return TestCall(agent=replace(AGENT, tools=(LOOKUP, BOOK), functions=(CLIENTS,), **fields))


def test_a_call_runs_inside_the_response_and_its_result_is_answered_there() -> None:
    call = served()
    call.type_in("Where is it?")
    response_id = call.ask(output_modalities=["text"])
    types = call.call_tools(response_id, "lookup", arguments='{"id":1}')
    assert types == [*CALLED, "response.mcp_call.in_progress"]
    run = call.one(do.RunTool)
    assert (run.tool, run.arguments) == (LOOKUP, '{"id":1}')
    assert call.tool_answers(run.run_id, "On its way.") == ENDED
    item = call.events[-1]["item"]
    assert item["server_label"] == "http"
    assert (item["name"], item["output"], item["error"]) == ("lookup", "On its way.", None)
    start = call.one(do.StartReply)
    assert start.response_id == response_id
    assert start.request.messages[-2].tool_calls[0].name == "lookup"
    assert start.request.messages[-1].text == "On its way."
    types = call.answer(response_id, "It is on its way.")
    assert types[-2:] == ["response.done", "rate_limits.updated"]
    output = call.done()["output"]
    assert [item["type"] for item in output] == ["mcp_call", "message"]
    assert [event["type"] for event in call.said].count("response.done") == 1


def test_usage_is_the_sum_of_all_rounds() -> None:
    call = served()
    response_id = call.ask(output_modalities=["text"])
    call.result(ev.ReplyToolCall(response_id=response_id, index=0, name="lookup", arguments="{}"))
    call.result(ev.ReplyFinished(response_id=response_id, reason="tool_calls", input_tokens=100, output_tokens=10))
    call.tool_answers(call.one(do.RunTool).run_id, "x")
    call.result(
        ev.ReplyFinished(response_id=response_id, reason="stop", input_tokens=130, output_tokens=7, cached_tokens=90)
    )
    usage = call.done()["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (230, 17, 247)
    assert usage["input_token_details"]["cached_tokens"] == 90


def test_calls_of_one_reply_run_at_the_same_time_and_end_in_any_order() -> None:
    call = served()
    response_id = call.ask()
    call.call_tools(response_id, "lookup", "book", "lookup")
    first, second, third = (run.run_id for run in call.all(do.RunTool))
    assert call.tool_answers(third, "3") == ENDED
    assert call.tool_answers(first, "1") == ENDED
    assert call.all(do.StartReply) == []
    call.tool_answers(second, "", ToolError("http_error", "Not found.", 404))
    assert call.events[0]["type"] == "response.mcp_call.failed"
    assert call.events[1]["item"]["error"] == {"type": "http_error", "message": "Not found.", "code": 404}
    request = call.one(do.StartReply).request
    [asked] = [message for message in request.messages if message.tool_calls]
    assert [each.name for each in asked.tool_calls] == ["lookup", "book", "lookup"]
    told = [message.text for message in request.messages if message.role == "tool"]
    assert told == ["1", "Error: Not found.", "3"]


def test_rounds_are_told_apart() -> None:
    call = served()
    response_id = call.ask()
    for output in ("one", "two"):
        call.call_tools(response_id, "lookup")
        call.tool_answers(call.one(do.RunTool).run_id, output)
    roles = [message.role for message in call.one(do.StartReply).request.messages]
    assert roles == ["system", "assistant", "tool", "assistant", "tool"]


def test_the_clients_functions_end_the_response_after_the_servers_results() -> None:
    call = served()
    response_id = call.ask()
    types = call.call_tools(response_id, "lookup", "paint")
    assert "response.function_call_arguments.done" in types
    assert "response.done" not in types
    types = call.tool_answers(call.one(do.RunTool).run_id, "x")
    assert types == [*ENDED, "response.done", "rate_limits.updated"]
    assert call.done()["status"] == "completed"
    output = call.done()["output"]
    assert [item["type"] for item in output] == ["mcp_call", "function_call"]
    call.client(
        "conversation.item.create",
        item={"type": "function_call_output", "call_id": output[1]["call_id"], "output": "blue"},
    )
    call.ask()
    messages = call.one(do.StartReply).request.messages
    assert [message.text for message in messages if message.role == "tool"] == ["x", "blue"]
    assert len(messages[1].tool_calls) == 2


def test_the_limit_of_rounds_leaves_a_last_reply_without_tools() -> None:
    call = served(limits=AgentLimits(tool_rounds=2))
    response_id = call.ask()
    choices = [call.one(do.StartReply).request.tool_choice]
    for _ in range(2):
        call.call_tools(response_id, "lookup")
        call.tool_answers(call.one(do.RunTool).run_id, "x")
        choices.append(call.one(do.StartReply).request.tool_choice)
    assert choices == ["auto", "auto", "none"]
    assert len(call.one(do.StartReply).request.tools) == 3  # some providers want them to be named all the same
    call.call_tools(response_id, "lookup")
    assert call.all(do.RunTool) == []
    assert call.done()["status"] == "failed"
    assert call.done()["status_details"]["error"]["code"] == "too_many_tool_rounds"
    assert call.session.outcomes()[0].failed


def test_no_rounds_is_no_tools_but_the_clients() -> None:
    call = served(limits=AgentLimits(tool_rounds=0))
    call.ask()
    assert [each["name"] for each in call.one(do.StartReply).request.tools] == ["paint"]


def test_a_tool_that_the_model_made_up_fails_and_it_may_try_again() -> None:
    call = served()
    response_id = call.ask()
    types = call.call_tools(response_id, "lookups")
    assert types[-4:] == ["response.mcp_call.in_progress", "response.mcp_call.failed", *ENDED[1:]]
    item = call.events[-1]["item"]
    assert item["server_label"] == "unknown"
    assert item["error"]["message"] == "There is no tool named 'lookups'."
    assert call.one(do.StartReply).response_id == response_id


@pytest.mark.parametrize("how", ["client", "caller", "hang_up", "failure"])
def test_what_ends_the_response_cancels_its_tools_and_late_answers_change_nothing(how: str) -> None:
    call = served()
    response_id = call.ask()
    call.call_tools(response_id, "lookup", "book")
    runs = [run.run_id for run in call.all(do.RunTool)]
    call.tool_answers(runs[0], "x")
    if how == "client":
        call.client("response.cancel")
    elif how == "caller":
        call.hear(160, SPEECH)
    elif how == "hang_up":
        call._note(call.session.hang_up())
    else:
        call.result(ev.ReplyFailed(response_id=response_id, code="llm_timeout", message="No."))
        assert call.events == []  # no reply is under way: a late one changes nothing
        call.client("response.cancel")
    assert [effect.run_id for effect in call.all(do.CancelTool)] == [runs[1]]
    done, broken = call.done()["output"]
    assert (done["output"], done["error"]) == ("x", None)
    assert broken["error"]["type"] == "tool_execution_error"
    assert ("mcp_call", "incomplete") in call.items
    assert call.tool_answers(runs[1], "late") == []
    assert call.effects == []


def test_a_model_is_told_that_a_call_was_interrupted_but_not_of_one_it_did_not_finish() -> None:
    call = served()
    response_id = call.ask()
    call.call_tools(response_id, "lookup")
    call.client("response.cancel")
    second = call.ask()
    call.result(ev.ReplyToolCall(response_id=second, index=0, name="book", arguments='{"a'))
    call.client("response.cancel")
    assert call.all(do.RunTool) == []
    call.ask()
    told = [message.text for message in call.one(do.StartReply).request.messages if message.role == "tool"]
    assert told == ["Error: The call was interrupted before its result was known."]


def test_a_call_that_was_cut_off_is_not_run() -> None:
    call = served()
    response_id = call.ask()
    call.result(ev.ReplyToolCall(response_id=response_id, index=0, name="lookup", arguments='{"id'))
    types = call.result(ev.ReplyFinished(response_id=response_id, reason="length"))
    assert call.all(do.RunTool) == []
    assert types[-2] == "response.done"
    assert call.done()["status"] == "incomplete"


def test_the_archive_gets_receipts_and_who_made_the_items() -> None:
    call = TestCall(agent=replace(AGENT, tools=(LOOKUP,), version=7))
    response_id = call.ask()
    call.call_tools(response_id, "lookup", "nothing")
    call.tool_answers(call.one(do.RunTool).run_id, "x")
    call.answer(response_id, "Done.")
    looked, made_up, said = call.all(do.Store)
    assert (looked.agent, looked.agent_version) == ("test", 7)
    assert looked.receipt["took_ms"] == 5.0
    assert looked.item["status"] == "completed"
    assert made_up.receipt["outcome"] == "refused"
    assert made_up.item["status"] == "failed"
    assert said.receipt is None


# ---- names and choice ----


def offered(call: TestCall) -> list[str]:
    return [each["name"] for each in call.one(do.StartReply).request.tools]


def test_names_that_collide_are_told_apart_and_the_clients_keep_theirs() -> None:
    twins = (tool("paint", server_label="shop"), tool("a.b/c", server_label="x"), tool("a_b_c", server_label="y"))
    call = TestCall(agent=replace(AGENT, tools=twins, functions=(CLIENTS,)))
    response_id = call.ask()
    assert offered(call) == ["paint", "shop_paint", "a_b_c", "y_a_b_c"]
    call.call_tools(response_id, "paint", "shop_paint")
    assert call.one(do.RunTool).tool is twins[0]
    assert [item.type for item in call.session.call.conversation] == ["function_call", "mcp_call"]


def test_no_more_tools_are_offered_than_providers_take() -> None:
    call = TestCall(agent=replace(AGENT, tools=tuple(tool(f"t{number}") for number in range(200))))
    call.ask()
    assert len(offered(call)) == 128


def test_the_sessions_tools_are_the_clients() -> None:
    call = served()
    assert call.said[0]["session"]["tools"] == [CLIENTS]
    call.client("session.update", session={"type": "realtime", "tools": []})
    call.ask()
    assert offered(call) == ["lookup", "book"]


def test_tools_of_a_response_stand_in_the_place_of_all_others() -> None:
    call = served()
    call.ask(tools=[])
    assert offered(call) == []


def test_what_acts_on_the_call_has_no_place_beside_the_conversation() -> None:
    agent = replace(AGENT, tools=(LOOKUP, tool("end_call", kind="builtin"), tool("pay", needs_approval=True)))
    call = TestCall(agent=agent)
    call.ask(conversation="none")
    assert offered(call) == ["lookup"]


@pytest.mark.parametrize(
    ("choice", "asked"),
    [
        ("required", "required"),
        ("none", "none"),
        ({"type": "function", "name": "paint"}, "paint"),
        ({"type": "function", "name": "lookup"}, "lookup"),
        ({"type": "mcp", "server_label": "nowhere"}, "auto"),
    ],
)
def test_a_choice_holds_for_the_first_round(choice: Any, asked: str) -> None:
    call = served()
    response_id = call.ask(tool_choice=choice)
    assert call.one(do.StartReply).request.tool_choice == asked
    call.call_tools(response_id, "lookup")
    call.tool_answers(call.one(do.RunTool).run_id, "x")
    assert call.one(do.StartReply).request.tool_choice == ("none" if choice == "none" else "auto")


def test_a_function_that_is_not_there_cannot_be_chosen() -> None:
    call = served()
    call.client("response.create", response={"tool_choice": {"type": "function", "name": "fly"}})
    error = call.events[0]["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "response.tool_choice.name")
    call.client("session.update", session={"type": "realtime", "tool_choice": {"type": "function", "name": "fly"}})
    call.ask()
    assert call.one(do.StartReply).request.tool_choice == "auto"


def test_a_client_that_asks_for_the_words_after_a_tool_gets_those_under_way() -> None:
    call = served()
    response_id = call.ask()
    call.call_tools(response_id, "lookup")
    run_id = call.one(do.RunTool).run_id
    assert call.client("response.create") == []
    call.tool_answers(run_id, "x")
    assert call.client("response.create") == []
    assert call.answer(response_id, "Well.")[-2] == "response.done"
    call.client("response.create")
    assert call.events[0]["type"] == "response.created"
    call.client("response.create")
    assert call.events[0]["error"]["code"] == "conversation_already_has_active_response"


def test_results_of_a_reply_that_nobody_asked_for_change_nothing() -> None:
    call = served()
    response_id = call.ask()
    call.call_tools(response_id, "lookup")
    assert call.answer(response_id, "Too early.") == []


def test_the_context_of_calls_is_their_pairs() -> None:
    call = served()
    response_id = call.ask()
    call.call_tools(response_id, "lookup", arguments='{"id":2}')
    call.tool_answers(call.one(do.RunTool).run_id, "x")
    [item] = call.session.call.conversation
    call_id = item.call_id
    assert call.one(do.StartReply).request.messages == (
        Message("system", "Be brief."),
        Message("assistant", "", tool_calls=(ToolCall(call_id, "lookup", '{"id":2}'),)),
        Message("tool", "x", tool_call_id=call_id),
    )
