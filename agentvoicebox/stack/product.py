"""Bringing the product up, step by step: servers, models, database, demo tenant, processes."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from agents.llm.embedded import CONTEXT_TOKENS
from agentvoicebox.stack import ports
from agentvoicebox.stack.commands import Command, StartFailed
from agentvoicebox.stack.output import Console
from agentvoicebox.stack.postgres import EmbeddedPostgres
from agentvoicebox.stack.processes import (
    answers,
    embedded_llm_name,
    find_llm,
    make_embedded_llm,
    make_environment,
    make_gateway,
    make_manage,
    make_worker,
    wanted_models,
)
from agentvoicebox.stack.state import REPOSITORY, read_json, write_json
from agentvoicebox.stack.supervisor import Service, Supervisor
from agentvoicebox.stack.valkey import EmbeddedValkey
from speech import models

READY_TIMEOUT_S = 60.0
WORKERS = {"stt": "celery_workers.stt", "tts": "celery_workers.tts", "default": "celery_workers.default"}
SERVERS_STOP_STAGE = 3
EMBEDDED_NOTE = """
  No language model is configured, so the embedded {name} answers. It is very small: fast, but often wrong.
  For real work set OPENAI_API_KEY, or OPENAI_BASE_URL and AVB_LLM_MODEL, or run an Ollama on this machine. A larger
  embedded one (491 MB), slower and more sensible: AVB_LLM_EMBEDDED_MODEL=qwen2.5-coder-0.5b ./avb up
"""

UNSERVED_NOTE = """
  AVB_LLM_MODEL is {name}, but no OPENAI_BASE_URL or OPENAI_API_KEY is set and no Ollama answers: agents cannot think.
