"""What can be done to a tenant's single sign-on, and whom it admits. Each function is one transaction; refusals are
named exceptions.

Whom a provider may vouch for: people whose e-mail domain is proven to be the tenant's. Somebody else's account cannot
be taken over by naming its address, and an address that nobody has yet cannot be taken ahead of its owner.
"""

import secrets
from typing import Any
from urllib.parse import urlsplit

import dns.exception
import dns.resolver
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import DomainNameValidator, validate_email
from django.db import transaction
from django.utils import timezone

from tenants.audit.operations import record
from tenants.encryption.sealing import seal, unseal
from tenants.errors import TenancyError
from tenants.models import EmailDomain, Invitation, Membership, SingleSignOn, Tenant, User
from tenants.people.queries import vouches_for
from tenants.permissions import Role

PURPOSE = "people.sso.client_secret"
RECORD_PREFIX = "_agentvoicebox."
check_domain = DomainNameValidator(accept_idna=False)


class SignOnInvalid(TenancyError):
    """The configuration cannot work as it stands."""


class DomainRefused(TenancyError):
    """The e-mail domain cannot be added or is not there."""


class DomainUnproven(TenancyError):
    """The DNS does not show that the domain is the tenant's."""


class SignOnRefused(Exception):
    """The provider said who it is, and that does not open anything here. The message may be shown."""

    def __init__(self, message: str, email: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.email = email


@transaction.atomic
def configure(
    *, tenant: Tenant, issuer: str, client_id: str, client_secret: str | None, default_role: str, required: bool
) -> SingleSignOn:
    """Sets the tenant's provider; no ``client_secret`` keeps the one that is there.

    With another issuer it is another provider: whom the old one knew must show up anew, and its sessions end.
    Raises SignOnInvalid.
    """
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    issuer = _check_issuer(issuer)
    if default_role == Role.OWNER or default_role not in Role.values:
        roles = ", ".join(role for role in Role.values if role != Role.OWNER)
        raise SignOnInvalid(f"People who come by single sign-on can have the roles {roles}.", "default_role")
    connection = SingleSignOn.objects.filter(tenant=tenant).first()
    before = _shown(connection) if connection else None
    if connection is None or connection.issuer != issuer:
        if client_secret is None:
            raise SignOnInvalid("A new provider needs its client secret.", "client_secret")
        if connection:
            SocialAccount.objects.filter(provider=connection.public_id).delete()
            connection.delete()
        connection = SingleSignOn(tenant=tenant, issuer=issuer, public_id="sso_" + secrets.token_hex(12))
    connection.client_id, connection.default_role, connection.required = client_id, default_role, required
    if client_secret is not None:
        connection.sealed_secret = seal(tenant.schema_name, client_secret.encode(), purpose=PURPOSE)
    connection.save()
    record(
        action="single_sign_on.configured", target=connection.public_id, before=before, after=_shown(connection),
        tenant=tenant.schema_name,
    )  # fmt: skip
    return connection


@transaction.atomic
def remove(*, connection: SingleSignOn) -> None:
    """Its sessions end, and those who came by it alone need a password or an invitation."""
    SocialAccount.objects.filter(provider=connection.public_id).delete()
    before, target = _shown(connection), connection.public_id
    connection.delete()
    record(action="single_sign_on.removed", target=target, before=before, tenant=connection.tenant.schema_name)


def open_secret(connection: SingleSignOn) -> str:
    """Raises EncryptionError."""
    return unseal(connection.tenant.schema_name, bytes(connection.sealed_secret), purpose=PURPOSE).decode()


@transaction.atomic
def add_domain(*, tenant: Tenant, domain: str) -> EmailDomain:
    """Not proven yet. Raises DomainRefused."""
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    domain = domain.lower()
    try:
        check_domain(domain)
    except ValidationError as error:
        words = f"An e-mail domain looks like example.com, in ASCII; got {domain[:100]!r}."
        raise DomainRefused(words, "domain") from error
    present = EmailDomain.objects.filter(tenant=tenant)
    if present.filter(domain=domain).exists():
        raise DomainRefused(f"The domain {domain} is there already.", "domain")
    if present.count() >= settings.EMAIL_DOMAINS_PER_TENANT:
        raise DomainRefused(f"A tenant has at most {settings.EMAIL_DOMAINS_PER_TENANT} domains.", "domain")
    added = EmailDomain.objects.create(tenant=tenant, domain=domain, token=secrets.token_urlsafe(24))
    record(action="email_domain.added", target=domain, tenant=tenant.schema_name)
    return added


@transaction.atomic
def remove_domain(*, domain: EmailDomain) -> None:
    """People of the domain who belong to the tenant stay; they do not get in by single sign-on any more."""
    name = domain.domain
    domain.delete()
    record(action="email_domain.removed", target=name, tenant=domain.tenant.schema_name)


def expected_record(domain: EmailDomain) -> tuple[str, str]:
    """The name and the text of the TXT record that proves the domain."""
    return RECORD_PREFIX + domain.domain, f"agentvoicebox-verification={domain.token}"


def prove_domain(*, domain: EmailDomain) -> EmailDomain:
    """Looks into the DNS. Raises DomainUnproven."""
    name, text = expected_record(domain)
    if text not in _texts_at(name):
        raise DomainUnproven(f"There is no TXT record {text!r} at {name} yet; DNS changes can take a while.", "domain")
    return accept_domain(domain=domain, by="dns")


@transaction.atomic
def accept_domain(*, domain: EmailDomain, by: str) -> EmailDomain:
    """It is the tenant's. ``by``: ``dns``, or ``operator`` for one who checked it another way."""
    domain.verified_at = timezone.now()
    domain.save(update_fields=["verified_at"])
    record(action="email_domain.verified", target=domain.domain, after={"by": by}, tenant=domain.tenant.schema_name)
    return domain


@transaction.atomic
def admit(*, connection: SingleSignOn, subject: str, claims: dict[str, Any]) -> SocialAccount:
    """The account that signs in now; a person who is new gets one, and a membership with the default role, or with
    that of their invitation.

    ``claims`` has the provider's ``userinfo`` and ``id_token``. Raises SignOnRefused.
    """
    tenant = connection.tenant
    email, name = _read_claims(connection, subject, claims)
    if not vouches_for(connection, email):
        domain = email.rpartition("@")[2]
        raise SignOnRefused(f"{tenant.name} has not proven that the e-mail domain {domain} is its own.", email)
    account = SocialAccount.objects.select_related("user").filter(provider=connection.public_id, uid=subject).first()
    user = account.user if account else _find_or_make(email, name)
    if not user.is_active:
        raise SignOnRefused("This account is closed.", email)
    member = Membership.objects.filter(user=user, tenant=tenant).exists()
    invitation = _open_invitation(tenant, email)
    if not member and account and not invitation:
        raise SignOnRefused(f"You do not belong to {tenant.name} any more; ask for an invitation.", email)
    if account is None:
        account = SocialAccount.objects.create(provider=connection.public_id, uid=subject, user=user)
    # What else the provider tells of a person is none of our business.
    account.extra_data = {}
    account.save()
    if not member:
        role = invitation.role if invitation else connection.default_role
        Membership.objects.create(user=user, tenant=tenant, role=role)
        record(
            action="member.added", target=str(user.pk), after={"role": role, "by": "single_sign_on"},
            tenant=tenant.schema_name,
        )  # fmt: skip
    if invitation:
        Invitation.objects.filter(pk=invitation.pk).update(accepted_at=timezone.now())
    return account


def _read_claims(connection: SingleSignOn, subject: str, claims: dict[str, Any]) -> tuple[str, str]:
    userinfo, id_token = claims.get("userinfo") or {}, claims.get("id_token") or {}
    if not id_token or str(id_token.get("sub")) != subject or str(userinfo.get("sub", subject)) != subject:
        # OpenID Connect Core 5.3.2: otherwise one person's answer could be put beside another's token.
        raise SignOnRefused("The identity provider's answers are about different people.")
    told = id_token | userinfo
    email = str(told.get("email") or "").strip().lower()
    try:
        validate_email(email)
    except ValidationError as error:
        raise SignOnRefused("The identity provider does not tell your e-mail address.") from error
    if told.get("email_verified") in (False, "false"):
        raise SignOnRefused("Your identity provider has not verified your e-mail address.", email)
    return email, str(told.get("name") or "").replace("\0", "")[:200]


def _find_or_make(email: str, name: str) -> User:
    user = User.objects.select_for_update().filter(email=email).first()
    if user is None:
        return User.objects.create_user(email, None, name=name)
    address, _ = EmailAddress.objects.get_or_create(user=user, email=email, defaults={"primary": True})
    if not address.verified:
        # Whoever signed up with this address never proved it, so their password must not open the owner's account.
        user.set_unusable_password()
        user.save(update_fields=["password"])
        address.verified = True
        address.save(update_fields=["verified"])
    return user


def _open_invitation(tenant: Tenant, email: str) -> Invitation | None:
    return Invitation.objects.filter(
        tenant=tenant, email__iexact=email, accepted_at=None, revoked_at=None, expires_at__gt=timezone.now()
    ).first()


def _check_issuer(issuer: str) -> str:
    issuer = issuer.rstrip("/")
    parts = urlsplit(issuer)
    if parts.username or parts.password or parts.query or parts.fragment or not parts.hostname:
        raise SignOnInvalid("An issuer is an address without user, parameters or fragment.", "issuer")
    if parts.scheme != "https" and not (parts.scheme == "http" and settings.SSO_PRIVATE_ISSUERS):
        raise SignOnInvalid("An issuer's address begins with https://.", "issuer")
    return issuer


def _shown(connection: SingleSignOn) -> dict[str, Any]:
    return {
        "issuer": connection.issuer, "client_id": connection.client_id, "default_role": connection.default_role,
        "required": connection.required,
    }  # fmt: skip


def _texts_at(name: str) -> set[str]:
    resolver = dns.resolver.Resolver(configure=not settings.SSO_DNS_SERVERS)
    if settings.SSO_DNS_SERVERS:
        resolver.nameservers = [server.partition(":")[0] for server in settings.SSO_DNS_SERVERS]
        resolver.nameserver_ports = {
            server.partition(":")[0]: int(server.partition(":")[2] or 53) for server in settings.SSO_DNS_SERVERS
        }
    resolver.lifetime = settings.SSO_TIMEOUT_S
    try:
        answer = resolver.resolve(name, "TXT")
    except dns.exception.DNSException as error:
        words = f"The TXT record at {name} cannot be read: {type(error).__name__}."
        raise DomainUnproven(words, "domain") from error
    return {b"".join(entry.strings).decode(errors="replace") for entry in answer}
