"""Runs services: starts them when what they need is ready, restarts what dies, shows their logs, stops them in order.

A service that dies is started again at once; one that keeps dying, after growing pauses. One that dies several times
before it was ever ready ends the run, with the end of its log. Nothing outlives the supervisor: every service leads a
process group that is killed when its leader is gone, and the kernel signals the services when the supervisor itself is.
"""

import asyncio
import contextlib
import inspect
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentvoicebox.stack.commands import Command, StartFailed, kill_group, read_end, spawn_options
from agentvoicebox.stack.output import Console, LogFile
from agentvoicebox.stack.running import Run, started_at_ticks

READY_POLL_S = 0.05
STARTS_BEFORE_READY = 3
PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
HEALTHY_AFTER_S = 60.0
MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """``make_command`` runs in a thread before each start; ``is_ready`` is asked with the pid until it says so.

    Services of a lower ``stop_stage`` are stopped first. Lines of one that is not ``on_console`` go to its file alone.
    """

    name: str
    make_command: Callable[[], Command]
    is_ready: Callable[[int], bool | Awaitable[bool]]
    needs: tuple[str, ...] = ()
    stop_stage: int = 0
    ready_timeout_s: float = 60.0
    on_console: bool = True


@dataclass(slots=True)
class _Watched:
    service: Service
    log: LogFile
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    was_ready: bool = False
    state: str = "waiting"
    process: asyncio.subprocess.Process | None = None
    command: Command | None = None
    restarts: int = 0
    stopping: bool = False
    task: asyncio.Task[None] | None = None


