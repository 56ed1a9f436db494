"""A gateway that has to go lets its calls end."""

import asyncio
import os
import signal

import pytest
import websockets

from agentvoicebox.cli.caller import CallFailed
from tests.system.product import Product
from tests.system.words import clip_24khz


async def gone(pid: int) -> None:
    """Until that gateway process is no more."""
    for _ in range(300):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the gateway is still there")


async def test_a_stopping_gateway_takes_no_new_call_and_lets_this_one_finish(breakable: Product) -> None:
    async with breakable.call() as caller:
        turn = await caller.say(clip_24khz("librivox-0930.wav"))
        pid = breakable.pid("gateway")
        os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(0.5)
        with pytest.raises(OSError):
            await websockets.connect(breakable.demo["realtime_url"])
        await caller.hear_first(turn, 500)
        session_id = caller.session["id"]
    assert turn.said
    await gone(pid)
    await asyncio.to_thread(breakable.wait_ready)
    items = await breakable.stored(session_id, lambda items: len(items) == 2)
    assert items[0]["text"] == turn.said


async def test_what_does_not_end_in_time_is_told_to_connect_again(breakable: Product) -> None:
    async with breakable.call() as caller:
        session_id = caller.session["id"]
        pid = breakable.pid("gateway")
        os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(0.3)
        os.kill(pid, signal.SIGTERM)  # a second signal does not wait
        with pytest.raises(CallFailed, match="1012"):
            await caller.speak(clip_24khz("librivox-0930.wav"))
    await gone(pid)
    await asyncio.to_thread(breakable.wait_ready)
    await breakable.stored(session_id, lambda items: True)
    [row] = [row for row in breakable.get("/api/v1/conversations/")["results"] if row["id"] == session_id]
    assert row["end_reason"] == "server_drained"
