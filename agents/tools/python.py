"""Tools that are installed with this server: Python packages with entry points of the group ``agentvoicebox.tools``."""

import asyncio
import concurrent.futures
import inspect
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import entry_points
from typing import Any

import msgspec

from agents.tools.mapping import MAX_OUTPUT_CHARACTERS, cut
from agents.tools.outcome import Outcome, failure
from agents.tools.sdk import PythonTool, ToolFailed
from agents.tools.types import RECEIPT_CHARACTERS, JsonObject, ToolContext, ToolSpec
from speech.logs import kind_and_place

GROUP = "agentvoicebox.tools"
THREADS = 32
"""Of one process, for functions that are not ``async``. One that never returns keeps its thread."""

log = logging.getLogger(__name__)


def list_python_tools() -> tuple[ToolSpec, ...]:
    """By name. Packages are imported when this is first called, so call it when a process starts."""
    return tuple(_load().values())


def find_python_tool(name: str) -> ToolSpec | None:
    return _load().get(name)


@cache
def _load() -> dict[str, ToolSpec]:
    """One that cannot be loaded is left out, and an error in the log says why."""
    found: dict[str, ToolSpec] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            loaded = entry.load()
        except Exception as error:  # whatever a package does when it is imported
            log.error("the Python tool %s (%s) cannot be loaded: %s", entry.name, entry.value, kind_and_place(error))
            continue
        if not isinstance(loaded, PythonTool):
            log.error("%s (%s) is no tool: it lacks the decorator agents.tools.sdk.tool", entry.name, entry.value)
        elif loaded.spec.name in found:
            log.error("there are two Python tools called %s; %s is left out", loaded.spec.name, entry.value)
        else:
            found[loaded.spec.name] = replace(loaded.spec, config=loaded)
    return found


class PythonRunner:
    """Runs them off the event loop of calls: functions in threads, coroutines in a loop of their own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="python-tool")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    async def run(self, tool: PythonTool, arguments: JsonObject, context: ToolContext, timeout_s: float) -> Outcome:
        """Only cancelling raises."""
        name = tool.spec.name
        sent: JsonObject = {"arguments": arguments}
        try:
            call = partial(tool.function, **tool.bind(arguments, context))
        except msgspec.ValidationError as error:
            return failure(f"The arguments do not fit: {error}.", outcome="refused")
        future = self._start(tool, call)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await asyncio.wrap_future(future)
            text = answer if isinstance(answer, str) else msgspec.json.encode(answer).decode()
        except ToolFailed as error:
            return failure(str(error) or "The tool failed.", sent=sent, healthy=True)
        except TimeoutError:
            words = f"{name} did not answer within {timeout_s:g} s."
            return failure(words, outcome="timeout", sent=sent, healthy=False)
        except Exception as error:  # whatever a tool does: its words may hold anything, so only its place is logged
            log.error("the Python tool %s failed: %s", name, kind_and_place(error))
            return failure(f"{name} failed.", sent=sent, healthy=False)
        return Outcome(cut(text, MAX_OUTPUT_CHARACTERS), sent=sent, answered={"output": cut(text, RECEIPT_CHARACTERS)})

    def _start(self, tool: PythonTool, call: "partial[Any]") -> "concurrent.futures.Future[Any]":
        if not tool.is_async:
            return self._threads.submit(call)
        return asyncio.run_coroutine_threadsafe(_await(call), self._own_loop())

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="python-tools", daemon=True).start()
            return self._loop

    def stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._loop = None


async def _await(call: "partial[Any]") -> Any:
    answer = call()
    return await answer if inspect.isawaitable(answer) else answer
