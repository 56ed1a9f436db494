"""What can be done to API keys. Each function is one transaction; refusals are named exceptions.

Nobody grants what they do not have: a key or a person gives only scopes of their own, also by rotating, which shows
the new secret of a key to whoever asks for it. Networks, limits and ends bind what a key makes as they bind itself.
"""

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Literal

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from tenants.access import AccessEnded, announce, forget
from tenants.audit.operations import record
from tenants.errors import TenancyError
from tenants.keys import networks
from tenants.keys.bounds import BOUNDS, require_bounds
from tenants.keys.secret import draw_secret, hash_secret, shown_prefix
from tenants.limits.names import LimitInvalid, check_limits
from tenants.limits.queries import tenant_limits
from tenants.models import SLUG, ApiKey, Tenant
from tenants.permissions import TENANT_SCOPES, Scope
from tenants.principal import Principal, acting

NAME_CHARACTERS = 200
ROTATION_HOURS_MAX = 24 * 30


class ScopeUnknown(TenancyError):
    """A key can only hold scopes that exist."""

    code = "scope_unknown"


class ScopeNotHeld(TenancyError):
    """Whoever acts does not have the scope themselves."""

    code = "scope_not_held"


class KeyInvalid(TenancyError):
    """A field of the key cannot be what was asked for."""

    code = "invalid"


class KeyEnded(TenancyError):
    """The key is revoked, or another one has taken its place already."""

    code = "api_key_ended"


class TooManyKeys(TenancyError):
    """The tenant has as many keys as it may have."""

    code = "too_many_keys"


def issue_key(
    *,
    tenant: Tenant,
    name: str,
    scopes: Iterable[str] | None = None,
    expires_at: datetime | None = None,
    mode: Literal["live", "test"] = "live",
    agent: str = "",
    allowed_networks: Iterable[str] = (),
    limits: dict[str, int] | None = None,
) -> tuple[ApiKey, str]:
    """The key and its secret, which is shown this once and kept nowhere. No scopes means all.

    Raises ScopeUnknown, ScopeNotHeld, KeyBound, KeyInvalid and TooManyKeys.
    """
    given = {
        "name": name,
        "scopes": TENANT_SCOPES if scopes is None else scopes,
        "expires_at": expires_at,
        "agent": agent,
        "allowed_networks": allowed_networks,
        "limits": limits or {},
    }
    with transaction.atomic():
        fields = _checked(tenant, given)
        _require_held(set(fields["scopes"]))
        require_bounds(fields)
        live = ApiKey.objects.filter(tenant=tenant, revoked_at=None).count()
        if live >= settings.API_KEYS_PER_TENANT:
            raise TooManyKeys(f"This tenant has {live} API keys; revoke those that are not needed.", "name")
        key, secret = _draw(tenant, mode, fields)
        record(action="api_key.created", target=key.public_id, after=_seen(key), tenant=tenant.schema_name)
    return key, secret


def change_key(*, key: ApiKey, **fields: Any) -> ApiKey:
    """Other values for name, scopes, agent, allowed_networks, limits or expires_at; they hold from the commit on.

    Calls in progress keep the limits they began with; without the scope for them they end. What binds a key is changed
    by who holds its scopes. Raises ScopeUnknown, ScopeNotHeld, KeyBound, KeyInvalid and KeyEnded.
    """
    with transaction.atomic():
        key = _hold(key)
        before = _seen(key)
        checked = _checked(key.tenant, fields)
        given = set(checked.get("scopes", ())) - set(key.scopes)
        rebound = any(checked[name] != getattr(key, name) for name in BOUNDS if name in checked)
        _require_held(given | set(key.scopes) if rebound else given)
        if given or rebound:
            require_bounds({name: getattr(key, name) for name in BOUNDS} | checked)
        if key.replaced_by_id and "expires_at" in checked:
            raise KeyEnded("This key was rotated: its end is set.", "expires_at")
        for name, value in checked.items():
            setattr(key, name, value)
        after = _seen(key)
        changed = [name for name in after if after[name] != before[name]]
        if not changed:
            return key
        key.save(update_fields=list(checked))
        if Scope.REALTIME in set(before["scopes"]) - set(key.scopes):
            announce(AccessEnded(tenant=key.tenant.schema_name, key_id=key.public_id, reason="api_key_revoked"))
        else:
            forget(tenant=key.tenant.schema_name, key_id=key.public_id)
        record(
            action="api_key.updated",
            target=key.public_id,
            before={name: before[name] for name in changed},
            after={name: after[name] for name in changed},
            tenant=key.tenant.schema_name,
        )
    return key


