"""The whole product as a user has it: ``avb up`` in a state directory of its own, and what a test does to it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentvoicebox.cli.caller import Caller
from agentvoicebox.stack.ports import find_free_port
from agentvoicebox.stack.state import REPOSITORY, read_json
from tests.llm.server import ChatServer

PROVIDER_VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "AVB_LLM_MODEL", "OLLAMA_HOST", "DATABASE_URL", "REDIS_URL")


class Product:
    """Started by ``up --detach``, stopped by ``down``. ``environment`` goes on top of this process's."""

    def __init__(self, state: Path, environment: dict[str, str]) -> None:
        self.state = state
        inherited = {name: value for name, value in os.environ.items() if name not in PROVIDER_VARIABLES}
        self._environment = {
            **inherited,
            "PYTHONPATH": str(REPOSITORY),  # as the ``avb`` script sets it
            "AVB_STATE_DIR": str(state),
            "OLLAMA_HOST": "127.0.0.1:9",
            **environment,
        }

    def avb(self, *arguments: str, written: str | None = None) -> subprocess.CompletedProcess[str]:
        """``written`` comes through a pipe as standard input."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "agentvoicebox.cli", *arguments],
            cwd=REPOSITORY,
            env=self._environment,
            input=written,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def up(self) -> None:
        started = self.avb("up", "--detach", "--port", str(find_free_port()))
        assert started.returncode == 0, started.stdout + started.stderr
        self.demo: dict[str, str] = json.loads((self.state / "demo.json").read_text())

    def down(self) -> None:
        stopped = self.avb("down")
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr

    def call(self, agent: str = "", **options: Any) -> Caller:
        """The demo agent, or another."""
        return Caller(
            self.demo["realtime_url"], self.demo["api_key"], f"agent:{agent or self.demo['agent']}", **options
        )

    def get(self, path: str) -> Any:
        """A page of the REST API: what its ``data`` holds, or the whole answer outside the API."""
        request = urllib.request.Request(  # noqa: S310 - the product's own address
            self.demo["base_url"] + path, headers={"Authorization": f"Bearer {self.demo['api_key']}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            body = answer.read().decode()
        return json.loads(body).get("data", body) if body.startswith("{") else body

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The platform API: what its ``data`` holds."""
        request = urllib.request.Request(  # noqa: S310 - the product's own address
            f"{self.demo['base_url']}/api/v1/{path}",
            json.dumps(body).encode() if body is not None else None,
            {"Authorization": f"Bearer {self.demo['api_key']}", "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                read = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error
        return json.loads(read)["data"] if read else None

    def items(self, session_id: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get(f"/api/v1/conversations/{session_id}/")["items"]
        return items

    async def stored(self, session_id: str, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The call's items once they are as wanted; 20 s at most."""
        items: list[dict[str, Any]] = []
        for _ in range(200):
            try:
                items = await asyncio.to_thread(self.items, session_id)
            except OSError:
                items = []
            if enough(items):
                return items
            await asyncio.sleep(0.1)
        raise AssertionError(f"not archived as wanted: {items}")

    def pid(self, service: str) -> int:
        return int(read_json(self.state / "supervisor.json")["services"][service]["pid"])

    def kill(self, service: str) -> int:
        """SIGKILL; returns the process id that is no more."""
        pid = self.pid(service)
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_ready(self) -> None:
        """Until all of it takes calls again; 30 s at most."""
        for _ in range(300):
            try:
                if json.loads(self.get("/ready"))["status"] == "ok":
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(self.avb("status").stdout)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted((self.state / "logs").glob("*.log")))


@contextmanager
def scripted_llm() -> Iterator[ChatServer]:
    """A chat completions server in a thread; tell it what to ``say``."""
    ready, over = threading.Event(), threading.Event()
    servers: list[ChatServer] = []

    async def serve() -> None:
        async with ChatServer() as server:
            servers.append(server)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(5)
    try:
        yield servers[0]
    finally:
        over.set()
        thread.join(5)


def words(text: str) -> list[dict[str, Any]]:
    """The text as a model's deltas, a word each."""
    pieces = text.split(" ")
    return [{"content": piece + ("" if n == len(pieces) - 1 else " ")} for n, piece in enumerate(pieces)]
