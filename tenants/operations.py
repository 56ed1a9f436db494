"""What can be done to tenants, keys and people. Each function is one transaction; refusals are named exceptions."""

import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context

from tenants.keys import draw_secret, hash_secret, shown_prefix
from tenants.models import SLUG, ApiKey, Domain, Membership, Role, Scope, Tenant, User

RESERVED_SCHEMA = re.compile(r"pg_|public$|information_schema$")


class TenancyError(Exception):
    """Refused; ``param`` is the argument at fault."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class SlugRefused(TenancyError):
    """The slug is taken, reserved or malformed."""


class DomainTaken(TenancyError):
    """Another tenant answers at this host name."""


class ScopeUnknown(TenancyError):
    """A key can only hold scopes that exist."""


class RoleUnknown(TenancyError):
    """A member can only have a role that exists."""


def create_tenant(*, slug: str, name: str, domains: Iterable[str] = ()) -> Tenant:
    """The tenant with its schema migrated and its host names set; all of it or nothing."""
    try:
        SLUG(slug)
    except ValidationError as error:
        raise SlugRefused(f"{slug!r} cannot name a tenant. {error.messages[0]}", "slug") from error
    schema_name = slug.replace("-", "_")
    if RESERVED_SCHEMA.match(schema_name):
        raise SlugRefused(f"{slug!r} is reserved; choose another name.", "slug")
    domains = [domain.lower() for domain in domains]
    with schema_context(get_public_schema_name()), transaction.atomic():
        if Tenant.objects.filter(Q(slug=slug) | Q(schema_name=schema_name)).exists():
            raise SlugRefused(f"A tenant {slug!r} exists already.", "slug")
        for taken in Domain.objects.filter(domain__in=domains):
            raise DomainTaken(f"The host name {taken.domain!r} leads to another tenant.", "domains")
        tenant = Tenant(slug=slug, name=name, schema_name=schema_name)
        tenant.save(verbosity=0)
        for position, domain in enumerate(domains):
            Domain.objects.create(tenant=tenant, domain=domain, is_primary=position == 0)
    return tenant


@transaction.atomic
def issue_key(
    *,
    tenant: Tenant,
    name: str,
    scopes: Iterable[str] | None = None,
    expires_at: datetime | None = None,
    mode: Literal["live", "test"] = "live",
) -> tuple[ApiKey, str]:
    """The key and its secret, which is shown this once and kept nowhere. No scopes means all."""
    granted = sorted(Scope.values if scopes is None else set(scopes))
    if unknown := sorted(set(granted) - set(Scope.values)):
        raise ScopeUnknown(f"There is no scope {unknown[0]!r}; there are {', '.join(Scope.values)}.", "scopes")
    secret = draw_secret(mode)
    key = ApiKey.objects.create(
        tenant=tenant,
        public_id="key_" + secrets.token_hex(12),
        name=name,
        prefix=shown_prefix(secret),
        secret_hash=hash_secret(secret),
        scopes=granted,
        expires_at=expires_at,
    )
    return key, secret


@transaction.atomic
def revoke_key(*, key: ApiKey) -> None:
    """From now on the key opens nothing. Revoking twice keeps the first time."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
    key.refresh_from_db(fields=["revoked_at"])


def touch_key(*, key: ApiKey) -> bool:
    """Note that the key was used, at most once per ``AVB_API_KEY_TOUCH_INTERVAL_S``. True when a row was written."""
    now = timezone.now()
    stale = now - timedelta(seconds=settings.API_KEY_TOUCH_INTERVAL_S)
    if key.last_used_at and key.last_used_at > stale:
        return False
    unused = Q(last_used_at=None) | Q(last_used_at__lte=stale)
    # A row that another request holds is being touched right now: leave it rather than queue behind it.
    with transaction.atomic():
        row = ApiKey.objects.filter(unused, pk=key.pk).select_for_update(skip_locked=True).first()
        if row is None:
            return False
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return True


@transaction.atomic
def add_member(*, tenant: Tenant, email: str, role: str, password: str | None = None) -> Membership:
    """Give a person a role. A person who is new gets an account; an existing member's role changes."""
    if role not in Role.values:
        raise RoleUnknown(f"There is no role {role!r}; there are {', '.join(Role.values)}.", "role")
    user = User.objects.filter(email=email.lower()).first() or User.objects.create_user(email, password)
    membership, _ = Membership.objects.update_or_create(user=user, tenant=tenant, defaults={"role": role})
    return membership
