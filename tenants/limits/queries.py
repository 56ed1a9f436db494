"""Which limits hold, and what is left of them."""

from django.conf import settings
from django.db.models import QuerySet

from tenants.limits.allowance import Party, combine
from tenants.limits.counters import BlockingLimiter, Standing
from tenants.limits.models import EndUserLimits
from tenants.limits.names import KINDS
from tenants.models import Tenant


def tenant_limits(tenant: Tenant) -> dict[str, int]:
    """All limits of the tenant, by name."""
    return combine(settings.LIMITS, tenant.plan.limits if tenant.plan else {}, tenant.limits)


def limit_sources(tenant: Tenant) -> dict[str, str]:
    """Where each of them comes from: ``tenant``, ``plan`` or ``default``."""
    plan = tenant.plan.limits if tenant.plan else {}
    return {name: "tenant" if name in tenant.limits else "plan" if name in plan else "default" for name in KINDS}


def find_tenant(schema_name: str) -> Tenant:
    """With its plan. Raises Tenant.DoesNotExist."""
    return Tenant.objects.select_related("plan").get(schema_name=schema_name)


def end_user_limits(end_user: str) -> dict[str, int]:
    """Inside the tenant's schema: what was lowered for this end user."""
    if not end_user:
        return {}
    return EndUserLimits.objects.filter(end_user=end_user).values_list("limits", flat=True).first() or {}


def list_end_user_limits() -> QuerySet[EndUserLimits]:
    """Inside the tenant's schema."""
    return EndUserLimits.objects.all()


def read_standings(limiter: BlockingLimiter, party: Party) -> list[Standing]:
    """Every counter of the party as it stands; nothing is counted. Raises LimitsUnavailable."""
    counters = [
        counter for kind in KINDS.values() if kind.window_s for counter in party.counters(kind.name, 0, refuses=False)
    ]
    return limiter.ask([*counters, *party.places("")]).standings
