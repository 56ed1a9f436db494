"""Which supervisor runs in a state directory: a lock that ends with it, and a document of what it runs."""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentvoicebox.stack.commands import kill_group
from agentvoicebox.stack.state import read_json, write_json

LEFTOVER_PATIENCE_S = 5.0
# The product's own, which all get the same settings; servers that it brings get none of them.
PROCESSES = ("gateway", "default", "stt", "tts")
# To kill what does not end in its time, and to close logs.
SPARE_S = 15.0


class AlreadyRunning(Exception):
    """Another supervisor holds the state directory; the message says where it serves."""


class Run:
    """The one run of a state directory, as seen from any process."""

    def __init__(self, state: Path) -> None:
        self._lock_file = state / "supervisor.lock"
        self._document = state / "supervisor.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the supervisor. Raises AlreadyRunning."""
        self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        with self._lock_file.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunning(self.describe()) from None
            yield

    def is_held(self) -> bool:
        """Whether a supervisor is alive. The lock goes with the process, however it ends."""
        try:
            with self._lock_file.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def read(self) -> dict[str, Any]:
        """``pid``, ``base_url``, ``ready``, ``stop_s`` and ``services`` of the latest run, which may be over."""
        return read_json(self._document)

    def write(self, document: dict[str, Any]) -> None:
        write_json(self._document, document)

    def environment(self) -> dict[str, str]:
        """What a process of the run was started with; nothing when none is alive. Raises PermissionError."""
        if not self.is_held():
            return {}
        for name, seen in self.read().get("services", {}).items():
            if name in PROCESSES and _is_alive(seen):
                try:
                    pairs = Path(f"/proc/{seen['pid']}/environ").read_bytes().split(b"\0")
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it ended just now; another one knows the same
                return dict(os.fsdecode(pair).split("=", 1) for pair in pairs if b"=" in pair)
        return {}

    def describe(self) -> str:
        document = self.read()
        where = f" at {document['base_url']}" if document.get("base_url") else ""
        return f"already running{where} (process {document.get('pid', 'unknown')}); stop it with: ./avb down"

    def stop(self, spare_s: float = SPARE_S) -> bool:
        """Ask the supervisor to end and wait for it, ``spare_s`` longer than it may take by its own word.

        False when there is none. Raises TimeoutError.
        """
        if not self.is_held():
            return False
        document = self.read()
        pid, patience_s = int(document["pid"]), float(document.get("stop_s", 0.0)) + spare_s
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + patience_s
        while self.is_held():
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {pid} is still stopping after {patience_s:g} s")
            time.sleep(0.05)
        return True

    def end_leftovers(self) -> list[str]:
        """Wait for processes of a supervisor that was killed, then kill the rest; gives the names of those killed."""
        left = {name: seen for name, seen in self.read().get("services", {}).items() if _is_alive(seen)}
        deadline = time.monotonic() + LEFTOVER_PATIENCE_S
        while any(_is_alive(seen) for seen in left.values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        stubborn = [name for name, seen in left.items() if _is_alive(seen)]
        for name in stubborn:
            kill_group(left[name]["pid"])
        return stubborn


def started_at_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: with the pid, this names a process for good."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rsplit(")", 1)[1].split()[19])


def _is_alive(seen: dict[str, Any]) -> bool:
    pid = seen.get("pid")
    return pid is not None and started_at_ticks(pid) == seen.get("started_at_ticks")
