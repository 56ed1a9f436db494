"""What can be done to invitations. Each function is one transaction; refusals are named exceptions.

The link that is mailed proves that whoever opens it reads that mailbox, so only the person with that address joins by
it. The token is shown to nobody else, not even to whoever invites.
"""

import secrets
from datetime import datetime, timedelta

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from tenants.audit.operations import record
from tenants.errors import TenancyError
from tenants.limits.counter import Counter
from tenants.models import Invitation, Membership, Tenant, TenantStatus, User
from tenants.people.operations import OwnersOnly, check_role, require_role_held
from tenants.people.queries import find_invitation, hash_token, hide_email
from tenants.permissions import Role
from tenants.principal import Principal, acting

HOUR_S = 3_600


class AlreadyMember(TenancyError):
    """The person belongs to the tenant."""

    code = "already_member"


class AlreadyInvited(TenancyError):
    """There is an open invitation for this address."""

    code = "already_invited"


class InvitationsExhausted(TenancyError):
    """The tenant has as many open invitations as it may."""

    code = "too_many_invitations"


class TenantNotOpen(TenancyError):
    """Nobody joins a tenant that is being made, suspended or being deleted."""

    code = "status_refused"


class InvitationOver(TenancyError):
    """It was accepted, revoked or left to expire."""

    code = "invitation_over"


class NotInvited(TenancyError):
    """Somebody else is."""


class PasswordRefused(TenancyError):
    """The password is too easy to guess."""


@transaction.atomic
def invite(*, tenant: Tenant, email: str, role: str, invited_by: User | None, as_owner: bool) -> tuple[Invitation, str]:
    """The invitation, and the token for the link. Raises RoleUnknown, OwnersOnly, RoleBeyond, TenantNotOpen,
    AlreadyMember, AlreadyInvited or InvitationsExhausted."""
    check_role(role)
    if role == Role.OWNER and not as_owner:
        raise OwnersOnly("Only an owner invites owners.", "role")
    require_role_held(role)
    tenant = Tenant.objects.select_for_update().get(pk=tenant.pk)
    if tenant.status != TenantStatus.ACTIVE:
        raise TenantNotOpen(f"{tenant.slug!r} is {tenant.status}; people are invited to active tenants.", "tenant")
    email, now = email.lower(), timezone.now()
    if Membership.objects.filter(tenant=tenant, user__email=email).exists():
        raise AlreadyMember("This person belongs to the tenant already.", "email")
    unanswered = Invitation.objects.filter(tenant=tenant, accepted_at=None, revoked_at=None)
    unanswered.filter(expires_at__lte=now).update(revoked_at=now)
    if unanswered.filter(email__iexact=email).exists():
        raise AlreadyInvited("This person is invited already; send that invitation again instead.", "email")
    if unanswered.count() >= settings.INVITATIONS_OPEN:
        words = f"A tenant has at most {settings.INVITATIONS_OPEN} open invitations; revoke one first."
        raise InvitationsExhausted(words, "email")
    token, expires_at = _draw()
    invitation = Invitation.objects.create(
        tenant=tenant, email=email, role=role, invited_by=invited_by, token_hash=hash_token(token),
        expires_at=expires_at,
    )  # fmt: skip
    _record("invitation.created", invitation, {"role": role, "email": hide_email(email)})
    return invitation, token


@transaction.atomic
def invite_as_operator(*, tenant: Tenant, email: str, role: str) -> tuple[Invitation, str]:
    """What a platform operator does, as for a tenant's first owner. An open invitation for the address ends: there may
    be nobody inside yet who could send it again. Raises what ``invite`` raises, but for OwnersOnly and
    AlreadyInvited."""
    unanswered = Invitation.objects.filter(tenant=tenant, accepted_at=None, revoked_at=None)
    for earlier in unanswered.filter(email__iexact=email):
        revoke(invitation=earlier)
    return invite(tenant=tenant, email=email, role=role, invited_by=None, as_owner=True)


