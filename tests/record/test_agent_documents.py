"""An agent as a YAML document: out, in, and nothing lost or made up on the way."""

import json
from pathlib import Path
from typing import Any

import pytest
from django_tenants.utils import tenant_context
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.documents import FIRST_LINE, NODES, DocumentInvalid, parse_document, read_document, write_document
from agents.models import Agent
from agents.operations import apply_agent, update_agent
from agents.queries import find_agent
from agents.versions import DIFF_LINES, VERSIONED, definition_of, differ
from tenants.audit.models import Entry
from tests.record.world import Api, World

DOCUMENT = """\
# AgentVoiceBox agent, schema 1
schema: 1
slug: alpha-desk
name: Front desk
instructions: |
  You answer the phone of a hotel.
  The guest is {{ caller.name }}.
variables:
  - name: caller.name
    default: unknown
voice: marin
guard_rails:
  - {name: rates, on: output, say: I cannot speak about that., phrases: [no]}
is_default: true
"""
YAML = "application/yaml"

# What PostgreSQL's text and a line of a prompt can hold; all that YAML finds special is among it.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80) | st.sampled_from(
    ["on", "no", "~", "null", "1", "1.5", "1e5", "012", "0x1F", "1_000", "12:30", "2027-01-15", "=", "<<", "- a",
     "a: b", "&a", "*a", "!a", "#", "a #b", " a", "a ", "\n", "a\n", "\n\na\n\n", "  a\n b", "'", '"', "%", "@", "`",
     "{", "[", "", "\r\n", "\u2028", "\x85", "\ufeff", "{{ agent.name }}", "---", "...", "\t", "true", "True", "yes"]
)  # fmt: skip
DEFINITIONS = st.fixed_dictionaries(
    {},
    optional={
        "name": TEXT.filter(bool),
        "instructions": TEXT,
        "greeting": TEXT,
        "variables": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["a", "b.c"]), "default": st.none() | TEXT}),
            max_size=2, unique_by=lambda variable: variable["name"],
        ),
        "voices": st.dictionaries(st.sampled_from(["en", "no", "es"]), st.sampled_from(["marin", "ef_dora"])),
        "languages": st.lists(st.sampled_from(["en", "no", "es"]), unique=True),
        "speed": st.floats(0.25, 1.5),
        "temperature": st.floats(0, 2),
        "model": TEXT,
        "turn_detection": st.none() | st.just({"type": "semantic_vad", "eagerness": "low"}),
        "limits": st.fixed_dictionaries({}, optional={"turns": st.none() | st.integers(1, 10_000)}),
        "guard_rails": st.lists(
            st.fixed_dictionaries(
                {"name": TEXT.filter(bool), "on": st.just("input"), "say": TEXT, "phrases": st.lists(TEXT)}
            ),
            max_size=1,
        ),
        "record": st.booleans(),
    },
)  # fmt: skip


def draft(fields: dict[str, Any]) -> Agent:
    return Agent(slug="desk", **fields)


@settings(deadline=None)
@given(DEFINITIONS)
def test_what_is_written_is_read_again(fields: dict[str, Any]) -> None:
    agent = draft(fields)
    read = read_document(write_document(agent))
    assert read == {"slug": "desk", **definition_of(agent), "is_default": False}
    assert list(read) == ["slug", *VERSIONED, "is_default"]


@settings(deadline=None)
@given(DEFINITIONS, DEFINITIONS)
def test_a_diff_has_the_fields_that_differ_and_no_other(first: dict[str, Any], second: dict[str, Any]) -> None:
    before, after = definition_of(draft(first)), definition_of(draft(second))
    changes = {change["field"]: change for change in differ(before, after)}
    assert set(changes) == {name for name in VERSIONED if before[name] != after[name]}
    assert differ(before, before) == []
    for name, change in changes.items():
        if "lines" not in change:
            assert (change["before"], change["after"]) == (before[name], after[name])
            continue
        body = [line for line in change["lines"][2:] if not line.startswith("@@")]
        kept = [line[1:] for line in body if line[0] in " +"]
        assert all(line in after[name].splitlines() for line in kept)
        assert any(line[0] in "+-" for line in body)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DEFINITIONS, DEFINITIONS)
