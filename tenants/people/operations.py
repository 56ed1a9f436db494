"""What can be done to people and their memberships. Each function is one transaction; refusals are named exceptions.

Only an owner makes owners and takes owners away, and one owner always stays. ``as_owner`` says whether whoever acts
is an owner of this very tenant; keys and OAuth clients never are. What operators do by ``add_member`` needs no owner.
"""

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from tenants.access import announce
from tenants.audit.operations import record
from tenants.ended import AccessEnded, EndReason
from tenants.errors import TenancyError
from tenants.keys.credential import id_of_person
from tenants.models import Membership, Tenant, User
from tenants.permissions import ROLE_SCOPES, Role, Scope
from tenants.principal import acting


class RoleUnknown(TenancyError):
    """A member can only have a role that exists."""


class EmailRefused(TenancyError):
    """This is no e-mail address."""


class OwnersOnly(TenancyError):
    """Only an owner may do this."""

    code = "owners_only"


class RoleBeyond(TenancyError):
    """Whoever acts does not have all that the role may do, so they cannot give it."""

    code = "scope_not_held"


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
    if before:
        _end_calls_without_scope(membership)
    return membership


@transaction.atomic
def make_operator(*, email: str, password: str | None = None) -> User:
    """A platform operator. A person who is new gets an account, with an address that counts as proven; an existing one
    keeps everything, and an account that is closed stays so. Raises EmailRefused."""
    try:
        validate_email(email)
    except ValidationError as error:
        words = f"An e-mail address looks like somebody@example.com; got {email[:100]!r}."
        raise EmailRefused(words, "email") from error
    user = User.objects.filter(email=email.lower()).first() or User.objects.create_user(email, password)
    if not user.is_superuser:
        user.is_superuser = True
        user.save(update_fields=["is_superuser"])
        record(action="operator.added", target=str(user.pk))
    return user


@transaction.atomic
def change_role(*, membership: Membership, role: str, as_owner: bool) -> Membership:
    """From the member's next request on; calls that they opened end with the scope. Raises RoleUnknown, OwnersOnly,
    RoleBeyond or LastOwner."""
    check_role(role)
    membership = _lock(membership)
    before = membership.role
    if role == before:
        return membership
    if Role.OWNER in (role, before) and not as_owner:
        raise OwnersOnly("Only an owner makes owners, and takes owners away.", "role")
    require_role_held(role)
    if before == Role.OWNER:
        _keep_an_owner(membership, "role")
    membership.role = role
    membership.save(update_fields=["role"])
    _record("member.role_changed", membership, before, role)
    _end_calls_without_scope(membership)
    return membership


@transaction.atomic
def remove_member(*, membership: Membership, as_owner: bool) -> None:
    """Their sessions open nothing in the tenant at the next request, and the calls that they opened end. Raises
    OwnersOnly or LastOwner."""
    membership = _lock(membership)
    if membership.role == Role.OWNER:
        if not as_owner:
            raise OwnersOnly("Only an owner removes owners.", "member")
        _keep_an_owner(membership, "member")
    membership.delete()
    _record("member.removed", membership, membership.role, None)
    _end_calls(membership, "member_removed")


def check_role(role: str) -> None:
    """Raises RoleUnknown."""
    if role not in Role.values:
        raise RoleUnknown(f"There is no role {role[:100]!r}; there are {', '.join(Role.values)}.", "role")


def require_role_held(role: str) -> None:
    """A key may hold ``members:write`` and little else: it makes nobody more than it is itself. Raises RoleBeyond."""
    principal = acting()
    if principal.kind in ("system", "operator"):
        return
    if missing := sorted(ROLE_SCOPES[Role(role)] - principal.scopes):
        raise RoleBeyond(f"The role {role} has the scope {str(missing[0])!r}, which you do not have yourself.", "role")


def _lock(membership: Membership) -> Membership:
    """One change of a tenant's members at a time: two owners who remove each other must not both succeed."""
    Tenant.objects.select_for_update().get(pk=membership.tenant_id)
    return Membership.objects.select_related("tenant", "user").get(pk=membership.pk)


def _keep_an_owner(membership: Membership, param: str) -> None:
    others = Membership.objects.filter(tenant=membership.tenant_id, role=Role.OWNER).exclude(user=membership.user_id)
    # An account that is closed cannot sign in, so it owns nothing.
    if not others.filter(user__is_active=True).exists():
        raise LastOwner("This is the last owner; make another one first.", param)


def _end_calls_without_scope(membership: Membership) -> None:
    """REST asks for the role at every request; a call asked once."""
    if Scope.REALTIME not in ROLE_SCOPES[Role(membership.role)]:
        _end_calls(membership, "role_changed")


def _end_calls(membership: Membership, reason: EndReason) -> None:
    key_id = id_of_person(membership.user_id)
    announce(AccessEnded(tenant=membership.tenant.schema_name, key_id=key_id, reason=reason))


def _record(action: str, membership: Membership, before: str | None, after: str | None) -> None:
    record(
        action=action,
        target=str(membership.user_id),
        before={"role": before} if before else None,
        after={"role": after} if after else None,
        tenant=membership.tenant.schema_name,
    )
