"""What templates may say, and what nobody makes them do."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.dialogue.template import (
    DEPTH,
    KNOWN,
    PARTS,
    RENDERED_CHARACTERS,
    SOURCE_CHARACTERS,
    RenderedTooLong,
    TemplateInvalid,
    VariableMissing,
    call_values,
    check_name,
    escape,
    parse,
    render,
)

VALUES = {"caller.name": "Ann", "caller.age": "18", "caller.tier": "gold", "empty": ""}


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        ("No template at all.\r\n", "No template at all.\r\n"),
        ("Hello {{ caller.name }}!", "Hello Ann!"),
        ("{% if caller.tier == 'gold' %}\nA friend.\n{% else %}\nA guest.\n{% endif %}\n", "A friend.\n"),
        ("{% if caller.age | int >= 18 %}adult{% elif empty %}x{% else %}child{% endif %}", "adult"),
        ("{% if caller.tier in ['gold', 'platinum'] and not empty %}yes{% endif %}", "yes"),
        ("{% if 'ol' in caller.tier or false %}yes{% endif %}", "yes"),
        ("{{ 'none' if caller.name is not defined else caller.name | upper }}", "ANN"),
        ("{{ nobody | default('guest') | capitalize }}", "Guest"),
        ("{% if nobody is defined %}x{% endif %}{{ '{{' }} {# a remark #}", "{{ "),
        ("{% raw %}{{ caller.name }}{% endraw %}", "{{ caller.name }}"),
        ("{{ self }}{{ loop }}", "12"),
    ],
)  # fmt: skip
def test_a_template_is_filled_in(source: str, rendered: str) -> None:
    assert render(source, VALUES | {"self": "1", "loop": "2"}) == rendered


@pytest.mark.parametrize(
    "value", ["{{ agent.name }}", "{% if x %}", "{{ 7 * 7 }}", "{# #}", "'; DROP", "<b>&</b>", "{{ ''.__class__ }}"]
)
def test_a_value_is_never_read_as_a_template(value: str) -> None:
    assert render("Caller: {{ caller.name }}.", {"caller.name": value}) == f"Caller: {value}."


INJECTIONS = [
    "{{ ''.__class__.__mro__ }}",
    "{{ caller.name.__class__ }}",
    "{{ caller.__init__.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ caller['name'] }}",
    "{{ caller.name[0] }}",
    "{{ caller.name[1:] }}",
    "{{ caller.name() }}",
    "{{ caller.name.upper() }}",
    "{{ cycler('a') }}",
    "{{ lipsum() }}",
    "{{ range(9) }}",
    "{{ caller.name | attr('__class__') }}",
    "{{ caller.name | map('upper') | list }}",
    "{{ caller.name | replace('a', 'b' ) }}",
    "{{ caller.name | center(999999999) }}",
    "{{ caller.name | format }}",
    "{{ caller.age | int(base=2) }}",
    "{{ caller.name | default(caller.age) }}",
    "{{ 2 ** 999999999 }}",
    "{{ 'a' * 999999999 }}",
    "{{ 1 + 1 }}",
    "{{ -1 }}",
    "{{ 'a' ~ 'b' }}",
    "{{ {'a': 1} }}",
    "{{ [caller.name] }}",
    "{{ caller.name is string }}",
    "{{ caller.name < 'b' }}",
    "{{ 1 in caller.name }}",
    "{{ 'a' in 5 }}",
    "{{ 1 < 2 < 3 }}",
    "{{ caller.name if caller.age }}",
    "{{ _private }}",
    "{{ caller.naïve }}",
    "{% for x in caller.name %}{% endfor %}",
    "{% set x = 1 %}",
    "{% macro m() %}{% endmacro %}",
    "{% call m() %}{% endcall %}",
    "{% filter upper %}x{% endfilter %}",
    "{% block b %}{% endblock %}",
    "{% include 'secrets' %}",
    "{% extends 'secrets' %}",
    "{% import 'os' as os %}",
    "{% with x = 1 %}{% endwith %}",
    "{% autoescape true %}{% endautoescape %}",
    "{% do x %}",
    "{{ unclosed",
    "{% if caller.name %}",
    "{{ " + "(" * 5_000 + "x" + ")" * 5_000 + " }}",
    "{{ " + " or ".join(["x"] * 5_000) + " }}",
    "{{ " + "9" * 5_000 + " }}",
    "{% if x %}" * (DEPTH + 1) + "{% endif %}" * (DEPTH + 1),
    "{{x}}" * (PARTS + 1),
    "x" * (SOURCE_CHARACTERS + 1),
]


@pytest.mark.parametrize("source", INJECTIONS, ids=lambda source: source[:40])
def test_what_is_not_allowed_is_refused_when_it_is_read(source: str) -> None:
    with pytest.raises(TemplateInvalid) as refusal:
        parse(source)
    assert all(fault.line >= 1 and fault.message for fault in refusal.value.faults)


def test_all_faults_are_told_with_their_lines() -> None:
    with pytest.raises(TemplateInvalid) as refusal:
        parse("One.\n{{ a() }}\n\n{{ b | wrong }}\n{% for x in y %}{% endfor %}")
    assert [fault.line for fault in refusal.value.faults] == [2, 4, 5]
    assert str(refusal.value.faults[1]) == (
        "Line 4: There is no filter 'wrong'; there are capitalize, default, int, lower, title, trim, upper."
    )


def test_variables_are_known_with_the_line_of_their_first_use() -> None:
    used = parse(
        "{{ caller.name }}\n{% if caller.age | int > 1 %}\n{{ caller.name }}{{ agent.name }}{% endif %}"
    ).variables
    assert used == {"caller.name": 1, "caller.age": 2, "agent.name": 3}


def test_a_variable_without_a_value_is_named() -> None:
    with pytest.raises(VariableMissing) as refusal:
        render("{{ caller.name }}{{ caller.room }}", VALUES)
    assert (refusal.value.name, refusal.value.code) == ("caller.room", "variable_missing")
    with pytest.raises(VariableMissing):
        render("{% if caller.room == '1' %}x{% endif %}", VALUES)


def test_the_text_that_values_make_has_an_end() -> None:
    long = "x" * (RENDERED_CHARACTERS // 2)
    assert len(render("{{ a }}{{ a }}", {"a": long})) == RENDERED_CHARACTERS
    with pytest.raises(RenderedTooLong):
        render("{{ a }}{{ a }}.", {"a": long})


@pytest.mark.parametrize(
    ("name", "is_good"),
    [
        ("caller.name", True), ("room_2", True), ("if_any", True), ("a" * 64, True), ("a" * 65, False), ("", False),
        ("caller.", False), ("2nd", False), ("caller name", False), ("_x", False), ("true", False), ("none", False),
        ("not", False), ("call.id", False), ("agent", False), ("x }}{{ y", False),
    ],
)  # fmt: skip
def test_names_of_variables(name: str, is_good: bool) -> None:
    assert (check_name(name) == "") is is_good


def test_every_call_has_the_known_values() -> None:
    values = call_values(
        agent_name="Desk", agent_slug="desk", call_id="sess_1", channel="websocket",
        now=datetime(2027, 1, 15, 8, 5, tzinfo=UTC),
    )  # fmt: skip
    assert values.keys() == KNOWN
    assert (values["call.date"], values["call.time"], values["call.weekday"]) == ("2027-01-15", "08:05", "Friday")


@given(st.text(alphabet="{}%#'\" -ax\n", max_size=60))
def test_an_escaped_text_renders_to_itself(text: str) -> None:
    assert render(escape(text), {}) == text


@given(st.text(alphabet="{}%#'\"|.()[] aif=\n", max_size=60), st.text(max_size=20))
def test_any_text_is_refused_or_rendered_and_nothing_else(source: str, value: str) -> None:
    try:
        template = parse(source)
    except TemplateInvalid:
        return
    assert isinstance(template.render(dict.fromkeys(template.variables, value)), str)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("Hi {{ caller.name", "Line 1: A '{{' is not closed: '}}' is missing behind it."),
        ("Hi\n{{ caller.name.\nthe {{ x }}", "Line 2: A '{{' is not closed: '}}' is missing behind it."),
        ("{% raw %}{{{% endraw %}\n{% if x\n", "Line 2: A '{%' is not closed: '%}' is missing behind it."),
        ("{# aside", "Line 1: A '{#' is not closed: '#}' is missing behind it."),
    ],
)
def test_a_mark_without_its_end_is_named(source: str, words: str) -> None:
    with pytest.raises(TemplateInvalid) as refusal:
        parse(source)
    assert str(refusal.value) == words
