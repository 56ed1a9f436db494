"""Draft, publish, activate, roll back: by operations and by REST, in two tenants."""

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import Error as DatabaseError
from django.db import transaction
from django_tenants.utils import tenant_context

from agents.loading import load_spec
from agents.models import Agent, AgentVersion
from agents.operations import (
    AgentInvalid,
    activate_version,
    create_agent,
    publish_agent,
    reset_draft,
    roll_back_agent,
    update_agent,
)
from agents.queries import find_agent, find_version
from agents.shapes import find_faults
from agents.trials.models import Trial
from tenants.audit.models import Entry
from tenants.people.operations import add_member
from tenants.permissions import Role
from tests.record.people import Person
from tests.record.world import Api, World


@pytest.fixture
def desk(world: World) -> Any:
    """Alpha's agent, inside alpha's schema."""
    with tenant_context(world.alpha.tenant):
        yield find_agent("alpha-desk")


def taking_calls(slug: str = "alpha-desk") -> tuple[int | None, int | None]:
    agent = find_agent(slug)
    return agent.live and agent.live.number, agent.standby and agent.standby.number


def test_callers_hear_a_draft_once_it_is_published(desk: Agent) -> None:
    update_agent(agent=desk, instructions="Say more.")
    assert load_spec("alpha-desk").instructions == "Secret of alpha"
    assert publish_agent(agent=desk, note="More words.").number == 2
    assert (load_spec("alpha-desk").instructions, load_spec("alpha-desk").version) == ("Say more.", 2)
    assert taking_calls() == (2, 1)


def test_a_version_may_wait_until_it_is_activated(desk: Agent) -> None:
    update_agent(agent=desk, instructions="New.")
    waiting = publish_agent(agent=desk, activate=False)
    assert (waiting.number, taking_calls()) == (2, (1, None))
    activate_version(version=waiting)
    assert taking_calls() == (2, 1)
    activate_version(version=waiting)
    assert taking_calls() == (2, 1)


def test_a_rollback_goes_one_step_back_and_is_taken_back_by_another(desk: Agent) -> None:
    update_agent(agent=desk, instructions="Worse.")
    publish_agent(agent=desk)
    roll_back_agent(agent=desk)
    assert taking_calls() == (1, 2)
    assert load_spec(None).instructions == "Secret of alpha"
    roll_back_agent(agent=desk)
    assert taking_calls() == (2, 1)


def test_a_draft_becomes_a_version_again(desk: Agent) -> None:
    version = find_version(desk, 1)
    update_agent(agent=desk, instructions="Never mind.", voices={"es": "ef_dora"})
    again = reset_draft(agent=desk, version=version)
    assert (again.instructions, again.voices) == ("Secret of alpha", {})
    assert taking_calls() == (1, None)


def test_editing_with_an_old_object_moves_no_calls(desk: Agent) -> None:
    publish_agent(agent=desk)
    update_agent(agent=desk, name="Edited by who read it before")
    assert taking_calls() == (2, 1)


@pytest.mark.parametrize("change", [{"note": "changed"}, {"definition": {}}, {"number": 9}])
def test_a_published_version_is_never_changed(desk: Agent, change: dict[str, Any]) -> None:
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        AgentVersion.objects.filter(agent=desk).update(**change)


def test_everything_that_is_wrong_is_said_at_once(desk: Agent) -> None:
    create_agent(slug="draft-only", name="Draft only")
    update_agent(
        agent=desk,
        instructions="Hello {{ caller.name }}.\n{{ caller.room }}{{ agent.name }}",
        greeting="{% for x in y %}{% endfor %}",
        variables=[{"name": "caller.name"}],
        language="de",
        languages=["en", "es"],
        model="nosuch/model",
        tools=[{"type": "http", "name": "nosuch"}],
        colleagues=[{"agent": "nobody"}, {"agent": "draft-only"}],
    )
    with pytest.raises(AgentInvalid) as refusal:
        publish_agent(agent=desk)
    errors = refusal.value.errors
    assert set(errors) == {
        "instructions", "greeting", "language", "model", "tools[0].name", "colleagues[0].agent", "colleagues[1].agent",
    }  # fmt: skip
    assert errors["instructions"][0].startswith("Line 2: nobody knows a variable 'caller.room'")
    assert taking_calls() == (1, None)
    assert not Entry.objects.filter(action="agent.published", after__version=2).exists()


def test_of_two_colleagues_that_name_each_other_one_is_published_first(desk: Agent) -> None:
    billing = create_agent(slug="billing", name="Billing", colleagues=[{"agent": "alpha-desk"}])
    update_agent(agent=desk, colleagues=[{"agent": "billing", "mode": "consult", "when": "bills"}])
    publish_agent(agent=desk)
    publish_agent(agent=billing)
    (colleague,) = load_spec("alpha-desk").colleagues
    assert (colleague.agent, colleague.mode, colleague.returns) == ("billing", "consult", False)


