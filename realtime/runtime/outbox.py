"""What waits to be sent: one queue and one writer for a call, so that the order on the wire is the order of states."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable


class Outbox:
    """Frames on their way to one client; ``waiting_bytes`` is what it has not taken yet."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self._frames: deque[str] = deque()
        self._ready = asyncio.Event()
        self._empty = asyncio.Event()

    def put(self, frame: str) -> None:
        self._frames.append(frame)
        self.waiting_bytes += len(frame)
        self._ready.set()
        self._empty.clear()

    async def write(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send for as long as the call lasts. Raises what ``send`` raises."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                await send(frame)
                self.waiting_bytes -= len(frame)
            self._ready.clear()
            self._empty.set()
            await self._ready.wait()

    async def wait_empty(self) -> None:
        """Until the client has taken everything."""
        await self._empty.wait()
