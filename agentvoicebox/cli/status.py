"""``avb status``: what runs, and whether it can take calls."""

import asyncio
import json
from urllib.parse import urlsplit

import click

from agentvoicebox.stack import processes
from agentvoicebox.stack.running import Run
from agentvoicebox.stack.state import state_dir


@click.command()
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
def command(as_json: bool) -> None:
    """Show the stack's processes. Exits with 0 when it can take calls, with 3 when it is not running, else with 1."""
    run = Run(state_dir())
    if not run.is_held():
        click.echo(json.dumps({"running": False}) if as_json else "not running; start it with: ./avb up")
        raise SystemExit(3)
    seen = run.read()
    address = urlsplit(seen.get("base_url", ""))
    code = asyncio.run(processes.status_of(address.hostname, address.port, "/ready")) if address.hostname else None
    ready = code == 200
    if as_json:
        public = {name: seen.get(name) for name in ("pid", "base_url", "services")}
        click.echo(json.dumps({"running": True, "ready": ready, **public}, indent=2))
    else:
        click.echo(f"{seen.get('base_url', 'starting')}  {'ready' if ready else 'not ready'}  (process {seen['pid']})")
        for name, service in seen.get("services", {}).items():
            restarts = f"  restarted {service['restarts']} times" if service["restarts"] else ""
            click.echo(f"  {name:<9} {service['state']:<10} {service['pid'] or '-':>8}{restarts}")
    raise SystemExit(0 if ready else 1)