def test_switching_by_hand_ends_a_running_trial(desk: Agent) -> None:
    publish_agent(agent=desk)

    def start() -> Trial:
        return Trial.objects.create(
            agent=desk, arms=[{"version": 1, "weight": 1}, {"version": 2, "weight": 1}], control=2, alpha=0.05,
            min_calls=10, started_at="2027-01-15T08:00:00Z",
        )  # fmt: skip

    for switch, reason in (
        (lambda: publish_agent(agent=desk), "published"),
        (lambda: activate_version(version=find_version(desk, 1)), "activated"),
        (lambda: roll_back_agent(agent=desk), "rolled_back"),
    ):
        trial = start()
        publish_agent(agent=desk, activate=False)
        trial.refresh_from_db()
        assert trial.status == "running"
        switch()
        trial.refresh_from_db()
        assert (trial.status, trial.end_reason) == ("ended", reason)


def test_who_did_what_is_audited(desk: Agent) -> None:
    publish_agent(agent=desk, note="More words.")
    activate_version(version=find_version(desk, 1))
    roll_back_agent(agent=desk)
    reset_draft(agent=desk, version=find_version(desk, 1))
    entries = list(Entry.objects.order_by("-seq")[:3])[::-1]
    assert [entry.action for entry in entries] == ["agent.published", "agent.version_activated", "agent.rolled_back"]
    assert entries[0].after == {"version": 2, "note": "More words.", "live": True}
    assert (entries[1].before, entries[1].after) == ({"live": 2, "standby": 1}, {"live": 1, "standby": 2})
    assert entries[2].after == {"live": 2, "standby": 1}


def test_agents_of_before_go_on_as_they_were(desk: Agent) -> None:
    text = "Say {{ this }} and {% that %} and {# so on"
    Agent.objects.filter(pk=desk.pk).update(instructions=text, greeting="{{", live=None)
    AgentVersion.objects.filter(agent=desk).delete()
    import_module("agents.migrations.0005_publish_agents").publish_agents(apps, None)
    spec = load_spec("alpha-desk")
    assert (spec.version, spec.instructions, spec.greeting) == (1, text, "{{")
    assert publish_agent(agent=find_agent("alpha-desk")).number == 2
    assert load_spec("alpha-desk").instructions == text


def test_rest_publishes_lists_compares_and_rolls_back(alpha_api: Api) -> None:
    alpha_api("PATCH", "agents/alpha-desk/", {"instructions": "Secret of alpha\nBe brief.", "speed": 1.2})
    status, answer = alpha_api("GET", "agents/alpha-desk/diff/")
    assert status == 200, answer
    assert (answer["data"]["from"], answer["data"]["to"]) == ("1", "draft")
    text, speed = answer["data"]["changes"]
    assert text["field"] == "instructions"
    assert text["lines"][2:] == ["@@ -1 +1,2 @@", " Secret of alpha", "+Be brief."]
    assert speed == {"field": "speed", "before": 1.0, "after": 1.2}
    status, answer = alpha_api("POST", "agents/alpha-desk/publish/", {"note": "Brief."})
    assert status == 201, answer
    version = answer["data"]
    assert (version["number"], version["note"], version["is_live"], version["is_standby"]) == (2, "Brief.", True, False)
    assert version["published_by"] == "tests"
    assert version["definition"]["speed"] == 1.2
    listed = alpha_api("GET", "agents/alpha-desk/versions/")[1]["data"]["results"]
    assert [(row["number"], row["is_live"], row["is_standby"]) for row in listed] == [
        (2, True, False),
        (1, False, True),
    ]
    assert "definition" not in listed[0]
    assert alpha_api("GET", "agents/alpha-desk/versions/1/")[1]["data"]["definition"]["speed"] == 1.0
    answer = alpha_api("POST", "agents/alpha-desk/rollback/")[1]["data"]
    assert (answer["live"], answer["standby"]) == (1, 2)
    answer = alpha_api("POST", "agents/alpha-desk/activate/", {"version": 2})[1]["data"]
    assert (answer["live"], answer["standby"]) == (2, 1)
    answer = alpha_api("PUT", "agents/alpha-desk/draft/", {"version": 1})[1]["data"]
    assert (answer["speed"], answer["live"]) == (1.0, 2)
    changes = alpha_api("GET", "agents/alpha-desk/diff/?from=1&to=2")[1]["data"]["changes"]
    assert [change["field"] for change in changes] == ["instructions", "speed"]
    assert alpha_api("PUT", "agents/alpha-desk/draft/", {})[1]["data"]["speed"] == 1.2


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "param"),
    [
        ("POST", "rollback/", None, 409, "nothing_to_roll_back", None),
        ("POST", "activate/", {"version": 9}, 404, "not_found", None),
        ("POST", "activate/", {"version": 2**40}, 400, "max_value", "version"),
        ("POST", "activate/", {}, 400, "required", "version"),
        ("PUT", "draft/", {"version": 9}, 404, "not_found", None),
        ("GET", "versions/9/", None, 404, "not_found", None),
        ("GET", f"versions/{2**70}/", None, 404, "not_found", None),
        ("GET", "diff/?from=9", None, 404, "not_found", None),
        ("GET", "diff/?from=live", None, 400, "invalid", "from"),
        ("GET", "diff/?to=0", None, 400, "invalid", "to"),
        ("POST", "publish/", {"note": "n" * 1_001}, 400, "max_length", "note"),
        ("POST", "publish/", {"version": 1}, 400, "unknown_parameter", "version"),
    ],
)  # fmt: skip
def test_refusals_name_what_is_wrong(
    alpha_api: Api, method: str, path: str, body: Any, status: int, code: str, param: str | None
) -> None:
    got, answer = alpha_api(method, f"agents/alpha-desk/{path}", body)
    assert (got, answer["error"]["code"], answer["error"]["param"]) == (status, code, param)


