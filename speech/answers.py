"""Waiting for an answer of Redis so that whoever waits can always be cancelled.

Python 3.11's ``asyncio.wait_for`` keeps a cancellation to itself where what it waits for has just ended, and redis-py
writes each command within one. A task that is cancelled then goes on, and nobody cancels it again: a task group waits
for it for ever.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")

_left: set[asyncio.Task[Any]] = set()


async def wait_for_answer(asking: Coroutine[Any, Any, Answer]) -> Answer:
    """What ``asking`` gives or raises. When the waiter is cancelled the question is not: it ends by itself, within its
    own time-out, and its answer is dropped."""
    asked = asyncio.get_running_loop().create_task(asking)
    try:
        await asyncio.wait([asked])
    finally:
        if not asked.done():
            _left.add(asked)
            asked.add_done_callback(_drop)
    return asked.result()


def _drop(asked: asyncio.Task[Any]) -> None:
    _left.discard(asked)
    if not asked.cancelled():
        asked.exception()