def test_exported_and_applied_an_agent_is_the_same(world: World, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Whatever the draft was in between."""
    keep = {"model", "instructions", "greeting", "name", "guard_rails"}
    with tenant_context(world.alpha.tenant):
        for fields in (first, second):
            safe = {name: value for name, value in fields.items() if name not in keep}
            apply_agent(slug="alpha-desk", name="Desk", **safe)
            written = write_document(find_agent("alpha-desk"))
            apply_agent(slug="alpha-desk", name="Something else")
            apply_agent(**read_document(written))
            assert write_document(find_agent("alpha-desk")) == written
            assert apply_agent(**read_document(written)).changed == []


def test_a_large_text_that_differs_is_shown_whole() -> None:
    before, after = {"instructions": "a\n" * (DIFF_LINES + 1)}, {"instructions": "b"}
    assert differ(before, after) == [{"field": "instructions", "before": before["instructions"], "after": "b"}]


def test_a_document_is_made_for_people() -> None:
    agent = draft(
        {"name": "Desk", "instructions": "Line one.\nLine two.", "languages": ["en", "no"], "greeting": "Grüß Gott"}
    )
    written = write_document(agent)
    assert written.startswith(
        f"{FIRST_LINE}schema: 1\nslug: desk\nname: Desk\ninstructions: |-\n  Line one.\n  Line two.\n"
    )
    assert "greeting: Grüß Gott\n" in written
    assert "languages:\n  - en\n  - 'no'\n" in written


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has fields"),
        ("- a", "has fields"),
        ("slug: a", "says schema: 1; there is none"),
        ("schema: 2", "says schema: 1; got '2'"),
        ("schema: true", "says schema: 1"),
        ("schema: 1\nname: a\nname: b", "Line 3, column 1: 'name' is given twice."),
        ("schema: 1\na: &x [1]\nb: *x", "Line 2, column 4: references (& and *) are not read."),
        ("schema: 1\na: !!python/name:os.system x", "tags (!) are not read"),
        ("schema: 1\n? [a]\n: b", "a field's name is a text"),
        ("schema: 1\na: {", "Line 2"),
        ("schema: 1\na: \x07", "no YAML that can be read"),
        ("schema: 1\na: " + "9" * 5_000, "no YAML that can be read"),
        ("[" * 100, "nested more than 40 deep"),
        ("schema: 1\na: [" + "1," * NODES + "1]", f"more than {NODES} names and values"),
        (b"schema: 1\na: \xff", "no YAML that can be read"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_what_is_no_document_is_refused(text: str | bytes, words: str) -> None:
    with pytest.raises(DocumentInvalid) as refusal:
        read_document(text)
    assert words in refusal.value.message


def test_words_are_what_yaml_1_2_says() -> None:
    text = "a: on\nb: no\nc: 012\nd: 2027-01-15\ne: true\nf: -3\ng: 1.5\nh:\ni: 1:30\non: x\n5: y"
    assert parse_document(text) == {
        "a": "on", "b": "no", "c": "012", "d": "2027-01-15", "e": True, "f": -3, "g": 1.5, "h": None, "i": "1:30",
        "on": "x", "5": "y",
    }  # fmt: skip


class Documents(Api):
    def put(self, slug: str, text: str, kind: str = YAML) -> tuple[int, Any]:
        response = self.client.generic("PUT", f"/api/v1/agents/{slug}/apply/", text, content_type=kind)
        return response.status_code, json.loads(response.content)

    def export(self, slug: str) -> str:
        response = self.client.get(f"/api/v1/agents/{slug}/export/")
        assert (response.status_code, response["Content-Type"]) == (200, "application/yaml; charset=utf-8")
        return response.content.decode()


@pytest.fixture
def documents(world: World) -> Documents:
    return Documents(world.alpha.key)


def test_a_document_is_applied_once(world: World, documents: Documents) -> None:
    status, answer = documents.put("alpha-desk", DOCUMENT)
    assert status == 200, answer
    assert answer["data"]["created"] is False
    assert answer["data"]["changed"] == ["name", "instructions", "variables", "voice", "guard_rails"]
    agent = answer["data"]["agent"]
    assert (agent["guard_rails"][0]["on"], agent["guard_rails"][0]["phrases"]) == ("output", ["no"])
    assert (agent["live"], agent["is_default"]) == (1, True)
    exported = documents.export("alpha-desk")
    for text, kind in ((DOCUMENT, YAML), (exported, YAML), (json.dumps(parse_document(exported)), "application/json")):
        assert documents.put("alpha-desk", text, kind)[1]["data"]["changed"] == []
    with tenant_context(world.alpha.tenant):
        assert Entry.objects.filter(action="agent.updated", target="alpha-desk").count() == 1


def test_what_a_document_leaves_out_is_as_in_a_new_agent_but_for_the_default(documents: Documents) -> None:
    documents.put("alpha-desk", DOCUMENT)
    answer = documents.put("alpha-desk", "schema: 1\nname: Alpha desk\n")[1]["data"]
    assert answer["changed"] == ["name", "instructions", "variables", "voice", "guard_rails"]
    assert (answer["agent"]["voice"], answer["agent"]["is_default"]) == ("alloy", True)


def test_a_document_makes_an_agent_that_is_not_there(documents: Documents) -> None:
    text = "schema: 1\nslug: night\nname: Night\nvoice: marin\n"
    answer = documents.put("night", text)[1]["data"]
    assert (answer["created"], answer["changed"], answer["agent"]["live"]) == (True, ["name", "voice"], None)
    assert documents.put("night", text)[1]["data"]["created"] is False
    assert documents.put("nobody", "schema: 1\nname: No slug\n")[0] == 404
    assert documents.put("nobody", "[]")[0] == 404


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ("schema: 1\nslug: other\nname: x", "invalid", "slug"),
        ("schema: 2\nname: x", "document_invalid", "schema"),
        ("name: x", "document_invalid", "schema"),
        ("schema: 1", "required", "name"),
        ("schema: 1\nname: x\nvocie: marin", "unknown_parameter", "vocie"),
        ("schema: 1\nname: x\ncreated_at: x", "unknown_parameter", "created_at"),
        ("schema: 1\nname: x\ntools: [{type: http}]", "invalid", "tools[0].name"),
        ("a: [", "document_invalid", None),
    ],
)
def test_a_wrong_document_changes_nothing(documents: Documents, text: str, code: str, param: str | None) -> None:
    before = documents.export("alpha-desk")
    status, answer = documents.put("alpha-desk", text)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, code, param)
    assert documents.export("alpha-desk") == before


def test_another_tenant_exports_and_applies_its_own(world: World, documents: Documents) -> None:
    beta = Documents(world.beta.key)
    assert beta.put("alpha-desk", DOCUMENT)[1]["data"]["created"] is True
    with tenant_context(world.alpha.tenant):
        assert find_agent("alpha-desk").name == "Alpha desk"
        update_agent(agent=find_agent("alpha-desk"), name="Mine")
    assert "name: Front desk" in beta.export("alpha-desk")
    assert beta.put("beta-desk", "schema: 1\nname: B")[0] == 200
    assert documents.client.get("/api/v1/agents/beta-desk/export/").status_code == 404


def test_the_document_of_the_manual_is_one(documents: Documents) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()
    written = manual.partition("```yaml\n")[2].partition("```")[0]
    answer = documents.put("front-desk", written)[1]["data"]
    assert (answer["created"], answer["agent"]["guard_rails"][0]["on"]) == (True, "output")
    exported = documents.export("front-desk")
    # In the same words and order; the end of a text is trimmed, and what older readers take for true is quoted.
    lines = iter(exported.replace("|-", "|").replace("'on'", "on").splitlines())
    assert [line for line in written.splitlines() if line not in lines] == []
