"""``avb manage``: Django's management commands against the running stack."""

import os
import subprocess
import sys

import click

from agentvoicebox.stack import processes
from agentvoicebox.stack.running import Run
from agentvoicebox.stack.state import REPOSITORY, state_dir


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run a Django management command (./avb manage help), with the addresses of the running stack."""
    result = subprocess.run(
        [sys.executable, str(REPOSITORY / "manage.py"), *arguments], env=stack_environment(), check=False
    )
    raise SystemExit(result.returncode)


def stack_environment() -> dict[str, str]:
    """This environment, with the running stack's servers where DATABASE_URL and REDIS_URL are not set."""
    state = state_dir()
    seen = Run(state).read()
    database_url = os.environ.get("DATABASE_URL") or seen.get("database_url")
    redis_url = os.environ.get("REDIS_URL") or seen.get("redis_url")
    if not database_url or not redis_url:
        # Commands such as makemigrations and spectacular ask no server.
        return {**os.environ, "AVB_STATE_DIR": str(state)}
    return processes.make_environment(state, database_url=database_url, redis_url=redis_url, llm={})
