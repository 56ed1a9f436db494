"""What lies in Redis carries its tenant's name, and tasks touch no tenant but the one they name."""

import inspect
import json
import re
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import connection
from django.test import Client

from agents.queries import AgentUnknown, admit
from celery_workers.app import app
from realtime.archive import draining
from realtime.archive.events import encode_event, stream_key
from tests.isolation.walk import fill, routes, state_of
from tests.record.world import World, call

ROOT = Path(__file__).parents[2]


def documented_keys() -> list[tuple[str, re.Pattern[str]]]:
    """The keys of the table in docs/ARCHITECTURE.md, each with what its names may look like."""
    found = []
    for line in (ROOT / "docs/ARCHITECTURE.md").read_text().splitlines():
        if line.startswith(("| `avb:", "| `stt`")):
            for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
                escaped = re.escape(name).replace("…", ".*")
                found.append((name, re.compile(re.sub(r"\\\{\w+\\\}", "[^:]+", escaped))))
    return found


@pytest.fixture
def busy(committed: World, valkey_url: str, settings) -> "redis.Redis[bytes]":
    """Both tenants have asked for everything that the API has, and held a call."""
    settings.LIMITS = settings.LIMITS | {"requests_per_minute": 100_000}
    client = redis.Redis.from_url(valkey_url)
    for house in (committed.alpha, committed.beta):
        web = Client(headers={"Authorization": f"Bearer {house.key}"}, raise_request_exception=False)
        for route in routes():
            if route.takes("GET") and not route.is_platforms:
                web.get(fill(route, house))
        body = json.dumps({"slug": "desk-2", "name": f"Second desk of {house.tenant.slug}"})
        answer = web.post("/api/v1/agents/", body, "application/json", headers={"Idempotency-Key": "same-for-both"})
        assert answer.status_code == 201
        for event in call(f"sess_{house.tenant.slug}_2", "desk", [f"words of {house.tenant.slug}"]):
            client.xadd(stream_key(house.tenant.schema_name), {b"event": encode_event(event)})
        draining.drain(client, house.tenant.schema_name)
        client.xadd(stream_key(house.tenant.schema_name), {b"event": b"no event"})
        draining.drain(client, house.tenant.schema_name)
    return client


def test_every_key_is_documented_and_carries_its_tenant(busy: "redis.Redis[bytes]") -> None:
    known = documented_keys()
    names = sorted(key.decode() for key in busy.scan_iter())
    assert any("idempotency" in name for name in names)
    assert any("archive:dead" in name for name in names)
    for name in names:
        fitting = [pattern for pattern, shape in known if shape.fullmatch(name)]
        assert fitting, f"{name} is not in the table of docs/ARCHITECTURE.md"
        if any("{tenant}" in pattern for pattern in fitting):
            assert name.split(":")[1] in ("alpha", "beta", "platform", "public"), name


def test_no_key_of_a_tenant_holds_anything_of_the_other(busy: "redis.Redis[bytes]") -> None:
    """Sealed values cannot be searched; what is not sealed names no other tenant."""
    for name in busy.scan_iter():
        tenant = name.decode().split(":")[1]
        other = {"alpha": b"beta", "beta": b"alpha"}.get(tenant)
        if other is not None:
            kind = busy.type(name)
            value: Any = {
                b"string": busy.get, b"zset": lambda key: busy.zrange(key, 0, -1), b"set": busy.smembers,
                b"hash": busy.hgetall, b"stream": busy.xrange, b"list": lambda key: busy.lrange(key, 0, -1),
            }[kind](name)  # fmt: skip
            assert other not in repr(value).encode(), name


def test_the_same_idempotency_key_of_two_tenants_is_two_keys(busy: "redis.Redis[bytes]") -> None:
    assert len(busy.keys("avb:alpha:idempotency:*")) == 1
    assert len(busy.keys("avb:beta:idempotency:*")) == 1


def tenant_tasks() -> list[str]:
    """The tasks of the default queue that work for one tenant."""
    default = import_module("celery_workers.default")
    for module in default.TASKS:
        import_module(module)
    return sorted(
        name
        for name, task in app.tasks.items()
        if not name.startswith("celery.") and "tenant" in inspect.signature(task.run).parameters
    )


def test_there_are_tasks_to_walk() -> None:
    assert "celery_workers.archive.drain" in tenant_tasks()


@pytest.mark.parametrize("tenant", ["nosuch", "", "public", "pg_catalog", 'beta"; DROP SCHEMA beta; --'])
@pytest.mark.parametrize("name", tenant_tasks())
def test_a_task_for_a_tenant_that_does_not_exist_changes_nothing(committed: World, name: str, tenant: str) -> None:
    before = [state_of(house.tenant) for house in (committed.alpha, committed.beta)]
    schemas = "SELECT schema_name FROM information_schema.schemata ORDER BY 1"
    with connection.cursor() as cursor:
        cursor.execute(schemas)
        existing = cursor.fetchall()
    task = app.tasks[name]
    arguments = {
        parameter.name: "sess_beta" if parameter.annotation in ("str", str) else 1
        for parameter in inspect.signature(task.run).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.KEYWORD_ONLY
    }
    with suppress(Exception):  # how it refuses is its own affair
        task.run(**arguments | {"tenant": tenant})
    connection.set_schema_to_public()
    with connection.cursor() as cursor:
        cursor.execute(schemas)
        assert cursor.fetchall() == existing
    assert [state_of(house.tenant) for house in (committed.alpha, committed.beta)] == before


def test_the_door_of_calls_opens_only_to_agents_of_the_keys_tenant(world: World) -> None:
    assert admit(world.alpha.key, "alpha-desk").tenant == "alpha"
    assert admit(world.alpha.key, None).agent.slug == "alpha-desk"
    with pytest.raises(AgentUnknown):
        admit(world.alpha.key, "beta-desk")
