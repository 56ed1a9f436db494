"""What is much worse is taken back: arms of trials, and versions that went live."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.utils import timezone
from django_tenants.utils import tenant_context

from agents.models import Agent
from agents.operations import activate_version, publish_agent, roll_back_agent
from agents.trials import judging
from agents.trials.assignment import Arm
from agents.trials.judging import judge_all
from agents.trials.models import CallOutcome, Release, ReleaseStatus, Trial, TrialStatus
from agents.trials.operations import start_trial
from celery_workers import trials as worker
from realtime.archive.draining import OUTCOME_TENANTS_KEY, drain
from realtime.archive.events import TENANTS_KEY, CallEnded, CallStarted, Outcome, encode_event, stream_key
from tenants.audit.models import Entry
from tests.record.world import House, World

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def alpha(world: World) -> Iterator[World]:
    """Inside the tenant's schema; version 1 is live."""
    with tenant_context(world.alpha.tenant):
        yield world


def find(world: World) -> Agent:
    return Agent.objects.select_related("live", "standby").get(slug=world.alpha.agent)


def live(world: World) -> int | None:
    agent = find(world)
    return agent.live and agent.live.number


def store(
    version: int, calls: int, *, at: datetime, agent: str, bad: int = 0, running: int = 0, trial: str = ""
) -> None:
    """``bad`` of them failed; of the others ``running`` go on."""
    known = CallOutcome.objects.count()
    CallOutcome.objects.bulk_create(
        CallOutcome(
            session_id=f"sess_{known + number}", agent=agent, version=version, trial=trial, failed=number < bad,
            started_at=at, ended_at=None if number >= calls - running else at + MINUTE, duration_s=60.0, seq=9,
        )
        for number in range(calls)
    )  # fmt: skip


# --- trials ---


@pytest.fixture
def trial(alpha: World) -> Trial:
    publish_agent(agent=find(alpha), activate=False)
    return start_trial(agent=find(alpha), arms=[Arm(1, 50), Arm(2, 50)])


def store_arms(trial: Trial, calls: int, bad: int, control_bad: int, *, running: int = 0) -> None:
    slug = trial.agent.slug
    store(2, calls, at=NOW, agent=slug, bad=bad, running=running, trial=str(trial.pk))
    store(1, calls, at=NOW, agent=slug, bad=control_bad, running=running, trial=str(trial.pk))


def test_a_worse_arm_ends_the_trial_and_the_control_stays_live(
    alpha: World, trial: Trial, caplog: pytest.LogCaptureFixture
) -> None:
    store_arms(trial, 40, bad=20, control_bad=2)
    with caplog.at_level(logging.WARNING, "agents.trials.judging"):
        assert judge_all(now=NOW) == 1
    trial.refresh_from_db()
    assert (trial.status, trial.end_reason, live(alpha)) == (TrialStatus.ENDED, "worse", 1)
    entry = Entry.objects.get(action="agent_trial.ended")
    assert entry.actor_kind == "system"
    assert entry.after["figures"]["2"] == {"calls": 40, "ended": 40, "failed": 20, "hung_up": 0}
    [told] = [record for record in caplog.records if "worse than the control" in record.message]
    assert (told.worse, told.figures["1"]["failed"]) == ([2], 2)
    assert judge_all(now=NOW) == 0


@pytest.mark.parametrize(("bad", "control_bad"), [(4, 2), (2, 20), (0, 0), (40, 40)])
def test_arms_that_are_alike_or_better_go_on(alpha: World, trial: Trial, bad: int, control_bad: int) -> None:
    store_arms(trial, 40, bad=bad, control_bad=control_bad)
    assert judge_all(now=NOW) == 0
    trial.refresh_from_db()
    assert (trial.status, trial.looks) == (TrialStatus.RUNNING, {"2": 2})


def test_hang_ups_count_as_failures_do(alpha: World, trial: Trial) -> None:
    store_arms(trial, 40, bad=0, control_bad=0)
    CallOutcome.objects.filter(version=2).update(hung_up=True)
    assert judge_all(now=NOW) == 1


