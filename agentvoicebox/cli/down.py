"""``avb down``: stop what ``up`` started."""

import click

from agentvoicebox.stack.running import Run
from agentvoicebox.stack.state import state_dir


@click.command()
def command() -> None:
    """Stop the stack: calls may end first, then workers, then servers. Data stays."""
    run = Run(state_dir())
    try:
        stopped = run.stop()
    except TimeoutError as error:
        raise click.ClickException(str(error)) from error
    killed = run.end_leftovers()
    if stopped:
        click.echo("stopped")
    elif killed:
        click.echo(f"ended what an earlier run had left: {', '.join(killed)}")
    else:
        click.echo("not running")
