"""The supervisor starts in order, restarts what dies, and leaves nothing behind, however it ends."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentvoicebox.stack.commands import Command, StartFailed
from agentvoicebox.stack.output import Console
from agentvoicebox.stack.processes import make_gateway
from agentvoicebox.stack.running import AlreadyRunning, Run
from agentvoicebox.stack.supervisor import Service, Supervisor

SLEEP = "import time; print('up', flush=True); time.sleep(60)"


def make_service(
    tmp_path: Path, name: str, code: str = SLEEP, *, needs: tuple[str, ...] = (), stage: int = 0
) -> Service:
    command = Command(
        name=name,
        argv=(sys.executable, "-c", code),
        cwd=tmp_path,
        env={"PYTHONUNBUFFERED": "1"},
        stop_signals=((signal.SIGTERM, 1.0),),
    )
    log = tmp_path / "logs" / f"{name}.log"
    return Service(
        name=name,
        make_command=lambda: command,
        is_ready=lambda _: log.exists() and "up" in log.read_text(),
        needs=needs,
        stop_stage=stage,
    )


@asynccontextmanager
async def supervised(tmp_path: Path, *services: Service) -> AsyncIterator[tuple[Supervisor, Run, io.StringIO]]:
    run, shown = Run(tmp_path), io.StringIO()
    supervisor = Supervisor(run, tmp_path / "logs", Console(stream=shown))
    try:
        await supervisor.start(services)
        yield supervisor, run, shown
    finally:
        await supervisor.stop()


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - other processes are watched
            await asyncio.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


async def test_a_killed_service_is_started_again_at_once(tmp_path: Path) -> None:
    async with supervised(tmp_path, make_service(tmp_path, "one")) as (_, run, shown):
        first = run.read()["services"]["one"]["pid"]
        killed_at = time.monotonic()
        os.kill(first, signal.SIGKILL)
        await until(lambda: run.read()["services"]["one"]["pid"] not in (None, first))
        assert time.monotonic() - killed_at < 1
        seen = run.read()["services"]["one"]
        assert seen["restarts"] == 1
        assert "one was ended by SIGKILL; starting it again\n" in shown.getvalue()


async def test_services_wait_for_what_they_need(tmp_path: Path) -> None:
    slow = "import time; time.sleep(0.5); open('made', 'w').close(); print('up', flush=True); time.sleep(60)"
    after = "import os, time; assert os.path.exists('made'); print('up', flush=True); time.sleep(60)"
    services = make_service(tmp_path, "after", after, needs=("slow",)), make_service(tmp_path, "slow", slow)
    async with supervised(tmp_path, *services) as (_, run, _shown):
        assert {name: seen["state"] for name, seen in run.read()["services"].items()} == {
            "after": "ready",
            "slow": "ready",
        }
        assert run.read()["services"]["after"]["restarts"] == 0


async def test_one_that_cannot_start_ends_the_run_with_its_own_words(tmp_path: Path) -> None:
    broken = make_service(tmp_path, "broken", "raise SystemExit('the disk is full of bees')")
    with pytest.raises(StartFailed, match=r"(?s)broken ended 3 times while starting:.*full of bees"):
        async with supervised(tmp_path, make_service(tmp_path, "fine"), broken):
            pytest.fail("it cannot have started")
    assert [seen["pid"] for seen in Run(tmp_path).read()["services"].values()] == [None, None]


async def test_stop_goes_stage_by_stage_and_takes_grandchildren_along(tmp_path: Path) -> None:
    stops = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("stopped", time.monotonic()), sys.exit()))
"""
    parent = stops + "child = subprocess.Popen(['sleep', '60'])\nprint('up', child.pid)\ntime.sleep(60)"
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up')\ntime.sleep(60)"
    services = (
        make_service(tmp_path, "server", stops + "print('up')\ntime.sleep(60)", stage=1),
        make_service(tmp_path, "door", parent, stage=0),
        make_service(tmp_path, "deaf", deaf, stage=0),
    )
    async with supervised(tmp_path, *services) as (_, run, _shown):
        pids = [seen["pid"] for seen in run.read()["services"].values()]
        words = (tmp_path / "logs" / "door.log").read_text().split()
        pids.append(int(words[words.index("up") + 1]))
    assert all(is_gone(pid) for pid in pids)
    door, server = (float((tmp_path / "logs" / f"{name}.log").read_text().split()[-1]) for name in ("door", "server"))
    # The deaf one takes its whole patience, and only then comes the next stage.
    assert server - door > 0.8


