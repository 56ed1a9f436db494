"""Asking a worker for exports and erasures; one that is lost is asked for again by the sweep."""

import logging
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils.module_loading import import_string

TASK_RETAIN = "celery_workers.privacy.retain"
TASK_EXPORT = "celery_workers.privacy.export"
TASK_ERASE = "celery_workers.privacy.erase"
TASK_SWEEP = "celery_workers.privacy.sweep"
QUEUE = "default"
SWEEP_S = 60.0
RETAIN_S = 3_600.0

log = logging.getLogger(__name__)


def request_job(task_name: str, job_id: UUID) -> None:
    """As soon as the transaction around it is committed."""
    submit = import_string(settings.TASK_SUBMIT)
    kwargs = {"tenant": connection.schema_name, "job": str(job_id)}

    def ask() -> None:
        try:
            submit(task_name, QUEUE, kwargs)
        except Exception as error:  # whatever the broker's client raises: the work is in the row, the sweep finds it
            log.warning("no worker could be asked; the sweep will: %s", type(error).__name__)

    transaction.on_commit(ask)
