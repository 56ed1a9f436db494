"""Finding people and their roles. All of it reads the shared schema."""

from tenants.models import Membership, Tenant, User


def find_role(user: User, tenant: Tenant) -> str | None:
    """The person's role in the tenant, or None for an outsider."""
    return Membership.objects.filter(user=user, tenant=tenant).values_list("role", flat=True).first()
