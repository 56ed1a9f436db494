"""What one call has under way: tasks and timers by name, in the call's own group, so that none outlives it.

A task that was cancelled and goes on is cancelled again: while redis-py waits for an answer it may keep a cancellation
to itself.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

AGAIN_S = 1.0
"""Time enough for a task to put its things away."""


async def end_tasks(*tasks: asyncio.Task[None]) -> None:
    """Until they have, whatever keeps a cancellation to itself."""
    waiting: set[asyncio.Task[None]] = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=AGAIN_S)


class Work:
    """``begin`` when the group is there, ``end`` when it is about to cancel its tasks, ``stop`` when they are gone:
    nothing is taken on any more."""

    def __init__(self) -> None:
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.timers: dict[str, asyncio.TimerHandle] = {}
        self._group: asyncio.TaskGroup | None = None
        self._ending = False

    def begin(self, group: asyncio.TaskGroup) -> None:
        self._group = group

    def end(self) -> None:
        """The group cancels the tasks, once."""
        if not self._ending:
            self._ending = True
            for task in list(self.tasks.values()):
                self._insist(task)

    def stop(self) -> None:
        self._group = None
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()

    def spawn(self, name: str, task: Coroutine[Any, Any, None]) -> None:
        if self._group is None:
            task.close()
            return
        self.tasks[name] = self._group.create_task(task)
        self.tasks[name].add_done_callback(partial(self._done, name))

    def _done(self, name: str, task: asyncio.Task[None]) -> None:
        if self.tasks.get(name) is task:  # a response's next reply may have begun
            del self.tasks[name]

    def cancel(self, name: str) -> None:
        task = self.tasks.pop(name, None)
        if task is not None:
            self._cancel(task)

    def cancel_all(self) -> None:
        for task in list(self.tasks.values()):
            self._cancel(task)

    def _cancel(self, task: asyncio.Task[None]) -> None:
        if not task.done():
            task.cancel()
            self._insist(task)

    def _insist(self, task: asyncio.Task[None]) -> None:
        asyncio.get_running_loop().call_later(AGAIN_S, self._cancel, task)

    def after(self, delay_s: float, name: str, do_it: Callable[[], None]) -> None:
        """In place of what waits under this name."""
        if (waiting := self.timers.pop(name, None)) is not None:
            waiting.cancel()
        if self._group is None:
            return

        def ring() -> None:
            del self.timers[name]
            do_it()

        self.timers[name] = asyncio.get_running_loop().call_later(max(0.0, delay_s), ring)