def rotate_key(*, key: ApiKey, overlap_hours: float | None = None) -> tuple[ApiKey, str]:
    """A new key in place of this one, and its secret. The old one opens for so many hours yet; 0 ends it at once, None
    is ``AVB_KEY_ROTATION_HOURS``. Raises KeyEnded, KeyInvalid, ScopeNotHeld and KeyBound."""
    hours = settings.KEY_ROTATION_HOURS if overlap_hours is None else overlap_hours
    if not 0 <= hours <= ROTATION_HOURS_MAX:
        raise KeyInvalid(f"overlap_hours is from 0 to {ROTATION_HOURS_MAX}; got {hours:g}.", "overlap_hours")
    with transaction.atomic():
        key = _hold(key)
        if key.replaced_by_id:
            raise KeyEnded("This key was rotated already; rotate the one that took its place.", "key_id")
        _require_held(set(key.scopes))
        require_bounds({name: getattr(key, name) for name in BOUNDS})
        now = timezone.now()
        if key.expires_at and key.expires_at <= now:
            raise KeyEnded("This key has expired; make another one.", "key_id")
        mode: Literal["live", "test"] = "test" if key.prefix.startswith("avb_test_") else "live"
        fields = {name: getattr(key, name) for name in _WRITTEN}
        fresh, secret = _draw(key.tenant, mode, fields)
        ends = now + timedelta(hours=hours)
        key.replaced_by = fresh
        key.expires_at = min(ends, key.expires_at) if key.expires_at else ends
        if not hours:
            key.revoked_at = now
        key.save(update_fields=["replaced_by", "expires_at", "revoked_at"])
        if hours:
            forget(tenant=key.tenant.schema_name, key_id=key.public_id)
        else:
            announce(AccessEnded(tenant=key.tenant.schema_name, key_id=key.public_id, reason="api_key_revoked"))
        record(
            action="api_key.rotated",
            target=key.public_id,
            after={"replaced_by": fresh.public_id, "expires_at": key.expires_at.isoformat()},
            tenant=key.tenant.schema_name,
        )
    return fresh, secret


def revoke_key(*, key: ApiKey) -> None:
    """From now on the key opens nothing, and what it opened is closed. Revoking twice keeps the first time."""
    with transaction.atomic():
        revoked = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
        key.refresh_from_db(fields=["revoked_at"])
        if not revoked:
            return
        schema = key.tenant.schema_name
        announce(AccessEnded(tenant=schema, key_id=key.public_id, reason="api_key_revoked"))
        record(action="api_key.revoked", target=key.public_id, before={"name": key.name}, tenant=schema)


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


def note_address(*, principal: Principal) -> None:
    """A key was used from an address where it had not been seen for ``AVB_KEY_ACCESS_AUDIT_S``."""
    record(action="api_key.used", target=principal.id, tenant=principal.tenant, actor=principal)


_WRITTEN = ("name", "scopes", "expires_at", "agent", "allowed_networks", "limits")


def _draw(tenant: Tenant, mode: Literal["live", "test"], fields: dict[str, Any]) -> tuple[ApiKey, str]:
    secret = draw_secret(mode)
    key = ApiKey.objects.create(
        tenant=tenant,
        public_id="key_" + secrets.token_hex(12),
        prefix=shown_prefix(secret),
        secret_hash=hash_secret(secret),
        **fields,
    )
    return key, secret


def _hold(key: ApiKey) -> ApiKey:
    """The row as it is now, kept from others until the transaction ends. Raises KeyEnded."""
    held = ApiKey.objects.select_for_update(of=("self",)).select_related("tenant__plan").get(pk=key.pk)
    if held.revoked_at:
        raise KeyEnded("This key was revoked; make another one.", "key_id")
    return held


def _require_held(scopes: set[str]) -> None:
    """Raises ScopeNotHeld."""
    principal = acting()
    if principal.kind in ("system", "operator"):
        return
    if missing := sorted(scopes - principal.scopes):
        raise ScopeNotHeld(f"You do not have the scope {missing[0]!r} yourself, so you cannot give it.", "scopes")


def _checked(tenant: Tenant, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as they are stored. Raises ScopeUnknown and KeyInvalid."""
    checked = dict(fields)
    if "name" in fields and not 1 <= len(fields["name"].strip()) <= NAME_CHARACTERS:
        raise KeyInvalid(f"A key has a name of 1 to {NAME_CHARACTERS} characters.", "name")
    if "scopes" in fields:
        checked["scopes"] = sorted({str(scope) for scope in fields["scopes"]})
        if unknown := sorted(set(checked["scopes"]) - TENANT_SCOPES):
            words = f"There is no scope {unknown[0]!r}; there are {', '.join(sorted(TENANT_SCOPES))}."
            raise ScopeUnknown(words, "scopes")
    if fields.get("agent") and not SLUG.regex.search(fields["agent"]):
        raise KeyInvalid(f"{fields['agent'][:64]!r} is not an agent's slug.", "agent")
    if "allowed_networks" in fields:
        checked["allowed_networks"] = _networks(fields["allowed_networks"])
    if "limits" in fields:
        try:
            checked["limits"] = check_limits(fields["limits"], at_most=tenant_limits(tenant))
        except LimitInvalid as error:
            raise KeyInvalid(error.message, f"limits.{error.name}" if error.name else "limits") from error
    return checked


def _networks(written: Iterable[str]) -> list[str]:
    """Raises KeyInvalid."""
    read = []
    for network in written:
        try:
            read.append(str(networks.read_network(str(network))))
        except ValueError as error:
            words = f"{str(network)[:64]!r} is no IP address or network: {error}. Write 192.0.2.7 or 192.0.2.0/24."
            raise KeyInvalid(words, "allowed_networks") from error
    if len(read) > networks.MOST:
        raise KeyInvalid(f"A key has at most {networks.MOST} networks; got {len(read)}.", "allowed_networks")
    return read


def _seen(key: ApiKey) -> dict[str, Any]:
    """What the audit may show of a key."""
    return {name: getattr(key, name) for name in _WRITTEN} | {
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "prefix": key.prefix,
    }
