"""What can be done to people and their memberships. Each function is one transaction; refusals are named exceptions."""

from django.db import transaction

from tenants.errors import TenancyError
from tenants.models import Membership, Tenant, User
from tenants.permissions import Role


class RoleUnknown(TenancyError):
    """A member can only have a role that exists."""


@transaction.atomic
def add_member(*, tenant: Tenant, email: str, role: str, password: str | None = None) -> Membership:
    """Give a person a role. A person who is new gets an account; an existing member's role changes."""
    if role not in Role.values:
        raise RoleUnknown(f"There is no role {role!r}; there are {', '.join(Role.values)}.", "role")
    user = User.objects.filter(email=email.lower()).first() or User.objects.create_user(email, password)
    membership, _ = Membership.objects.update_or_create(user=user, tenant=tenant, defaults={"role": role})
    return membership
