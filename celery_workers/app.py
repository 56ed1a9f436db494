"""The Celery application: three queues on Redis, every task acknowledged late and safe to run twice. No Django here.

A worker that dies gives its task back after ``visibility_timeout``, which the three ``unacked_*`` options bring from
minutes down to about 5 s. The price: a healthy task longer than that starts a second time, so each task body must find
out by itself that another one is at it (``celery_workers.job``: a lease per job) or be harmless when repeated.
"""

import logging.config
import os
from typing import Any

from celery import Celery, signals
from kombu import Queue

from speech.config import ConfigError, read_config
from speech.jobs import QUEUE_STT, QUEUE_TTS, TASK_SYNTHESISE, TASK_TRANSCRIBE
from speech.logs import logging_config

QUEUE_DEFAULT = "default"
VISIBILITY_TIMEOUT_S = 5

try:
    config = read_config()
except ConfigError as error:
    raise SystemExit(f"celery: {error}") from None

app = Celery("agentvoicebox", broker=config.redis_url, set_as_current=True)
app.conf.update(
    result_backend=None,
    task_ignore_result=True,
    task_default_queue=QUEUE_DEFAULT,
    task_queues=[Queue(QUEUE_STT), Queue(QUEUE_TTS), Queue(QUEUE_DEFAULT)],
    task_routes={TASK_TRANSCRIBE: {"queue": QUEUE_STT}, TASK_SYNTHESISE: {"queue": QUEUE_TTS}},
    task_serializer="json",
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    # Nothing watches these; without them a worker holds fewer connections and starts a second sooner.
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 3,
        # A publish on a connection that died silently shall fail, not hang.
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
    },
)


def submit(task_name: str, queue: str, kwargs: dict[str, Any]) -> None:
    """Put one task on a queue. Blocks for one Redis round trip; raises kombu's OperationalError without a broker.

    Arguments hold what callers said, so no readable copy of them goes into the message's headers.
    """
    app.send_task(
        task_name, kwargs=kwargs, queue=queue, ignore_result=True, retry=False, argsrepr="()", kwargsrepr="(private)"
    )


@signals.setup_logging.connect
def configure_logging(**_: Any) -> None:
    """JSON or text lines as everywhere else. Celery calls it late; whoever logs before that calls it first."""
    settings = logging_config(
        service=os.environ.get("AVB_SERVICE", "worker"),
        level=config.log_level,
        log_format=os.environ.get("AVB_LOG_FORMAT", "auto"),
    )
    # One INFO line per task comes from the task itself, with its outcome; Celery's own two say less. The consumer's
    # "unknown message" would print a body.
    settings["loggers"]["celery.worker.strategy"] = {"level": "WARNING"}
    settings["loggers"]["celery.app.trace"] = {"level": "WARNING"}
    settings["loggers"]["celery.worker.consumer.consumer"] = {"filters": ["bodiless"]}
    # These write what was said, at DEBUG, and a line per job at INFO.
    for engine in ("faster_whisper", "kokoro_onnx", "phonemizer", "piper"):
        settings["loggers"][engine] = {"level": "WARNING"}
    settings["filters"]["bodiless"] = {"()": "celery_workers.app.BodilessFilter"}
    logging.config.dictConfig(settings)
    logging.captureWarnings(True)


class BodilessFilter(logging.Filter):
    """Keeps the bodies of messages that Celery does not understand out of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str) and "body" in record.msg.lower():
            record.msg, record.args = "Celery received a message that it does not understand; it was dropped", ()
            record.exc_info = None
        return True


@signals.celeryd_init.connect
def _be_quiet(instance: Any = None, **_: Any) -> None:
    if instance is not None:
        instance.quiet = True
