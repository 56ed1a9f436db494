"""Trials between versions: started, assigned, compared, ended."""

import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from django_tenants.utils import tenant_context

from agents.loading import load_spec
from agents.models import Agent
from agents.operations import activate_version, publish_agent, roll_back_agent, update_agent
from agents.trials.assignment import Arm
from agents.trials.models import CallOutcome, Trial, TrialStatus
from agents.trials.operations import TrialRefused, TrialRunning, end_trials, start_trial
from agents.trials.promotion import conclude_trial
from agents.trials.queries import TrialUnknown, assign, compare, find_trial
from tenants.audit.models import Entry
from tests.record.world import Api, World

AT = datetime(2027, 1, 15, 8, tzinfo=UTC)


@pytest.fixture
def alpha(world: World) -> Any:
    """Inside the tenant's schema; its agent has the versions 1 (live) and 2."""
    with tenant_context(world.alpha.tenant):
        agent = find(world)
        update_agent(agent=agent, instructions="Version two")
        publish_agent(agent=agent, activate=False)
        yield world


def find(world: World) -> Agent:
    return Agent.objects.get(slug=world.alpha.agent)


def halves() -> list[Arm]:
    return [Arm(1, 50), Arm(2, 50)]


def store(
    trial: Trial, version: int, calls: int, *, failed: int = 0, hung_up: int = 0, running: int = 0, agent: str = ""
) -> None:
    """So many calls of a version, the first of them failed, the last of them hung up."""
    CallOutcome.objects.bulk_create(
        CallOutcome(
            session_id=f"sess_{uuid.uuid4().hex}", agent=agent or trial.agent.slug, version=version,
            trial=str(trial.pk), failed=number < failed, hung_up=number >= calls - hung_up, turns=3 + number % 3,
            started_at=AT, ended_at=None if number < running else AT, duration_s=50.0 + number % 20, seq=9,
        )
        for number in range(calls)
    )  # fmt: skip


def entries(action: str) -> list[Entry]:
    return list(Entry.objects.filter(action=action).order_by("seq"))


# --- who gets what ---


def test_callers_are_split_and_come_back_to_the_same_version(alpha: World) -> None:
    trial = start_trial(agent=find(alpha), arms=[Arm(1, 30), Arm(2, 70)])
    first = {f"caller-{number}": assign(find(alpha), f"caller-{number}") for number in range(400)}
    assert {found[1] for found in first.values() if found} == {str(trial.pk)}
    shares = Counter(found[0] for found in first.values() if found)
    assert abs(shares[2] - 280) < 6 * (400 * 0.3 * 0.7) ** 0.5
    assert {subject: assign(find(alpha), subject) for subject in first} == first


def test_it_costs_one_query_and_none_of_the_other_tenants_trials(alpha: World, django_assert_num_queries: Any) -> None:
    agent = find(alpha)
    start_trial(agent=agent, arms=halves())
    with django_assert_num_queries(1):
        assert assign(agent, "ann") is not None
    with tenant_context(alpha.beta.tenant):
        assert assign(Agent.objects.get(slug=alpha.beta.agent), "ann") is None


def test_a_call_gets_the_version_that_the_trial_chose(alpha: World) -> None:
    trial = start_trial(agent=find(alpha), arms=halves())
    found = {}
    for number in range(40):
        spec = load_spec(alpha.alpha.agent, subject=f"caller-{number}")
        assert spec.trial == str(trial.pk)
        found[spec.version] = spec.instructions
    assert found == {1: "Secret of alpha", 2: "Version two"}
    named = load_spec(alpha.alpha.agent, subject="ann", version="2")
    assert (named.version, named.trial) == (2, ""), "who names a version takes no part"
    end_trials(agent=find(alpha), reason="ended")
    assert {load_spec(alpha.alpha.agent, subject=f"caller-{number}").version for number in range(40)} == {1}


# --- start and end ---


def test_a_start_is_written_down(alpha: World) -> None:
    trial = start_trial(agent=find(alpha), arms=halves(), alpha=0.05, min_calls=50)
    assert (trial.control, trial.status, trial.alpha, trial.min_calls) == (1, TrialStatus.RUNNING, 0.05, 50)
    [entry] = entries("agent_trial.started")
    assert entry.target == alpha.alpha.agent
    assert entry.after["arms"] == [{"version": 1, "weight": 50}, {"version": 2, "weight": 50}]


