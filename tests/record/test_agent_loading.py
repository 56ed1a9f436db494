"""From rows to the spec of one call."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_tenants.utils import tenant_context

from agents.dialogue.template import RENDERED_CHARACTERS
from agents.loading import (
    PLAIN,
    AgentUnknown,
    AgentUnpublished,
    DraftInvalid,
    RenderedTooLong,
    VariableMissing,
    VersionUnknown,
    load_spec,
)
from agents.models import Agent, AgentVersion
from agents.operations import create_agent, publish_agent, update_agent
from agents.queries import find_agent
from agents.spec import AgentLimits, Colleague, Filler, GuardRail
from agents.trials.models import Trial
from tests.record.world import World

MOMENT = datetime(2027, 1, 15, 23, 30, tzinfo=UTC)
TEMPLATE = "{{ agent.name }} ({{ agent.slug }}) at {{ call.time }} on {{ call.weekday }}, {{ call.date }}."


@pytest.fixture
def desk(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("agents.loading.timezone.now", lambda: MOMENT)
    with tenant_context(world.alpha.tenant):
        yield find_agent("alpha-desk")


def publish(agent: Agent, **fields: Any) -> AgentVersion:
    return publish_agent(agent=update_agent(agent=agent, **fields))


def test_variables_are_filled_in(desk: Agent) -> None:
    publish(
        desk,
        instructions="You speak with {{ caller.name }} of {{ room }}.",
        greeting="Hello {{ caller.name }}!",
        variables=[{"name": "caller.name", "default": None}, {"name": "room", "default": "no room"}],
    )
    spec = load_spec("alpha-desk", values={"caller.name": "Ann {{ room }}", "call.id": "sess_1", "caller.id": "u1"})
    assert spec.instructions == "You speak with Ann {{ room }} of no room."
    assert spec.greeting == "Hello Ann {{ room }}!"
    assert spec.values["caller.id"] == "u1"
    assert spec.values["call.id"] == "sess_1"
    with pytest.raises(VariableMissing, match=r"'caller\.name' has no value"):
        load_spec("alpha-desk", values={"room": "7"})


def test_the_time_is_the_agents(desk: Agent) -> None:
    publish(desk, instructions=TEMPLATE, time_zone="Asia/Tokyo")
    assert load_spec("alpha-desk").instructions == "Alpha desk (alpha-desk) at 08:30 on Saturday, 2027-01-16."


def test_what_is_always_known_cannot_be_brought(desk: Agent) -> None:
    publish(desk, instructions=TEMPLATE)
    brought = {"agent.name": "Mallory", "call.time": "00:00"}
    assert load_spec("alpha-desk", values=brought).instructions.startswith("Alpha desk (alpha-desk) at 23:30")


def test_values_that_make_too_long_a_text_are_refused(desk: Agent) -> None:
    publish(desk, instructions="{{ a }}{{ a }}", variables=[{"name": "a"}])
    with pytest.raises(RenderedTooLong):
        load_spec("alpha-desk", values={"a": "x" * RENDERED_CHARACTERS})


def test_a_version_may_be_named(desk: Agent) -> None:
    publish(desk, instructions="Two.")
    update_agent(agent=desk, instructions="Three?")
    assert (load_spec("alpha-desk", version="1").instructions, load_spec("alpha-desk").version) == (
        "Secret of alpha",
        2,
    )
    draft = load_spec("alpha-desk", version="draft")
    assert (draft.instructions, draft.version) == ("Three?", 0)
    for version in ("3", "0", "-1", "²", "x", "9" * 30):
        with pytest.raises(VersionUnknown, match="has no version"):
            load_spec("alpha-desk", version=version)


def test_a_draft_that_cannot_take_calls_says_why(desk: Agent) -> None:
    update_agent(agent=desk, instructions="{{ x }}")
    with pytest.raises(DraftInvalid, match="nobody knows a variable 'x'") as refusal:
        load_spec("alpha-desk", version="draft")
    assert refusal.value.code == "draft_invalid"


def test_who_answers_a_call_that_names_nobody(desk: Agent) -> None:
    create_agent(slug="new", name="New")
    assert load_spec(None).slug == "alpha-desk"
    with pytest.raises(AgentUnpublished, match="publish it first"):
        load_spec("new")
    with pytest.raises(AgentUnknown):
        load_spec("nobody")
    update_agent(agent=find_agent("new"), is_default=True)
    assert load_spec(None) is PLAIN
    Agent.objects.update(is_default=False)
    assert load_spec(None) is PLAIN


def test_another_tenants_agent_is_unknown(world: World) -> None:
    with tenant_context(world.beta.tenant), pytest.raises(AgentUnknown):
        load_spec("alpha-desk")


def test_a_trial_chooses_the_version_and_always_the_same_for_a_caller(desk: Agent) -> None:
    publish(desk, instructions="Two.")
    trial = Trial.objects.create(
        agent=desk, arms=[{"version": 1, "weight": 1}, {"version": 2, "weight": 1}], control=2, alpha=0.05,
        min_calls=10, started_at=MOMENT,
    )  # fmt: skip
    specs = [load_spec("alpha-desk", subject=f"user-{number}") for number in range(40)]
    assert {spec.version for spec in specs} == {1, 2}
    assert {spec.trial for spec in specs} == {str(trial.pk)}
    assert all(spec.instructions == ("Secret of alpha", "Two.")[spec.version - 1] for spec in specs)
    again = [load_spec("alpha-desk", subject=f"user-{number}") for number in range(40)]
    assert again == specs
    assert load_spec("alpha-desk", subject="user-1", version="1").trial == ""


def test_every_field_reaches_the_call(desk: Agent) -> None:
    create_agent(slug="billing", name="Billing", colleagues=[{"agent": "alpha-desk"}])
    publish(
        desk,
        voice="marin",
        voices={"es": "ef_dora"},
        languages=["en", "es"],
        speed=1.1,
        tools=[{"type": "function", "name": "open_door", "parameters": {"type": "object"}}],
        colleagues=[{"agent": "billing", "when": "bills", "returns": True}],
        filler={"after_ms": 900, "phrases": ["One moment."]},
        limits={"duration_s": 60},
        guard_rails=[{"name": "rates", "on": "output", "say": "No.", "phrases": ["staff rate"], "then": "end_call"}],
        turn_detection=None,
        record=True,
    )
    spec = load_spec("alpha-desk")
    assert (spec.voice, spec.voices, spec.languages, spec.language) == ("marin", {"es": "ef_dora"}, ("en", "es"), None)
    assert spec.instructions.endswith(
        "\n\nSpeak the caller's language when it is one of English, Spanish; otherwise speak English."
    )
    assert (spec.speed, spec.turn_detection, spec.record) == (1.1, None, True)
    assert [function["name"] for function in spec.functions] == ["open_door"]
    assert spec.colleagues == (Colleague("billing", "hand_off", "bills", True),)
    assert spec.filler == Filler(900, ("One moment.",))
    assert spec.limits == AgentLimits(duration_s=60)
    assert spec.guard_rails == (GuardRail("rates", "output", "No.", ("staff rate",), then="end_call"),)
    assert spec.models == ()


def test_one_language_needs_no_choice(desk: Agent) -> None:
    publish(desk, languages=["es"], instructions="")
    assert load_spec("alpha-desk").instructions == "Speak Spanish only."
    publish(desk, languages=["no", "zz"])
    assert "one of Norwegian, the language with the ISO 639-1 code zz;" in load_spec("alpha-desk").instructions
    publish(desk, languages=["es"], language="es", instructions="Be brief.")
    assert load_spec("alpha-desk").instructions == "Be brief."


def test_a_voice_that_has_gone_gives_way_to_the_default(desk: Agent) -> None:
    definition = desk.versions.get().definition | {"voice": "gone", "voices": {"es": "gone", "en": "marin"}}
    old = AgentVersion.objects.create(agent=desk, number=2, definition=definition)
    Agent.objects.filter(pk=desk.pk).update(live=old)
    spec = load_spec("alpha-desk")
    assert (spec.voice, spec.voices) == ("alloy", {"en": "marin"})


@pytest.mark.parametrize(
    ("fields", "version", "queries"),
    [({}, "", 2), ({}, "1", 2), ({"tools": [{"type": "function", "name": "f", "parameters": {}}]}, "", 2)],
)
def test_a_call_costs_few_queries(desk: Agent, fields: dict[str, Any], version: str, queries: int) -> None:
    """The agent with its live version, and a trial; or a version that is not live."""
    publish(desk, **fields)
    with CaptureQueriesContext(connection) as asked:
        load_spec("alpha-desk", version=version)
    assert len(asked) <= queries, [query["sql"][:90] for query in asked]
