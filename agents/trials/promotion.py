"""The end of a trial that makes one of its versions live. Beside ``operations``, which the switch of versions uses."""

from django.db import transaction

from agents.models import Agent
from agents.operations import activate_version
from agents.trials.models import Trial
from agents.trials.operations import TrialRefused, end_trial


@transaction.atomic
def conclude_trial(*, trial: Trial, promote: int | None = None) -> Trial:
    """End it; with ``promote`` that version takes all calls, else the control goes on. Raises TrialRefused."""
    if promote is not None and promote not in {arm.version for arm in trial.shares}:
        raise TrialRefused(f"Version {promote} takes no part in the trial.", "promote")
    agent = Agent.objects.select_for_update().get(pk=trial.agent_id)
    if not end_trial(trial=trial, reason="ended" if promote is None else "promoted"):
        raise TrialRefused("The trial has ended.", "promote", "trial_ended")
    if promote is not None:
        activate_version(version=agent.versions.get(number=promote))
    return trial
