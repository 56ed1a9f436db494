"""A program to run and how: what tests, the command line and the supervisor start processes from."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class StartFailed(Exception):
    """A process did not become ready; the message says why and holds the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user that a process runs as instead of root."""

    uid: int
    gid: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """``stop_signals`` are sent one after another, each followed by its patience in seconds, and SIGKILL comes last.

    ``orphan_signal`` is what the kernel sends when the starting process is killed. ``env`` is the whole environment.
    """

    name: str
    argv: tuple[str, ...]
    cwd: Path
    env: dict[str, str] = field(repr=False)
    account: Account | None = None
    stop_signals: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 10.0),)
    orphan_signal: signal.Signals = signal.SIGTERM


def spawn_options(command: Command) -> dict[str, Any]:
    """Keyword arguments for ``subprocess.Popen`` and ``asyncio.create_subprocess_exec``.

    The process leads its own group. The kernel watches the *thread* that starts it: start from one that lives on.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        # After the change of user, which would undo it.
        if _libc.prctl(PR_SET_PDEATHSIG, int(command.orphan_signal)) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    options: dict[str, Any] = {
        "cwd": command.cwd,
        "env": command.env,
        "stdin": subprocess.DEVNULL,
        "start_new_session": True,
        "preexec_fn": die_with_parent,
    }
    if command.account:
        options |= {"user": command.account.uid, "group": command.account.gid, "extra_groups": []}
    return options


def start(command: Command, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the process with its output appended to ``log``."""
    return subprocess.Popen(command.argv, stdout=log, stderr=subprocess.STDOUT, **spawn_options(command))


def wait_ready(
    process: subprocess.Popen[bytes], name: str, is_ready: Callable[[int], bool], log: Path, timeout_s: float
) -> None:
    """Return once ``is_ready(pid)``; raises StartFailed when the process ends first or the time is up."""
    deadline = time.monotonic() + timeout_s
    while not is_ready(process.pid):
        if process.poll() is not None:
            raise StartFailed(f"{name} ended with status {process.returncode} while starting:\n{read_end(log)}")
        if time.monotonic() > deadline:
            raise StartFailed(f"{name} was not ready after {timeout_s:g} s:\n{read_end(log)}")
        time.sleep(0.01)


def stop(process: subprocess.Popen[bytes], command: Command) -> None:
    """Stop the process and everything in its group."""
    for number, patience_s in command.stop_signals:
        if process.poll() is not None:
            break
        process.send_signal(number)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    kill_group(process.pid)
    process.wait()


def kill_group(group: int) -> None:
    """SIGKILL whatever is left in the process group."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def read_end(log: Path, lines: int = 15) -> str:
    """The last lines of a log file."""
    try:
        with log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 16_384))
            return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return f"({log} was never written)"


def wait_gone(pid: int, timeout_s: float) -> None:
    """Wait for a process that is not our child. Raises StartFailed when it is still there in the end."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if time.monotonic() > deadline:
            raise StartFailed(f"process {pid} of an earlier run does not end; end it by hand")
        time.sleep(0.02)
