"""Whether a version is so much worse that callers must not get it any more: the arms of running trials, and versions
that went live a while ago. Runs inside the tenant's schema; each judgement is one transaction.

A release is first seen here, when the first outcomes after it come: it is what stands in the agent's row. Whoever goes
away meanwhile, such as a deleted agent, is not judged.
"""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from agents.models import Agent
from agents.operations import roll_back_agent
from agents.trials.figures import MEASURES, Figures, count_outcomes
from agents.trials.models import CallOutcome, Release, ReleaseStatus, Trial, TrialStatus
from agents.trials.operations import end_trial
from agents.trials.queries import figures_of
from agents.trials.statistics import is_worse, looks_due
from tenants.audit.operations import record
from tenants.features.flags import Feature
from tenants.features.queries import is_enabled

log = logging.getLogger(__name__)


def judge_all(*, now: datetime) -> int:
    """Every running trial and every watched release of the tenant; how many were ended for being worse."""
    with transaction.atomic():
        running = Trial.objects.filter(status=TrialStatus.RUNNING, auto_rollback=True)
        released = Agent.objects.filter(live__isnull=False, standby__isnull=False)
        trials = list(running.values_list("pk", flat=True))
        watches = settings.AGENT_WATCH and is_enabled(Feature.RELEASE_WATCH, connection.schema_name)
        agents = list(released.values_list("pk", flat=True)) if watches else []
    return sum(judge_trial(trial_id=trial_id) for trial_id in trials) + sum(
        judge_release(agent_id=agent_id, now=now) for agent_id in agents
    )


@transaction.atomic
def judge_trial(*, trial_id: UUID) -> bool:
    """Whether it was ended now, because an arm is worse than the control."""
    running = Trial.objects.filter(status=TrialStatus.RUNNING).select_related("agent")
    trial = running.select_for_update(of=("self",)).filter(pk=trial_id).first()
    if trial is None:
        return False
    figures = figures_of(trial)
    control = figures.get(trial.control, Figures())
    others = [arm.version for arm in trial.shares if arm.version != trial.control]
    worse = []
    for version in others:
        arm, before = figures.get(version, Figures()), trial.looks.get(str(version), 0)
        looks = looks_due(min(arm.ended, control.ended), trial.min_calls)
        if looks > before:
            trial.looks[str(version)] = looks
            comparisons = len(MEASURES) * len(others)
            if _is_worse(arm, control, looks, before, alpha=trial.alpha, comparisons=comparisons):
                worse.append(version)
    trial.save(update_fields=["looks"])
    if not worse:
        return False
    end_trial(trial=trial, reason="worse")
    shown = {"agent": trial.agent.slug, "trial": str(trial.pk), "control": trial.control, "worse": worse}
    log.warning("a trial was ended: a version is worse than the control", extra=shown | _shown(figures))
    return True


@transaction.atomic
def judge_release(*, agent_id: UUID, now: datetime) -> bool:
    """Whether the agent went back now to the version before, because the live one is worse."""
    # Not with its versions in the same query: who waits for the lock would be given those of before.
    agent = Agent.objects.select_for_update().filter(pk=agent_id).first()
    release = _current_release(agent, now) if agent else None
    if agent is None or release is None or release.status != ReleaseStatus.WATCHING:
        return False
    figures = _figures_of_release(agent.slug, release)
    arm, replaced = figures.get(release.version, Figures()), figures.get(release.replaced, Figures())
    before = release.looks
    release.looks = max(before, looks_due(min(arm.ended, replaced.ended), settings.AGENT_WATCH_MIN_CALLS))
    worse = release.looks > before and _is_worse(
        arm, replaced, release.looks, before, alpha=settings.AGENT_WATCH_ALPHA, comparisons=len(MEASURES)
    )
    if worse:
        release.status = ReleaseStatus.WORSE
    elif arm.ended >= settings.AGENT_WATCH_CALLS or now > release.since + _watch_time():
        release.status = ReleaseStatus.PASSED
    if release.status != ReleaseStatus.WATCHING:
        release.ended_at = now
    release.save()
    if worse:
        _take_back(agent, release, figures)
    return worse


def _current_release(agent: Agent, now: datetime) -> Release | None:
    """The release that the agent's row shows; written down when it is new."""
    last = Release.objects.filter(agent=agent).first()
    if agent.live is None or agent.standby is None:
        return None
    pair = (agent.live.number, agent.standby.number)
    if last is not None and (last.version, last.replaced) == pair:
        return last
    if last is not None and last.status == ReleaseStatus.WATCHING:
        last.status, last.ended_at = ReleaseStatus.SUPERSEDED, now
        last.save(update_fields=["status", "ended_at"])
    # Back to the older one of the same two: whoever did that knows why, and there is nothing better to go to.
    went_back = last is not None and (last.replaced, last.version) == pair and pair[0] < pair[1]
    return Release.objects.create(
        agent=agent,
        version=pair[0],
        replaced=pair[1],
        since=now,
        status=ReleaseStatus.UNWATCHED if went_back else ReleaseStatus.WATCHING,
        ended_at=now if went_back else None,
    )


def _figures_of_release(slug: str, release: Release) -> dict[int, Figures]:
    """The version's first calls, and the last ones that the version before had."""
    calls = settings.AGENT_WATCH_CALLS
    outcomes = CallOutcome.objects.filter(agent=slug)
    first = outcomes.filter(version=release.version, started_at__gte=release.since).order_by("started_at", "pk")
    last = outcomes.filter(
        version=release.replaced, started_at__lt=release.since, started_at__gte=release.since - _watch_time()
    ).order_by("-started_at", "-pk")
    return count_outcomes(
        CallOutcome.objects.filter(pk__in=first.values("pk")[:calls])
    ) | count_outcomes(CallOutcome.objects.filter(pk__in=last.values("pk")[:calls]))  # fmt: skip


def _take_back(agent: Agent, release: Release, figures: dict[int, Figures]) -> None:
    roll_back_agent(agent=agent)
    record(
        action="agent_release.taken_back",
        target=agent.slug,
        before={"live": release.version},
        after={"live": release.replaced, **_shown(figures)},
        tenant=connection.schema_name,
    )
    shown = {"agent": agent.slug, "version": release.version, "live": release.replaced}
    log.warning("a release was taken back: it is worse than the version before", extra=shown | _shown(figures))


def _is_worse(arm: Figures, control: Figures, looks: int, before: int, *, alpha: float, comparisons: int) -> bool:
    measures = [(arm.share(name), control.share(name)) for name in MEASURES]
    return is_worse(measures, looks=looks, looks_before=before, alpha=alpha, comparisons=comparisons)


def _shown(figures: dict[int, Figures]) -> dict[str, dict[str, dict[str, int]]]:
    return {"figures": {str(version): found.shown() for version, found in sorted(figures.items())}}


def _watch_time() -> timedelta:
    return timedelta(days=settings.AGENT_WATCH_DAYS)
