"""The platform API and the pages while PostgreSQL is away, and right after it is back."""

import time

from django.db import connection
from django.test import Client

from agentvoicebox.stack.postgres import EmbeddedPostgres
from tests.record.world import Api, World


def test_requests_say_what_is_wrong_and_work_again_soon(committed: World, postgres_server: EmbeddedPostgres) -> None:
    api = Api(committed.alpha.key)
    assert api("GET", "conversations/")[0] == 200
    postgres_server.stop()
    try:
        response = api.client.get("/api/v1/conversations/")
        assert response.status_code == 503
        assert response["Retry-After"] == "2"
        assert response.json()["error"]["code"] == "database_unavailable"
        assert Client().get("/").status_code == 200
        assert Client().get("/health").status_code == 200
        ready = Client().get("/ready")
        assert (ready.status_code, ready.json()["checks"]["postgres"]["status"]) == (503, "unavailable")
    finally:
        postgres_server.start()
    # A pool whose last attempt has just failed may need the two seconds that Retry-After told.
    for _ in range(5):
        if (status := api("GET", "conversations/")[0]) != 503:
            break
        time.sleep(2)
    assert status == 200
    connection.close()