def test_one_trial_at_a_time(alpha: World) -> None:
    start_trial(agent=find(alpha), arms=halves())
    with pytest.raises(TrialRunning, match="running"):
        start_trial(agent=find(alpha), arms=halves())
    assert Trial.objects.count() == 1


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ([Arm(1, 1)], "2 to 10"),
        ([Arm(1, 1), Arm(1, 1)], "different"),
        ([Arm(1, 1), Arm(2, 0)], "weight"),
        ([Arm(1, 1), Arm(2, 1_000_001)], "weight"),
        ([Arm(1, 1), Arm(9, 1)], "no version 9"),
        ([Arm(1, 1), *(Arm(number, 1) for number in range(2, 13))], "2 to 10"),
    ],
)
def test_arms_that_cannot_be_are_refused(alpha: World, arms: list[Arm], words: str) -> None:
    with pytest.raises(TrialRefused, match=words):
        start_trial(agent=find(alpha), arms=arms)


def test_the_live_version_takes_part(alpha: World) -> None:
    publish_agent(agent=find(alpha))
    with pytest.raises(TrialRefused, match="Version 3 is live"):
        start_trial(agent=find(alpha), arms=halves())


@pytest.mark.parametrize("fields", [{"alpha": 0.0}, {"alpha": 0.21}, {"min_calls": 4}, {"min_calls": 100_001}])
def test_bounds_of_a_trial(alpha: World, fields: dict[str, Any]) -> None:
    with pytest.raises(TrialRefused, match=next(iter(fields))):
        start_trial(agent=find(alpha), arms=halves(), **fields)


@pytest.mark.parametrize("reason", ["published", "activated", "rolled_back"])
def test_whoever_makes_another_version_live_ends_the_trial(alpha: World, reason: str) -> None:
    agent = find(alpha)
    if reason == "rolled_back":
        activate_version(version=agent.versions.get(number=2))
    trial = start_trial(agent=agent, arms=halves())
    store(trial, 2, 30, failed=4)
    if reason == "published":
        publish_agent(agent=agent)
    elif reason == "activated":
        activate_version(version=agent.versions.get(number=2))
    else:
        roll_back_agent(agent=agent)
    trial.refresh_from_db()
    assert (trial.status, trial.end_reason) == (TrialStatus.ENDED, reason)
    [entry] = entries("agent_trial.ended")
    assert entry.after["figures"] == {"2": {"calls": 30, "ended": 30, "failed": 4, "hung_up": 0}}
    assert assign(agent, "ann") is None


def test_an_arm_is_promoted(alpha: World) -> None:
    trial = start_trial(agent=find(alpha), arms=halves())
    with pytest.raises(TrialRefused, match="takes no part"):
        conclude_trial(trial=trial, promote=7)
    conclude_trial(trial=trial, promote=2)
    agent = find(alpha)
    assert (agent.live.number, agent.standby.number) == (2, 1)
    assert Trial.objects.get().end_reason == "promoted"
    with pytest.raises(TrialRefused, match="ended"):
        conclude_trial(trial=trial)


def test_an_end_without_a_promotion_leaves_the_live_version(alpha: World) -> None:
    trial = start_trial(agent=find(alpha), arms=halves())
    conclude_trial(trial=trial)
    assert find(alpha).live.number == 1
    assert (trial.status, trial.end_reason) == (TrialStatus.ENDED, "ended")
    start_trial(agent=find(alpha), arms=halves())
    assert Trial.objects.count() == 2


# --- side by side ---


def test_figures_are_the_trials_own(alpha: World) -> None:
    trial = start_trial(agent=find(alpha), arms=halves())
    store(trial, 1, 200, failed=10, hung_up=20)
    store(trial, 2, 100, failed=30, hung_up=10, running=5)
    other = Trial(pk=uuid.uuid4(), agent=find(alpha))
    store(other, 2, 500, failed=500)
    control, arm = compare(trial)
    assert (control.version, control.calls, control.verdict, control.failed.difference) == (1, 200, "control", None)
    assert (arm.calls, arm.ended, arm.verdict) == (100, 95, "worse")
    assert control.failed.estimate.value == 0.05
    assert arm.failed.difference.value == pytest.approx(0.25)
    assert arm.failed.difference.low > 0.15
    assert arm.hung_up.difference.side == 0
    assert arm.words == ("Compared with version 1 it fails more often (30.0% against 5.0%; +16.0 to +34.8 points)."), (
        arm.words
    )
    assert arm.duration_s.estimate.value == pytest.approx(59.6, abs=0.5)
    assert arm.turns.difference.side == 0


