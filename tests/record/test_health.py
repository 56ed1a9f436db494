"""``/health``, ``/ready`` and ``/metrics``."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from django.db import OperationalError
from django.test import AsyncClient, Client

from agentvoicebox import health
from agentvoicebox.stack.valkey import EmbeddedValkey
from speech.jobs import workers_key

ANYWHERE = {"Host": "10.1.2.3:8000"}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """What ``/ready`` found for another test tells nothing here."""
    health.READINESS.forget()
    yield
    health.READINESS.forget()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the dependencies were looked at; each look takes 0.2 s."""
    seen: list[float] = []

    def look() -> dict[str, object]:
        seen.append(time.monotonic())
        time.sleep(0.2)
        return {"status": "unavailable", "checks": {}}

    monkeypatch.setattr(health, "_look", look)
    return seen


@pytest.fixture
def probes() -> Client:
    return Client(headers=ANYWHERE)


@pytest.fixture
def workers(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        for queue in ("stt", "tts", "default"):
            client.zadd(workers_key(queue), {"worker-1": time.time()})


def test_health_asks_nobody_and_answers_any_host(probes: Client) -> None:
    for path in ("/health", "/health/"):
        response = probes.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_probes_answer_under_asgi_too() -> None:
    assert (await AsyncClient(headers=ANYWHERE).get("/health")).json() == {"status": "ok"}
    assert b"agentvoicebox_" in (await AsyncClient(headers=ANYWHERE).get("/metrics")).content


@pytest.mark.django_db(transaction=True)
def test_ready_names_each_dependency(probes: Client, workers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    response = probes.get("/ready")
    body = response.json()
    assert response.status_code == 200, body
    assert body["status"] == "ok"
    assert set(body["checks"]) == {"postgres", "redis", "llm", "worker_stt", "worker_tts", "worker_default"}
    for check in body["checks"].values():
        assert check["status"] == "ok"
        assert 0 <= check["latency_ms"] < 2_000


@pytest.mark.django_db(transaction=True)
def test_without_a_language_model_calls_are_still_taken(
    probes: Client, workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    response = probes.get("/ready")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert "OPENAI_BASE_URL" in response.json()["checks"]["llm"]["detail"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("queue", ["stt", "tts", "default"])
def test_a_queue_without_a_worker_is_not_ready(probes: Client, workers: None, valkey_url: str, queue: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        client.zadd(workers_key(queue), {"worker-1": time.time() - 6})
    response = probes.get("/ready")
    assert response.status_code == 503
    assert response.json()["checks"][f"worker_{queue}"]["status"] == "unavailable"


@pytest.mark.django_db(transaction=True)
def test_what_does_not_answer_is_named_without_its_address(
    probes: Client, valkey_server: EmbeddedValkey, settings
) -> None:
    settings.REDIS_URL = "redis://:hunter2@127.0.0.1:1/0"
    response = probes.get("/ready")
    assert response.status_code == 503
    assert response.json()["checks"]["redis"]["status"] == "unavailable"
    assert response.json()["checks"]["postgres"]["status"] == "ok"
    assert "hunter2" not in response.content.decode()


def test_an_answer_holds_for_a_second(probes: Client, looks: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    assert [probes.get("/ready").status_code for _ in range(5)] == [503] * 5
    assert len(looks) == 1
    monkeypatch.setattr(health, "KEPT_S", 0.0)
    health.READINESS.forget()
    assert [probes.get("/ready/").status_code for _ in range(2)] == [503] * 2
    assert len(looks) == 3


def test_those_who_ask_at_once_share_one_look(looks: list[float]) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: Client(headers=ANYWHERE).get("/ready").status_code, range(8)))
    assert answers == [503] * 8
    assert len(looks) == 1


async def test_a_crowd_at_ready_takes_no_threads_from_others(looks: list[float]) -> None:
    before = threading.active_count()
    asking = [asyncio.ensure_future(AsyncClient(headers=ANYWHERE).get("/ready")) for _ in range(50)]
    await asyncio.sleep(0.1)
    assert threading.active_count() <= before + 1
    assert {response.status_code for response in await asyncio.gather(*asking)} == {503}
    assert len(looks) == 1


def test_a_database_that_fails_is_named_without_its_address(
    probes: Client, workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise OperationalError('connection to server at "db.inside" (10.9.8.7), port 5432 failed: user "avb"')

    monkeypatch.setattr(health, "_ask_postgres", fail)
    check = probes.get("/ready").json()["checks"]["postgres"]
    assert (check["status"], check["detail"]) == ("unavailable", "OperationalError: does not answer")


@pytest.mark.django_db(transaction=True)
def test_metrics_count_queries_and_commands(probes: Client, workers: None) -> None:
    probes.get("/ready")
    text = probes.get("/metrics").content.decode()
    for name in (
        'agentvoicebox_postgres_queries_total{operation="select",outcome="ok"}',
        'agentvoicebox_postgres_duration_seconds_bucket{le="0.0005",operation="select"}',
        'agentvoicebox_redis_commands_total{command="PING",outcome="ok"}',
        'agentvoicebox_redis_duration_seconds_count{command="ZCOUNT"}',
        "django_http_requests_before_middlewares_total",
    ):
        assert name in text