def test_it_is_not_looked_at_again_before_calls_have_doubled(
    alpha: World, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    judge = judging.is_worse
    monkeypatch.setattr(judging, "is_worse", lambda *args, **kwargs: looked.append(kwargs) or judge(*args, **kwargs))
    for calls in (10, 9, 1, 5, 14, 1, 40, 80):
        store_arms(trial, calls, bad=0, control_bad=0)
        judge_all(now=NOW)
        judge_all(now=NOW)
    assert [(one["looks"], one["looks_before"], one["comparisons"]) for one in looked] == [
        (1, 0, 2), (2, 1, 2), (3, 2, 2), (4, 3, 2),
    ]  # fmt: skip


def test_calls_that_go_on_count_as_good_and_are_no_reason_to_look(alpha: World, trial: Trial) -> None:
    store_arms(trial, 36, bad=4, control_bad=0, running=20)
    judge_all(now=NOW)
    trial.refresh_from_db()
    assert trial.looks == {}
    store_arms(trial, 4, bad=4, control_bad=0)
    assert judge_all(now=NOW) == 0, "8 of 40 against none is no proof; 8 of 20 would be"
    trial.refresh_from_db()
    assert trial.looks == {"2": 1}


def test_a_trial_may_be_left_to_people(alpha: World, trial: Trial) -> None:
    Trial.objects.update(auto_rollback=False)
    store_arms(trial, 40, bad=40, control_bad=0)
    assert judge_all(now=NOW) == 0


def test_the_other_tenants_calls_end_nothing_here(alpha: World, trial: Trial) -> None:
    with tenant_context(alpha.beta.tenant):
        store_arms(trial, 40, bad=40, control_bad=0)
    assert judge_all(now=NOW) == 0


# --- releases ---


def release(world: World, *, bad: int = 2, calls: int = 100, at: datetime = NOW) -> Release:
    """Version 2 goes live at ``at``, in the place of version 1, which had calls the hour before."""
    store(1, calls, at=at - 60 * MINUTE, agent=world.alpha.agent, bad=bad)
    publish_agent(agent=find(world))
    judge_all(now=at)
    return Release.objects.get()


def test_a_release_that_is_worse_is_taken_back(alpha: World, caplog: pytest.LogCaptureFixture) -> None:
    found = release(alpha)
    assert (found.version, found.replaced, found.status) == (2, 1, ReleaseStatus.WATCHING)
    store(2, 20, at=NOW + MINUTE, agent=alpha.alpha.agent, bad=12)
    with caplog.at_level(logging.WARNING, "agents.trials.judging"):
        assert judge_all(now=NOW + 5 * MINUTE) == 1
    assert live(alpha) == 1
    found.refresh_from_db()
    assert (found.status, found.looks, found.ended_at) == (ReleaseStatus.WORSE, 1, NOW + 5 * MINUTE)
    entry = Entry.objects.get(action="agent_release.taken_back")
    assert (entry.before, entry.after["live"]) == ({"live": 2}, 1)
    assert entry.after["figures"] == {
        "1": {"calls": 100, "ended": 100, "failed": 2, "hung_up": 0},
        "2": {"calls": 20, "ended": 20, "failed": 12, "hung_up": 0},
    }
    assert Entry.objects.filter(action="agent.rolled_back", actor_kind="system").count() == 1
    assert any("taken back" in record.message for record in caplog.records)


def test_after_a_rollback_nothing_is_watched_until_the_next_release(alpha: World) -> None:
    release(alpha)
    store(2, 20, at=NOW + MINUTE, agent=alpha.alpha.agent, bad=12)
    judge_all(now=NOW + 5 * MINUTE)
    store(1, 40, at=NOW + 6 * MINUTE, agent=alpha.alpha.agent, bad=40)
    assert judge_all(now=NOW + 8 * MINUTE) == 0
    assert live(alpha) == 1
    statuses = list(Release.objects.order_by("since").values_list("version", "status"))
    assert statuses == [(2, ReleaseStatus.WORSE), (1, ReleaseStatus.UNWATCHED)]
    activate_version(version=find(alpha).versions.get(number=2))
    judge_all(now=NOW + 9 * MINUTE)
    again = Release.objects.first()
    assert (again.version, again.status) == (2, ReleaseStatus.WATCHING)


@pytest.mark.parametrize("bad", [0, 2, 4])
def test_a_release_that_is_as_good_passes(alpha: World, settings: Any, bad: int) -> None:
    settings.AGENT_WATCH_CALLS = 40
    found = release(alpha, bad=10)
    store(2, 39, at=NOW + MINUTE, agent=alpha.alpha.agent, bad=bad)
    judge_all(now=NOW + 5 * MINUTE)
    found.refresh_from_db()
    assert found.status == ReleaseStatus.WATCHING
    store(2, 1, at=NOW + 2 * MINUTE, agent=alpha.alpha.agent)
    judge_all(now=NOW + 6 * MINUTE)
    found.refresh_from_db()
    assert (found.status, live(alpha)) == (ReleaseStatus.PASSED, 2)
    store(2, 400, at=NOW + 3 * MINUTE, agent=alpha.alpha.agent, bad=400)
    assert judge_all(now=NOW + 7 * MINUTE) == 0, "what has passed is not watched any more"


def test_the_watch_ends_after_its_days(alpha: World) -> None:
    found = release(alpha)
    store(2, 3, at=NOW + MINUTE, agent=alpha.alpha.agent)
    judge_all(now=NOW + timedelta(days=7, seconds=1))
    found.refresh_from_db()
    assert found.status == ReleaseStatus.PASSED


def test_only_recent_calls_before_and_calls_after_it_count(alpha: World) -> None:
    """Old good calls of the version before, and bad calls of the new one from before it was live, say nothing."""
    store(1, 100, at=NOW - timedelta(days=8), agent=alpha.alpha.agent)
    store(2, 100, at=NOW - timedelta(days=1), agent=alpha.alpha.agent, bad=100)
    release(alpha, bad=20, calls=40)
    store(2, 40, at=NOW + MINUTE, agent=alpha.alpha.agent, bad=22)
    assert judge_all(now=NOW + 2 * MINUTE) == 0
    assert live(alpha) == 2


def test_without_calls_of_the_version_before_nobody_can_say(alpha: World) -> None:
    release(alpha, calls=19)
    store(2, 100, at=NOW + MINUTE, agent=alpha.alpha.agent, bad=100)
    assert judge_all(now=NOW + 2 * MINUTE) == 0
    assert live(alpha) == 2


def test_the_next_release_takes_the_place_of_the_first(alpha: World) -> None:
    release(alpha)
    publish_agent(agent=find(alpha))
    judge_all(now=NOW + MINUTE)
    assert list(Release.objects.order_by("since").values_list("version", "replaced", "status")) == [
        (2, 1, ReleaseStatus.SUPERSEDED),
        (3, 2, ReleaseStatus.WATCHING),
    ]


def test_somebody_who_rolls_back_by_hand_is_trusted(alpha: World) -> None:
    release(alpha)
    roll_back_agent(agent=find(alpha))
    judge_all(now=NOW + MINUTE)
    assert list(Release.objects.order_by("since").values_list("version", "status")) == [
        (2, ReleaseStatus.SUPERSEDED),
        (1, ReleaseStatus.UNWATCHED),
    ]


def test_the_watch_can_be_turned_off(alpha: World, settings: Any) -> None:
    settings.AGENT_WATCH = False
    store(1, 100, at=NOW - MINUTE, agent=alpha.alpha.agent)
    publish_agent(agent=find(alpha))
    store(2, 100, at=NOW, agent=alpha.alpha.agent, bad=100)
    assert judge_all(now=NOW) == 0
    assert not Release.objects.exists()


# --- the worker ---


@pytest.fixture
def client(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator["redis.Redis"]:
    # The test's transaction is around what a worker does in several: its connection must stay.
    monkeypatch.setattr(worker, "close_old_connections", lambda: None)
    with redis.Redis.from_url(valkey_url) as client:
        yield client


def push_calls(client: "redis.Redis", house: House, version: int, calls: int, *, failed: bool, at: float) -> None:
    for number in range(calls):
        session_id = f"sess_{version}_{number}"
        outcome = Outcome(agent=house.agent, agent_version=version, turns=1, failed=failed)
        begun = CallStarted(
            session_id=session_id, seq=1, at=at, conversation_id="c", agent=house.agent, channel="websocket",
            key_id="key_1", end_user="", model="m", agent_version=version,
        )  # fmt: skip
        over = CallEnded(session_id=session_id, seq=2, at=at + 9, reason="error", duration_s=9.0, outcomes=(outcome,))
        for event in (begun, over):
            client.xadd(stream_key(house.tenant.schema_name), {b"event": encode_event(event)})
    client.sadd(TENANTS_KEY, house.tenant.schema_name)


def test_from_the_calls_to_the_rollback(world: World, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(worker, "submit", lambda *message: asked.append(message))
    house, now = world.alpha, timezone.now().timestamp()
    push_calls(client, house, 1, 30, failed=False, at=now - 600)
    drain(client, "alpha")
    assert client.smembers(OUTCOME_TENANTS_KEY) == {b"alpha"}
    with tenant_context(house.tenant):
        publish_agent(agent=find(world))
    worker.judge_versions(tenant="alpha")
    assert not client.exists(OUTCOME_TENANTS_KEY), "a tenant without new calls is not looked at"
    worker.watch_versions()
    assert asked == []
    push_calls(client, house, 2, 30, failed=True, at=timezone.now().timestamp() + 1)
    drain(client, "alpha")
    worker.watch_versions()
    assert [message[2] for message in asked] == [{"tenant": "alpha"}]
    worker.judge_versions(tenant="alpha")
    with tenant_context(house.tenant):
        assert live(world) == 1
        assert Release.objects.get().status == ReleaseStatus.WORSE


def test_calls_of_drafts_have_nobody_look(world: World, client: "redis.Redis") -> None:
    push_calls(client, world.alpha, 0, 3, failed=True, at=NOW.timestamp())
    drain(client, "alpha")
    assert not client.exists(OUTCOME_TENANTS_KEY)


def test_a_tenant_that_is_gone_or_unreachable(
    world: World, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker.judge_versions(tenant="ghost")
    assert not client.exists(OUTCOME_TENANTS_KEY)

    def fail(**_: Any) -> int:
        raise worker.OperationalError("gone")

    monkeypatch.setattr(worker, "judge_all", fail)
    worker.judge_versions(tenant="alpha")
    assert client.smembers(OUTCOME_TENANTS_KEY) == {b"alpha"}
    assert "were not judged" in caplog.text
