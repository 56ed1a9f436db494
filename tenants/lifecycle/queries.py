"""Finding tenants. All of it reads the shared schema."""

from datetime import timedelta

from django.db.models import Prefetch, Q, QuerySet
from django.utils import timezone

from tenants.audit.models import Entry
from tenants.models import Domain, Tenant, TenantStatus

ERASURE_RETRY = timedelta(minutes=5)
"""An erasure that failed is tried again by itself: it is due."""
CLOSED = {
    TenantStatus.CREATING: ("tenant_creating", "This tenant is still being made; try again shortly."),
    TenantStatus.SUSPENDED: ("tenant_suspended", "This tenant is suspended."),
    TenantStatus.DELETING: ("tenant_deleted", "This tenant is being deleted."),
}
"""The code and the words for whoever comes to a tenant that opens nothing."""


class TenantUnknown(Exception):
    """There is no such tenant."""

    def __init__(self, slug: str) -> None:
        self.message = f"There is no tenant {slug!r}."
        super().__init__(self.message)


def find_tenant(slug: str) -> Tenant:
    """With its plan and its host names. Raises TenantUnknown."""
    tenant = all_tenants().filter(slug=slug).first()
    if tenant is None:
        raise TenantUnknown(slug)
    return tenant


def all_tenants() -> QuerySet[Tenant]:
    """With their plans and host names."""
    return Tenant.objects.select_related("plan").prefetch_related(
        Prefetch("domains", Domain.objects.order_by("-is_primary", "id"))
    )


def find_tenant_by_host(host: str) -> Tenant | None:
    """The tenant whose pages this host name shows; ``host`` without port."""
    return Tenant.objects.filter(domains__domain=host.lower()).first()


def find_unfinished() -> QuerySet[Tenant]:
    """Tenants that wait to be made, or whose grace period is over. A build that failed waits for its retry."""
    now = timezone.now()
    return Tenant.objects.filter(
        Q(status=TenantStatus.CREATING, work_error="")
        | Q(status=TenantStatus.DELETING, delete_after__lte=now, work_error="")
        | Q(status=TenantStatus.DELETING, delete_after__lte=now, work_at__lte=now - ERASURE_RETRY)
    ).order_by("status_changed_at")


def find_certificate(slug: str) -> Entry | None:
    """The platform's audit entry of the last erasure of a tenant of this slug, or None."""
    return Entry.objects.filter(action="tenant.erased", target=slug).order_by("-seq").first()
