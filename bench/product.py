"""A product of its own for a benchmark: ``avb up`` in a fresh directory, with the environment that the figure needs."""

import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from agents.llm.scripted import ScriptedLlm  # noqa: E402
from agentvoicebox.stack.ports import find_free_port  # noqa: E402
from speech import models  # noqa: E402


def describe_machine() -> str:
    """Where the figures below were taken."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    packages = ", ".join(f"{name} {version(name)}" for name in ("faster-whisper", "kokoro-onnx", "celery", "uvicorn"))
    return f"{os.cpu_count()} × {model}; Python {platform.python_version()}; {packages}"


@contextmanager
def scripted_llm(first_token_ms: int) -> Iterator[str]:
    """A model with a fixed first token, in a thread. Yields its URL."""
    ready, over = threading.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with ScriptedLlm(first_token_ms=first_token_ms) as server:
            urls.append(server.url)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    ready.wait(5)
    try:
        yield urls[0]
    finally:
        over.set()
        thread.join(5)


@contextmanager
def running_product(**environment: str) -> Iterator[dict[str, Any]]:
    """Yields what ``demo.json`` says; stopped and forgotten afterwards."""
    with tempfile.TemporaryDirectory(prefix="avb-bench-") as directory:
        Path(directory).chmod(0o755)
        inherited = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "AVB_MODELS_DIR": str(models.cache_dir().absolute()),
            "AVB_STATE_DIR": directory,
            **environment,
        }
        avb = [sys.executable, "-P", "-m", "agentvoicebox.cli"]
        up = [*avb, "up", "--detach", "--port", str(find_free_port())]
        started = subprocess.run(up, env=inherited, capture_output=True, text=True, check=False)
        if started.returncode:
            raise SystemExit(started.stdout + started.stderr)
        try:
            yield json.loads((Path(directory) / "demo.json").read_text())
        finally:
            subprocess.run([*avb, "down"], env=inherited, capture_output=True, check=False)