class Supervisor:
    """``start`` services in one or more calls, then ``watch`` until a signal or a failure, then ``stop``."""

    def __init__(self, run: Run, logs: Path, console: Console, *, quiet: bool = False) -> None:
        self._run = run
        self._logs = logs
        self._console = console
        self._quiet = quiet
        self._watched: dict[str, _Watched] = {}
        self._document: dict[str, Any] = {"pid": os.getpid(), "ready": False}
        self._stop_asked = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failure: BaseException | None = None

    async def start(self, services: Sequence[Service]) -> None:
        """Start the services and return once all are ready. Raises StartFailed, or CancelledError after a signal."""
        for service in services:
            self._watched[service.name] = _Watched(service, LogFile(self.log_path(service.name)))
        for service in services:
            watched = self._watched[service.name]
            watched.task = asyncio.create_task(self._keep_running(watched), name=service.name)
        ready = [asyncio.ensure_future(self._watched[service.name].ready.wait()) for service in services]
        await self.unless_stopped(asyncio.gather(*ready))

    async def unless_stopped(self, work: "asyncio.Future[Any]") -> Any:
        """The work's result. Raises CancelledError when a stop is asked for first, or what made a service fail."""
        stop = asyncio.ensure_future(self._stop_asked.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if self._failure:
                raise self._failure
            raise asyncio.CancelledError
        finally:
            for future in (work, stop):
                future.cancel()
            # What it raises now is of no interest: the first failure is the one that is told.
            await asyncio.gather(work, stop, return_exceptions=True)

    async def watch(self) -> None:
        """Return when asked to stop."""
        await self._stop_asked.wait()

    def raise_failure(self) -> None:
        """Raise what made a service fail for good, if that was why ``watch`` returned."""
        if self._failure:
            raise self._failure

    async def run(self, command: Command) -> None:
        """Run a program to its end; its output goes to its log. Raises StartFailed unless it ends with 0."""
        log = LogFile(self.log_path(command.name))
        process = await asyncio.create_subprocess_exec(
            *command.argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, **spawn_options(command)
        )
        try:
            output, _ = await self.unless_stopped(asyncio.ensure_future(process.communicate()))
            log.write(output.rstrip(b"\n"))
        finally:
            kill_group(process.pid)
            log.close()
        if process.returncode != 0:
            end = read_end(self.log_path(command.name))
            raise StartFailed(f"{' '.join(command.argv[1:])} ended with status {process.returncode}:\n{end}")

    def log_path(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def announce(self, **document: Any) -> None:
        """Publish facts about this run beside the services' states."""
        self._document |= document
        self._publish()

    def handle_signals(self) -> None:
        """SIGINT, SIGTERM and SIGHUP ask for a stop; a second one ends patience."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._ask_stop)

    async def stop(self) -> None:
        """Stop everything, stage after stage; within a stage all at once."""
        for watched in self._watched.values():
            watched.stopping = True
        for stage in sorted({watched.service.stop_stage for watched in self._watched.values()}):
            members = [watched for watched in self._watched.values() if watched.service.stop_stage == stage]
            running = [watched for watched in members if watched.process and watched.process.returncode is None]
            if running:
                self._console.say(f"stopping {', '.join(watched.service.name for watched in running)}")
            await asyncio.gather(*(self._stop_one(watched) for watched in members))
        self.announce(ready=False)

    def _ask_stop(self) -> None:
        if self._stop_asked.is_set():
            self._hurry.set()
        self._stop_asked.set()

    async def _keep_running(self, watched: _Watched) -> None:
        try:
            for need in watched.service.needs:
                await self._watched[need].ready.wait()
            failures = 0
            while not watched.stopping:
                began = time.monotonic()
                await self._run_once(watched)
                if watched.stopping:
                    return
                failures = 0 if time.monotonic() - began > HEALTHY_AFTER_S else failures + 1
                if not watched.was_ready and failures >= STARTS_BEFORE_READY:
                    raise StartFailed(
                        f"{watched.service.name} ended {failures} times while starting:\n"
                        + read_end(self.log_path(watched.service.name))
                    )
                pause_s = PAUSES_S[min(max(failures - 1, 0), len(PAUSES_S) - 1)]
                self._console.say(
                    f"{watched.service.name} {self._describe_end(watched)}; starting it again" + _after(pause_s)
                )
                watched.restarts += 1
                self._set_state(watched, "restarting")
                await asyncio.sleep(pause_s)
        except Exception as error:
            self._failure = error
            self._set_state(watched, "failed")
            self._stop_asked.set()

    async def _run_once(self, watched: _Watched) -> None:
        """From the start of one process to its end."""
        service = watched.service
        watched.command = command = await asyncio.to_thread(service.make_command)
        if watched.stopping:
            return
        watched.process = process = await asyncio.create_subprocess_exec(
            *command.argv,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=MAX_LINE_BYTES,
            **spawn_options(command),
        )
        self._set_state(watched, "starting")
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        reading = asyncio.create_task(self._read_output(watched, process.stdout))
        readiness = asyncio.create_task(self._await_ready(watched, process))
        try:
            await process.wait()
        finally:
            readiness.cancel()
            kill_group(process.pid)
            # Whoever left the group could hold the pipe open for ever.
            await asyncio.wait({reading}, timeout=1)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await readiness
            watched.ready.clear()

    async def _await_ready(self, watched: _Watched, process: asyncio.subprocess.Process) -> None:
        deadline = time.monotonic() + watched.service.ready_timeout_s
        while time.monotonic() < deadline:
            ready = watched.service.is_ready(process.pid)
            if await ready if inspect.isawaitable(ready) else ready:
                watched.was_ready = True
                self._set_state(watched, "ready")
                watched.ready.set()
                return
            await asyncio.sleep(READY_POLL_S)
        self._console.say(f"{watched.service.name} was not ready after {watched.service.ready_timeout_s:g} s")
        process.kill()

    async def _read_output(self, watched: _Watched, output: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await output.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                line = end.partial
            except asyncio.LimitOverrunError as overrun:
                line = await output.readexactly(overrun.consumed)
            if not line:
                return
            line = line.rstrip(b"\r\n")
            watched.log.write(line)
            if watched.service.on_console and not self._quiet:
                self._console.show(watched.service.name, line.decode(errors="replace"))

    async def _stop_one(self, watched: _Watched) -> None:
        watched.stopping = True
        process, command = watched.process, watched.command
        if process and command and process.returncode is None:
            self._set_state(watched, "stopping")
            for number, patience_s in command.stop_signals:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
                if await self._ends_within(process, patience_s):
                    break
            kill_group(process.pid)
            await process.wait()
        if watched.task:
            # It ends by itself once its process has; it may also be waiting to start one.
            await asyncio.wait({watched.task}, timeout=1)
            watched.task.cancel()
            await asyncio.wait({watched.task})
        watched.log.close()
        self._set_state(watched, "stopped")

    async def _ends_within(self, process: asyncio.subprocess.Process, patience_s: float) -> bool:
        ended = asyncio.ensure_future(process.wait())
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait({ended, hurry}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            return ended.done()
        finally:
            ended.cancel()
            hurry.cancel()

    def _describe_end(self, watched: _Watched) -> str:
        status = watched.process.returncode if watched.process else None
        if status is not None and status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    def _set_state(self, watched: _Watched, state: str) -> None:
        watched.state = state
        self._publish()

    def _publish(self) -> None:
        services = {}
        for name, watched in self._watched.items():
            pid = watched.process.pid if watched.process and watched.process.returncode is None else None
            services[name] = {
                "state": watched.state,
                "pid": pid,
                "started_at_ticks": started_at_ticks(pid) if pid else None,
                "restarts": watched.restarts,
            }
        self._run.write(self._document | {"stop_s": self._stop_s(), "services": services})

    def _stop_s(self) -> float:
        """The longest that a stop may take: one stage after another, in each stage whoever has the most patience."""
        longest: dict[int, float] = {}
        for watched in self._watched.values():
            if watched.command:
                patience_s = sum(patience_s for _, patience_s in watched.command.stop_signals)
                stage = watched.service.stop_stage
                longest[stage] = max(longest.get(stage, 0.0), patience_s)
        return sum(longest.values())


def _after(pause_s: float) -> str:
    return f" in {pause_s:g} s" if pause_s else ""