@pytest.mark.parametrize(
    ("own", "control", "verdict"),
    [
        ({"calls": 19}, {"calls": 500}, "too_few_calls"),
        ({"calls": 0}, {"calls": 0}, "too_few_calls"),
        ({"calls": 100, "failed": 5}, {"calls": 100, "failed": 4}, "no_difference"),
        ({"calls": 300, "failed": 5}, {"calls": 300, "failed": 60}, "better"),
        ({"calls": 300, "failed": 5, "hung_up": 60}, {"calls": 300, "failed": 60, "hung_up": 5}, "mixed"),
        ({"calls": 300, "hung_up": 60}, {"calls": 300, "hung_up": 5}, "worse"),
    ],
)
def test_verdicts(alpha: World, own: dict[str, int], control: dict[str, int], verdict: str) -> None:
    trial = start_trial(agent=find(alpha), arms=halves())
    store(trial, 1, control.pop("calls"), **control)
    store(trial, 2, own.pop("calls"), **own)
    assert compare(trial)[1].verdict == verdict


def test_a_trial_is_found_by_its_own_agent_only(alpha: World) -> None:
    trial = start_trial(agent=find(alpha), arms=halves())
    assert find_trial(find(alpha), trial.pk).pk == trial.pk
    with pytest.raises(TrialUnknown):
        find_trial(Agent(pk=uuid.uuid4()), trial.pk)


# --- the API ---


def test_a_trial_by_rest(alpha: World, world: World) -> None:
    api, slug = Api(world.alpha.key), world.alpha.agent
    arms = [{"version": 1, "weight": 90}, {"version": 2, "weight": 10}]
    status, answer = api("POST", f"agents/{slug}/trials/", {"arms": arms, "min_calls": 30})
    assert (status, answer["data"]["arms"], answer["data"]["status"]) == (201, arms, "running")
    identity = answer["data"]["id"]
    assert [row["verdict"] for row in answer["data"]["comparison"]] == ["control", "too_few_calls"]
    status, answer = api("POST", f"agents/{slug}/trials/", {"arms": arms})
    assert (status, answer["error"]["code"]) == (409, "trial_running")
    with tenant_context(world.alpha.tenant):
        store(Trial.objects.get(), 2, 40, failed=4)
        store(Trial.objects.get(), 1, 40, failed=1)
    status, answer = api("GET", f"agents/{slug}/trials/{identity}/")
    assert (status, answer["data"]["comparison"][1]["failed"]["estimate"]["value"]) == (200, 0.1)
    assert api("GET", f"agents/{slug}/trials/?status=ended")[1]["data"]["results"] == []
    status, answer = api("POST", f"agents/{slug}/trials/{identity}/end/", {"promote": 9})
    assert (status, answer["error"]["param"]) == (400, "promote")
    status, answer = api("POST", f"agents/{slug}/trials/{identity}/end/", {"promote": 2})
    assert (status, answer["data"]["end_reason"]) == (200, "promoted")
    assert api("GET", f"agents/{slug}/")[1]["data"]["live"] == 2
    status, answer = api("POST", f"agents/{slug}/trials/{identity}/end/", {})
    assert (status, answer["error"]["code"]) == (409, "trial_ended")
    [row] = api("GET", f"agents/{slug}/trials/")[1]["data"]["results"]
    assert row["id"] == identity


def test_the_other_tenant_sees_none_of_it(alpha: World, world: World) -> None:
    trial = start_trial(agent=find(alpha), arms=halves())
    beta = Api(world.beta.key)
    for method, path in [
        ("GET", f"agents/{world.alpha.agent}/trials/"),
        ("GET", f"agents/{world.beta.agent}/trials/{trial.pk}/"),
        ("POST", f"agents/{world.beta.agent}/trials/{trial.pk}/end/"),
        ("GET", f"agents/{world.alpha.agent}/releases/"),
    ]:
        assert beta(method, path, {} if method == "POST" else None)[0] == 404, path
    with tenant_context(world.alpha.tenant):
        assert Trial.objects.get().status == TrialStatus.RUNNING


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "arms"),
        ({"arms": []}, "arms"),
        ({"arms": [{"version": 1}, {"version": 2, "weight": 1}]}, "arms.0.weight"),
        ({"arms": [{"version": 1, "weight": 1}, {"version": 2, "weight": -1}]}, "arms.1.weight"),
        ({"arms": [{"version": 1, "weight": 1}, {"version": 7, "weight": 1}]}, "arms"),
        ({"arms": [{"version": 1, "weight": 1}, {"version": 2, "weight": 1}], "alpha": 0.5}, "alpha"),
        ({"arms": [{"version": 1, "weight": 1}, {"version": 2, "weight": 1}], "more": 1}, "more"),
    ],
)
def test_a_wrong_start_is_refused_by_name(alpha: World, world: World, body: dict[str, Any], param: str) -> None:
    status, answer = Api(world.alpha.key)("POST", f"agents/{world.alpha.agent}/trials/", body)
    assert (status, answer["error"]["param"]) == (400, param), answer
