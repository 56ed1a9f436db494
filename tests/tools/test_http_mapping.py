"""What a model reads of an answer."""

import json
import time
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from agents.tools.mapping import (
    FIELDS,
    MATCHES,
    MappingInvalid,
    MappingSlow,
    ResponseMapping,
    check_mapping,
    map_body,
)

ORDER = {"order": {"status": "open", "items": [{"n": 1, "price": 2.5, "tags": ["a"]}, {"n": 2, "price": 9}]}}
JSON = "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({}, ORDER),
        ({"select": "$.order.status"}, "open"),
        ({"select": "$.order.nothing"}, None),
        ({"select": "$.order.items[*].n"}, [1, 2]),
        ({"select": "$..n"}, [1, 2]),
        ({"select": "$.order.items[-1].n"}, 2),
        ({"select": "$.order.items[?@.price > 3].n"}, [2]),
        ({"select": "$.order.items[?@.price > 3 && @.n == 2]['n']"}, [2]),
        ({"select": "$.nothing[*]"}, []),
        ({"fields": {"state": "$.order.status", "none": "$.x"}}, {"state": "open", "none": None}),
        ({"select": "$.order.items[*]", "fields": {"number": "$.n", "tags": "$.tags[*]"}},
         [{"number": 1, "tags": ["a"]}, {"number": 2, "tags": []}]),
    ],
)  # fmt: skip
def test_json_is_mapped(mapping: dict[str, Any], expected: Any) -> None:
    shape = ResponseMapping(**mapping)
    check_mapping(shape)
    text = map_body(shape, json.dumps(ORDER).encode(), JSON)
    assert (text if isinstance(expected, str) else json.loads(text)) == expected


@pytest.mark.parametrize(
    ("mapping", "param"),
    [
        ({"select": "order.status"}, "select"),
        ({"select": "$.a["}, "select"),
        ({"select": "$[?match(@.a, '(a+)+$')]"}, "select"),
        ({"select": "$[?search(@.a, 'x')]"}, "select"),
        ({"select": "$[?@.a =~ /(a+)+$/]"}, "select"),
        ({"select": "$..a..b"}, "select"),
        ({"select": "$[*,*][*,*]"}, "select"),
        ({"select": "$.a[?@.b == $.c]"}, "select"),
        ({"select": "$[?@.a[?@.b]]"}, "select"),
        ({"select": "$.a | $.b"}, "select"),
        ({"select": "$." + "a" * 300}, "select"),
        ({"select": "$" + "[?(" * 80}, "select"),
        ({"fields": {"a": "$.b", "c": "d"}}, "fields.c"),
        ({"fields": {str(number): "$.a" for number in range(33)}}, "fields"),
        ({"max_characters": 0}, "max_characters"),
        ({"max_characters": 32_001}, "max_characters"),
    ],
)
def test_a_path_that_could_take_all_day_is_refused(mapping: dict[str, Any], param: str) -> None:
    with pytest.raises(MappingInvalid) as refused:
        check_mapping(ResponseMapping(**mapping))
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"", "application/json", "Done; the answer has no content."),
        (b"plain words", "text/plain", "plain words"),
        (b"\xe9t\xe9", "text/plain", "\ufffdt\ufffd"),
        (b"not json {", "application/json", "not json {"),
        (b"<a/>", "application/xml", "<a/>"),
        (b"\x89PNG...", "image/png", "The answer is image/png, 7 bytes, which cannot be read here."),
        (b'"just text"', "application/json", "just text"),
        (b'{"a":1}', "", '{"a":1}'),
        (b'{"a": 1}', "application/problem+json", '{"a":1}'),
        (b"[" * 5_000 + b"]" * 5_000, "application/json", None),
    ],
)
def test_other_answers_are_read_as_they_are(body: bytes, kind: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(MappingInvalid, match="nested too deeply"):
            map_body(ResponseMapping(), body, kind)
    else:
        assert map_body(ResponseMapping(), body, kind) == expected


def test_a_charset_is_kept_to_where_it_is_known() -> None:
    assert map_body(ResponseMapping(), b"\xe9t\xe9", "text/plain", "latin-1") == "été"
    assert map_body(ResponseMapping(), b"abc", "text/plain", "no-such-charset") == "abc"


def test_what_is_not_json_cannot_be_mapped() -> None:
    with pytest.raises(MappingInvalid, match="not JSON"):
        map_body(ResponseMapping(select="$.a"), b"<html>", "text/html")


def test_an_answer_is_bounded() -> None:
    long = map_body(ResponseMapping(max_characters=100), json.dumps(["x"] * 10_000).encode(), JSON)
    assert len(long) < 140
    assert long.endswith("(cut: the answer is longer)")
    many = map_body(ResponseMapping(select="$[*]"), json.dumps(list(range(5_000))).encode(), JSON)
    assert json.loads(many) == list(range(MATCHES))


def test_a_deep_answer_is_refused_where_all_of_it_is_searched() -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    with pytest.raises(MappingInvalid, match="nested too deeply"):
        map_body(ResponseMapping(select="$..a"), json.dumps(deep).encode(), JSON)


@pytest.mark.parametrize(
    ("select", "fields"),
    [
        ("$..*", {f"f{number}": "$..[?@.zz]" for number in range(FIELDS)}),
        ("$..[?@.*.*.*]", {}),
        ("$[*][*][*][*]", {f"f{number}": "$..*" for number in range(FIELDS)}),
    ],
)
def test_no_mapping_takes_for_ever(select: str, fields: dict[str, str]) -> None:
    rows: Any = [{"a": [number, number + 1], "b": {"c": number}} for number in range(20_000)]
    for _ in range(25):
        rows = [rows]
    mapping = ResponseMapping(select=select, fields=fields)
    began = time.thread_time()
    with suppress(MappingSlow):
        map_body(mapping, msgspec.json.encode(rows), "application/json", limit_s=0.1)
    assert time.thread_time() - began < 3


def test_no_mapping_makes_much_of_little() -> None:
    nested: Any = ["x" * 10_000]
    for _ in range(100):
        nested = [nested]
    mapping = ResponseMapping(select="$[*]", fields={f"f{number}": "$..*" for number in range(FIELDS)})
    began = time.thread_time()
    text = map_body(mapping, json.dumps(nested).encode(), JSON, limit_s=10)
    assert len(text) < mapping.max_characters + 100
    assert time.thread_time() - began < 1, "30 MB would be written, for a few kilobytes"


def test_what_takes_too_long_says_so() -> None:
    with pytest.raises(MappingSlow, match="too large for its mapping"):
        map_body(ResponseMapping(select="$.a.b"), b'{"a": {"b": 1}}', "application/json", limit_s=-1)
