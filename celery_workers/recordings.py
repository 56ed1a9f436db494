"""Stores what this machine's gateways have recorded. Part of the ``default`` worker, though no task: the spool is on a
disk, and a task may land on any machine. A worker beside each gateway shares its AVB_RECORDING_SPOOL_DIR.
"""

import logging
import threading
from typing import Any

from celery import signals
from django.conf import settings
from django.db import close_old_connections

from realtime.recordings.storing import Storer

SCHEDULE: dict[str, dict[str, Any]] = {}
ROUND_S = 1.0
STOP_S = 5.0

log = logging.getLogger(__name__)


class Storing(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="recordings", daemon=True)
        self._storer = Storer(settings.RECORDING_SPOOL_DIR)
        self.closing = threading.Event()

    def run(self) -> None:
        while not self.closing.wait(ROUND_S):
            close_old_connections()
            self._storer.round()
            close_old_connections()


storing = Storing()


@signals.worker_ready.connect
def begin(**_: Any) -> None:
    storing.start()


@signals.worker_shutdown.connect
def end(**_: Any) -> None:
    """What is under way may finish; what does not in time is taken up again by whoever comes next."""
    storing.closing.set()
    if storing.is_alive():
        storing.join(STOP_S)
