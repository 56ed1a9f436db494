"""Items of one call on their way out, redacted in their order: short ones at once, long ones in a thread."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from agents.spec import Redaction
from realtime.privacy.redaction import Kept, Redactor, silent_stretches, weight
from realtime.protocol import effects as do
from speech.logs import kind_and_place

AT_ONCE_CHARACTERS = 500
"""Looking through more takes longer than the event loop may be held."""

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
        self._waiting: deque[tuple[do.Store, dict[str, float]] | str] = deque()
        self._work: asyncio.Task[None] | None = None

    def store(self, store: do.Store, timings_ms: dict[str, float]) -> None:
        """Never waits."""
        if self._work is None and weight(store.item) + weight(store.receipt) <= AT_ONCE_CHARACTERS:
            self._give(self._redact(store, timings_ms))
        else:
            self._queue((store, timings_ms))

    def remove(self, item_id: str) -> None:
        if self._work is None:
            self._drop(item_id)
        else:
            self._queue(item_id)

    async def settle(self) -> None:
        """Until nothing waits any more."""
        while self._work is not None:
            await asyncio.wait([self._work])

    def _queue(self, waiting: tuple[do.Store, dict[str, float]] | str) -> None:
        self._waiting.append(waiting)
        if self._work is None:
            self._work = asyncio.create_task(self._work_off(), name="redaction")

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                waiting = self._waiting.popleft()
                if isinstance(waiting, str):
                    self._drop(waiting)
                else:
                    self._give(await asyncio.to_thread(self._redact, *waiting))
        finally:
            self._work = None

    def _redact(self, store: do.Store, timings_ms: dict[str, float]) -> list[Kept]:
        try:
            return self._redactor.take(store, timings_ms)
        except Exception as error:
            # What cannot be looked at is not kept; the call and what else it says go on.
            log.error("an item is not kept: it could not be redacted: %s", kind_and_place(error))
            return []

    def _drop(self, item_id: str) -> None:
        self._redactor.forget(item_id)
        self._forget(item_id)

    def _give(self, items: list[Kept]) -> None:
        for kept in items:
            if self.silence is not None and (stretches := silent_stretches(kept)):
                self.silence(kept.store.item["id"], stretches, kept.store.item.get("role") == "user")
            self._put(kept.store, kept.timings_ms)
