"""Items of one call on their way out, redacted in their order: short ones at once, long ones in a thread."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from agents.spec import Redaction
from realtime.privacy.redaction import Kept, Redactor, silent_stretches, weight, whole_of
from realtime.protocol import effects as do
from speech.logs import kind_and_place

AT_ONCE_CHARACTERS = 500
"""Looking through more takes longer than the event loop may be held."""

MOST_WAITING = 2_000_000
"""Characters that may wait: about two seconds' work, and what they take in memory."""

Silence = Callable[[str, list[tuple[int, int]], bool], None]
"""An item's id, what of its audio is not kept, and whether it is the caller's."""

log = logging.getLogger(__name__)


class RedactionQueue:
    """``put`` and ``forget`` are told what may leave, in the order of ``store`` and ``remove``."""

    def __init__(
        self,
        redaction: Redaction,
        *,
        put: Callable[[do.Store, dict[str, float]], None],
        forget: Callable[[str], None],
    ) -> None:
        self.silence: Silence | None = None
        self._redactor = Redactor(redaction.kinds)
        self._put = put
        self._forget = forget
        self._waiting: deque[tuple[do.Store, dict[str, float], int] | str] = deque()
        self._waiting_characters = 0
        self._work: asyncio.Task[None] | None = None

    def store(self, store: do.Store, timings_ms: dict[str, float]) -> None:
        """Never waits."""
        characters = weight(store.item) + weight(store.receipt)
        if self._work is None and characters <= AT_ONCE_CHARACTERS:
            self._give(store, self._redact(store, timings_ms))
        else:
            self._waiting_characters += characters
            self._queue((store, timings_ms, characters))

    def remove(self, item_id: str) -> None:
        if self._work is None:
            self._drop(item_id)
        else:
            self._queue(item_id)

    async def make_room(self) -> None:
        """Where too much waits until nothing does: who brings more has to wait for it."""
        if self._waiting_characters > MOST_WAITING:
            await self.settle()

    async def settle(self) -> None:
        """Until nothing waits any more."""
        while self._work is not None:
            await asyncio.wait([self._work])

    def _queue(self, waiting: tuple[do.Store, dict[str, float], int] | str) -> None:
        self._waiting.append(waiting)
        if self._work is None:
            self._work = asyncio.create_task(self._work_off(), name="redaction")

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                waiting = self._waiting.popleft()
                if isinstance(waiting, str):
                    self._drop(waiting)
                    continue
                store, timings_ms, characters = waiting
                self._give(store, await asyncio.to_thread(self._redact, store, timings_ms))
                self._waiting_characters -= characters
        finally:
            self._work = None

    def _redact(self, store: do.Store, timings_ms: dict[str, float]) -> list[Kept] | None:
        try:
            return self._redactor.take(store, timings_ms)
        except Exception as error:
            # What cannot be looked at is not kept; the call and what else it says go on.
            log.error("an item is not kept: it could not be redacted: %s", kind_and_place(error))
            return None

    def _drop(self, item_id: str) -> None:
        self._redactor.forget(item_id)
        self._forget(item_id)

    def _give(self, store: do.Store, items: list[Kept] | None) -> None:
        if items is None:
            self._fall_silent(store, whole_of(store))
        for kept in items or ():
            self._fall_silent(kept.store, silent_stretches(kept))
            self._put(kept.store, kept.timings_ms)

    def _fall_silent(self, store: do.Store, stretches: list[tuple[int, int]]) -> None:
        if self.silence is not None and stretches:
            self.silence(store.item["id"], stretches, store.item.get("role") == "user")
