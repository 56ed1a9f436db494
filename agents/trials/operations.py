"""What can be done to trials. Runs inside the tenant's schema; each function is one transaction.

Whoever holds the row of an agent may wait for the row of a trial, and not the other way round.
"""

from collections.abc import Sequence

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from agents.models import Agent, AgentVersion
from agents.trials.assignment import Arm
from agents.trials.models import Trial, TrialStatus, as_json
from agents.trials.queries import figures_of
from tenants.audit.operations import record
from tenants.principal import acting

MOST_ARMS = 10
HIGHEST_WEIGHT = 1_000_000
HIGHEST_ALPHA = 0.2
FEWEST_CALLS, MOST_CALLS = 5, 100_000


class TrialRefused(Exception):
    """``param`` names the argument at fault."""

    def __init__(self, message: str, param: str, code: str = "invalid") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class TrialRunning(TrialRefused):
    """One at a time."""

    def __init__(self, slug: str) -> None:
        super().__init__(f"A trial of {slug!r} is running; end it first.", "arms", "trial_running")


@transaction.atomic
def start_trial(
    *,
    agent: Agent,
    arms: Sequence[Arm],
    auto_rollback: bool = True,
    alpha: float | None = None,
    min_calls: int | None = None,
) -> Trial:
    """New calls are split between the arms by weight; the live version is one of them, and the control.

    Raises TrialRefused, TrialRunning.
    """
    agent = Agent.objects.select_for_update().get(pk=agent.pk)
    alpha = settings.AGENT_WATCH_ALPHA if alpha is None else alpha
    min_calls = settings.AGENT_WATCH_MIN_CALLS if min_calls is None else min_calls
    if agent.live is None:
        raise TrialRefused("An agent without a live version takes no calls; publish it first.", "arms", "unpublished")
    _check_arms(agent, agent.live.number, arms)
    if not 0 < alpha <= HIGHEST_ALPHA:
        raise TrialRefused(f"'alpha' is a chance above 0, at most {HIGHEST_ALPHA}.", "alpha")
    if not FEWEST_CALLS <= min_calls <= MOST_CALLS:
        raise TrialRefused(f"'min_calls' is a number from {FEWEST_CALLS} to {MOST_CALLS}.", "min_calls")
    try:
        with transaction.atomic():
            trial = Trial.objects.create(
                agent=agent, arms=as_json(arms), control=agent.live.number, auto_rollback=auto_rollback, alpha=alpha,
                min_calls=min_calls, started_by=acting().name, started_at=timezone.now(),
            )  # fmt: skip
    except IntegrityError as error:
        raise TrialRunning(agent.slug) from error
    record(
        action="agent_trial.started",
        target=agent.slug,
        after={"trial": trial.pk, "arms": trial.arms, "control": trial.control, "auto_rollback": auto_rollback},
        tenant=connection.schema_name,
    )
    return trial


def _check_arms(agent: Agent, live: int, arms: Sequence[Arm]) -> None:
    versions = [arm.version for arm in arms]
    if not 2 <= len(arms) <= MOST_ARMS or len(set(versions)) < len(versions):
        raise TrialRefused(f"A trial has 2 to {MOST_ARMS} different versions.", "arms")
    if any(not 1 <= arm.weight <= HIGHEST_WEIGHT for arm in arms):
        raise TrialRefused(f"A weight is a whole number from 1 to {HIGHEST_WEIGHT}.", "arms")
    known = set(AgentVersion.objects.filter(agent=agent, number__in=versions).values_list("number", flat=True))
    if unknown := sorted(set(versions) - known):
        raise TrialRefused(f"{agent.slug!r} has no version {unknown[0]}.", "arms", "version_not_found")
    if live not in versions:
        raise TrialRefused(f"Version {live} is live: it takes part, and the others are compared with it.", "arms")


@transaction.atomic
def end_trials(*, agent: Agent, reason: str) -> int:
    """For whoever makes another version live, and holds the agent's row: callers go there from now on. How many ran
    (one at most)."""
    running = Trial.objects.filter(agent=agent, status=TrialStatus.RUNNING).select_related("agent")
    return sum(end_trial(trial=trial, reason=reason) for trial in running)


@transaction.atomic
def end_trial(*, trial: Trial, reason: str) -> bool:
    """Callers get the live version from now on; calls in progress go on as they are. False: it had ended already.

    ``reason`` is a word: ended, promoted, published, activated, rolled_back, worse.
    """
    ended_at = timezone.now()
    running = Trial.objects.filter(pk=trial.pk, status=TrialStatus.RUNNING)
    if not running.update(status=TrialStatus.ENDED, end_reason=reason, ended_at=ended_at):
        return False
    trial.status, trial.end_reason, trial.ended_at = TrialStatus.ENDED, reason, ended_at
    figures = {str(version): found.shown() for version, found in figures_of(trial).items()}
    record(
        action="agent_trial.ended",
        target=trial.agent.slug,
        after={"trial": trial.pk, "reason": reason, "control": trial.control, "figures": figures},
        tenant=connection.schema_name,
    )
    return True
