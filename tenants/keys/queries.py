"""Finding keys. All of it reads the shared schema."""

import hmac

from django.utils import timezone

from tenants.keys.secret import PREFIXES, hash_secret
from tenants.models import ApiKey
from tenants.principal import Principal


class KeyRefused(Exception):
    """The key opens nothing. ``code`` and ``message`` are safe to show to whoever brought it."""

    code = "invalid_api_key"
    message = "The API key is not valid."

    def __init__(self) -> None:
        super().__init__(self.message)


class InvalidKey(KeyRefused):
    """No such key."""


class KeyRevoked(InvalidKey):
    """The key was revoked."""

    code = "api_key_revoked"
    message = "The API key was revoked."


class ScopeMissing(KeyRefused):
    """The key is good, but not for this."""

    code = "insufficient_scope"

    def __init__(self, scope: str) -> None:
        self.message = f"The API key lacks the scope {str(scope)!r}."
        super().__init__()


class KeyExpired(KeyRefused):
    """The key's time is over."""

    code = "api_key_expired"
    message = "The API key has expired."


def find_key(secret: str) -> ApiKey:
    """The usable key with this secret, its tenant loaded: one indexed query on the hash.

    Raises InvalidKey, KeyRevoked or KeyExpired.
    """
    if not secret.startswith(PREFIXES):
        raise InvalidKey
    wanted = hash_secret(secret)
    key = ApiKey.objects.select_related("tenant").filter(secret_hash=wanted).first()
    if key is None or not hmac.compare_digest(key.secret_hash, wanted):
        raise InvalidKey
    return _usable(key)


def find_key_by_id(public_id: str) -> ApiKey:
    """The usable key with this public id, its tenant loaded. Raises InvalidKey, KeyRevoked or KeyExpired."""
    key = ApiKey.objects.select_related("tenant").filter(public_id=public_id).first()
    if key is None:
        raise InvalidKey
    return _usable(key)


def _usable(key: ApiKey) -> ApiKey:
    if key.revoked_at:
        raise KeyRevoked
    if key.expires_at and key.expires_at <= timezone.now():
        raise KeyExpired
    return key


def require_scope(key: ApiKey, scope: str) -> None:
    """Raises ScopeMissing."""
    if scope not in key.scopes:
        raise ScopeMissing(scope)


def principal_of(key: ApiKey, address: str) -> Principal:
    """Who acts when this key is used from this IP address."""
    return Principal("key", key.public_id, key.name, key.tenant.schema_name, frozenset(key.scopes), address)
