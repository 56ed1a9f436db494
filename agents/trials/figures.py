"""Counting what came of calls, by version. Runs inside the tenant's schema."""

from dataclasses import dataclass

from django.db.models import Avg, Count, Q, QuerySet, StdDev

from agents.trials.models import CallOutcome
from agents.trials.statistics import Count as Share
from agents.trials.statistics import Sample

MEASURES = ("failed", "hung_up")
"""What makes a version worse when there is more of it."""
NO_SAMPLE = Sample(0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one version. ``calls`` have begun, ``ended`` of them are over; one in progress has not failed so far."""

    calls: int = 0
    ended: int = 0
    failed: int = 0
    hung_up: int = 0
    duration_s: Sample = NO_SAMPLE
    turns: Sample = NO_SAMPLE

    def share(self, measure: str) -> Share:
        return Share(getattr(self, measure), self.calls)

    def shown(self) -> dict[str, int]:
        """For logs and the audit log."""
        return {"calls": self.calls, "ended": self.ended, "failed": self.failed, "hung_up": self.hung_up}


def count_outcomes(outcomes: QuerySet[CallOutcome]) -> dict[int, Figures]:
    """By version. One query."""
    over = Q(ended_at__isnull=False)
    rows = outcomes.order_by().values("version").annotate(
        calls=Count("pk"),
        ended=Count("pk", filter=over),
        failures=Count("pk", filter=Q(failed=True)),
        hang_ups=Count("pk", filter=Q(hung_up=True)),
        mean_s=Avg("duration_s", filter=over),
        deviation_s=StdDev("duration_s", sample=True, filter=over),
        mean_turns=Avg("turns", filter=over),
        deviation_turns=StdDev("turns", sample=True, filter=over),
    )  # fmt: skip
    return {
        row["version"]: Figures(
            calls=row["calls"],
            ended=row["ended"],
            failed=row["failures"],
            hung_up=row["hang_ups"],
            duration_s=Sample(row["ended"], row["mean_s"] or 0.0, row["deviation_s"] or 0.0),
            turns=Sample(row["ended"], row["mean_turns"] or 0.0, row["deviation_turns"] or 0.0),
        )
        for row in rows
    }
