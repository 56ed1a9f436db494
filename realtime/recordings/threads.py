"""Threads for whoever reads from the storage of recordings while others wait for the event loop.

A storage that hangs holds a thread for as long as its time limit. Those of ``asyncio.to_thread`` are few, and live
calls need them: for large frames, and for each connection to Redis.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Read = TypeVar("Read")

THREADS = 8
_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="read-storage")


async def read_in_thread(read: Callable[Given, Read], *args: Given.args, **kwargs: Given.kwargs) -> Read:
    """What ``read`` gives; beyond ``THREADS`` at a time it waits for its turn."""
    context = copy_context()
    return await asyncio.get_running_loop().run_in_executor(_threads, lambda: context.run(read, *args, **kwargs))
