"""Whatever touches a tenant's rows is inside a transaction.

Behind a pooler that hands out connections per transaction, a query outside of one may run on a connection that has
another tenant's schema.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from agents.queries import admit
from realtime.archive import draining
from realtime.archive.events import encode_event, stream_key
from tests.record.world import World, call


@contextmanager
def watched() -> Iterator[list[tuple[bool, str]]]:
    """Each statement about a tenant's tables, and whether it ran inside a transaction."""
    seen: list[tuple[bool, str]] = []

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if '"agents_agent"' in sql or "archive_" in sql:
            seen.append((connection.in_atomic_block, sql))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield seen
    assert seen, "nothing was read at all"
    assert [sql for inside, sql in seen if not inside] == []


@pytest.mark.parametrize("path", ["agents/", "agents/alpha-desk/", "conversations/", "conversations/sess_alpha/"])
def test_the_api(committed: World, path: str) -> None:
    with watched():
        response = Client(headers={"Authorization": f"Bearer {committed.alpha.key}"}).get(f"/api/v1/{path}")
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("view", "arguments"),
    [
        ("agents_agent_changelist", []),
        ("archive_conversation_changelist", []),
        ("archive_conversation_change", ["sess_alpha"]),
    ],
)
def test_the_admin(committed: World, view: str, arguments: list[str]) -> None:
    client = Client(headers={"Host": committed.alpha.host})
    client.force_login(committed.alpha.owner)
    with watched():
        response = client.get(reverse(f"admin:{view}", args=arguments))
    assert response.status_code == 200
    assert "alpha" in response.content.decode()


def test_the_door(committed: World) -> None:
    with watched():
        assert admit(committed.alpha.key, "alpha-desk").tenant == "alpha"


def test_the_drain(committed: World, valkey_url: str, tmp_path: Path) -> None:
    import redis

    with redis.Redis.from_url(valkey_url) as client:
        for event in call("sess_a", "desk", ["one"]):
            client.xadd(stream_key("alpha"), {b"event": encode_event(event)})
        with watched():
            assert draining.drain(client, "alpha") == 3
