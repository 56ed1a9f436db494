"""What can be done to people and their memberships. Each function is one transaction; refusals are named exceptions.

Only an owner makes owners and takes owners away, and one owner always stays. ``as_owner`` says whether whoever acts
is an owner of this very tenant; keys and OAuth clients never are. What operators do by ``add_member`` needs no owner.
"""

from django.db import transaction

from tenants.audit.operations import record
from tenants.errors import TenancyError
from tenants.models import Membership, Tenant, User
from tenants.permissions import Role


class RoleUnknown(TenancyError):
    """A member can only have a role that exists."""


class OwnersOnly(TenancyError):
    """Only an owner may do this."""

    code = "owners_only"


class LastOwner(TenancyError):
    """A tenant always has an owner."""

    code = "last_owner"


@transaction.atomic
def add_member(*, tenant: Tenant, email: str, role: str, password: str | None = None) -> Membership:
    """Give a person a role. A person who is new gets an account; an existing member's role changes."""
    check_role(role)
    user = User.objects.filter(email=email.lower()).first() or User.objects.create_user(email, password)
    before = Membership.objects.filter(user=user, tenant=tenant).values_list("role", flat=True).first()
    membership, _ = Membership.objects.update_or_create(user=user, tenant=tenant, defaults={"role": role})
    if before != role:
        _record("member.role_changed" if before else "member.added", membership, before, role)
    return membership


@transaction.atomic
def change_role(*, membership: Membership, role: str, as_owner: bool) -> Membership:
    """From the member's next request on. Raises RoleUnknown, OwnersOnly or LastOwner."""
    check_role(role)
    membership = _lock(membership)
    before = membership.role
    if role == before:
        return membership
    if Role.OWNER in (role, before) and not as_owner:
        raise OwnersOnly("Only an owner makes owners, and takes owners away.", "role")
    if before == Role.OWNER:
        _keep_an_owner(membership, "role")
    membership.role = role
    membership.save(update_fields=["role"])
    _record("member.role_changed", membership, before, role)
    return membership


@transaction.atomic
def remove_member(*, membership: Membership, as_owner: bool) -> None:
    """Their sessions open nothing in the tenant at the next request. Raises OwnersOnly or LastOwner."""
    membership = _lock(membership)
    if membership.role == Role.OWNER:
        if not as_owner:
            raise OwnersOnly("Only an owner removes owners.", "member")
        _keep_an_owner(membership, "member")
    membership.delete()
    _record("member.removed", membership, membership.role, None)


def check_role(role: str) -> None:
    """Raises RoleUnknown."""
    if role not in Role.values:
        raise RoleUnknown(f"There is no role {role[:100]!r}; there are {', '.join(Role.values)}.", "role")


def _lock(membership: Membership) -> Membership:
    """One change of a tenant's members at a time: two owners who remove each other must not both succeed."""
    Tenant.objects.select_for_update().get(pk=membership.tenant_id)
    return Membership.objects.select_related("tenant", "user").get(pk=membership.pk)


def _keep_an_owner(membership: Membership, param: str) -> None:
    others = Membership.objects.filter(tenant=membership.tenant_id, role=Role.OWNER).exclude(user=membership.user_id)
    # An account that is closed cannot sign in, so it owns nothing.
    if not others.filter(user__is_active=True).exists():
        raise LastOwner("This is the last owner; make another one first.", param)


def _record(action: str, membership: Membership, before: str | None, after: str | None) -> None:
    record(
        action=action,
        target=str(membership.user_id),
        before={"role": before} if before else None,
        after={"role": after} if after else None,
        tenant=membership.tenant.schema_name,
    )
