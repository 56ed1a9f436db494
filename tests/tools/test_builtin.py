"""Built-in tools: their settings, what a model is offered, and those that are done here."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agents.tools.arguments import ArgumentsInvalid, check_schema, find_problems
from agents.tools.builtin import (
    BUILTINS,
    COLLECTED,
    BuiltinInvalid,
    find_fault,
    make_tool,
    run_builtin,
    transfer_target,
)
from agents.tools.types import JsonObject, ToolContext, ToolSpec

SALES = {"to": "+49 30 1234567", "description": "who wants to buy"}
FIELDS = {
    "name": {"type": "string", "minLength": 1},
    "phone": {"type": "string", "format": "phone"},
    "guests": {"type": "integer", "minimum": 1},
}
REFS: dict[str, JsonObject] = {
    "end_call": {},
    "current_time": {},
    "transfer_call": {"destinations": {"sales": SALES, "desk": {"to": "sip:desk@pbx.shop.example"}}},
    "send_dtmf": {},
    "collect": {"form": "booking", "fields": FIELDS, "required": ["name", "guests"]},
}


def context() -> ToolContext:
    return ToolContext(tenant="alpha", session_id="sess_1", call_id="item_1", agent="desk", agent_version=1)


def tool_of(name: str, **settings: Any) -> ToolSpec:
    return make_tool({"type": "builtin", "name": name, **REFS[name], **settings})


def test_there_are_these() -> None:
    assert set(BUILTINS) == set(REFS)


@pytest.mark.parametrize("name", REFS)
def test_each_can_be_offered_to_a_model(name: str) -> None:
    tool = tool_of(name)
    check_schema(tool.parameters)
    assert (tool.kind, tool.server_label, tool.parameters["type"]) == ("builtin", "builtin", "object")
    assert tool.description
    assert find_fault({"type": "builtin", "name": name, **REFS[name]}) == ""
    json.dumps(BUILTINS[name].settings_schema)


def test_the_names_that_others_know() -> None:
    names = {name: tool_of(name).name for name in REFS}
    assert names == {name: name for name in REFS} | {"collect": "collect_booking"}
    assert {name: builtin.by for name, builtin in BUILTINS.items()} == {
        "end_call": "protocol", "current_time": "server", "transfer_call": "transport", "send_dtmf": "transport",
        "collect": "server",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "settings", "param", "words"),
    [
        ("nosuch", {}, "", "there are end_call, current_time"),
        ("end_call", {"loud": True}, "", "unknown field `loud`"),
        ("current_time", {"time_zone": "Europe/Nowhere"}, "time_zone", "is no time zone"),
        ("transfer_call", {"destinations": {}}, "destinations", "1 to 64"),
        ("transfer_call", {"destinations": {"Sales!": SALES}}, "destinations.Sales!", "is no name"),
        ("transfer_call", {"destinations": {"a": {"to": "030 123"}}}, "destinations.a.to", "neither a number"),
        ("transfer_call", {"destinations": {"a": {"to": "sip:desk@pbx;x y"}}}, "destinations.a.to", "sip:"),
        ("transfer_call", {"destinations": {"a": {"to": 7}}}, "destinations[...].to", "Expected `str`"),
        ("collect", {"form": "My form", "fields": FIELDS}, "form", "cannot name a form"),
        ("collect", {"form": "a", "fields": {}}, "fields", "1 to 32"),
        ("collect", {"form": "a", "fields": {"confirmed": {}}}, "fields.confirmed", "cannot name a field"),
        ("collect", {"form": "a", "fields": {"x": {"type": "nosuch"}}}, "fields.x", "no JSON Schema"),
        ("collect", {"form": "a", "fields": FIELDS, "required": ["age"]}, "required", "'age' is none"),
    ],
)
def test_settings_are_checked(name: str, settings: JsonObject, param: str, words: str) -> None:
    ref = {"type": "builtin", "name": name, **settings}
    with pytest.raises(BuiltinInvalid, match=words) as refused:
        make_tool(ref)
    assert refused.value.param == param
    assert words in find_fault(ref)


def now(zone: ZoneInfo) -> datetime:
    return datetime(2026, 3, 29, 9, 5, tzinfo=ZoneInfo("UTC")).astimezone(zone)


def test_the_time_is_that_of_the_agent() -> None:
    berlin = make_tool({"type": "builtin", "name": "current_time"}, time_zone="Europe/Berlin")
    told = json.loads(run_builtin(berlin, {}, context(), now).output)
    assert told == {"date": "2026-03-29", "weekday": "Sunday", "time": "11:05", "time_zone": "Europe/Berlin"}
    own = tool_of("current_time", time_zone="America/New_York")
    assert json.loads(run_builtin(own, {}, context(), now).output)["time"] == "05:05"
    elsewhere = run_builtin(own, {"time_zone": "Asia/Tokyo"}, context(), now)
    assert json.loads(elsewhere.output)["time"] == "18:05"
    wrong = run_builtin(own, {"time_zone": "../../etc/passwd"}, context(), now)
    assert wrong.error is not None
    assert "IANA" in wrong.error.message


def test_where_to_transfer_to() -> None:
    tool = tool_of("transfer_call")
    assert tool.parameters["properties"]["destination"]["enum"] == ["sales", "desk"]
    assert "sales: who wants to buy" in tool.description
    assert transfer_target(tool, {"destination": "sales"}) == "+49301234567"
    assert transfer_target(tool, {"destination": "desk"}) == "sip:desk@pbx.shop.example"
    for destination in ("+1 900 555 0100", None, ["sales"]):
        with pytest.raises(ArgumentsInvalid, match="there are sales, desk"):
            transfer_target(tool, {"destination": destination})


@pytest.mark.parametrize(
    ("digits", "good"), [("123#", True), ("*9A", True), ("12 3", False), ("", False), ("w1", False)]
)
def test_keys_of_the_telephone(digits: str, good: bool) -> None:
    assert (find_problems({"digits": digits}, tool_of("send_dtmf").parameters) == []) is good


@pytest.mark.parametrize("name", ["end_call", "transfer_call", "send_dtmf"])
def test_what_others_do_is_not_done_here(name: str) -> None:
    outcome = run_builtin(tool_of(name), {}, context())
    assert outcome.error is not None
    assert (outcome.outcome, outcome.healthy) == ("refused", None)


VALUES = {"name": "Ann Lee", "guests": 4}


def collect(where: ToolContext, arguments: JsonObject, **settings: Any) -> JsonObject:
    outcome = run_builtin(tool_of("collect", **settings), arguments, where)
    told: JsonObject = json.loads(outcome.output)
    assert outcome.answered == {name: part for name, part in told.items() if name != "next"}
    return told


def test_it_is_only_done_when_the_same_values_are_confirmed() -> None:
    call = context()
    first = collect(call, VALUES)
    assert (first["status"], first["values"]) == ("to_confirm", VALUES)
    assert "Read these values back" in first["next"]
    assert call.memory[COLLECTED]["booking"] == {"values": VALUES, "status": "to_confirm"}
    assert collect(call, VALUES | {"confirmed": False})["status"] == "to_confirm"
    changed = VALUES | {"guests": 5}
    assert collect(call, changed | {"confirmed": True})["status"] == "to_confirm", "these were never read back"
    assert collect(call, VALUES | {"confirmed": True})["status"] == "to_confirm", "nor these, since"
    assert collect(call, VALUES | {"confirmed": True})["status"] == "done"
    assert call.memory[COLLECTED]["booking"] == {"values": VALUES, "status": "done"}
    assert collect(call, VALUES)["status"] == "to_confirm"
    assert call.memory[COLLECTED]["booking"]["status"] == "done", "what was done stays done"
    assert collect(call, changed)["status"] == "to_confirm"
    assert call.memory[COLLECTED]["booking"] == {"values": changed, "status": "to_confirm"}


def test_confirmed_without_reading_back_is_not_done() -> None:
    assert collect(context(), VALUES | {"confirmed": True})["status"] == "to_confirm"


def test_what_is_missing_or_wrong_is_told() -> None:
    call = context()
    told = collect(call, {"name": "", "phone": "123", "guests": 0, "confirmed": True})
    assert (told["status"], told["missing"]) == ("incomplete", ["name"])
    assert told["problems"] == ["guests: 0 is less than the minimum of 1.", "phone: '123' is not a 'phone'."]
    assert call.memory[COLLECTED] == {}


def test_without_confirmation_and_required() -> None:
    call = context()
    assert "confirmed" not in tool_of("collect", confirm=False).parameters["properties"]
    assert collect(call, VALUES, confirm=False)["status"] == "done"
    every = make_tool({"type": "builtin", "name": "collect", "form": "all", "fields": FIELDS})
    assert json.loads(run_builtin(every, VALUES, call).output)["missing"] == ["phone"]
    assert set(call.memory[COLLECTED]) == {"booking"}, "each form has its own place"


def test_a_call_remembers_only_its_own() -> None:
    first = context()
    collect(first, VALUES)
    assert collect(replace(context()), VALUES | {"confirmed": True})["status"] == "to_confirm"
