"""``avb test``: everything that has to hold, as continuous integration runs it."""

import difflib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from agentvoicebox.stack.progress import PullProgress
from agentvoicebox.stack.state import REPOSITORY
from speech import models
from speech.models import ModelError

TEST_MODELS = (
    "silero-vad",
    "smart-turn-v3.2",
    "whisper-tiny.en",
    "kokoro-v1.0.int8",
    "kokoro-voices",
    "smollm2-135m-instruct-q4",
)
OPENAPI = REPOSITORY / "docs" / "openapi.yaml"
PARALLEL = ("-n", "2", "--dist", "loadgroup")


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Check and test everything; nothing is tested while a check fails.

    With ARGUMENTS only pytest runs, and gets them: ./avb test tests/stack -k postgres
    """
    if not arguments:
        steps: dict[str, Callable[[], bool]] = {
            "ruff check": lambda: _run("-m", "ruff", "check", "."),
            "ruff format": lambda: _run("-m", "ruff", "format", "--check", "."),
            "mypy": lambda: _run("-m", "mypy"),
            "import contracts": lambda: _run(str(Path(sys.executable).with_name("lint-imports"))),
            # The check of the history in a database does not belong here, nor its warning that there is none.
            "migrations": lambda: _run("-W", "ignore", "manage.py", "makemigrations", "--check", "--dry-run"),
            "OpenAPI schema": _compare_openapi,
        }
        failed = [name for name, step in steps.items() if not _timed(name, step)]
        if failed:
            raise click.ClickException(f"failed: {', '.join(failed)}; pytest did not run")
    _timed("models", _pull_models)
    result = subprocess.run([sys.executable, "-m", "pytest", *(arguments or PARALLEL)], cwd=REPOSITORY, check=False)
    raise SystemExit(result.returncode)


def _timed(name: str, step: Callable[[], bool]) -> bool:
    click.echo(f"── {name}")
    started = time.monotonic()
    fine = step()
    verdict = click.style("ok", fg="green") if fine else click.style("FAILED", fg="red")
    click.echo(f"── {name}: {verdict} in {time.monotonic() - started:.1f} s")
    return fine


def _run(*arguments: str) -> bool:
    return subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, check=False).returncode == 0


def _compare_openapi() -> bool:
    """The committed schema is what the code says."""
    with tempfile.TemporaryDirectory() as directory:
        now = Path(directory) / "openapi.yaml"
        if not _run("manage.py", "spectacular", "--validate", "--fail-on-warn", "--file", str(now)):
            return False
        committed = OPENAPI.read_text() if OPENAPI.exists() else ""
        if committed == now.read_text():
            return True
        lines = difflib.unified_diff(
            committed.splitlines(), now.read_text().splitlines(), "docs/openapi.yaml", "the code", lineterm=""
        )
        click.echo("\n".join(list(lines)[:60]))
    click.echo("bring it up to date with: ./avb manage spectacular --file docs/openapi.yaml")
    return False


def _pull_models() -> bool:
    progress = PullProgress(click.echo)
    try:
        models.pull(TEST_MODELS, progress)
    except ModelError as error:
        raise click.ClickException(str(error)) from error
    finally:
        progress.close()
    # The tests find the same files, wherever this was called from.
    os.environ["AVB_MODELS_DIR"] = str(models.cache_dir().absolute())
    return True
