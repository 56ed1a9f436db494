"""What can be done to tenants. Each function is one transaction; refusals are named exceptions.

What happens to a tenant is in the platform's audit log, and in the tenant's own as soon as it has one.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context, schema_exists

from tenants.access import AccessEnded, announce, forget
from tenants.audit.operations import record
from tenants.errors import TenancyError
from tenants.lifecycle.building import build_tenant
from tenants.lifecycle.domains import DomainRefused, DomainTaken, check_domains, put_domains
from tenants.lifecycle.names import SlugRefused, hold_names, schema_of
from tenants.lifecycle.plans import LimitsRefused, PlanUnknown, check_limits, find_plan
from tenants.lifecycle.platform_keys import ID_PREFIX
from tenants.lifecycle.queries import find_certificate
from tenants.models import Tenant, TenantStatus
from tenants.principal import acting

__all__ = [
    "ConfirmationWrong",
    "DomainRefused",
    "DomainTaken",
    "GraceRefused",
    "LimitsRefused",
    "PlanUnknown",
    "ReasonMissing",
    "SlugRefused",
    "StatusRefused",
    "cancel_deletion",
    "change_settings",
    "check_slug",
    "create_tenant",
    "request_deletion",
    "request_tenant",
    "resume_tenant",
    "retry_tenant",
    "suspend_tenant",
    "update_tenant",
]

SETTLE_S = 10
"""The shortest grace period: what runs of the tenant has ended by then, and has written its last."""
REASON_CHARACTERS = 500
GRACE_DAYS_MAX = 3_650


class StatusRefused(TenancyError):
    """A tenant in this status cannot do that."""

    code = "status_refused"


class ReasonMissing(TenancyError):
    """Who suspends a tenant says why."""

    code = "reason_missing"


class ConfirmationWrong(TenancyError):
    """Who deletes a tenant types its slug once more."""

    code = "confirmation_wrong"


class GraceRefused(TenancyError):
    """Who deletes a tenant chooses a grace period that there can be."""

    code = "grace_days_refused"


def request_tenant(
    *,
    slug: str,
    name: str,
    plan: str | None = None,
    domains: Iterable[str] = (),
    limits: dict[str, Any] | None = None,
    adopt_schema: bool = False,
) -> Tenant:
    """The row of a new tenant, ``creating``: ``build_tenant`` makes its schema, and opens it.

    ``plan`` is a slug. ``adopt_schema`` takes over a schema that has no tenant, such as one from a backup; otherwise
    one that exists is refused. Raises SlugRefused, DomainTaken, DomainRefused, PlanUnknown or LimitsRefused.
    """
    with schema_context(get_public_schema_name()), transaction.atomic():
        hold_names()
        schema_name = check_slug(slug, adopt_schema=adopt_schema)
        hosts = check_domains(domains)
        tenant = Tenant(
            slug=slug,
            name=name,
            schema_name=schema_name,
            plan=find_plan(plan),
            limits=check_limits({} if limits is None else limits, "limits"),
            status=TenantStatus.CREATING,
            status_changed_at=timezone.now(),
        )
        tenant.save(verbosity=0)
        put_domains(tenant, hosts)
        record(action="tenant.requested", target=slug, after={"name": name, "plan": plan, "domains": hosts})
    return tenant


def check_slug(slug: str, *, adopt_schema: bool = False) -> str:
    """The schema that a new tenant of this slug would have. Raises SlugRefused."""
    schema_name = schema_of(slug)
    if Tenant.objects.filter(Q(slug=slug) | Q(schema_name=schema_name)).exists():
        raise SlugRefused(f"A tenant {slug!r} exists already.", "slug")
    if find_certificate(slug):
        words = f"A tenant {slug!r} was erased; its name is not given again, so that nothing late reaches a newcomer."
        raise SlugRefused(words, "slug")
    if not adopt_schema and schema_exists(schema_name):
        raise SlugRefused(f"There is a schema {schema_name!r} already, of no tenant; choose another name.", "slug")
    return schema_name


def create_tenant(
    *,
    slug: str,
    name: str,
    plan: str | None = None,
    domains: Iterable[str] = (),
    limits: dict[str, Any] | None = None,
    adopt_schema: bool = False,
) -> Tenant:
    """The same, and waits until it is open. Raises BuildFailed too: the tenant is then there, and can be retried."""
    return build_tenant(
        request_tenant(slug=slug, name=name, plan=plan, domains=domains, limits=limits, adopt_schema=adopt_schema)
    )


@transaction.atomic
def retry_tenant(*, tenant: Tenant) -> Tenant:
    """Let the sweep take up again what stands still at an error. Raises StatusRefused when nothing does."""
    tenant = _hold(tenant)
    if not tenant.work_error or tenant.status not in (TenantStatus.CREATING, TenantStatus.DELETING):
        raise StatusRefused(f"Nothing of {tenant.slug!r} stands still; it is {tenant.status}.", "status")
    before = {"error": tenant.work_error}
    tenant.work_error = ""
    tenant.save(update_fields=["work_error"])
    record(action="tenant.retried", target=tenant.slug, before=before)
    return tenant


@transaction.atomic
def update_tenant(*, tenant: Tenant, **changes: Any) -> Tenant:
    """For platform operators: ``name``, ``plan`` (a slug or None), ``limits``, ``domains``; what is not given stays.

    Raises StatusRefused, PlanUnknown, LimitsRefused, DomainTaken or DomainRefused.
    """
    hold_names()
    tenant = _hold(tenant)
    if tenant.status == TenantStatus.DELETING:
        raise StatusRefused(f"{tenant.slug!r} is being deleted; undelete it first.", "status")
    before = _seen(tenant, changes)
    if "plan" in changes:
        tenant.plan = find_plan(changes["plan"])
    if "limits" in changes:
        tenant.limits = check_limits(changes["limits"], "limits")
    if "name" in changes:
        tenant.name = changes["name"]
    if "domains" in changes:
        put_domains(tenant, check_domains(changes["domains"], owner=tenant))
    tenant.save(update_fields=["name", "plan", "limits"])
    after = _seen(tenant, changes)
    if before != after:
        forget(tenant=tenant.schema_name)
        _record(tenant, "tenant.changed", before=before, after=after)
    return tenant


@transaction.atomic
def change_settings(*, tenant: Tenant, **changes: Any) -> Tenant:
    """For the tenant itself: ``name``, ``cors_origins``, ``retention_days``; what is not given stays."""
    tenant = _hold(tenant)
    before = {name: getattr(tenant, name) for name in changes}
    for name, value in changes.items():
        setattr(tenant, name, value)
    tenant.save(update_fields=["name", "cors_origins", "retention_days"])
    if before != changes:
        record(action="settings.changed", target=tenant.slug, before=before, after=changes, tenant=tenant.schema_name)
    return tenant


@transaction.atomic
def suspend_tenant(*, tenant: Tenant, reason: str) -> Tenant:
    """Its keys, sockets and pages open nothing from now on; everything is kept. Raises StatusRefused, ReasonMissing."""
    tenant = _hold(tenant)
    reason = reason.strip()
    if not reason or len(reason) > REASON_CHARACTERS:
        raise ReasonMissing(f"Give a reason of 1 to {REASON_CHARACTERS} characters.", "reason")
    _require(tenant, TenantStatus.ACTIVE, "suspended")
    _turn(tenant, TenantStatus.SUSPENDED, reason)
    announce(AccessEnded(tenant=tenant.schema_name, reason="tenant_suspended"))
    _record(tenant, "tenant.suspended", after={"reason": reason})
    return tenant


@transaction.atomic
def resume_tenant(*, tenant: Tenant) -> Tenant:
    """A suspended tenant opens again, with everything that it had. Raises StatusRefused."""
    tenant = _hold(tenant)
    _require(tenant, TenantStatus.SUSPENDED, "resumed")
    before = {"reason": tenant.status_reason}
    _turn(tenant, TenantStatus.ACTIVE, "")
    _record(tenant, "tenant.resumed", before=before)
    return tenant


@transaction.atomic
def request_deletion(*, tenant: Tenant, confirmation: str, reason: str = "", grace_days: int | None = None) -> Tenant:
    """Opens nothing from now on, and is erased when its grace period ends; until then it can be cancelled.

    ``confirmation`` is the slug, typed again. ``grace_days`` is ``AVB_TENANT_DELETE_GRACE_DAYS`` when not given.
    Raises ConfirmationWrong, StatusRefused, ReasonMissing, GraceRefused.
    """
    tenant = _hold(tenant)
    if grace_days is not None and not 0 <= grace_days <= GRACE_DAYS_MAX:
        raise GraceRefused(f"A grace period has 0 to {GRACE_DAYS_MAX} days; got {grace_days}.", "grace_days")
    if confirmation != tenant.slug:
        raise ConfirmationWrong(f"Type the tenant's slug, {tenant.slug!r}, to confirm its deletion.", "confirmation")
    if len(reason) > REASON_CHARACTERS:
        raise ReasonMissing(f"A reason has at most {REASON_CHARACTERS} characters.", "reason")
    if tenant.status == TenantStatus.DELETING:
        raise StatusRefused(f"{tenant.slug!r} is being deleted already, after {tenant.delete_after}.", "status")
    usual = settings.TENANT_DELETE_GRACE_DAYS
    days = usual if grace_days is None else grace_days
    if days < usual and acting().id.startswith(ID_PREFIX):
        raise GraceRefused(f"A platform key cannot shorten the {usual} days of grace; a person can.", "grace_days")
    tenant.status_before = tenant.status
    tenant.delete_after = timezone.now() + max(timedelta(days=days), timedelta(seconds=SETTLE_S))
    tenant.work_error = ""
    _turn(tenant, TenantStatus.DELETING, reason.strip(), "status_before", "delete_after", "work_error")
    announce(AccessEnded(tenant=tenant.schema_name, reason="tenant_deleted"))
    _record(
        tenant, "tenant.deletion_requested", after={"reason": reason, "delete_after": tenant.delete_after.isoformat()}
    )
    return tenant


@transaction.atomic
def cancel_deletion(*, tenant: Tenant) -> Tenant:
    """Back to what it was before. Raises StatusRefused when it is not being deleted, or its erasure has begun."""
    tenant = _hold(tenant)
    _require(tenant, TenantStatus.DELETING, "undeleted")
    if tenant.erasure is not None:
        raise StatusRefused(f"The erasure of {tenant.slug!r} has begun; nothing can be brought back.", "status")
    tenant.delete_after, before, tenant.status_before = None, TenantStatus(tenant.status_before), ""
    tenant.work_error = ""
    _turn(tenant, before, "", "status_before", "delete_after", "work_error")
    _record(tenant, "tenant.deletion_cancelled", after={"status": tenant.status})
    return tenant


def _hold(tenant: Tenant) -> Tenant:
    """The row as it is now, kept from others until the transaction ends."""
    return Tenant.objects.select_for_update(of=("self",)).select_related("plan").get(pk=tenant.pk)


def _require(tenant: Tenant, status: TenantStatus, done: str) -> None:
    if tenant.status != status:
        raise StatusRefused(f"{tenant.slug!r} is {tenant.status}; only what is {status} can be {done}.", "status")


def _turn(tenant: Tenant, status: TenantStatus, reason: str, *fields: str) -> None:
    tenant.status, tenant.status_reason, tenant.status_changed_at = status, reason, timezone.now()
    tenant.save(update_fields=["status", "status_reason", "status_changed_at", *fields])


def _seen(tenant: Tenant, names: Iterable[str]) -> dict[str, Any]:
    shown = {
        "name": tenant.name,
        "plan": tenant.plan.slug if tenant.plan else None,
        "limits": tenant.limits,
        "domains": sorted(tenant.domains.values_list("domain", flat=True)),
    }
    return {name: shown[name] for name in names}


def _record(tenant: Tenant, action: str, **what: Any) -> None:
    if tenant.status != TenantStatus.CREATING and tenant.status_before != TenantStatus.CREATING:
        record(action=action, target=tenant.slug, tenant=tenant.schema_name, **what)
    record(action=action, target=tenant.slug, **what)
