"""Keys for programs that run the installation. They make, suspend and delete tenants, and open nothing inside any."""

import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from tenants.audit.operations import record
from tenants.errors import TenancyError
from tenants.keys.queries import InvalidKey, KeyExpired, KeyRevoked
from tenants.keys.secret import ALPHABET, RANDOM_CHARACTERS, hash_secret
from tenants.models import PlatformKey
from tenants.permissions import PLATFORM_SCOPES
from tenants.principal import Principal

PREFIX = "avb_platform_"
ID_PREFIX = "pkey_"
SHOWN_CHARACTERS = len(PREFIX) + 4


class ScopeUnknown(TenancyError):
    """A platform key can only hold platform scopes."""

    code = "scope_unknown"


@transaction.atomic
def issue_platform_key(
    *, name: str, scopes: Iterable[str] | None = None, expires_at: datetime | None = None
) -> tuple[PlatformKey, str]:
    """The key and its secret, which is shown this once and kept nowhere. No scopes means all of the platform's."""
    granted = sorted(PLATFORM_SCOPES if scopes is None else set(scopes))
    if unknown := sorted(set(granted) - PLATFORM_SCOPES):
        words = f"There is no platform scope {unknown[0]!r}; there are {', '.join(sorted(PLATFORM_SCOPES))}."
        raise ScopeUnknown(words, "scopes")
    secret = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
    key = PlatformKey.objects.create(
        public_id=ID_PREFIX + secrets.token_hex(12),
        name=name,
        prefix=secret[:SHOWN_CHARACTERS],
        secret_hash=hash_secret(secret),
        scopes=granted,
        expires_at=expires_at,
    )
    record(action="platform_key.issued", target=key.public_id, after={"name": name, "scopes": granted})
    return key, secret


@transaction.atomic
def revoke_platform_key(*, key: PlatformKey) -> None:
    """From now on the key opens nothing. Revoking twice keeps the first time."""
    if PlatformKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()):
        record(action="platform_key.revoked", target=key.public_id, before={"name": key.name})
    key.refresh_from_db(fields=["revoked_at"])


def find_platform_key(secret: str) -> PlatformKey:
    """The usable key with this secret. Raises InvalidKey, KeyRevoked or KeyExpired."""
    wanted = hash_secret(secret)
    key = PlatformKey.objects.filter(secret_hash=wanted).first()
    if key is None or not hmac.compare_digest(key.secret_hash, wanted):
        raise InvalidKey
    if key.revoked_at:
        raise KeyRevoked
    if key.expires_at and key.expires_at <= timezone.now():
        raise KeyExpired
    return key


def touch_platform_key(*, key: PlatformKey) -> None:
    """Note that the key was used, at most once per ``AVB_API_KEY_TOUCH_INTERVAL_S``."""
    now = timezone.now()
    stale = now - timedelta(seconds=settings.API_KEY_TOUCH_INTERVAL_S)
    if key.last_used_at is None or key.last_used_at <= stale:
        unused = Q(last_used_at=None) | Q(last_used_at__lte=stale)
        PlatformKey.objects.filter(unused, pk=key.pk).update(last_used_at=now)


def principal_of(key: PlatformKey, address: str) -> Principal:
    """Who acts when this key is used from this IP address: an operator, in no tenant."""
    return Principal("operator", key.public_id, key.name, "", frozenset(key.scopes), address)
