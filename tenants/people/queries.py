"""Finding people, their roles, what they are asked to join, and how a tenant's people sign in. All of it reads the
shared schema."""

import hashlib
import hmac

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from tenants.models import EmailDomain, Invitation, Membership, SingleSignOn, Tenant, TenantStatus, User


def find_role(user: User, tenant: Tenant) -> str | None:
    """The person's role in the tenant, or None for an outsider. Doors ask ``people.standing`` instead, which also
    looks at the session."""
    return Membership.objects.filter(user=user, tenant=tenant).values_list("role", flat=True).first()


def find_person(email: str) -> User | None:
    """Whoever has proven to have this address."""
    return User.objects.filter(
        email=email.lower(), emailaddress__email__iexact=email, emailaddress__verified=True
    ).first()


def has_account(email: str) -> bool:
    """Whoever it belongs to, and whether it is proven or not."""
    return User.objects.filter(email=email.lower()).exists()


def members(schema: str) -> QuerySet[Membership]:
    return Membership.objects.filter(tenant__schema_name=schema).select_related("user", "tenant")


def memberships_of(user: User) -> QuerySet[Membership]:
    return Membership.objects.filter(user=user).select_related("tenant").order_by("tenant__name", "pk")


def invitations(schema: str) -> QuerySet[Invitation]:
    return Invitation.objects.filter(tenant__schema_name=schema).select_related("tenant", "invited_by")


def find_invitation(token: str) -> Invitation | None:
    """The invitation that a link's token opens now: not accepted, not revoked, not expired, of a tenant in service."""
    return (
        Invitation.objects.select_related("tenant", "invited_by")
        .filter(
            token_hash=hash_token(token), accepted_at=None, revoked_at=None, expires_at__gt=timezone.now(),
            tenant__status=TenantStatus.ACTIVE,
        )
        .first()
    )  # fmt: skip


def hash_token(token: str) -> str:
    """SHA-256, in hex. Tokens are random and long, so a slow hash would add delay but no safety."""
    return hashlib.sha256(token.encode()).hexdigest()


def find_sign_on(public_id: str) -> SingleSignOn | None:
    """A tenant's single sign-on, its tenant loaded; none of a tenant that is not in service."""
    found = SingleSignOn.objects.select_related("tenant").filter(public_id=public_id)
    return found.filter(tenant__status=TenantStatus.ACTIVE).first()


def find_sign_on_of(tenant: Tenant) -> SingleSignOn | None:
    found = SingleSignOn.objects.select_related("tenant").filter(tenant=tenant)
    return found.filter(tenant__status=TenantStatus.ACTIVE).first()


def vouches_for(connection: SingleSignOn, email: str) -> bool:
    """Whether the address is in a domain that is proven to be the tenant's own. Subdomains are domains of their own."""
    domain = email.rpartition("@")[2].lower()
    return EmailDomain.objects.filter(tenant=connection.tenant_id, domain=domain).exclude(verified_at=None).exists()


def hide_email(email: str) -> str:
    """What the audit keeps of an address that need not be a person's here: equal for equal addresses, and no more."""
    keyed = hmac.new(settings.SECRET_KEY.encode(), b"audited e-mail\0" + email.lower().encode(), hashlib.sha256)
    return f"email:{keyed.hexdigest()[:32]}"