@transaction.atomic
def resend(*, invitation: Invitation, as_owner: bool) -> tuple[Invitation, str]:
    """A new link with a new term; the old one opens nothing any more. Raises InvitationOver, OwnersOnly or
    RoleBeyond."""
    invitation = _lock(invitation)
    if invitation.role == Role.OWNER and not as_owner:
        raise OwnersOnly("Only an owner invites owners.", "invitation")
    require_role_held(invitation.role)
    token, invitation.expires_at = _draw()
    invitation.token_hash, invitation.mailed_at = hash_token(token), None
    invitation.save(update_fields=["token_hash", "expires_at", "mailed_at"])
    _record("invitation.resent", invitation)
    return invitation, token


@transaction.atomic
def revoke(*, invitation: Invitation) -> Invitation:
    """Its link opens nothing any more. Raises InvitationOver."""
    invitation = _lock(invitation)
    invitation.revoked_at = timezone.now()
    invitation.save(update_fields=["revoked_at"])
    _record("invitation.revoked", invitation)
    return invitation


@transaction.atomic
def accept(*, token: str, user: User) -> Membership:
    """The person joins the tenant. Raises InvitationOver, or NotInvited for somebody with another address."""
    invitation = _open(token)
    if invitation.email.lower() != user.email.lower():
        raise NotInvited(f"This invitation is for {invitation.email}; sign in with that address.", "token")
    membership, is_new = Membership.objects.get_or_create(
        user=user, tenant=invitation.tenant, defaults={"role": invitation.role}
    )
    Invitation.objects.filter(pk=invitation.pk).update(accepted_at=timezone.now())
    schema = invitation.tenant.schema_name
    # Whoever accepts may be signed in nowhere yet.
    actor = Principal("person", str(user.pk), user.name or f"person {user.pk}", schema, address=acting().address)
    after = {"role": membership.role, "member": str(user.pk), "joined": is_new}
    record(action="invitation.accepted", target=str(invitation.pk), after=after, tenant=schema, actor=actor)
    return membership


@transaction.atomic
def accept_as_new(*, token: str, name: str, password: str) -> User:
    """A new person with the invited address, who joins the tenant. Raises InvitationOver, NotInvited for an address
    that somebody has an account with, or PasswordRefused."""
    invitation = _open(token)
    email = invitation.email.lower()
    if EmailAddress.objects.filter(email__iexact=email, verified=True).exists():
        raise NotInvited("There is an account with this address; sign in with it.", "token")
    # Signed up and never proven: whoever did it does not read this mailbox, so nothing of theirs stays.
    User.objects.filter(email=email, emailaddress__verified=False).delete()
    try:
        validate_password(password, User(email=email, name=name))
    except ValidationError as error:
        raise PasswordRefused(" ".join(error.messages), "password") from error
    user = User.objects.create_user(email, password, name=name)
    accept(token=token, user=user)
    return user


def _open(token: str) -> Invitation:
    invitation = find_invitation(token)
    if invitation is None:
        raise InvitationOver("This invitation is not open: it was accepted, revoked, sent again, or expired.", "token")
    return _lock(invitation)


def _lock(invitation: Invitation) -> Invitation:
    held = Invitation.objects.select_for_update(of=("self",)).select_related("tenant").get(pk=invitation.pk)
    if held.accepted_at or held.revoked_at:
        raise InvitationOver("This invitation was accepted or revoked; make a new one.", "invitation")
    return held


def mail_counters(invitation: Invitation) -> list[Counter]:
    """What bounds the mail that a tenant's people can have sent to others."""
    prefix = f"avb:{invitation.tenant.schema_name}:limit:invitation_mails"
    counters = [Counter("invitation_mails_per_hour", "tenant", prefix, settings.INVITATION_MAILS_PER_HOUR, HOUR_S, 1)]
    if settings.INVITATION_PAUSE_S:
        pause = f"mails_of_one_invitation_in_{settings.INVITATION_PAUSE_S}_s"
        key = f"{prefix}:invitation:{invitation.pk}"
        counters.append(Counter(pause, "tenant", key, 1, settings.INVITATION_PAUSE_S, 1))
    return counters


def _draw() -> tuple[str, datetime]:
    return secrets.token_urlsafe(32), timezone.now() + timedelta(days=settings.INVITATION_DAYS)


def _record(action: str, invitation: Invitation, after: dict[str, object] | None = None) -> None:
    record(action=action, target=str(invitation.pk), after=after, tenant=invitation.tenant.schema_name)
