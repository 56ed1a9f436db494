"""``manage.py migrate_tenants``: the shared schema first, then every tenant's; one that fails stops no other."""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.lifecycle.fleet import Outcome, default_processes, migrate_tenants


class Command(BaseCommand):
    help = "Bring the shared schema and every tenant's schema up to date, several tenants at a time."
    # The tables that checks of the database look at may not be there yet.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--parallel", type=int, default=default_processes(), help="processes; the machine's cores, 8 at most"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["parallel"] < 1:
            raise CommandError(f"--parallel is a number from 1; got {options['parallel']}")
        call_command("migrate_schemas", shared=True, interactive=False, verbosity=0)
        number, outcomes = migrate_tenants(options["parallel"])
        failed: list[Outcome] = []
        for position, outcome in enumerate(outcomes, start=1):
            if outcome.error:
                failed.append(outcome)
            if options["verbosity"]:
                said = "FAILED" if outcome.error else f"{outcome.migrations} migrations"
                self.stdout.write(f"{position}/{number}  {outcome.slug}  {said}  {outcome.took_s:.2f} s")
        if failed:
            width = max(len(outcome.slug) for outcome in failed)
            table = "\n".join(f"  {outcome.slug:<{width}}  {outcome.error}" for outcome in failed)
            raise CommandError(f"{len(failed)} of {number} tenants were not migrated:\n{table}")
