"""How large a request may be, at every address."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from pytest_django import Settings

from tests.rest.conftest import Connect

LIMIT = 10_000
ADDRESSES = ["/", "/v1", "//v1/models", "/v1/models", "/api/v1/agents/", "/api/v1/nothing/", "/ready", "/admin/", "/no"]


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("path", ADDRESSES)
async def test_a_body_beyond_the_limit_is_not_taken_in(
    connect: Connect, settings: Settings, path: str, announced: bool
) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = LIMIT
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1_000
            yield b"x" * 1_000

    content = b"x" * 100_000 if announced else endless()
    # Joined by hand: a client would take // for another host.
    url = httpx2.URL("http://localhost").copy_with(raw_path=path.encode())
    answer = await connect(None).post(url, content=content)
    assert answer.status_code == 413
    assert taken <= LIMIT + 2_000
    if path.startswith("/v1/"):
        assert answer.json()["error"]["message"].startswith("Maximum content size limit (10000)")
    elif path.startswith("/api/v1/"):
        assert answer.json() == {
            "status": "error",
            "error": {"code": "body_too_large", "message": "The body may have at most 10000 bytes.", "param": None},
        }
    else:
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.startswith("Maximum content size limit (10000)")


async def test_a_body_within_the_limit_comes_through(connect: Connect, settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = LIMIT
    answer = await connect(None).post("/v1/realtime/client_secrets", content=b"x" * LIMIT)
    assert answer.status_code == 401
