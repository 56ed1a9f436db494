"""``avb logs``: what the processes have printed."""

import sys
import time
from pathlib import Path
from typing import IO

import click

from agentvoicebox.stack.commands import read_end
from agentvoicebox.stack.output import Console
from agentvoicebox.stack.state import state_dir

POLL_S = 0.2


@click.command()
@click.argument("names", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="go on as lines come; end with Ctrl-C")
@click.option("-n", "--lines", default=20, show_default=True, help="lines of each process to begin with")
@click.option("--json-logs", is_flag=True, help="lines as they were written")
def command(names: tuple[str, ...], follow: bool, lines: int, json_logs: bool) -> None:
    """Show the end of the logs of all processes, or of those in NAMES (gateway, stt, tts, default, postgres, …).

    The files are .avb/logs/NAME.log, and NAME.log.1 … for older lines.
    """
    directory = state_dir() / "logs"
    there = {path.stem: path for path in sorted(directory.glob("*.log"))}
    if unknown := [name for name in names if name not in there]:
        raise click.ClickException(f"no log of {', '.join(unknown)}; there are: {', '.join(there) or 'none yet'}")
    chosen = {name: there[name] for name in names or there}
    console = Console(json_logs=json_logs)
    places = {name: path.stat().st_size for name, path in chosen.items()}
    for name, path in chosen.items():
        for line in read_end(path, lines).splitlines():
            console.show(name, line)
    if follow:
        try:
            _follow(chosen, places, console)
        except KeyboardInterrupt:
            sys.exit(0)


def _follow(paths: dict[str, Path], places: dict[str, int], console: Console) -> None:
    streams: dict[str, IO[str]] = {}
    for name, path in paths.items():
        streams[name] = path.open(errors="replace")
        streams[name].seek(places[name])
    while True:
        for name, path in paths.items():
            while line := streams[name].readline():
                console.show(name, line.rstrip("\n"))
            if path.exists() and path.stat().st_ino != _inode(streams[name]):
                streams[name].close()
                streams[name] = path.open(errors="replace")
        time.sleep(POLL_S)


def _inode(stream: IO[str]) -> int:
    import os

    return os.fstat(stream.fileno()).st_ino
