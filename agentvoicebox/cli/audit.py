"""``avb audit``: whether the audit logs are whole, and the logs themselves."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from agentvoicebox.cli.tenant import operating


@click.group()
def command() -> None:
    """Verify and export audit logs. Works on the running stack, or on DATABASE_URL and REDIS_URL."""


@command.command()
@click.option("--tenant", "slug", help="only this tenant's log; without it all of them, and the platform's")
@click.option(
    "--heads",
    type=click.Path(dir_okay=False, path_type=Path),
    help="a file, kept elsewhere, with where the logs ended the last time; it is read, and written anew",
)
@operating
def verify(slug: str | None, heads: Path | None) -> None:
    """Read every entry, and name the first that is not as it was written. Exit status 1 when there is one.

    A log that is whole is anchored in the platform's log where it ends now.
    """
    from tenants.audit.verification import Head, verify_and_anchor

    kept = json.loads(heads.read_text()) if heads and heads.exists() else {}
    known = {schema: Head(**head) for schema, head in kept.items()}
    broken = 0
    for name, schema in _logs(slug):
        verdict = verify_and_anchor(schema, known_heads=known)
        if verdict.broken is None:
            known[schema] = verdict.head
            click.echo(f"{name}: whole, {verdict.entries} entries, head {verdict.head.seq} {verdict.head.hash}")
        else:
            broken += 1
            click.echo(f"{name}: BROKEN, entry {verdict.broken.seq} is {verdict.broken.kind}")
    if heads is not None:
        heads.write_text(json.dumps({schema: {"seq": h.seq, "hash": h.hash} for schema, h in known.items()}, indent=1))
    sys.exit(1 if broken else 0)


@command.command()
@click.option("--tenant", "slug", help="this tenant's log; without it the platform's own")
@operating
def export(slug: str | None) -> None:
    """Print a log as a JSON object in each line, oldest first. That it was exported is written into it."""
    from django.db import transaction
    from django_tenants.utils import get_public_schema_name, schema_context

    from tenants.audit.models import Entry
    from tenants.audit.operations import record
    from tenants.audit.serializers import EntrySerializer

    schema = _logs(slug)[0][1] if slug else get_public_schema_name()
    record(action="audit.exported", target="jsonl", tenant=schema if slug else "")
    with schema_context(schema), transaction.atomic():
        for entry in Entry.objects.order_by("seq").iterator(1_000):
            row: dict[str, Any] = EntrySerializer(entry).data
            click.echo(json.dumps(row, ensure_ascii=False))


def _logs(slug: str | None) -> list[tuple[str, str]]:
    """Name and schema of each log. Raises TenantUnknown."""
    from django_tenants.utils import get_public_schema_name

    from tenants.lifecycle.queries import find_tenant
    from tenants.models import Tenant, TenantStatus

    if slug:
        return [(slug, find_tenant(slug).schema_name)]
    made = Tenant.objects.exclude(status=TenantStatus.CREATING).order_by("slug")
    # The platform's own last: verifying the others writes to it.
    return [*made.values_list("slug", "schema_name"), ("platform", get_public_schema_name())]
