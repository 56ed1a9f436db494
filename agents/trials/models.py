"""A/B trials between versions of an agent, releases that are watched, and what came of each call of a version."""

import uuid
from typing import Any

from django.db import models

from agents.trials.assignment import Arm

NEVER = -1
"""The sequence number of what has not been seen yet: every event's is higher."""


class TrialStatus(models.TextChoices):
    RUNNING = "running"
    ENDED = "ended"


class Trial(models.Model):
    """Versions of one agent that share its callers by weight. Arms and weights are fixed for the trial's life: a weight
    that moves would move callers from one version to another."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    agent = models.ForeignKey("agents.Agent", models.CASCADE, related_name="trials")
    arms = models.JSONField(help_text="[{version, weight}]: who takes part, and with what part of the callers.")
    control = models.PositiveIntegerField(help_text="The version that was live: the others are compared with it.")
    status = models.CharField(max_length=16, choices=TrialStatus, default=TrialStatus.RUNNING)
    end_reason = models.TextField(blank=True, help_text="Such as ended, promoted, published, worse.")
    auto_rollback = models.BooleanField(default=True, help_text="End it when an arm is significantly worse.")
    alpha = models.FloatField(help_text="The chance to end it wrongly for being worse, over all looks and arms.")
    min_calls = models.PositiveIntegerField(help_text="Calls that each side has before the first look.")
    looks = models.JSONField(default=dict, help_text="How many looks each version has had, by its number as text.")
    started_by = models.TextField(blank=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-started_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["agent"], condition=models.Q(status="running"), name="one_running_trial_per_agent"
            )
        ]

    def __str__(self) -> str:
        return f"{self.agent.slug}: versions {', '.join(str(arm.version) for arm in self.shares)}"

    @property
    def shares(self) -> tuple[Arm, ...]:
        return tuple(Arm(**arm) for arm in self.arms)


class ReleaseStatus(models.TextChoices):
    WATCHING = "watching"
    PASSED = "passed", "passed: enough calls or days without being worse"
    WORSE = "worse", "worse: the version before is live again"
    SUPERSEDED = "superseded", "superseded: another version is live"
    UNWATCHED = "unwatched", "unwatched: it went back to the version before"


class Release(models.Model):
    """A version that went live in another one's place. While it is watched its calls are compared with those that the
    other one had before."""

    agent = models.ForeignKey("agents.Agent", models.CASCADE, related_name="releases")
    version = models.PositiveIntegerField()
    replaced = models.PositiveIntegerField(help_text="The version that was live before.")
    status = models.CharField(max_length=16, choices=ReleaseStatus, default=ReleaseStatus.WATCHING)
    looks = models.PositiveIntegerField(default=0)
    since = models.DateTimeField(help_text="When it was first seen to be live; calls begun later count.")
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-since", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["agent"], condition=models.Q(status="watching"), name="one_watched_release_per_agent"
            )
        ]

    def __str__(self) -> str:
        return f"{self.agent.slug}@{self.version}"


class CallOutcome(models.Model):
    """What came of one agent version on one call. Known from the call's begin on for the version that began it, so that
    a call in progress counts as one that has not failed; ``ended_at`` is empty until then.

    Of a call whose conversation was removed only a trial's numbers stay: ``session_id`` is empty.
    """

    session_id = models.TextField(null=True)  # noqa: DJ001  (None is unlike every other None: the call is forgotten)
    agent = models.TextField(help_text="The agent's slug at the time of the call.")
    version = models.PositiveIntegerField()
    trial = models.TextField(blank=True, help_text="The trial that chose the version, by id.")
    seq = models.BigIntegerField(default=NEVER)
    failed = models.BooleanField(default=False)
    hung_up = models.BooleanField(default=False)
    turns = models.PositiveIntegerField(default=0)
    answers = models.PositiveIntegerField(default=0)
    duration_s = models.FloatField(null=True, help_text="Of the whole call.")
    end_reason = models.TextField(blank=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-started_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["session_id", "agent", "version"], name="one_outcome_per_call_and_version")
        ]
        indexes = [
            models.Index(fields=["agent", "version", "-started_at"], name="outcome_by_version"),
            models.Index(fields=["trial", "version"], name="outcome_by_trial", condition=~models.Q(trial="")),
        ]

    def __str__(self) -> str:
        return f"{self.agent}@{self.version} {self.session_id or ''}".rstrip()


def as_json(arms: tuple[Arm, ...]) -> list[dict[str, Any]]:
    """As ``Trial.arms`` holds them."""
    return [{"version": arm.version, "weight": arm.weight} for arm in arms]
