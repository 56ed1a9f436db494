"""Making a tenant's schema and bringing it up to date, step by step, with every step visible in the tenant's row.

Whoever is killed half-way leaves a row that says so and a schema with whole migrations; the next one goes on from
there.
"""

from collections.abc import Callable

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.migration import Migration
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context, schema_exists

from tenants.audit.operations import record
from tenants.lifecycle.lock import holding
from tenants.models import Tenant, TenantStatus

ERROR_CHARACTERS = 2_000

Note = Callable[[int, int, str], None]
"""Told before each step: steps done, steps that there are, and the name of the one that begins."""


class BuildFailed(Exception):
    """A step failed; the tenant's row says which and why."""


def build_tenant(tenant: Tenant) -> Tenant:
    """Make and migrate the schema of a tenant that is being created, and open it. Another status is left alone.

    Raises Busy, BuildFailed, or ``django.db.OperationalError`` when PostgreSQL is gone: then nothing stands in the way
    of the next try.
    """
    with schema_context(get_public_schema_name()), holding(tenant.schema_name):
        tenant.refresh_from_db()
        if tenant.status != TenantStatus.CREATING:
            return tenant
        try:
            _make_schema(tenant.schema_name)
            applied = migrate_schema(tenant.schema_name, lambda *step: note_progress(tenant, *step))
        except Exception as error:
            _keep_error(tenant, error, "tenant.build_failed")
            raise BuildFailed(tenant.work_error) from error
        with transaction.atomic():
            now = timezone.now()
            # Whoever deleted it meanwhile is not overruled.
            waiting = Tenant.objects.filter(pk=tenant.pk, status=TenantStatus.CREATING)
            if waiting.update(
                status=TenantStatus.ACTIVE, status_changed_at=now, work_step="", work_error="", work_at=now
            ):
                record(action="tenant.created", target=tenant.slug, after={"schema": tenant.schema_name, **applied})
        tenant.refresh_from_db()
    return tenant


def migrate_tenant(tenant: Tenant) -> int:
    """Bring an existing schema up to date; how many migrations that took. One whose erasure has begun is left alone.

    Raises Busy, BuildFailed, or ``django.db.OperationalError`` when PostgreSQL is gone.
    """
    with schema_context(get_public_schema_name()), holding(tenant.schema_name):
        tenant.refresh_from_db()
        if tenant.erasure is not None:
            return 0
        try:
            if not schema_exists(tenant.schema_name):
                raise BuildFailed(f"There is no schema {tenant.schema_name!r}; restore it from a backup.")
            applied = migrate_schema(tenant.schema_name, lambda *step: note_progress(tenant, *step))
        except Exception as error:
            _keep_error(tenant, error, "tenant.migration_failed")
            raise BuildFailed(tenant.work_error) from error
        if applied["migrations"] or tenant.work_error:
            with transaction.atomic():
                Tenant.objects.filter(pk=tenant.pk).update(work_step="", work_error="", work_at=timezone.now())
                record(action="tenant.migrated", target=tenant.slug, after=applied)
    return int(applied["migrations"])


def migrate_schema(schema_name: str, note: Note) -> dict[str, int]:
    """Apply what the schema lacks, one transaction per migration; how many ``migrations`` that was.

    Apps of the shared schema count as well: the router lets none of their tables in, but their steps are noted.
    """
    with schema_context(schema_name):
        # Without the public schema in the path, so that the list of applied migrations is this schema's own.
        connection.set_schema(schema_name, include_public=False)
        MigrationRecorder(connection).ensure_schema()
        connection.set_schema(schema_name)
        done = 0

        def tell(action: str, migration: Migration | None = None, fake: bool = False) -> None:
            nonlocal done
            if action == "apply_start":
                note(done, len(plan), str(migration))
            elif action == "apply_success":
                done += 1

        executor = MigrationExecutor(connection, tell)
        executor.loader.check_consistent_history(connection)
        targets = executor.loader.graph.leaf_nodes()
        plan = executor.migration_plan(targets)
        if plan:
            executor.migrate(targets, plan)
            note(done, len(plan), "")
    return {"migrations": len(plan)}


def note_progress(tenant: Tenant, done: int, total: int, step: str) -> None:
    """Committed at once, unless the caller has a transaction open."""
    Tenant.objects.filter(pk=tenant.pk).update(
        work_done=done, work_total=total, work_step=step, work_error="", work_at=timezone.now()
    )


def _make_schema(schema_name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {connection.ops.quote_name(schema_name)}")


def _keep_error(tenant: Tenant, error: Exception, action: str) -> None:
    """Into the row and the audit; raises the error again when the connection went with it."""
    if isinstance(error, OperationalError | InterfaceError) and not connection.is_usable():
        raise error
    keep_error(tenant, error, action)


def keep_error(tenant: Tenant, error: Exception, action: str) -> None:
    """What failed, at which step and why: into the tenant's row and the platform's audit."""
    with schema_context(get_public_schema_name()), transaction.atomic():
        tenant.refresh_from_db()
        # PostgreSQL's further lines quote rows.
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        words = f"{tenant.work_step}: {said}" if tenant.work_step else said
        tenant.work_error = words[:ERROR_CHARACTERS]
        Tenant.objects.filter(pk=tenant.pk).update(work_error=tenant.work_error, work_at=timezone.now())
        record(action=action, target=tenant.slug, after={"error": tenant.work_error})
