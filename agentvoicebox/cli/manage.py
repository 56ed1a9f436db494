"""``avb manage``: Django's management commands against the running stack."""

import os
import subprocess
import sys

import click

from agents.llm.choice import PROVIDER_VARIABLES
from agentvoicebox.stack import processes
from agentvoicebox.stack.running import Run
from agentvoicebox.stack.state import REPOSITORY, state_dir

SETTINGS = ("AVB_", "VAULT_", "AWS_")
LANGUAGE_MODELS = (*PROVIDER_VARIABLES, "ANTHROPIC_BASE_URL", "OLLAMA_HOST")
"""They go together: those of two places would be a platform that is nowhere."""
MASTER_KEYS = ("AVB_MASTER_KEY", "AVB_MASTER_KEY_PREVIOUS")
OF_ONE_PROCESS = {"AVB_SERVICE", "AVB_METRICS_PORT", "AVB_POSTGRES_POOL_SIZE", "AVB_DETACHED"}


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run a Django management command (./avb manage help), with the addresses of the running stack."""
    result = subprocess.run(
        [sys.executable, str(REPOSITORY / "manage.py"), *arguments], env=stack_environment(), check=False
    )
    raise SystemExit(result.returncode)


def stack_environment() -> dict[str, str]:
    """This environment, with the running stack's servers and settings where they are not set here.

    Raises click.ClickException for a master key other than the running stack's, unless the database is another too:
    what one side seals the other could not open.
    """
    state = state_dir()
    run = Run(state)
    seen = run.read()
    database_url = os.environ.get("DATABASE_URL") or seen.get("database_url")
    redis_url = os.environ.get("REDIS_URL") or seen.get("redis_url")
    if not database_url or not redis_url:
        # Commands such as makemigrations and spectacular ask no server.
        return {**os.environ, "AVB_STATE_DIR": str(state)}
    inherited = _stack_settings(run) if database_url == seen.get("database_url") else {}
    if not inherited:
        return processes.make_environment(state, database_url=database_url, redis_url=redis_url, llm={})
    # Nothing is made up here, such as a key: the stack has all of it.
    own = {name: value for name, value in os.environ.items() if value and not name.startswith("PG")}
    return {**inherited, **own, "DATABASE_URL": database_url, "REDIS_URL": redis_url, "AVB_STATE_DIR": str(state)}


def _stack_settings(run: Run) -> dict[str, str]:
    """Those of the running stack's processes; nothing when none runs."""
    try:
        running = run.environment()
    except PermissionError as error:
        raise click.ClickException(f"the settings of the running stack cannot be read: {error}") from error
    for name in MASTER_KEYS if running else ():
        if (here := os.environ.get(name)) and here != running.get(name):
            raise click.ClickException(
                f"{name} is set here, and not as the running stack has it; unset it to use the stack's, or restart the "
                "stack with it (./avb down, then ./avb up)"
            )
    taken = () if any(os.environ.get(name) for name in LANGUAGE_MODELS) else LANGUAGE_MODELS
    return {
        name: value
        for name, value in running.items()
        if name in taken or (name.startswith(SETTINGS) and name not in OF_ONE_PROCESS)
    }
