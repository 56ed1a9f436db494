"""Two tenants at once through pooled connections never see each other's rows; and the test notices if they do."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections
from django.test import Client
from django_tenants.postgresql_backend.base import DatabaseWrapper

from tests.record.world import World

REQUESTS = 200
THREADS = 25
PATHS = ("agents/", "conversations/", "agents/{name}-desk/", "conversations/sess_{name}/")


@pytest.fixture(autouse=True)
def _room(settings) -> None:
    settings.LIMITS = settings.LIMITS | {"requests_per_minute": 100_000}
    settings.POSTGRES_READ_TIMEOUT_MS = 20_000


def count_crossings(world: World) -> tuple[int, int]:
    """How many answers held something of the other tenant, and how many lacked what is the asker's own."""
    barrier = threading.Barrier(THREADS)
    houses = {"alpha": world.alpha, "beta": world.beta}

    def ask(number: int) -> tuple[bool, bool]:
        own, other = ("alpha", "beta") if number % 2 else ("beta", "alpha")
        client = Client(headers={"Authorization": f"Bearer {houses[own].key}"}, raise_request_exception=False)
        if number < THREADS:
            barrier.wait()
        try:
            if number % 9 == 4:  # changes of one agent wait for each other
                body = {"name": f"Renamed by {own}"}
                answer = client.patch(f"/api/v1/agents/{own}-desk/", json.dumps(body), "application/json")
            else:
                answer = client.get("/api/v1/" + PATHS[number % 4].format(name=own))
            shown = answer.content.decode()
            return other in shown, own not in shown
        finally:
            connections.close_all()

    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(ask, range(REQUESTS)))
    return sum(crossed for crossed, _ in answers), sum(lost for _, lost in answers)


def test_200_requests_of_two_tenants_never_cross(committed: World) -> None:
    assert count_crossings(committed) == (0, 0)


def share_one_tenant(set_tenant: Callable) -> Callable:
    """The tenant of the process, not of the connection: what a global in the wrong place would do."""
    last = []

    def broken(self: DatabaseWrapper, tenant, *rest) -> None:
        last.append(tenant)
        time.sleep(0.002)
        set_tenant(self, last[-1], *rest)

    return broken


def keep_first_tenant(set_tenant: Callable) -> Callable:
    """A connection that stays with the first tenant it served: what a forgotten reset would do."""
    first = []

    def broken(self: DatabaseWrapper, tenant, *rest) -> None:
        first.append(tenant)
        set_tenant(self, first[0], *rest)

    return broken


@pytest.mark.parametrize("break_it", [share_one_tenant, keep_first_tenant])
def test_a_broken_isolation_is_noticed(
    committed: World, monkeypatch: pytest.MonkeyPatch, break_it: Callable[[Callable], Callable]
) -> None:
    monkeypatch.setattr(DatabaseWrapper, "set_tenant", break_it(DatabaseWrapper.set_tenant))
    crossed, lost = count_crossings(committed)
    assert crossed + lost > 0
