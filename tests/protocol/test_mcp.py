"""MCP servers that a client names: how their tools are listed, and approvals."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agents.tools.mcp_wire import EVERYTHING, server_from_wire
from agents.tools.types import McpFilter, McpServer, ToolError, ToolSpec
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Limits
from realtime.protocol.config import SessionConfig
from realtime.protocol.wire_beta import Beta
from tests.protocol.call import AGENT, SILENCE, SPEECH, TestCall, tool

DOCS = {
    "type": "mcp",
    "server_label": "docs",
    "server_url": "https://docs.example/mcp",
    "authorization": "hush",
    "headers": {"X-Key": "hush too"},
    "require_approval": "never",
}
SEARCH = tool("search", kind="mcp", server_label="docs")
PAY = tool("pay", kind="mcp", server_label="docs", needs_approval=True)
TEXT = {"output_modalities": ["text"]}


def update(call: TestCall, *tools: dict[str, Any], **fields: Any) -> list[str]:
    return call.client("session.update", session={"type": "realtime", "tools": list(tools), **fields})


def listed(*tools: ToolSpec, **fields: Any) -> TestCall:
    call = TestCall(**fields)
    update(call, DOCS)
    call.result(ev.ToolsListed(list_id=call.one(do.ListTools).list_id, tools=tools))
    return call


def messages(call: TestCall) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in call.one(do.StartReply).request.messages]


# ---- the list ----


def test_a_server_is_listed_as_an_item_of_the_conversation() -> None:
    call = TestCall()
    types = update(call, DOCS)
    assert types == ["session.updated", "conversation.item.added", "mcp_list_tools.in_progress"]
    added = call.events[1]["item"]
    assert added["tools"] == []
    effect = call.one(do.ListTools)
    assert effect.list_id == added["id"]
    assert effect.server.by_client
    assert dict(effect.server.headers) == {"X-Key": "hush too", "Authorization": "Bearer hush"}
    types = call.result(ev.ToolsListed(list_id=effect.list_id, tools=(SEARCH,)))
    assert types == ["mcp_list_tools.completed", "conversation.item.done"]
    [known] = call.events[1]["item"]["tools"]
    assert known == {"name": "search", "description": "Does search.", "input_schema": {"type": "object"}}
    call.ask()
    assert [each["name"] for each in call.one(do.StartReply).request.tools] == ["search"]


def test_nobody_is_shown_what_opens_a_server() -> None:
    call = listed(SEARCH)
    assert "hush" not in msgspec.json.encode(call.said).decode()
    shown = next(event for event in call.said if event["type"] == "session.updated")["session"]["tools"]
    assert shown == [{name: value for name, value in DOCS.items() if name not in ("authorization", "headers")}]
    assert "hush" not in repr(call.session.call.config.servers)


def test_a_server_that_is_named_again_unchanged_is_not_asked_again() -> None:
    call = listed(SEARCH)
    assert update(call, DOCS, {"type": "function", "name": "paint"}) == ["session.updated"]
    assert call.client("session.update", session={"type": "realtime", "instructions": "x"}) == ["session.updated"]
    assert "mcp_list_tools.in_progress" in update(call, {**DOCS, "authorization": "another"})
    assert update(call) == ["session.updated", "mcp_list_tools.failed", "conversation.item.done"]
    assert len(call.all(do.CancelTool)) == 1
    call.ask()
    assert call.one(do.StartReply).request.tools == ()


def test_a_server_that_does_not_answer_offers_nothing_and_the_call_goes_on() -> None:
    call = TestCall()
    update(call, DOCS)
    list_id = call.one(do.ListTools).list_id
    response_id = call.ask(**TEXT)
    assert call.all(do.StartReply) == []
    types = call.result(ev.ToolsNotListed(list_id=list_id, error=ToolError("http_error", "Gone.", 410)))
    assert types == ["mcp_list_tools.failed", "conversation.item.done"]
    assert call.one(do.Store).item["error"]["message"] == "Gone."
    assert call.one(do.StartReply).response_id == response_id


def test_an_answer_waits_for_lists_but_not_for_ever() -> None:
    call = TestCall(limits=Limits(tools_wait_ms=700))
    update(call, DOCS)
    list_id = call.one(do.ListTools).list_id
    response_id = call.ask(**TEXT)
    assert call.one(do.Remind).after_ms == 700
    call.result(ev.Reminded(reminder_id=call.one(do.Remind).reminder_id))
    assert call.one(do.StartReply).request.tools == ()
    call.result(ev.ToolsListed(list_id=list_id, tools=(SEARCH,)))
    assert call.all(do.StartReply) == []
    call.answer(response_id, "Well.")
    call.ask()
    assert len(call.one(do.StartReply).request.tools) == 1


def test_a_response_may_bring_servers_of_its_own() -> None:
    call = TestCall()
    response_id = call.ask(tools=[DOCS], **TEXT)
    assert [event["type"] for event in call.events] == [
        "response.created", "conversation.item.added", "mcp_list_tools.in_progress",
    ]  # fmt: skip
    call.result(ev.ToolsListed(list_id=call.one(do.ListTools).list_id, tools=(SEARCH,)))
    assert call.one(do.StartReply).request.tools[0]["name"] == "search"
    call.answer(response_id, "Well.")
    call.ask()
    assert call.one(do.StartReply).request.tools == ()


def test_beside_the_conversation_a_list_has_no_events() -> None:
    call = TestCall()
    call.ask(tools=[DOCS], conversation="none")
    assert [event["type"] for event in call.events] == ["response.created"]
    types = call.result(ev.ToolsListed(list_id=call.one(do.ListTools).list_id, tools=(SEARCH, PAY)))
    assert types == []
    assert [each["name"] for each in call.one(do.StartReply).request.tools] == ["search"]


def test_a_list_that_ends_with_its_response_is_cancelled() -> None:
    call = TestCall()
    call.ask(tools=[DOCS])
    list_id = call.one(do.ListTools).list_id
    types = call.client("response.cancel")
    assert call.one(do.CancelTool).run_id == list_id
    assert "mcp_list_tools.failed" in types
    assert call.result(ev.ToolsListed(list_id=list_id, tools=(SEARCH,))) == []


def test_servers_of_the_agent_are_listed_without_a_word() -> None:
    server = McpServer("shop", "https://shop.example/mcp")
    call = TestCall(agent=replace(AGENT, mcp_servers=(server,)))
    assert [event["type"] for event in call.said] == ["session.created"]
    effect = call.one(do.ListTools)
    assert effect.server is server
    assert call.result(ev.ToolsListed(list_id=effect.list_id, tools=(SEARCH,))) == []
    response_id = call.ask(**TEXT)
    assert [each["name"] for each in call.one(do.StartReply).request.tools] == ["search"]
    assert "response.mcp_call.in_progress" in call.call_tools(response_id, "search")


def test_a_session_that_opens_with_servers_lists_them() -> None:
    config = SessionConfig.realtime(session_id="sess_1", model="m", expires_at=1, agent=AGENT)
    config = config.updated({"type": "realtime", "tools": [DOCS]})
    call = TestCall(config=config)
    assert [event["type"] for event in call.said] == [
        "session.created", "conversation.item.added", "mcp_list_tools.in_progress",
    ]  # fmt: skip
    assert "hush" not in msgspec.json.encode(call.said).decode()


@pytest.mark.parametrize("field", ["connector_id", "tunnel_id"])
def test_what_only_openai_can_reach_is_refused(field: str) -> None:
    call = TestCall()
    value = {"connector_id": "connector_gmail", "tunnel_id": "tunnel_" + "a" * 32}[field]
    update(call, {"type": "mcp", "server_label": "x", field: value})
    error = call.events[0]["error"]
    assert (error["code"], error["param"]) == ("invalid_value", f"session.tools[0].{field}")
    assert "server_url" in error["message"]
    assert call.session.call.config.wire["tools"] == []


def test_bad_addresses_labels_and_numbers_are_refused() -> None:
    call = TestCall()
    update(call, {**DOCS, "server_url": "file:///etc/passwd"})
    assert call.events[0]["error"]["param"] == "session.tools[0].server_url"
    update(call, DOCS, DOCS)
    assert call.events[0]["error"]["param"] == "session.tools[1].server_label"
    many = [{**DOCS, "server_label": f"s{number}"} for number in range(9)]
    for types in (update(call, *many), call.client("response.create", response={"tools": many})):
        assert types == ["error"]
        assert call.events[0]["error"]["code"] == "too_many_mcp_servers"
    assert update(call, *many[:8])[0] == "session.updated"


@pytest.mark.parametrize(
    ("written", "always", "never"),
    [
        (None, EVERYTHING, None),
        ("always", EVERYTHING, None),
        ("never", None, EVERYTHING),
        ({"never": {"tool_names": ["a"]}}, None, McpFilter(frozenset("a"))),
        ({"always": {"read_only": False}, "never": {"read_only": True}}, McpFilter(read_only=False),
         McpFilter(read_only=True)),
    ],
)  # fmt: skip
def test_what_needs_approval(written: Any, always: McpFilter | None, never: McpFilter | None) -> None:
    server = server_from_wire({**DOCS, "require_approval": written, "allowed_tools": ["a", "b"]})
    assert (server.always, server.never) == (always, never)
    assert server.allowed == McpFilter(frozenset("ab"))


def test_a_server_or_one_of_its_tools_can_be_chosen() -> None:
    call = listed(SEARCH, tool("fetch", kind="mcp", server_label="docs"))
    call.ask(tool_choice={"type": "mcp", "server_label": "docs", "name": "fetch"})
    assert call.one(do.StartReply).request.tool_choice == "fetch"
    call.client("response.cancel")
    call.client("session.update", session={"type": "realtime", "tools": [DOCS, {"type": "function", "name": "paint"}]})
    call.ask(tool_choice={"type": "mcp", "server_label": "docs"})
    request = call.one(do.StartReply).request
    assert request.tool_choice == "required"
    assert [each["name"] for each in request.tools] == ["search", "fetch"]


# ---- approvals ----


def asked(call: TestCall) -> str:
    """A response has ended with a request for approval; its id."""
    response_id = call.ask(**TEXT)
    types = call.call_tools(response_id, "pay", arguments='{"euros":5}')
    assert types[-6:] == [
        "response.output_item.added", "conversation.item.added", "conversation.item.done", "response.output_item.done",
        "response.done", "rate_limits.updated",
    ]  # fmt: skip
    assert call.all(do.RunTool) == []
    pending, request = call.done()["output"]
    assert request["type"] == "mcp_approval_request"
    assert (request["name"], request["arguments"], request["server_label"]) == ("pay", '{"euros":5}', "docs")
    assert pending["approval_request_id"] == request["id"]
    return str(request["id"])


def approve(call: TestCall, request_id: str, *, agree: bool = True, **fields: Any) -> list[str]:
    item = {"type": "mcp_approval_response", "approval_request_id": request_id, "approve": agree, **fields}
    return call.client("conversation.item.create", item=item)


def test_an_approved_call_runs_and_the_server_goes_on_by_itself() -> None:
    call = listed(PAY)
    request_id = asked(call)
    call_id = call.done()["output"][0]["id"]
    update(call, DOCS, output_modalities=["text"])
    types = approve(call, request_id, id="approval_response_1", reason="Fine.")
    assert types == [
        "conversation.item.added", "conversation.item.done", "response.mcp_call.in_progress", "response.created",
    ]  # fmt: skip
    assert call.events[0]["item"]["reason"] == "Fine."
    assert call.one(do.RunTool).run_id == call_id
    assert call.all(do.StartReply) == []
    assert call.client("response.create", response={"tool_choice": "none"}) == []  # it is on its way
    assert call.tool_answers(call_id, "Paid.") == ["response.mcp_call.completed", "conversation.item.done"]
    assert call.events[1]["item"]["approval_request_id"] == request_id
    assert messages(call)[-1] == ("tool", "Paid.")
    assert call.answer(call.one(do.StartReply).response_id, "It is paid.")[-2] == "response.done"
    assert [item["type"] for item in call.done()["output"]] == ["message"]


def test_a_refused_call_is_told_to_the_model() -> None:
    call = listed(PAY)
    types = approve(call, asked(call), agree=False, reason="Too much.")
    assert types[2:] == [
        "response.mcp_call.in_progress", "response.mcp_call.failed", "conversation.item.done", "response.created",
    ]  # fmt: skip
    assert call.all(do.RunTool) == []
    assert messages(call)[-1] == ("tool", "Error: The user did not agree to this call: Too much.")
    stored = [each for each in call.all(do.Store) if each.item["type"] == "mcp_call"]
    assert stored[0].receipt["outcome"] == "refused"


def test_an_approval_counts_once_and_only_for_what_was_asked() -> None:
    call = listed(PAY)
    request_id = asked(call)
    for wrong in ("nope", request_id[:-1] + "_"):
        assert approve(call, wrong) == ["error"]
        assert call.events[0]["error"]["code"] == "invalid_approval_request_id"
    approve(call, request_id)
    assert approve(call, request_id) == ["error"]
    aside = {"conversation": "none", "input": [{"type": "mcp_approval_response", "approval_request_id": request_id,
                                                "approve": True}]}  # fmt: skip
    assert call.client("response.create", response=aside) == ["error"]


def test_an_approval_that_comes_while_something_else_is_said_waits_its_turn() -> None:
    call = listed(PAY)
    request_id = asked(call)
    other = call.ask(**TEXT)
    assert "response.created" not in approve(call, request_id)
    run_id = call.one(do.RunTool).run_id
    assert call.tool_answers(run_id, "Paid.") == ["response.mcp_call.completed", "conversation.item.done"]
    types = call.answer(other, "By the way.")
    assert types[-1] == "response.created"
    assert ("tool", "Paid.") in messages(call)


def test_an_answer_that_is_asked_for_meanwhile_waits_for_the_approved_call() -> None:
    call = listed(PAY)
    request_id = asked(call)
    other = call.ask(**TEXT)
    approve(call, request_id)
    run_id = call.one(do.RunTool).run_id
    call.answer(other, "By the way.")
    third = call.ask(**TEXT)
    assert call.all(do.StartReply) == []
    call.tool_answers(run_id, "Paid.")
    assert call.one(do.StartReply).response_id == third
    assert call.answer(third, "Paid.")[-2:] == ["response.done", "rate_limits.updated"]


def test_two_approvals_are_answered_together() -> None:
    call = listed(PAY)
    response_id = call.ask(**TEXT)
    call.call_tools(response_id, "pay", "pay")
    first, second = (item["id"] for item in call.done()["output"] if item["type"] == "mcp_approval_request")
    approve(call, first)
    one = call.one(do.RunTool).run_id
    assert "response.created" not in approve(call, second)
    other = call.one(do.RunTool).run_id
    call.tool_answers(one, "1")
    assert call.all(do.StartReply) == []
    call.tool_answers(other, "2")
    assert [text for role, text in messages(call) if role == "tool"] == ["1", "2"]


def test_interrupting_what_follows_an_approval_cancels_the_call() -> None:
    call = listed(PAY)
    approve(call, asked(call))
    run_id = call.one(do.RunTool).run_id
    call.hear(160, SPEECH)
    assert call.one(do.CancelTool).run_id == run_id
    assert call.tool_answers(run_id, "Paid.") == []
    call.hear(512, SILENCE)
    [job_id] = call.session.ear.recognition.jobs
    call.recognise(job_id, "Wait.")
    assert ("tool", "Error: The call was interrupted before its result was known.") in messages(call)


def test_a_call_that_waits_for_approval_is_no_part_of_the_context() -> None:
    call = listed(PAY)
    asked(call)
    call.ask(**TEXT)
    assert messages(call) == [("system", "Be brief.")]


def test_the_beta_dialect_does_not_show_what_it_has_no_words_for() -> None:
    beta, call = Beta(), TestCall(agent=replace(AGENT, tools=(SEARCH,)))
    call.type_in("Hello?")
    response_id = call.ask(**TEXT)
    call.call_tools(response_id, "search")
    call.tool_answers(call.one(do.RunTool).run_id, "x")
    call.answer(response_id, "Hi.")
    frames = [beta.encode(event) for event in call.raw]
    said = [msgspec.json.decode(frame) for frame in frames if frame]
    assert "mcp" not in msgspec.json.encode(said).decode()
    assert {event["output_index"] for event in said if "output_index" in event} == {0}
    typed, answered = (event for event in said if event["type"] == "conversation.item.created")
    assert answered["previous_item_id"] == typed["item"]["id"]
    [done] = [event["response"] for event in said if event["type"] == "response.done"]
    assert [item["type"] for item in done["output"]] == ["message"]
