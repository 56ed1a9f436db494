"""Finding tenants. All of it reads the shared schema."""

from tenants.models import Tenant


def find_tenant_by_host(host: str) -> Tenant | None:
    """The tenant whose pages this host name shows; ``host`` without port."""
    return Tenant.objects.filter(domains__domain=host.lower()).first()
