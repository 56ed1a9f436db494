"""How much of uploaded recordings a process works on at a time, so that live calls keep the cores and the queue."""

import asyncio

from realtime.rest.errors import OVERLOADED, ApiError


class Places:
    """``async with`` takes one of so many places; raises ApiError when none becomes free within ``wait_s``."""

    def __init__(self, places: int, wait_s: float) -> None:
        self._free = asyncio.Semaphore(places)
        self._wait_s = wait_s

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                await self._free.acquire()
        except TimeoutError as error:
            raise ApiError(503, OVERLOADED, code="server_overloaded", kind="server_error") from error

    async def __aexit__(self, *_: object) -> None:
        self._free.release()


class Capacity:
    """``recordings``, from their bytes to their text, at the same time; of them all, ``pieces`` on the queue, which
    wait for their turn as long as it takes. Of one event loop."""

    def __init__(self, *, recordings: int, pieces: int, wait_s: float) -> None:
        self.recordings = Places(recordings, wait_s)
        self.pieces = asyncio.Semaphore(pieces)
