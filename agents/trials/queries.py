"""Reading trials. Runs inside the tenant's schema."""

from uuid import UUID

from django.db.models import QuerySet

from agents.models import Agent
from agents.trials.assignment import choose_version
from agents.trials.comparison import ArmReport, report
from agents.trials.figures import Figures, count_outcomes
from agents.trials.models import CallOutcome, Release, Trial, TrialStatus


class TrialUnknown(Exception):
    """The agent has no trial of this id."""

    def __init__(self, trial_id: object) -> None:
        super().__init__(f"There is no trial {str(trial_id)!r}.")
        self.message = str(self)


def assign(agent: Agent, subject: str) -> tuple[int, str] | None:
    """The version that ``subject`` gets, and the trial that says so; None where no trial runs. One query.

    ``subject`` is the end user, or the session's id where the caller has no name.
    """
    trial = Trial.objects.filter(agent=agent, status=TrialStatus.RUNNING).only("id", "arms").first()
    if trial is None:
        return None
    return choose_version(str(trial.pk), subject, trial.shares), str(trial.pk)


def list_trials(agent: Agent, *, status: str | None = None) -> QuerySet[Trial]:
    """Newest first."""
    trials = Trial.objects.filter(agent=agent).select_related("agent")
    return trials if status is None else trials.filter(status=status)


def find_trial(agent: Agent, trial_id: UUID) -> Trial:
    """Raises TrialUnknown."""
    trial = list_trials(agent).filter(pk=trial_id).first()
    if trial is None:
        raise TrialUnknown(trial_id)
    return trial


def figures_of(trial: Trial) -> dict[int, Figures]:
    """By version: of the calls that the trial brought there."""
    return count_outcomes(CallOutcome.objects.filter(trial=str(trial.pk)))


def compare(trial: Trial) -> list[ArmReport]:
    """Its arms side by side, in the trial's order; one query."""
    return report(trial, figures_of(trial))


def list_releases(agent: Agent, *, status: str | None = None) -> QuerySet[Release]:
    """Newest first."""
    releases = Release.objects.filter(agent=agent)
    return releases if status is None else releases.filter(status=status)
