"""Finding keys. All of it reads the shared schema."""

import hmac
from collections.abc import Collection

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context

from tenants.ended import AccessEnded, EndReason
from tenants.keys.credential import Credential, Kind, id_of_person, person_of
from tenants.keys.refusals import (
    AddressRefused,
    InvalidKey,
    KeyExpired,
    KeyRefused,
    KeyRevoked,
    ScopeMissing,
    TenantSuspended,
)
from tenants.keys.secret import PREFIXES, hash_secret
from tenants.lifecycle.queries import CLOSED
from tenants.limits.allowance import Allowance
from tenants.limits.queries import tenant_limits
from tenants.models import ApiKey, Membership, OAuthClient, Tenant, TenantStatus
from tenants.permissions import ROLE_SCOPES, Role
from tenants.principal import Principal

__all__ = [
    "AddressRefused",
    "InvalidKey",
    "KeyExpired",
    "KeyRefused",
    "KeyRevoked",
    "ScopeMissing",
    "TenantSuspended",
    "credential_of",
    "find_ended_access",
    "find_key",
    "find_key_by_id",
    "list_keys",
    "principal_of",
    "require_active",
    "require_scope",
]

REVOKED: dict[Kind, EndReason] = {
    "key": "api_key_revoked",
    "client": "oauth_client_revoked",
    "person": "member_removed",
}
"""What it is called when one of a kind is gone."""


def find_key(secret: str) -> ApiKey:
    """The usable key with this secret, its tenant and plan loaded: one indexed query on the hash.

    Raises InvalidKey, KeyRevoked, KeyExpired or TenantSuspended.
    """
    if not secret.startswith(PREFIXES):
        raise InvalidKey
    wanted = hash_secret(secret)
    key = ApiKey.objects.select_related("tenant__plan").filter(secret_hash=wanted).first()
    if key is None or not hmac.compare_digest(key.secret_hash, wanted):
        raise InvalidKey
    return _usable(key)


def find_key_by_id(public_id: str) -> ApiKey:
    """The usable key with this public id, its tenant and plan loaded.

    Raises InvalidKey, KeyRevoked, KeyExpired or TenantSuspended.
    """
    key = ApiKey.objects.select_related("tenant__plan").filter(public_id=public_id).first()
    if key is None:
        raise InvalidKey
    return _usable(key)


def _usable(key: ApiKey) -> ApiKey:
    _require_usable(key)
    return key


def _require_usable(holder: ApiKey | OAuthClient) -> None:
    if holder.revoked_at:
        raise KeyRevoked
    if (expires_at := getattr(holder, "expires_at", None)) and expires_at <= timezone.now():
        raise KeyExpired
    require_active(holder.tenant)


def require_active(tenant: Tenant) -> None:
    """Raises TenantSuspended."""
    if tenant.status != TenantStatus.ACTIVE:
        raise TenantSuspended(*CLOSED[TenantStatus(tenant.status)])


def list_keys(tenant: Tenant) -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(tenant=tenant).select_related("replaced_by")


def credential_of(key: ApiKey) -> Credential:
    """What this usable key opens. Needs its tenant and plan loaded."""
    return Credential(
        kind="key",
        id=key.public_id,
        name=key.name,
        tenant=key.tenant.schema_name,
        scopes=frozenset(key.scopes),
        allowance=Allowance(tenant=tenant_limits(key.tenant), key=key.limits),
        agent=key.agent,
        networks=tuple(key.allowed_networks),
        expires_at=key.expires_at.timestamp() if key.expires_at else None,
        secret_hash=key.secret_hash,
    )


def find_ended_access(inside: Collection[tuple[Kind, str, str, str]]) -> list[AccessEnded]:
    """Of these credentials (kind, tenant, id, the scope that they are inside with, or none), those that do not open
    that any more, in one query for each kind.

    What is gone, or has lost the scope, counts as revoked.
    """
    with schema_context(get_public_schema_name()), transaction.atomic():
        found = _find_holders({(kind, tenant, key_id) for kind, tenant, key_id, _ in inside})
    ended = []
    for kind, tenant, key_id, scope in inside:
        holder = found.get((kind, tenant, key_id))
        try:
            if holder is None:
                raise KeyRevoked
            if isinstance(holder, Membership):
                require_active(holder.tenant)
                if scope and scope not in ROLE_SCOPES[Role(holder.role)]:
                    ended.append(AccessEnded(tenant=tenant, key_id=key_id, reason="role_changed"))
            else:
                _require_usable(holder)
                if scope and scope not in holder.scopes:
                    raise KeyRevoked  # as it is announced
        except KeyExpired:
            ended.append(AccessEnded(tenant=tenant, key_id=key_id, reason="api_key_expired"))
        except TenantSuspended as refusal:
            deleted = refusal.code == "tenant_deleted"
            ended.append(AccessEnded(tenant=tenant, reason="tenant_deleted" if deleted else "tenant_suspended"))
        except KeyRevoked:
            ended.append(AccessEnded(tenant=tenant, key_id=key_id, reason=REVOKED[kind]))
    return ended


def _find_holders(
    inside: Collection[tuple[Kind, str, str]],
) -> dict[tuple[Kind, str, str], ApiKey | OAuthClient | Membership]:
    """The rows behind these credentials, by the same three; a person's while their account is open."""
    ids: dict[Kind, set[str]] = {kind: {key_id for one, _, key_id in inside if one == kind} for kind in REVOKED}
    found: dict[tuple[Kind, str, str], ApiKey | OAuthClient | Membership] = {}
    if ids["key"]:
        for key in ApiKey.objects.select_related("tenant").filter(public_id__in=ids["key"]):
            found["key", key.tenant.schema_name, key.public_id] = key
    if ids["client"]:
        for client in OAuthClient.objects.select_related("tenant").filter(client_id__in=ids["client"]):
            found["client", client.tenant.schema_name, client.client_id] = client
    if ids["person"]:
        people = {person_of(one) for one in ids["person"]}
        members = Membership.objects.select_related("tenant").filter(user__in=people, user__is_active=True)
        for member in members:
            found["person", member.tenant.schema_name, id_of_person(member.user_id)] = member
    return found


def require_scope(key: ApiKey, scope: str) -> None:
    """Raises ScopeMissing."""
    if scope not in key.scopes:
        raise ScopeMissing(scope, "key")


def principal_of(key: ApiKey, address: str) -> Principal:
    """Who acts when this key is used from this IP address. Needs its tenant and plan loaded."""
    return Principal(
        kind="key",
        id=key.public_id,
        name=key.name,
        tenant=key.tenant.schema_name,
        scopes=frozenset(key.scopes),
        address=address,
        allowance=Allowance(tenant=tenant_limits(key.tenant), key=key.limits),
    )