"""

T = TypeVar("T")


class Product:
    """Everything that one ``up`` starts; its supervisor stops it."""

    def __init__(self, supervisor: Supervisor, console: Console, state: Path, *, host: str, port: int) -> None:
        self._supervisor = supervisor
        self._console = console
        self._state = state
        self._host = host
        self._port = port
        self._postgres = None if os.environ.get("DATABASE_URL") else EmbeddedPostgres(state / "postgres")
        self._valkey = None if os.environ.get("REDIS_URL") else EmbeddedValkey(state / "valkey")
        self._redis_url = os.environ.get("REDIS_URL", "")
        self.llm_note = ""

    @property
    def base_url(self) -> str:
        host = ports.LOOPBACK if self._host in ("0.0.0.0", "::") else self._host  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    async def start(self) -> dict[str, Any]:
        """Start everything; gives what ``demo.json`` says.

        Raises StartFailed, ModelError, or CancelledError after a signal.
        """
        self._supervisor.announce(base_url=self.base_url)
        # Django's static files come from the apps; the folder for collected ones only has to be there.
        (self._state / "static").mkdir(parents=True, exist_ok=True)
        llm = find_llm(os.environ)
        database_url, _ = await self._together(self._start_servers(), self._pull_models(embedded_llm=llm == "embedded"))
        environment, model_path, model_port = self._choose_llm(database_url, llm)
        await self._prepare_database(environment)
        services = [make_gateway(environment, host=self._host, port=self._port)]
        for queue, app in WORKERS.items():
            services.append(make_worker(environment, queue=queue, app=app, redis_ready=self._has_key))
        if model_path:
            name = environment["AVB_LLM_MODEL"]
            services.append(make_embedded_llm(environment, name=name, model=model_path, port=model_port))
        self._console.say(f"starting {', '.join(service.name for service in services)}")
        await self._supervisor.start(services)
        await self._together(self._wait_ready())
        return self._write_demo()

    async def _start_servers(self) -> str:
        services = []
        for server in (self._postgres, self._valkey):
            if server is not None:
                services.append(
                    Service(
                        name=server.name,
                        make_command=server.prepare,
                        is_ready=server.is_ready,
                        stop_stage=SERVERS_STOP_STAGE,
                        on_console=False,
                    )
                )
        if services:
            self._console.say(f"starting {' and '.join(service.name for service in services)}")
            await self._supervisor.start(services)
        if self._postgres:
            await asyncio.to_thread(self._postgres.ensure_database)
        database_url = self._postgres.url if self._postgres else os.environ["DATABASE_URL"]
        if self._valkey:
            self._redis_url = self._valkey.url
        self._supervisor.announce(database_url=database_url, redis_url=self._redis_url)
        return database_url

    async def _pull_models(self, *, embedded_llm: bool) -> None:
        from agentvoicebox.stack.progress import PullProgress

        names = wanted_models(os.environ, embedded_llm=embedded_llm)
        progress = PullProgress(self._console.say)
        try:
            fetched = await _in_daemon_thread(lambda: models.pull(names, progress))
        finally:
            progress.close()
        self._console.say(f"models verified: {', '.join(names)}" + (f" (fetched {len(fetched)})" if fetched else ""))

    def _choose_llm(self, database_url: str, llm: str) -> tuple[dict[str, str], Path | None, int]:
        settings: dict[str, str] = {}
        path, port = None, 0
        if llm == "embedded":
            name = embedded_llm_name(os.environ)
            path, port = models.path(name), ports.find_free_port()
            settings = {
                "OPENAI_BASE_URL": f"http://{ports.LOOPBACK}:{port}/v1",
                "AVB_LLM_MODEL": name,
                "AVB_LLM_EMBEDDED": "1",
                "AVB_LLM_CONTEXT_TOKENS": str(CONTEXT_TOKENS),
            }
            self.llm_note = EMBEDDED_NOTE.format(name=name)
            self._console.say(f"no language model is configured: the small embedded {name} answers, often wrongly")
        elif llm == "unserved":
            self.llm_note = UNSERVED_NOTE.format(name=os.environ["AVB_LLM_MODEL"])
        environment = make_environment(self._state, database_url=database_url, redis_url=self._redis_url, llm=settings)
        return environment, path, port

    async def _prepare_database(self, environment: dict[str, str]) -> None:
        """Migrate and make the demo tenant, unless this database has seen exactly these migrations and packages."""
        prepared = self._state / "prepared.json"
        fingerprint = self._fingerprint()
        demo = self._state / "demo.json"
        if self._postgres and demo.exists() and read_json(prepared).get("fingerprint") == fingerprint:
            return
        self._console.say("migrating the database")
        await self._manage(make_manage(environment, "migrate_tenants", "--verbosity", "0"))
        await self._manage(make_manage(environment, "ensure_demo", "--json", "--state", str(demo)))
        write_json(prepared, {"fingerprint": fingerprint})

    async def _manage(self, command: Command) -> None:
        started = time.monotonic()
        await self._supervisor.run(command)
        self._console.say(f"{command.name} took {time.monotonic() - started:.1f} s")

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        sources = [*REPOSITORY.glob("*/migrations/*.py"), *REPOSITORY.glob("*/*/migrations/*.py")]
        sources += [REPOSITORY / "uv.lock", *REPOSITORY.glob("*/management/commands/ensure_demo.py")]
        for path in sorted(sources):
            digest.update(f"{path.relative_to(REPOSITORY)}\0".encode() + path.read_bytes())
        if self._postgres:
            digest.update(f"{self._postgres.data}\0{self._postgres.password}".encode())
        return digest.hexdigest()

    def _has_key(self, key: str) -> bool:
        import redis

        try:
            with redis.Redis.from_url(self._redis_url, socket_timeout=1, socket_connect_timeout=1) as client:
                return bool(client.exists(key))
        except redis.RedisError:
            return False

    async def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        host = self._host if self._host not in ("0.0.0.0", "::") else ports.LOOPBACK  # noqa: S104 - compared, not bound
        while not await answers(host, self._port, "/ready"):
            if time.monotonic() > deadline:
                raise StartFailed(f"{self.base_url}/ready did not say ok within {READY_TIMEOUT_S:g} s; see ./avb logs")
            await asyncio.sleep(0.1)

    def _write_demo(self) -> dict[str, Any]:
        file = self._state / "demo.json"
        demo = read_json(file) | {
            "base_url": self.base_url,
            "realtime_url": f"{self.base_url.replace('http', 'ws', 1)}/v1/realtime",
        }
        write_json(file, demo)
        return demo

    async def _together(self, *work: Any) -> Any:
        """All results; a signal or a failed service ends the wait."""
        return await self._supervisor.unless_stopped(asyncio.gather(*work))


async def _in_daemon_thread(step: Callable[[], T]) -> T:
    """Like ``asyncio.to_thread``, but the process does not wait for it when it has to end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        try:
            outcome: tuple[T | None, BaseException | None] = (step(), None)
        except BaseException as error:
            outcome = (None, error)
        loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=work, daemon=True).start()
    return await future
