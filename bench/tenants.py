"""How long many tenants take to migrate, by processes.

    python bench/tenants.py --tenants 100 --processes 1 --processes 2

Each run has a PostgreSQL of its own. *From nothing*: every migration, into empty schemas. *Nothing to do*: the same
again, which is what a start costs when the code is not new.
"""

import os
import tempfile
import time
from pathlib import Path

import click
from product import REPOSITORY, describe_machine

from agentvoicebox.stack.postgres import EmbeddedPostgres


@click.command()
@click.option("--tenants", default=100, show_default=True)
@click.option("--processes", multiple=True, type=int, default=(1, 2), show_default=True)
def main(tenants: int, processes: tuple[int, ...]) -> None:
    with tempfile.TemporaryDirectory(prefix="avb-bench-") as directory:
        Path(directory).chmod(0o755)
        server = EmbeddedPostgres(Path(directory) / "postgres")
        try:
            os.environ |= {
                "DATABASE_URL": server.start(),
                "DJANGO_SETTINGS_MODULE": "agentvoicebox.settings",
                "PYTHONPATH": str(REPOSITORY),
                "AVB_STATE_DIR": directory,
                "AVB_POSTGRES_POOL_SIZE": "0",
                "AVB_POSTGRES_WRITE_TIMEOUT_MS": "0",
            }
            measure(tenants, processes)
        finally:
            server.stop()


def measure(tenants: int, processes: tuple[int, ...]) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate_schemas", shared=True, interactive=False, verbosity=0)
    click.echo(f"{describe_machine()}\n{tenants} tenants, fsync on\n")
    click.echo("| processes | from nothing | per tenant | nothing to do | per tenant |")
    click.echo("|---|---|---|---|---|")
    for number in processes:
        make_empty(tenants)
        fresh_s, idle_s = migrate(number), migrate(number)
        each = f"{fresh_s / tenants * 1000:.0f} ms | {idle_s:.1f} s | {idle_s / tenants * 1000:.0f} ms"
        click.echo(f"| {number} | {fresh_s:.1f} s | {each} |")


def make_empty(tenants: int) -> None:
    """Tenants whose schemas hold nothing yet, in place of those of the run before."""
    from django.db import connection

    from tenants.models import Tenant

    Tenant.objects.all().delete()
    with connection.cursor() as cursor:
        for number in range(tenants):
            cursor.execute(f"DROP SCHEMA IF EXISTS bench_{number} CASCADE")
            cursor.execute(f"CREATE SCHEMA bench_{number}")
    Tenant.objects.bulk_create(
        Tenant(slug=f"bench-{number}", name="Bench", schema_name=f"bench_{number}") for number in range(tenants)
    )


def migrate(processes: int) -> float:
    """Seconds, with the start of the processes; ends the program when a tenant failed."""
    from tenants.lifecycle.fleet import migrate_tenants

    started = time.monotonic()
    _, outcomes = migrate_tenants(processes)
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        raise SystemExit(f"{len(failed)} failed; the first: {failed[0]}")
    return time.monotonic() - started


if __name__ == "__main__":
    main()
