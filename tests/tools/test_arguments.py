"""What a model writes as arguments, and what it is told when they are wrong."""

import json
import time
from typing import Any

import pytest

from agents.tools.arguments import ArgumentsInvalid, SchemaInvalid, check_schema, find_problems, read_arguments

SCHEMA = {
    "type": "object",
    "properties": {
        "number": {"type": "integer", "minimum": 1},
        "size": {"enum": ["S", "M"]},
        "lines": {"type": "array", "items": {"type": "object", "required": ["id"]}},
    },
    "required": ["number"],
    "additionalProperties": False,
}


async def refusal(text: str, schema: Any = SCHEMA, **options: bool) -> str:
    with pytest.raises(ArgumentsInvalid) as refused:
        await read_arguments(text, schema, **options)
    return str(refused.value)


async def test_what_fits_is_read() -> None:
    assert await read_arguments('{"number": 7, "size": "M"}', SCHEMA) == {"number": 7, "size": "M"}
    assert await read_arguments("", {"type": "object"}) == {}
    assert await read_arguments('{"any": [1, "thing"]}', SCHEMA, check=False) == {"any": [1, "thing"]}


@pytest.mark.parametrize(
    "text", ['{"number": 7', '{"number": 7}}', "{'number': 7}", "number=7", '{"number": NaN}', "\x00"]
)
async def test_garbled_json_is_named(text: str) -> None:
    assert "no JSON" in await refusal(text)
    assert "no JSON" in await refusal(text, check=False)


@pytest.mark.parametrize("text", ["7", '["number", 7]', '"number"', "null"])
async def test_what_is_no_object(text: str) -> None:
    assert "not a JSON object" in await refusal(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "'number' is a required property."),
        ('{"number": "7"}', "number: '7' is not of type 'integer'."),
        ('{"number": 0}', "number: 0 is less than the minimum of 1."),
        ('{"number": 1, "size": "XL"}', "size: 'XL' is not one of ['S', 'M']."),
        ('{"number": 1, "colour": "red"}', "('colour' was unexpected)."),
        ('{"number": 1, "lines": [{"id": 1}, {}]}', "lines[1]: 'id' is a required property."),
    ],
)
async def test_what_does_not_fit_is_told_with_its_place(text: str, words: str) -> None:
    told = await refusal(text)
    assert words in told
    assert told.endswith("Correct them and call again.")


async def test_limits() -> None:
    assert "longer than 65536 bytes" in await refusal(json.dumps({"number": "x" * 70_000}))
    assert "no JSON" in await refusal('{"a":' * 9_000)
    told = await refusal(json.dumps({"number": "x" * 5_000, "lines": [{}] * 100}))
    assert len(told) < 1_500, "a model is told the first few, not all of its text"


async def test_no_schema_is_fetched_from_anywhere() -> None:
    with pytest.raises(SchemaInvalid, match="Referencing"):
        await read_arguments('{"a": 1}', {"properties": {"a": {"$ref": "http://169.254.169.254/schema.json"}}})


@pytest.mark.parametrize("place", ["pattern", "patternProperties"])
def test_a_pattern_has_a_time_limit(place: str) -> None:
    evil, victim = r"^(a|aa)+$", "a" * 40 + "!"
    schema = {"properties": {"a": {"pattern": evil}}} if place == "pattern" else {"patternProperties": {evil: {}}}
    value = {"a": victim} if place == "pattern" else {victim: 1}
    began = time.monotonic()
    with pytest.raises(SchemaInvalid, match="takes too long"):
        find_problems(value, schema)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("schema", [{"type": "nosuch"}, {"properties": {"a": {"pattern": "("}}}, {"required": 7}])
async def test_a_schema_that_is_none_is_no_fault_of_the_model(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaInvalid):
        await read_arguments('{"a": "x"}', schema)


def test_schemas_are_checked_before_they_are_used() -> None:
    check_schema({"type": "object"})
    with pytest.raises(SchemaInvalid, match=r"properties\.a\.type"):
        check_schema({"properties": {"a": {"type": "nosuch"}}})


@pytest.mark.parametrize(
    ("format_", "good", "bad"),
    [
        ("phone", "+49 30 1234567", "030 1234567"), ("date", "2026-02-28", "2026-02-30"),
        ("email", "ann@shop.example", "ann"), ("time", "19:30", "24:00"),
        ("uuid", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "6f96"),
    ],
)  # fmt: skip
def test_formats(format_: str, good: str, bad: str) -> None:
    assert find_problems(good, {"format": format_}) == []
    assert find_problems(bad, {"format": format_}) == [f"'{bad}' is not a '{format_}'."]
