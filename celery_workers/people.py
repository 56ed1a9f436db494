"""Housekeeping of people and their programs. Tasks of the ``default`` queue, safe to repeat."""

import logging
from collections.abc import Callable
from typing import Any

from django.contrib.sessions.models import Session
from django.db import InterfaceError, OperationalError, close_old_connections
from django.utils import timezone

from celery_workers.app import app
from tenants.people.oauth.signing import rotate_old_signing_key

log = logging.getLogger(__name__)

TASK_ROTATE_SIGNING_KEY = "celery_workers.people.rotate_signing_key"
TASK_FORGET_SESSIONS = "celery_workers.people.forget_sessions"

SCHEDULE: dict[str, dict[str, Any]] = {
    "signing-key": {"task": TASK_ROTATE_SIGNING_KEY, "schedule": 3600.0},
    "expired-sessions": {"task": TASK_FORGET_SESSIONS, "schedule": 3600.0},
}


@app.task(name=TASK_ROTATE_SIGNING_KEY)
def rotate_signing_key() -> None:
    """When it is older than ``AVB_OAUTH_KEY_DAYS``."""
    _attempt(rotate_old_signing_key)


@app.task(name=TASK_FORGET_SESSIONS)
def forget_sessions() -> None:
    """Those that have expired: Django only stops reading them."""
    _attempt(lambda: Session.objects.filter(expire_date__lt=timezone.now()).delete())


def _attempt(work: Callable[[], object]) -> None:
    """What does not succeed is tried again in the next round."""
    close_old_connections()
    try:
        work()
    except (OperationalError, InterfaceError) as error:
        log.warning("housekeeping of people did not get through: %s", type(error).__name__)
    finally:
        close_old_connections()
