"""Bringing every tenant's schema up to date, several at a time: one that fails stops no other.

Processes and not threads: most of a migration is Django computing model states, which holds the interpreter's lock.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context

from django.db import DatabaseError, InterfaceError, connection, connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django_tenants.utils import schema_context

from tenants.lifecycle import process
from tenants.lifecycle.building import BuildFailed, migrate_tenant
from tenants.lifecycle.lock import Busy
from tenants.models import Tenant, TenantStatus

MOST_PROCESSES = 8


@dataclass(frozen=True)
class Outcome:
    """What became of one tenant: how many migrations it took, or why it failed; ``took_s`` in seconds."""

    slug: str
    migrations: int = 0
    error: str = ""
    took_s: float = 0.0


def default_processes() -> int:
    return min(MOST_PROCESSES, os.cpu_count() or 1)


def migrate_tenants(processes: int) -> tuple[int, Iterator[Outcome]]:
    """How many tenants there are, and what becomes of each as it ends.

    Left out are tenants that are still being made (their making migrates them) and those whose erasure has begun.
    """
    tenants = list(
        Tenant.objects.exclude(status=TenantStatus.CREATING)
        .exclude(status_before=TenantStatus.CREATING)
        .filter(erasure__isnull=True)
        .order_by("pk")
    )
    # What is up to date needs no process: most starts find nothing to do.
    known = set(MigrationLoader(None).disk_migrations)
    current = [tenant.slug for tenant in tenants if not tenant.work_error and _applied(tenant) >= known]
    behind = [tenant.slug for tenant in tenants if tenant.slug not in set(current)]
    if processes == 1 or len(behind) < 2:
        work = map(migrate_one, behind)
    else:
        work = _migrate_in_processes(behind, min(processes, len(behind)))
    return len(tenants), chain(map(Outcome, current), work)


def _applied(tenant: Tenant) -> set[tuple[str, str]]:
    """The migrations that the tenant's schema has had, by app and name."""
    with schema_context(tenant.schema_name):
        connection.set_schema(tenant.schema_name, include_public=False)
        return set(MigrationRecorder(connection).applied_migrations())


def _migrate_in_processes(slugs: list[str], processes: int) -> Iterator[Outcome]:
    # Fresh processes: a fork would share this one's connections and locks.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=process.set_up) as pool:
        running = {pool.submit(process.migrate, slug): slug for slug in slugs}
        for ended in as_completed(running):
            try:
                yield ended.result()
            except BrokenProcessPool:
                yield Outcome(
                    running[ended], error="the process that worked on it, or beside it, was killed; run it again"
                )


def migrate_one(slug: str) -> Outcome:
    """In whatever process this is."""
    started = time.monotonic()
    migrations, error = 0, ""
    try:
        migrations = migrate_tenant(Tenant.objects.get(slug=slug))
    except (BuildFailed, Busy) as failure:
        error = str(failure)
    except Tenant.DoesNotExist:
        error = "erased meanwhile"
    except (DatabaseError, InterfaceError) as failure:
        error = str(failure).splitlines()[0]
        connections.close_all()
    return Outcome(slug, migrations, error, time.monotonic() - started)
