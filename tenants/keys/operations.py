"""What can be done to API keys. Each function is one transaction; refusals are named exceptions."""

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from tenants.errors import TenancyError
from tenants.keys.secret import draw_secret, hash_secret, shown_prefix
from tenants.models import ApiKey, Tenant
from tenants.permissions import TENANT_SCOPES


class ScopeUnknown(TenancyError):
    """A key can only hold scopes that exist."""


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
    granted = sorted(TENANT_SCOPES if scopes is None else set(scopes))
    if unknown := sorted(set(granted) - TENANT_SCOPES):
        raise ScopeUnknown(f"There is no scope {unknown[0]!r}; there are {', '.join(sorted(TENANT_SCOPES))}.", "scopes")
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
