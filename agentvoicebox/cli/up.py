"""``avb up``: the whole product on this machine."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from agentvoicebox.stack import ports
from agentvoicebox.stack.commands import StartFailed, read_end
from agentvoicebox.stack.output import Console, LogFile
from agentvoicebox.stack.processes import check_llm
from agentvoicebox.stack.running import AlreadyRunning, Run
from agentvoicebox.stack.state import state_dir
from speech.models import ModelError
from tenants.platform_host import platform_address

DETACHED = "AVB_DETACHED"
DETACH_TIMEOUT_S = 900.0


@click.command()
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="where the gateway listens"
)
@click.option(
    "--host", default=ports.LOOPBACK, show_default=True, help="address to listen on; 0.0.0.0 for every network"
)
@click.option("--detach", "-d", is_flag=True, help="return once it is ready, and leave it running")
@click.option("--json-logs", is_flag=True, help="print the processes' log lines as they are")
def command(port: int, host: str, detach: bool, json_logs: bool) -> None:
    """Start everything on this machine: servers, models, database, gateway and workers.

    PostgreSQL and Valkey are started from the environment's own packages unless DATABASE_URL or REDIS_URL name others.
    The language model is your provider (OPENAI_API_KEY, OPENAI_BASE_URL, AVB_LLM_MODEL), else an Ollama on this
    machine, else a small embedded one. Ctrl-C stops everything; a second Ctrl-C does not wait for calls to end.
    """
    state = state_dir()
    run = Run(state)
    try:
        if run.is_held():
            raise AlreadyRunning(run.describe())
        _refuse_taken_port(host, port, run)
        check_llm(os.environ)
        if detach:
            _detach(run, state)
        else:
            with run.held():
                asyncio.run(_attached(run, state, host=host, port=port, json_logs=json_logs))
    except (AlreadyRunning, StartFailed, ModelError, PermissionError, ValueError) as error:
        raise click.ClickException(str(error)) from error


async def _attached(run: Run, state: Path, *, host: str, port: int, json_logs: bool) -> None:
    from agentvoicebox.stack.product import Product
    from agentvoicebox.stack.supervisor import Supervisor

    console = Console(json_logs=json_logs)
    supervisor = Supervisor(run, state / "logs", console, quiet=DETACHED in os.environ)
    supervisor.handle_signals()
    product = Product(supervisor, console, state, host=host, port=port)
    started = time.monotonic()
    try:
        demo = await product.start()
        supervisor.announce(ready=True)
        console.say(f"ready in {time.monotonic() - started:.1f} s")
        if not json_logs:
            click.echo(describe(demo, product.llm_note))
        await supervisor.watch()
        supervisor.raise_failure()
    except asyncio.CancelledError:
        console.say("stopped before everything was ready")
    finally:
        await supervisor.stop()


def _detach(run: Run, state: Path) -> None:
    """Start the same command in a session of its own and wait until it says it is ready."""
    log = state / "logs" / "avb.log"
    LogFile(log).close()
    begin = log.stat().st_size
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--detach", "-d")]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "agentvoicebox.cli", *arguments],
            env={**os.environ, DETACHED: "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + DETACH_TIMEOUT_S
    with log.open(errors="replace") as lines:
        lines.seek(begin)
        while time.monotonic() < deadline:
            ended = process.poll()
            click.echo(lines.read(), nl=False)
            if ended is not None:
                raise StartFailed(f"it ended with status {ended}; see {log}")
            seen = run.read()
            if seen.get("pid") == process.pid and seen.get("ready"):
                click.echo(lines.read(), nl=False)
                return
            time.sleep(0.05)
    raise StartFailed(f"not ready after {DETACH_TIMEOUT_S:g} s:\n{read_end(log)}")


def _refuse_taken_port(host: str, port: int, run: Run) -> None:
    # What a killed supervisor has left may hold the port for another moment.
    run.end_leftovers()
    if not ports.is_free(port, host):
        raise StartFailed(
            f"port {port} on {host} is taken by another program; choose another one: ./avb up --port {port + 1}"
        )


def describe(demo: dict[str, Any], llm_note: str) -> str:
    """Where to look, and what to try."""
    return f"""
  Pages      {demo["base_url"]}/      {demo["email"]} / {demo["password"]}
  Platform   {platform_address(demo["base_url"])}/admin/      for operators: ./avb people operator you@example.com
  REST       {demo["base_url"]}/api/v1/docs/      key {demo["api_key"]}
  Realtime   {demo["realtime_url"]}
{llm_note}
  Talk to it with a recording, or in text:
    ./avb call tests/clips/jfk.wav
    ./avb chat demo

  Or from Python (pip install "openai[realtime]"):
    from openai import OpenAI
    client = OpenAI(base_url="{demo["base_url"]}/v1", api_key="{demo["api_key"]}")
    with client.realtime.connect(model="{demo["agent"]}") as call: ...

  All of this is in {state_dir() / "demo.json"}. ./avb down (or Ctrl-C) stops it; ./avb logs -f shows what it does.
"""
