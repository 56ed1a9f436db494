"""What an orchestrator asks: ``/health`` (is this process alive), ``/ready`` (can it take calls), ``/metrics``.

Probes come by IP address and without a key, so they are answered before hosts and tenants are looked at.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, multiprocess
from prometheus_client import REGISTRY as PROCESS_REGISTRY

from agents.llm.choice import read_platform
from speech.jobs import WORKER_TTL_S, workers_key

QUEUES = ("stt", "tts", "default")
CHECK_TIMEOUT_S = 1.0
KEPT_S = 1.0
"""How long an answer of ``/ready`` holds: anybody may ask, and each look costs connections to every dependency."""

log = logging.getLogger(__name__)


def live(request: HttpRequest) -> HttpResponse:
    """200 as long as this process answers; it asks nobody else."""
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> HttpResponse:
    """200 when every dependency answers, else 503; each with its status and latency.

    A missing language model only makes the answer ``degraded``: calls are still taken. An answer holds for ``KEPT_S``.
    """
    found = READINESS.read()
    return JsonResponse(found, status=503 if found["status"] == "unavailable" else 200)


class Readiness:
    """What was found the last time; those who ask at the same time wait for one look together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, Any] = {}
        self._until = 0.0

    def read(self) -> dict[str, Any]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = _look()
                self._until = time.monotonic() + KEPT_S
            return self._found

    def forget(self) -> None:
        with self._lock:
            self._until = 0.0


READINESS = Readiness()


def _look() -> dict[str, Any]:
    checks: dict[str, Callable[[], str]] = {"postgres": _ask_postgres, "redis": _ask_redis, "llm": _find_model}
    checks |= {f"worker_{queue}": lambda queue=queue: _find_worker(queue) for queue in QUEUES}
    with ThreadPoolExecutor(len(checks), "ready") as threads:
        answers = dict(zip(checks, threads.map(_timed, checks.values()), strict=True))
    found = {answer["status"] for answer in answers.values()}
    status = next(word for word in ("unavailable", "degraded", "ok") if word in found)
    return {"status": status, "checks": answers}


def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text; of all gateway processes when they share ``PROMETHEUS_MULTIPROC_DIR``."""
    registry = PROCESS_REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


# Whoever waits for a look at the dependencies, waits in line here: never in the threads that calls and pages need.
LINE = ThreadPoolExecutor(1, "probe")
PROBES = {"/health": live, "/ready": ready, "/metrics": metrics}


class ProbeMiddleware:
    """Answers the probes, whatever host they name, before any other middleware runs."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        probe = PROBES.get(request.path.rstrip("/"))
        if self.is_async:
            return self._answer(request, probe)
        return probe(request) if probe else self.get_response(request)

    async def _answer(self, request: HttpRequest, probe: Callable[[HttpRequest], HttpResponse] | None) -> HttpResponse:
        if probe is None:
            return await self.get_response(request)
        if probe is live:
            return live(request)
        return await sync_to_async(probe, thread_sensitive=False, executor=LINE if probe is ready else None)(request)


def _timed(check: Callable[[], str]) -> dict[str, Any]:
    begun = time.perf_counter()
    try:
        status, detail = "ok", check()
    except NoModel as error:
        status, detail = "degraded", str(error)
    except NoWorker as error:
        status, detail = "unavailable", f"NoWorker: {error}"
    except Exception as error:  # whatever it is, it means: not ready
        # Its words are for the log alone: they hold addresses, and anybody may ask.
        log.warning("not ready: %s: %s", type(error).__name__, error)
        status, detail = "unavailable", f"{type(error).__name__}: does not answer"
    return {"status": status, "latency_ms": round((time.perf_counter() - begun) * 1000, 1), "detail": detail}


def _ask_postgres() -> str:
    try:
        connection.set_schema_to_public()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()
    return "answers"


def _redis() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=CHECK_TIMEOUT_S, socket_connect_timeout=CHECK_TIMEOUT_S
    )


def _ask_redis() -> str:
    with _redis() as client:
        client.ping()
    return "answers"


class NoModel(Exception):
    """Callers hear an apology: less than wanted, but no reason to refuse them."""


def _find_model() -> str:
    default = read_platform(os.environ).default
    if default is None:
        raise NoModel("no model is configured: set OPENAI_API_KEY, OPENAI_BASE_URL or another's key, or start Ollama")
    return default.model


class NoWorker(Exception):
    """Nobody takes work from a queue."""


def _find_worker(queue: str) -> str:
    with _redis() as client:
        count = client.zcount(workers_key(queue), time.time() - WORKER_TTL_S, "+inf")
    if not count:
        raise NoWorker(f"no worker of queue {queue} has reported in the last {WORKER_TTL_S} s")
    return f"{count} at work"
