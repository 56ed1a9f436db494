"""What a model writes as arguments, and what it is told when they are wrong."""

import asyncio
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


async def _longest_wait_ms(schema: Any, value: Any) -> tuple[float, Exception | None]:
    """How long the event loop was held up meanwhile."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - began)

    watching, fault = asyncio.create_task(watch()), None
    try:
        await read_arguments(json.dumps(value), schema)
    except (ArgumentsInvalid, SchemaInvalid) as error:
        fault = error
    finally:
        watching.cancel()
    return longest * 1000, fault


def doubling(levels: int) -> Any:
    steps = {f"a{level}": {"allOf": [{"$ref": f"#/$defs/a{level + 1}"}] * 2} for level in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**steps, f"a{levels}": {"type": "object"}}}


EVIL = "^(a|aa)+$"
VICTIM = "a" * 40 + "!"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (doubling(40), {}),
        ({"properties": {"a": {"items": {"pattern": "^(a|aa)+$"}}}}, {"a": ["a" * 20 + "!"] * 2_500}),
        ({"patternProperties": {EVIL: {}}, "additionalProperties": False}, {VICTIM: 1}),
        ({"patternProperties": {EVIL: {}}, "additionalProperties": {"type": "string"}}, {VICTIM: 1}),
    ],
    ids=["references", "many_patterns", "no_others", "others"],
)
async def test_no_schema_holds_up_the_calls_of_others(schema: Any, value: Any) -> None:
    waited_ms, fault = await _longest_wait_ms(schema, value)
    assert isinstance(fault, SchemaInvalid)
    assert waited_ms < 1_000, "it would be minutes, or for ever"


@pytest.mark.parametrize("keyword", ["unevaluatedProperties", "unevaluatedItems"])
async def test_what_cannot_be_stopped_is_not_checked(keyword: str) -> None:
    assert await read_arguments('{"a": [1]}', {"properties": {"b": {}}, "items": {}, keyword: False}) == {"a": [1]}


async def test_many_items_are_told_apart_at_once() -> None:
    schema = {"properties": {"a": {"type": "array", "uniqueItems": True}}}
    mixed = [number if number % 2 else str(number) for number in range(6_000)]
    began = time.thread_time()
    assert await read_arguments(json.dumps({"a": mixed}), schema) == {"a": mixed}
    assert time.thread_time() - began < 1
    assert "has non-unique elements" in await refusal(
        json.dumps({"a": [1, "1", {"b": 1, "c": 2}, {"c": 2, "b": 1}]}), schema
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"x_1": 1}, ""),
        ({"known": 1}, ""),
        ({"other": "text"}, ""),
        ({"other": 1}, "other: 1 is not of type 'string'."),
    ],
)
async def test_what_is_not_named_has_a_schema_of_its_own(value: Any, words: str) -> None:
    schema = {"properties": {"known": {}}, "patternProperties": {"^x_": {}}, "additionalProperties": {"type": "string"}}
    if words:
        assert words in await refusal(json.dumps(value), schema)
    else:
        assert await read_arguments(json.dumps(value), schema) == value
