"""Keys and limits in the whole product: revocation that reaches live sockets, places that a dead gateway leaves."""

import asyncio
import json
import time
from typing import Any

import websockets

from tests.system.product import Product


def make_key(product: Product, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = product.ask("POST", "keys/", {"name": "test", "scopes": ["realtime"], **fields})
    return made


async def connect(product: Product, secret: str) -> websockets.ClientConnection:
    url = f"{product.demo['realtime_url']}?model=gpt-realtime"
    return await websockets.connect(url, additional_headers={"Authorization": f"Bearer {secret}"}, max_size=None)


async def first_event(socket: websockets.ClientConnection) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 10))
    return event


async def test_a_revoked_key_loses_its_socket_within_a_second(breakable: Product) -> None:
    made, other = await asyncio.gather(*(asyncio.to_thread(make_key, breakable) for _ in range(2)))
    async with await connect(breakable, made["secret"]) as mine, await connect(breakable, other["secret"]) as others:
        assert (await first_event(mine))["type"] == "session.created"
        assert (await first_event(others))["type"] == "session.created"
        began = time.monotonic()
        await asyncio.to_thread(breakable.ask, "DELETE", f"keys/{made['id']}/")
        error = await first_event(mine)
        assert time.monotonic() - began < 4  # sooner than the re-check would find it
        assert error["error"]["code"] == "api_key_revoked"
        await asyncio.wait_for(mine.wait_closed(), 2)
        assert (mine.close_code, mine.close_reason) == (3000, "invalid_request_error.api_key_revoked")
        await others.send(json.dumps({"type": "response.create", "response": {"output_modalities": ["text"]}}))
        while (await first_event(others))["type"] != "rate_limits.updated":
            pass
    async with await connect(breakable, made["secret"]) as late:
        assert (await first_event(late))["error"]["code"] == "api_key_revoked"


async def test_the_places_of_a_gateway_that_died_are_free_within_thirty_seconds(breakable: Product) -> None:
    made = await asyncio.to_thread(make_key, breakable, limits={"concurrent_sessions": 1})
    socket = await connect(breakable, made["secret"])
    assert (await first_event(socket))["type"] == "session.created"
    async with await connect(breakable, made["secret"]) as second:
        assert (await first_event(second))["error"]["code"] == "too_many_sessions"
        await asyncio.wait_for(second.wait_closed(), 2)
        assert second.close_code == 1013
    await asyncio.sleep(0.2)
    died = time.monotonic()
    breakable.kill("gateway")
    await asyncio.to_thread(breakable.wait_ready)
    while True:
        async with await connect(breakable, made["secret"]) as again:
            if (await first_event(again))["type"] == "session.created":
                break
        assert time.monotonic() - died < 35
        await asyncio.sleep(0.5)
