"""What a speech worker counts, by the names that dashboards know. Labels never hold anything that was said."""

import threading
import time

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, start_http_server

SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0)


class QueueMetrics:
    """The metrics of one queue, ``stt`` or ``tts``."""

    def __init__(self, queue: str, registry: CollectorRegistry = REGISTRY) -> None:
        prefix = f"agentvoicebox_{queue}"
        self.requests = Counter(f"{prefix}_requests", "Jobs by outcome", ["outcome"], registry=registry)
        self.duration = Histogram(f"{prefix}_duration_seconds", "Job time", buckets=SECONDS, registry=registry)
        self.queue_depth = Gauge(f"{prefix}_queue_depth", "Messages that wait in the queue", registry=registry)
        self.utilization = Gauge(f"{prefix}_utilization", "Busy share of this worker, 0..1", registry=registry)
        self.gpu_utilization = Gauge(
            f"{prefix}_gpu_utilization", "Share of the GPU in use, 0..1; 0 without one", registry=registry
        )
        self.first_chunk: Histogram | None = None
        if queue == "tts":
            self.first_chunk = Histogram(
                f"{prefix}_first_chunk_seconds", "From start to first audio", buckets=SECONDS, registry=registry
            )
        self._registry = registry
        self._lock = threading.Lock()
        self._changed = time.monotonic()
        self._busy = 0
        self._busy_s = 0.0
        self._sampled = self._changed

    def serve(self, port: int, host: str) -> None:
        """``/metrics`` over HTTP; port 0 means none. OSError when the port is taken."""
        if port:
            start_http_server(port, addr=host, registry=self._registry)

    def count(self, outcome: str, elapsed_s: float) -> None:
        self.requests.labels(outcome).inc()
        if outcome == "ok":
            self.duration.observe(elapsed_s)

    def set_busy(self, change: int) -> None:
        """A job begins (+1) or ends (-1)."""
        with self._lock:
            self._advance()
            self._busy += change

    def sample_utilization(self, concurrency: int) -> None:
        """Set the gauge to the busy share since the last sample."""
        with self._lock:
            self._advance()
            passed_s = max(1e-9, self._changed - self._sampled)
            self.utilization.set(min(1.0, self._busy_s / passed_s / concurrency))
            self._busy_s, self._sampled = 0.0, self._changed

    def _advance(self) -> None:
        now = time.monotonic()
        self._busy_s += self._busy * (now - self._changed)
        self._changed = now
