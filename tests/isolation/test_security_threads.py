"""A storage that hangs stops downloads, and no call."""

import asyncio
import threading

import pytest

from realtime.recordings.threads import THREADS, read_in_thread


async def test_downloads_that_hang_leave_the_threads_of_live_calls_alone() -> None:
    released = threading.Event()
    reads = [asyncio.create_task(read_in_thread(released.wait, 30)) for _ in range(4 * THREADS)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(lambda: "a call's large frame") == "a call's large frame"
    assert not any(read.done() for read in reads)
    released.set()
    assert all(await asyncio.gather(*reads))


async def test_what_a_thread_raises_is_raised() -> None:
    def fail() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await read_in_thread(fail)
