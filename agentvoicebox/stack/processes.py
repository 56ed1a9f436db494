"""The product's processes as services, and the one environment that they all get."""

import asyncio
import contextlib
import importlib.util
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from agentvoicebox.stack import ports
from agentvoicebox.stack.commands import Command
from agentvoicebox.stack.state import REPOSITORY
from agentvoicebox.stack.supervisor import Service

EMBEDDED_LLM = "smollm2-135m-instruct-q4"
WORKER_STOP_S = 12.0
# Celery's warning is about pickle, which no queue accepts.
ROOT_WARNING = "You're running the worker with superuser privileges"
# Beside Redis keys of its own, /ready looks for these; celery_workers.presence writes them.
WORKER_KEY = "avb:worker:{queue}:{host}-{pid}"


def make_environment(state: Path, *, database_url: str, redis_url: str, llm: Mapping[str, str]) -> dict[str, str]:
    """What every process of the product gets: the caller's environment, and where things are."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {
        **inherited,
        "AVB_STATE_DIR": str(state),
        "AVB_SECRET_KEY": os.environ.get("AVB_SECRET_KEY") or _keep_secret_key(state),
        **_keep_master_key(state),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "DJANGO_SETTINGS_MODULE": "agentvoicebox.settings",
        "PYTHONUNBUFFERED": "1",
        **llm,
    }


def wanted_models(environment: Mapping[str, str], *, embedded_llm: bool) -> list[str]:
    """The models in the manifest that the configured engines open."""
    from speech import models
    from speech.config import read_config

    config = read_config()
    names = ["silero-vad", "smart-turn-v3.2"]
    if config.stt_engine == "whisper":
        names.append(config.stt_model)
    if config.tts_engine == "kokoro":
        names += ["kokoro-v1.0.int8", "kokoro-voices"]
    if config.tts_engine == "piper" or (config.tts_engine == "kokoro" and importlib.util.find_spec("piper")):
        names.append("piper-en_US-joe-medium")
    if embedded_llm:
        names.append(embedded_llm_name(environment))
    # A model outside the manifest (a path, or a hub's name) is its engine's own business.
    return [name for name in names if name in models.load_manifest()]


def embedded_llm_name(environment: Mapping[str, str]) -> str:
    return environment.get("AVB_LLM_EMBEDDED_MODEL") or EMBEDDED_LLM


def find_llm(environment: Mapping[str, str]) -> Literal["configured", "ollama", "embedded", "unserved"]:
    """Who thinks: a configured provider, an Ollama that has a model, else the embedded one.

    ``unserved``: AVB_LLM_MODEL names a model, and nobody is there who could serve it.
    """
    from agents.llm.choice import is_configured, ollama_models

    if is_configured(environment):
        return "configured"
    if ollama_models(environment):
        return "ollama"
    return "unserved" if environment.get("AVB_LLM_MODEL") else "embedded"


def check_llm(environment: Mapping[str, str]) -> None:
    """What the gateway would not start with is said before anything is started. Raises ValueError."""
    from agents.llm.choice import read_platform
    from agents.llm.config import read_config

    read_config(environment)
    read_platform(environment)


def make_gateway(environment: dict[str, str], *, host: str, port: int) -> Service:
    """The server of calls and pages."""
    from agentvoicebox.serve import stop_s

    argv = ("-m", "agentvoicebox.serve", "--host", host, "--port", str(port))
    command = _python(
        "gateway", argv, environment, stop_signals=((signal.SIGTERM, stop_s()),), orphan_signal=signal.SIGKILL
    )
    asked = ports.LOOPBACK if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    return Service(
        name="gateway", make_command=lambda: command, is_ready=lambda _: answers(asked, port, "/health"), stop_stage=0
    )


def make_worker(environment: dict[str, str], *, queue: str, app: str, redis_ready: Callable[[str], bool]) -> Service:
    """A Celery worker of one queue; ``redis_ready(key)`` tells whether its sign of life is in Redis."""
    environment = {**environment, "AVB_METRICS_PORT": str(ports.find_free_port())}
    beat = ("-B",) if queue == "default" else ()
    arguments = (
        *("-W", f"ignore:{ROOT_WARNING}", "-m", "celery", "-A", app, "worker", "-Q", queue),
        *("--pool", "threads", "--without-mingle", *beat),
    )
    command = _python(
        queue, arguments, environment, stop_signals=((signal.SIGTERM, WORKER_STOP_S), (signal.SIGQUIT, 2.0))
    )

    async def is_ready(pid: int) -> bool:
        key = WORKER_KEY.format(queue=queue, host=socket.gethostname(), pid=pid)
        return await asyncio.to_thread(redis_ready, key)

    return Service(name=queue, make_command=lambda: command, is_ready=is_ready, stop_stage=1)


def make_embedded_llm(environment: dict[str, str], *, name: str, model: Path, port: int) -> Service:
    """llama.cpp behind an OpenAI-compatible URL on loopback."""
    argv = ("-m", "agents.llm.embedded", "--model", str(model), "--port", str(port), "--name", name)
    command = _python("llm", argv, environment, orphan_signal=signal.SIGKILL)
    return Service(
        name="llm",
        make_command=lambda: command,
        is_ready=lambda _: answers(ports.LOOPBACK, port, "/v1/models"),
        stop_stage=2,
        on_console=False,
    )


def make_manage(environment: dict[str, str], *arguments: str) -> Command:
    """``manage.py`` with these arguments."""
    return _python(arguments[0], (str(REPOSITORY / "manage.py"), *arguments), environment)


async def answers(host: str, port: int, path: str) -> bool:
    """Whether a GET is answered with 200 within a second."""
    return await status_of(host, port, path) == 200


async def status_of(host: str, port: int, path: str, timeout_s: float = 2.0) -> int | None:
    """The HTTP status of a GET; None when nobody answers in time."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                status_line = await reader.readline()
            finally:
                writer.close()
        return int(status_line.split()[1])
    except (OSError, TimeoutError, IndexError, ValueError):
        return None


def _python(
    name: str,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    *,
    stop_signals: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 10.0),),
    orphan_signal: signal.Signals = signal.SIGTERM,
) -> Command:
    return Command(
        name=name,
        argv=(sys.executable, *arguments),
        cwd=REPOSITORY,
        env={**environment, "AVB_SERVICE": name},
        stop_signals=stop_signals,
        orphan_signal=orphan_signal,
    )


def _keep_master_key(state: Path) -> dict[str, str]:
    """Outside dev there is none that nobody has chosen. One that is lost is not replaced: what it wraps says so."""
    from tenants.encryption.master import write_key_file

    if os.environ.get("AVB_MASTER_KEY") or os.environ.get("AVB_ENVIRONMENT", "dev") != "dev":
        return {}
    file = state.absolute() / "master_key"
    with contextlib.suppress(FileExistsError):
        write_key_file(file)
    return {"AVB_MASTER_KEY": f"file:{file}"}


def _keep_secret_key(state: Path) -> str:
    """Made once: sessions and signatures hold over a restart."""
    file = state / "secret_key"
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        state.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(50) + "\n")
        return file.read_text().strip()
