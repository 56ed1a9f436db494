"""Asking a worker for the long work on tenants. Doors call it; a request that is lost is made again by the sweep."""

import logging

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from tenants.models import Tenant

TASK_BUILD = "celery_workers.tenants.build"
TASK_ERASE = "celery_workers.tenants.erase"
TASK_SWEEP = "celery_workers.tenants.sweep"
TASK_LEFTOVERS = "celery_workers.tenants.erase_leftovers"
QUEUE = "default"
SWEEP_INTERVAL_S = 5.0
LEFTOVERS_INTERVAL_S = 60.0

log = logging.getLogger(__name__)


def ask_for_build(tenant: Tenant) -> None:
    """As soon as the transaction around it is committed."""
    _ask(TASK_BUILD, tenant)


def _ask(task_name: str, tenant: Tenant) -> None:
    submit = import_string(settings.TASK_SUBMIT)
    kwargs = {"tenant": tenant.schema_name}

    def ask() -> None:
        try:
            submit(task_name, QUEUE, kwargs)
        except Exception as error:  # whatever the broker's client raises: the work is in the row, the sweep finds it
            log.warning("no worker could be asked; the sweep will: %s", type(error).__name__)

    transaction.on_commit(ask)
