"""Erasing a tenant whose grace period has ended, and proving it.

1. Count what each eraser finds, and keep the counts in the tenant's row: from here on nothing can be brought back.
2. Erase, one place after another.
3. Count again: anything that is left stops it.
4. In one transaction: the row goes, with keys, memberships, host names and people who belong nowhere else, and the
   signed certificate enters the platform's audit log.

Whoever is killed before 4 leaves the row, and the next one goes through all of it again: erasing twice is harmless.
"""

from collections import Counter

from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context

from tenants.audit.models import Entry
from tenants.audit.operations import record
from tenants.lifecycle.building import keep_error, note_progress
from tenants.lifecycle.certificate import sign
from tenants.lifecycle.erasers import Eraser, RedisKeys, erasers
from tenants.lifecycle.lock import holding
from tenants.models import Membership, Tenant, TenantStatus, User
from tenants.principal import acting

VERSION = 1


class NotDue(Exception):
    """The tenant is not being deleted, or its grace period goes on."""


class ErasureFailed(Exception):
    """A place could not be erased, or something is left there; the tenant's row says which and why."""


def erase_tenant(tenant: Tenant) -> Entry:
    """The platform's audit entry that holds the certificate.

    Raises Busy, NotDue, ErasureFailed, or ``django.db.OperationalError`` when PostgreSQL is gone.
    """
    with schema_context(get_public_schema_name()), holding(tenant.schema_name):
        tenant = Tenant.objects.get(pk=tenant.pk)
        if tenant.status != TenantStatus.DELETING or not tenant.delete_after or tenant.delete_after > timezone.now():
            raise NotDue(f"{tenant.slug!r} is not to be erased now.")
        places = erasers()
        try:
            counted = _begin(tenant, places)
            for position, place in enumerate(places):
                note_progress(tenant, position, len(places), place.name)
                place.erase(tenant)
            left = _count_rest(tenant, places)
            note_progress(tenant, len(places), len(places), "certificate")
            return _finish(tenant, counted, left)
        except NotDue:
            raise
        except Exception as error:
            if isinstance(error, OperationalError | InterfaceError) and not connection.is_usable():
                raise
            keep_error(tenant, error, "tenant.erasure_failed")
            raise ErasureFailed(tenant.work_error) from error


def erase_leftovers() -> list[str]:
    """Take away what came to Redis for tenants that were erased already, such as events that a gateway had kept on its
    disk while Redis was away. Gives their slugs; each is in the platform's audit log."""
    place, live = RedisKeys(), set(Tenant.objects.values_list("schema_name", flat=True))
    if not (unknown := place.names() - live):
        return []
    erased = Entry.objects.filter(action="tenant.erased").values_list("target", flat=True).distinct()
    found = [slug for slug in erased if slug.replace("-", "_") in unknown]
    for slug in found:
        place.erase_name(slug.replace("-", "_"))
        record(action="tenant.leftovers_erased", target=slug)
    return found


def _begin(tenant: Tenant, places: list[Eraser]) -> dict[str, dict[str, int]]:
    """What was there before the first try; a row that a cancellation has changed meanwhile is not erased."""
    if tenant.erasure is not None:
        return tenant.erasure
    counted = {place.name: _present(place, tenant) for place in places}
    with transaction.atomic():
        due = Tenant.objects.filter(pk=tenant.pk, status=TenantStatus.DELETING, delete_after__lte=timezone.now())
        if not due.update(erasure=counted):
            raise NotDue(f"The deletion of {tenant.slug!r} was cancelled.")
        record(action="tenant.erasure_begun", target=tenant.slug)
    return counted


def _count_rest(tenant: Tenant, places: list[Eraser]) -> dict[str, int]:
    """Nothing, by place. Raises ErasureFailed when there is something."""
    found = {place.name: _present(place, tenant) for place in places}
    if rest := {name: counts for name, counts in found.items() if counts}:
        raise ErasureFailed(f"This is left: {rest}")
    return {name: sum(counts.values()) for name, counts in found.items()}


@transaction.atomic
def _finish(tenant: Tenant, counted: dict[str, dict[str, int]], left: dict[str, int]) -> Entry:
    by = acting()
    requested = Entry.objects.filter(action="tenant.deletion_requested", target=tenant.slug).order_by("-seq").first()
    certificate = {
        "version": VERSION,
        "slug": tenant.slug,
        "schema": tenant.schema_name,
        "requested_at": requested.at.isoformat() if requested else None,
        "requested_by": [requested.actor_kind, requested.actor_id] if requested else None,
        "removed": counted | {"records": _delete_records(tenant)},
        "left": left,
        "erased_at": timezone.now().isoformat(),
        "erased_by": [by.kind, by.id],
    }
    return record(action="tenant.erased", target=tenant.slug, after=sign(certificate))


def _delete_records(tenant: Tenant) -> dict[str, int]:
    """The tenant's rows of the shared schema, and the people who belong to no other tenant; how many by model."""
    elsewhere = Membership.objects.exclude(tenant=tenant).values("user")
    people = User.objects.filter(memberships__tenant=tenant, is_superuser=False).exclude(pk__in=elsewhere)
    removed: Counter[str] = Counter()
    for row in (*people, tenant):
        removed.update(row.delete()[1])
    return dict(removed)


def _present(place: Eraser, tenant: Tenant) -> dict[str, int]:
    return {kind: number for kind, number in place.count(tenant).items() if number}
