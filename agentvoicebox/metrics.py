"""What the record world costs: PostgreSQL queries and Redis commands of this process, counted and timed."""

import functools
import time
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from prometheus_client import Counter, Histogram

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
POSTGRES_QUERIES = Counter("agentvoicebox_postgres_queries_total", "PostgreSQL queries", ["operation", "outcome"])
POSTGRES_DURATION = Histogram(
    "agentvoicebox_postgres_duration_seconds", "PostgreSQL latency", ["operation"], buckets=BUCKETS_S
)
REDIS_COMMANDS = Counter("agentvoicebox_redis_commands_total", "Redis commands", ["command", "outcome"])
REDIS_DURATION = Histogram("agentvoicebox_redis_duration_seconds", "Redis latency", ["command"], buckets=BUCKETS_S)

OPERATIONS = {"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}
# How long these take says how long nothing came, not how fast Redis is.
WAITING_COMMANDS = {"BLPOP", "BRPOP", "BLMOVE", "BZPOPMIN", "XREAD", "XREADGROUP", "SUBSCRIBE", "PSUBSCRIBE"}


def observe_postgres() -> None:
    """Measure each query of every connection that Django opens from now on."""
    connection_created.connect(_wrap_connection, dispatch_uid="agentvoicebox.metrics")


def _wrap_connection(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if measure_query not in connection.execute_wrappers:
        connection.execute_wrappers.append(measure_query)


def measure_query(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """An execute wrapper for Django's cursors."""
    word = str(sql)[:16].split(None, 1)[0].upper() if sql else ""
    operation = word.lower() if word in OPERATIONS else "other"
    begun = time.perf_counter()
    outcome = "error"
    try:
        answer = execute(sql, params, many, context)
        outcome = "ok"
        return answer
    finally:
        POSTGRES_DURATION.labels(operation).observe(time.perf_counter() - begun)
        POSTGRES_QUERIES.labels(operation, outcome).inc()


def observe_redis() -> None:
    """Measure every command and pipeline of redis-py clients in this process, whoever made the client."""
    for client in (redis.client.Redis, redis.client.Pipeline):
        name = "execute_command" if client is redis.client.Redis else "execute"
        if not hasattr(getattr(client, name), "__wrapped__"):
            setattr(client, name, _measured(getattr(client, name)))
    for client in (redis.asyncio.client.Redis, redis.asyncio.client.Pipeline):
        name = "execute_command" if client is redis.asyncio.client.Redis else "execute"
        if not hasattr(getattr(client, name), "__wrapped__"):
            setattr(client, name, _measured_async(getattr(client, name)))


def _measured(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def execute(self: Any, *args: Any, **options: Any) -> Any:
        begun, outcome = time.perf_counter(), "error"
        try:
            answer = call(self, *args, **options)
            outcome = "ok"
            return answer
        finally:
            _count(call.__name__, args, begun, outcome)

    return execute


def _measured_async(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    async def execute(self: Any, *args: Any, **options: Any) -> Any:
        begun, outcome = time.perf_counter(), "error"
        try:
            answer = await call(self, *args, **options)
            outcome = "ok"
            return answer
        finally:
            _count(call.__name__, args, begun, outcome)

    return execute


def _count(method: str, args: tuple[Any, ...], begun: float, outcome: str) -> None:
    command = str(args[0]).split(None, 1)[0].upper() if method == "execute_command" else "PIPELINE"
    REDIS_COMMANDS.labels(command, outcome).inc()
    if command not in WAITING_COMMANDS:
        REDIS_DURATION.labels(command).observe(time.perf_counter() - begun)