def test_a_draft_that_cannot_take_calls_is_refused_with_all_reasons(alpha_api: Api) -> None:
    alpha_api("PATCH", "agents/alpha-desk/", {"instructions": "{{ x }}", "colleagues": [{"agent": "nobody"}]})
    status, answer = alpha_api("POST", "agents/alpha-desk/publish/")
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "agent_invalid", "instructions")
    assert "nobody knows a variable 'x'" in answer["error"]["message"]
    assert "There is no agent 'nobody'." in answer["error"]["message"]


def test_a_new_agent_has_nothing_to_compare_or_to_go_back_to(alpha_api: Api) -> None:
    answer = alpha_api("POST", "agents/", {"slug": "new", "name": "New"})[1]["data"]
    assert (answer["live"], answer["standby"]) == (None, None)
    assert alpha_api("GET", "agents/new/diff/")[1]["error"]["param"] == "from"
    assert alpha_api("PUT", "agents/new/draft/", {})[1]["error"]["param"] == "version"
    assert alpha_api("GET", "agents/new/versions/")[1]["data"]["results"] == []


def test_one_tenants_versions_are_nothing_of_anothers(world: World, alpha_api: Api, beta_api: Api) -> None:
    for path in ("publish/", "rollback/"):
        assert beta_api("POST", f"agents/alpha-desk/{path}")[0] == 404
    for path in ("", "versions/", "versions/1/", "diff/", "export/"):
        assert beta_api("GET", f"agents/alpha-desk/{path}")[0] == 404
    alpha_api("POST", "agents/alpha-desk/publish/")
    with tenant_context(world.alpha.tenant):
        assert taking_calls() == (2, 1)
    with tenant_context(world.beta.tenant):
        assert taking_calls("beta-desk") == (1, None)


@pytest.mark.parametrize(
    ("role", "may_write"), [(Role.ADMIN, True), (Role.DEVELOPER, True), (Role.SUPPORT, False), (Role.VIEWER, False)]
)
def test_who_may_publish(world: World, role: Role, may_write: bool) -> None:
    member = add_member(tenant=world.alpha.tenant, email="somebody@alpha.localhost", role=role).user
    person = Person(member, world.alpha.host)
    assert person.api("GET", "agents/alpha-desk/versions/1/")[0] == 200
    assert person.api("POST", "agents/alpha-desk/publish/")[0] == (201 if may_write else 403)
    assert person.api("POST", "agents/alpha-desk/rollback/")[0] == (200 if may_write else 403)


def test_two_who_change_different_fields_do_not_undo_each_other(world: World) -> None:
    with tenant_context(world.alpha.tenant):
        create_agent(slug="shared", name="Shared")
        first, second = Agent.objects.get(slug="shared"), Agent.objects.get(slug="shared")
        update_agent(agent=first, instructions="Be brief.")
        update_agent(agent=second, greeting="Hello!")
        agent = Agent.objects.get(slug="shared")
        assert (agent.instructions, agent.greeting) == ("Be brief.", "Hello!")


def test_an_agent_may_collect_several_forms() -> None:
    fields = {"day": {"type": "string", "format": "date"}}
    forms = [{"type": "builtin", "name": "collect", "form": form, "fields": fields} for form in ("booking", "bill")]
    assert list(find_faults("tools", forms)) == []
    assert [path for path, _ in find_faults("tools", forms[:1] * 2)] == ["tools[1].name"]
