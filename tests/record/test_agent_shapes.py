"""The JSON columns of agents: every error names its place, and what would be right."""

from typing import Any

import pytest

from agents.shapes import COLUMN_BYTES, DEPTH, SCHEMAS, find_faults
from tests.record.world import Api

FUNCTION = {"type": "function", "name": "open_door", "parameters": {"type": "object", "properties": {}}}
RAIL = {"name": "rates", "on": "output", "say": "No.", "phrases": ["staff rate"]}
DEEP: Any = []
for _ in range(DEPTH):
    DEEP = [DEEP]

GOOD: list[tuple[str, Any]] = [
    ("variables", [{"name": "caller.name"}, {"name": "room", "default": "", "description": "Its number."}]),
    ("voices", {"es": "ef_dora", "en": "marin"}),
    ("languages", ["en", "es"]),
    ("fallback_models", ["groq/llama", "openai"]),
    ("tools", [FUNCTION, {"type": "http", "name": "crm"}, {"type": "mcp", "server": "docs", "allowed_tools": ["a"]}]),
    ("tools", [{"type": "mcp", "server": "s", "require_approval": {"never": {"read_only": True}}}]),
    ("tools", [{"type": "builtin", "name": "collect", "fields": [{"name": "iban"}]}, {"type": "python", "name": "p"}]),
    ("colleagues", [{"agent": "billing", "mode": "consult", "when": "bills", "returns": True}]),
    ("filler", {"after_ms": 1_500, "phrases": ["One moment."]}),
    ("limits", {"duration_s": 900, "turns": None, "tool_rounds": 4}),
    ("guard_rails", [RAIL, {"name": "cards", "on": "input", "say": "No.", "detects": ["iban"], "then": "end_call"}]),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), GOOD)
def test_what_is_right_is_taken(alpha_api: Api, column: str, value: Any) -> None:
    assert list(find_faults(column, value)) == []
    status, answer = alpha_api("PATCH", "agents/alpha-desk/", {column: value})
    assert (status, answer["data"][column]) == (200, value)


BAD: list[tuple[str, Any, str, str]] = [
    ("variables", [{}], "variables[0].name", "This is needed."),
    ("variables", [{"name": "a"}, {"name": "a"}], "variables[1].name", "'a' is there twice."),
    ("variables", [{"name": "call.id"}], "variables[0].name", "Names that begin with agent. or call. are ours."),
    ("variables", [{"name": "true"}], "variables[0].name", "'true' is a word of the template language."),
    ("variables", [{"name": "a", "default": 5}], "variables[0].default", "This is a text or null; got 5."),
    ("variables", [{"name": "a", "default": "x" * 1_001}], "variables[0].default", "0 to 1000 characters"),
    ("variables", [{"name": "a", "value": "x"}], "variables[0].value", "There is no such field; there are name,"),
    ("variables", [{"name": f"a{n}"} for n in range(65)], "variables", "There may be at most 64; got 65."),
    ("variables", {"name": "a"}, "variables", "This is a list; got"),
    ("voices", {"es": "nosuch"}, "voices.es", "There is no voice 'nosuch'. Use one of alloy,"),
    ("voices", {"spanish": "ef_dora"}, "voices", "ISO 639-1"),
    ("languages", ["en", "english"], "languages[1]", "A two-letter ISO 639-1 code"),
    ("languages", ["en", "en"], "languages[1]", "'en' is there twice."),
    ("fallback_models", [""], "fallback_models[0]", "1 to 200 characters"),
    ("fallback_models", ["m"] * 9, "fallback_models", "There may be at most 8"),
    ("tools", ["crm"], "tools[0]", 'This is an object; got "crm".'),
    ("tools", [{"name": "crm"}], "tools[0].type", "This is needed."),
    ("tools", [{"type": "web"}], "tools[0].type", "Use one of function, http, mcp, python, builtin"),
    ("tools", [FUNCTION, FUNCTION], "tools[1].name", "'open_door' is there twice."),
    ("tools", [{"type": "http"}], "tools[0].name", "This is needed."),
    ("tools", [FUNCTION, {"type": "http", "name": "a b"}], "tools[1].name", "1 to 64 letters, digits"),
    ("tools", [{"type": "http", "name": "a", "url": "http://x"}], "tools[0].url", "There is no such field; there are"),
    ("tools", [FUNCTION | {"parameters": {"type": "text"}}], "tools[0].parameters.type", "This is no JSON Schema"),
    ("tools", [{"type": "mcp", "server": "s", "require_approval": "maybe"}], "tools[0].require_approval", '"always"'),
    ("colleagues", [{"agent": "alpha-desk"}], "colleagues[0].agent", "An agent is no colleague of itself."),
    ("colleagues", [{"agent": "b", "mode": "listen"}], "colleagues[0].mode", "Use one of hand_off, consult"),
    ("colleagues", [{"agent": "b"}, {"agent": "b"}], "colleagues[1].agent", "'b' is there twice."),
    ("filler", {"after_ms": 100}, "filler.after_ms", "Use a number from 200 to 60000; got 100."),
    ("filler", {"after_s": 1}, "filler.after_s", "There is no such field"),
    ("limits", {"tool_rounds": 0}, "limits.tool_rounds", "Use a number from 1 to 64; got 0."),
    ("limits", {"duration_s": 1.5}, "limits.duration_s", "This is a whole number or null; got 1.5."),
    ("guard_rails", [{"name": "a", "on": "output", "say": "b"}], "guard_rails[0].phrases", "looks for phrases"),
    ("guard_rails", [RAIL, RAIL], "guard_rails[1].name", "'rates' is there twice."),
    ("guard_rails", [RAIL | {"on": "both"}], "guard_rails[0].on", "Use one of input, output"),
    ("tools", [FUNCTION | {"description": "nul\0"}], "tools", "Null characters are not allowed."),
    ("tools", [FUNCTION | {"description": "\ud800"}], "tools", "half a character"),
    ("tools", [{"type": "builtin", "name": "collect", "x": DEEP}], "tools", f"nested more than {DEPTH} deep"),
    ("tools", [{"type": "builtin", "name": "a", "x": "x" * COLUMN_BYTES}], "tools", f"at most {COLUMN_BYTES} bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value", "place", "words"), BAD, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_named_by_its_place(alpha_api: Api, column: str, value: Any, place: str, words: str) -> None:
    status, answer = alpha_api("PATCH", "agents/alpha-desk/", {column: value})
    assert (status, answer["error"]["param"]) == (400, place), answer
    assert words in answer["error"]["message"]
    assert alpha_api("GET", "agents/alpha-desk/")[1]["data"][column] != value


def test_a_time_zone_is_one_that_there_is(alpha_api: Api) -> None:
    assert alpha_api("PATCH", "agents/alpha-desk/", {"time_zone": "Europe/Berlin"})[0] == 200
    status, answer = alpha_api("PATCH", "agents/alpha-desk/", {"time_zone": "Berlin"})
    assert (status, answer["error"]["param"]) == (400, "time_zone")
    assert "Europe/Berlin" in answer["error"]["message"]


def test_every_column_of_a_schema_is_one_of_the_agents(alpha_api: Api) -> None:
    assert alpha_api("GET", "agents/alpha-desk/")[1]["data"].keys() >= SCHEMAS.keys()
