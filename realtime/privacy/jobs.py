"""Who works on an export or erasure: whoever takes its lease, and renews it while the work goes on."""

from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from realtime.privacy.models import OPEN, Erasure, Export, JobState

LEASE = timedelta(seconds=60)
RETRY = timedelta(seconds=30)

AnyJob = TypeVar("AnyJob", Export, Erasure)


class LeaseLost(Exception):
    """Somebody else works on it, or it was removed."""


def _due(now: datetime) -> Q:
    return Q(state__in=OPEN) & (Q(lease_until=None) | Q(lease_until__lt=now))


def take_job(model: type[AnyJob], job_id: UUID) -> AnyJob:
    """The job, ours for ``LEASE``. Raises LeaseLost when it is not to be had."""
    now = timezone.now()
    with transaction.atomic():
        job = model.objects.select_for_update(skip_locked=True).filter(_due(now), pk=job_id).first()
        if job is None:
            raise LeaseLost
        job.lease_until, job.state, job.attempts = now + LEASE, JobState.RUNNING, job.attempts + 1
        job.save(update_fields=["lease_until", "state", "attempts"])
    return job


def renew_lease(job: Export | Erasure) -> None:
    """Inside a transaction of the work. Raises LeaseLost."""
    until = timezone.now() + LEASE
    if not type(job).objects.filter(pk=job.pk, lease_until=job.lease_until).update(lease_until=until):
        raise LeaseLost
    job.lease_until = until


def let_go(job: Export | Erasure, error: Exception, *, most: int | None = None) -> None:
    """After a fault: it is taken up again in ``RETRY``, an export not more than ``most`` times."""
    now = timezone.now()
    job.fault, job.lease_until = type(error).__name__, now + RETRY
    if isinstance(job, Export) and most is not None and job.attempts >= most:
        job.state, job.ended_at, job.end_user = JobState.FAILED, now, ""
        # What there is of its file goes when the whole file would have gone.
        job.expires_at = now + timedelta(hours=settings.EXPORT_HOURS)
    with transaction.atomic():
        job.save()


def find_due() -> tuple[list[UUID], list[UUID]]:
    """Exports and erasures that somebody should take up."""
    now = timezone.now()
    exports = list(Export.objects.filter(_due(now)).values_list("pk", flat=True))
    return exports, list(Erasure.objects.filter(_due(now)).values_list("pk", flat=True))