async def test_logs_reach_console_and_rotated_files(tmp_path: Path) -> None:
    record = {"timestamp": "2025-01-02T03:04:05.6+00:00", "level": "INFO", "message": "hello", "tenant_id": "acme"}
    code = f"print({json.dumps(json.dumps(record))}); print('x' * 3_000_000); print('up'); import time; time.sleep(60)"
    async with supervised(tmp_path, make_service(tmp_path, "one", code)) as (_, _run, shown):
        assert "one      | 03:04:05 INFO    hello  tenant_id=acme\n" in shown.getvalue()
    lines = (tmp_path / "logs" / "one.log").read_text().splitlines()
    assert json.loads(lines[0]) == record
    assert sum(line.count("x") for line in lines) == 3_000_000


def test_log_files_rotate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentvoicebox.stack import output

    monkeypatch.setattr(output, "MAX_FILE_BYTES", 100)
    log = output.LogFile(tmp_path / "one.log")
    for number in range(40):
        log.write(f"line {number:03} {'.' * 20}".encode())
    log.close()
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["one.log", "one.log.1", "one.log.2", "one.log.3"]
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    assert "line 039" in (tmp_path / "one.log").read_text()


def test_only_one_supervisor_holds_a_state_directory(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write({"pid": 123, "base_url": "http://127.0.0.1:8000"})
    assert not run.is_held()
    with run.held():
        assert run.is_held()
        with pytest.raises(AlreadyRunning, match=r"already running at http://127.0.0.1:8000 \(process 123\)"):
            Run(tmp_path).held().__enter__()
    assert not run.is_held()


async def test_how_long_a_stop_may_take_is_published(tmp_path: Path) -> None:
    services = [make_service(tmp_path, name, stage=stage) for name, stage in (("a", 0), ("b", 0), ("c", 1))]
    async with supervised(tmp_path, *services) as (_, run, _shown):
        assert run.read()["stop_s"] == 2.0


STUBBORN = """
import os, signal, sys, time
from pathlib import Path
from agentvoicebox.stack.running import Run

run = Run(Path(sys.argv[1]))
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit()))
with run.held():
    run.write({"pid": os.getpid(), "stop_s": float(sys.argv[2])})
    signal.pause()
"""


@pytest.mark.parametrize("stop_s", [0.0, 5.0])
def test_whoever_asks_for_a_stop_waits_as_long_as_it_may_take(tmp_path: Path, stop_s: float) -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN, str(tmp_path), str(stop_s)])
    run = Run(tmp_path)
    try:
        deadline = time.monotonic() + 10
        while not run.read().get("pid") and time.monotonic() < deadline:
            time.sleep(0.02)
        if stop_s:
            assert run.stop(spare_s=0.2) is True
        else:
            with pytest.raises(TimeoutError, match=r"is still stopping after 0.2 s"):
                run.stop(spare_s=0.2)
    finally:
        assert process.wait(10) == 0
    assert run.stop() is False


@pytest.mark.parametrize(("drain", "patience_s"), [(None, 55.0), ("300", 325.0)])
def test_the_gateway_may_drain_finish_and_store(
    monkeypatch: pytest.MonkeyPatch, drain: str | None, patience_s: float
) -> None:
    if drain is None:
        monkeypatch.delenv("AVB_DRAIN_S", raising=False)
    else:
        monkeypatch.setenv("AVB_DRAIN_S", drain)
    command = make_gateway(dict(os.environ), host="127.0.0.1", port=1).make_command()
    assert command.stop_signals == ((signal.SIGTERM, patience_s),)


def test_a_wrong_drain_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVB_DRAIN_S", "soon")
    with pytest.raises(ValueError, match="AVB_DRAIN_S"):
        make_gateway(dict(os.environ), host="127.0.0.1", port=1)


def test_nothing_is_left_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    program = """
import asyncio, os, signal, sys
from pathlib import Path
from agentvoicebox.stack.commands import Command
from agentvoicebox.stack.output import Console
from agentvoicebox.stack.running import Run
from agentvoicebox.stack.supervisor import Service, Supervisor

async def main():
    tmp_path = Path(sys.argv[1])
    command = Command(name="one", argv=("sleep", "60"), cwd=tmp_path, env=dict(os.environ))
    supervisor = Supervisor(Run(tmp_path), tmp_path / "logs", Console())
    await supervisor.start([Service(name="one", make_command=lambda: command, is_ready=lambda _: True)])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    child = Run(tmp_path).read()["services"]["one"]["pid"]
    assert Run(tmp_path).end_leftovers() == []
    assert is_gone(child)
