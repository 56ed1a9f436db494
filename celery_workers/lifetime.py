"""From the start of a speech worker to its end: load and warm the engines, then serve; refuse to start without them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from celery import signals

from celery_workers.app import app, config, configure_logging
from celery_workers.job import Workbench
from celery_workers.metrics import QueueMetrics
from celery_workers.presence import Presence
from speech.engines import EngineError
from speech.jobs import WorkerState
from speech.models import ModelError

log = logging.getLogger(__name__)

Engines = TypeVar("Engines")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Engines]):
    """Engines that are ready, and what to say of them."""

    engines: Engines
    engine: str
    model: str
    device: str
    degraded: bool = False


class Lifetime(Generic[Engines]):
    """Everything that a worker of one queue holds between its start and its end."""

    def __init__(self, queue: str, time_limit_s: float, load: Callable[[], Loaded[Engines]]) -> None:
        self.queue = queue
        self._time_limit_s = time_limit_s
        self._load = load
        self._loaded: Loaded[Engines] | None = None
        self._bench: Workbench | None = None
        self._presence: Presence | None = None
        # Celery keeps weak references to receivers.
        signals.celeryd_init.connect(self._size, weak=False)
        signals.worker_init.connect(self.begin, weak=False)
        signals.worker_ready.connect(self.show, weak=False)
        signals.worker_shutdown.connect(self.end, weak=False)

    @property
    def loaded(self) -> Loaded[Engines]:
        assert self._loaded is not None, "a task ran before the worker had begun"  # noqa: S101
        return self._loaded

    @property
    def engines(self) -> Engines:
        return self.loaded.engines

    @property
    def bench(self) -> Workbench:
        assert self._bench is not None, "a task ran before the worker had begun"  # noqa: S101
        return self._bench

    def begin(self, sender: Any = None, **_: Any) -> None:
        """Celery swallows a receiver's exceptions, but not SystemExit: without its engine a worker must not start."""
        configure_logging()
        if "prefork" in str(getattr(sender, "pool_cls", "")):
            # Models loaded here would not survive a fork, and one set per child would fill the memory.
            log.critical("the %s worker needs --pool threads (or solo), not prefork", self.queue)
            raise SystemExit(1)
        try:
            self._loaded = loaded = self._load()
        except (EngineError, ModelError) as error:
            log.critical("the %s worker does not start: %s", self.queue, error)
            raise SystemExit(1) from None
        metrics = QueueMetrics(self.queue)
        try:
            metrics.serve(config.metrics_port, config.metrics_host)
        except OSError as error:
            log.critical("AVB_METRICS_PORT %d: %s", config.metrics_port, error)
            raise SystemExit(1) from None
        self._bench = Workbench(self.queue, config.redis_url, self._time_limit_s, metrics)
        state = WorkerState(
            worker=self._bench.worker,
            pid=int(self._bench.worker.rpartition("-")[2]),
            engine=loaded.engine,
            model=loaded.model,
            device=loaded.device,
            busy=0,
            concurrency=config.concurrency(self.queue),
            degraded=loaded.degraded,
        )
        self._bench.start()
        self._presence = Presence(self._bench, config.redis_url, state)
        log.info("the %s engine is loaded: %s %s on %s", self.queue, loaded.engine, loaded.model, loaded.device)

    def show(self, **_: Any) -> None:
        """Celery takes messages from now on."""
        if self._presence:
            self._presence.start()

    def end(self, **_: Any) -> None:
        if self._bench and self._presence:
            self._presence.close()
            self._bench.close()

    def _size(self, **_: Any) -> None:
        app.conf.worker_concurrency = config.concurrency(self.queue)
