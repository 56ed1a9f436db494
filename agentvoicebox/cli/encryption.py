"""``avb encryption``: master keys and data keys."""

import json
from pathlib import Path
from typing import Any

import click

from agentvoicebox.cli.manage import stack_environment
from tenants.encryption.errors import EncryptionError
from tenants.encryption.master import write_key_file


@click.group()
def command() -> None:
    """Master keys and the data keys of tenants: look at them, rotate them."""


@command.command("new-master")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def new_master(file: Path) -> None:
    """Make a master key in a new FILE of mode 600. Keep a copy where the database's backups are not."""
    try:
        write_key_file(file)
    except FileExistsError as error:
        raise click.ClickException(f"{file} exists already; a master key is never replaced.") from error
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error}") from error
    click.echo(f"{file} holds a new master key; set AVB_MASTER_KEY=file:{file.absolute()}")


@command.command()
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
def status(as_json: bool) -> None:
    """Show the keys of all tenants, and open each once. Exits with 1 when one does not open."""
    _django()
    from tenants.encryption.keyring import current_master_key
    from tenants.encryption.operations import check_data_keys
    from tenants.encryption.queries import list_tenant_keys

    try:
        master = current_master_key().current_id()
    except EncryptionError as error:
        raise click.ClickException(str(error)) from error
    faults, keys = check_data_keys(), list_tenant_keys()
    if as_json:
        shown = [
            {
                "tenant": key.tenant, "active": key.active, "versions": key.versions, "since": str(key.since),
                "master_keys": key.master_key_ids,
            }
            for key in keys
        ]  # fmt: skip
        click.echo(json.dumps({"master_key": master, "tenants": shown, "faults": faults}, indent=2))
    else:
        click.echo(f"master key {master}")
        for key in keys:
            old = "" if key.master_key_ids == (master,) else f"  wrapped by {', '.join(key.master_key_ids)}"
            since = f"{key.since:%Y-%m-%d}" if key.since else "-"
            click.echo(f"  {key.tenant:<24} version {key.active}  since {since}  of {key.versions}{old}")
        for name, fault in faults.items():
            click.echo(f"  {name}: {fault}", err=True)
    raise SystemExit(1 if faults else 0)


@command.command("rotate-master")
def rotate_master() -> None:
    """Wrap all data keys by the master key that AVB_MASTER_KEY names now. The one before must be named in
    AVB_MASTER_KEY_PREVIOUS, in every process, until this is done. Beside a running stack both are the stack's: restart
    it with the new ones first."""
    _django()
    from tenants.encryption.keyring import current_master_key
    from tenants.encryption.operations import rewrap_data_keys

    try:
        count, master = rewrap_data_keys(), current_master_key().current_id()
    except EncryptionError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{count} data keys are wrapped anew" if count else f"every data key is under {master} already")


@command.command("rotate-data")
@click.argument("tenant")
def rotate_data(tenant: str) -> None:
    """Make a new data key version for TENANT (its slug, or 'public' for the platform's own). The default worker seals
    anew what older versions have sealed."""
    _django()
    from django_tenants.utils import get_public_schema_name

    from celery_workers.app import QUEUE_DEFAULT, submit
    from celery_workers.privacy import TASK_RESEAL
    from tenants.encryption.operations import rotate_data_key
    from tenants.models import Tenant

    schema = tenant
    if tenant != get_public_schema_name():
        found = Tenant.objects.filter(slug=tenant).first()
        if found is None:
            raise click.ClickException(f"there is no tenant {tenant!r}")
        schema = found.schema_name
    try:
        version = rotate_data_key(tenant=schema)
    except EncryptionError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{tenant} seals by version {version} now")
    submit(TASK_RESEAL, QUEUE_DEFAULT, {"tenant": schema})


def _django() -> Any:
    """With the addresses of the running stack."""
    import os

    import django

    os.environ.update(stack_environment())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentvoicebox.settings")
    django.setup()
