"""The keys that sign access tokens: ES256, the newest one signs, older ones prove what they signed until it expires."""

import json
from datetime import timedelta
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django_tenants.utils import get_public_schema_name
from jwt import PyJWK
from jwt.algorithms import ECAlgorithm

from tenants.audit.operations import record
from tenants.encryption.sealing import seal, unseal
from tenants.models import SigningKey
from tenants.people.queries import hash_token

ALGORITHM = "ES256"
PURPOSE = "people.oauth.signing_key"


def signing_key() -> tuple[str, ec.EllipticCurvePrivateKey]:
    """The id and the private key that sign now; the first one is made when there is none."""
    key = _newest() or rotate_signing_key(only_first=True)
    pem = _open(key.kid, bytes(key.sealed_private_key))
    return key.kid, pem


@transaction.atomic
def rotate_signing_key(*, only_first: bool = False) -> SigningKey:
    """From now on a new key signs; the old one proves its tokens for as long as they live, then it is deleted."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('oauth signing key', 0))")
    if only_first and (present := _newest()):
        return present
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(ECAlgorithm.to_jwk(private.public_key()))
    jwk = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    # RFC 7638: the thumbprint names the key.
    kid = hash_token(json.dumps(jwk, separators=(",", ":"), sort_keys=True))[:43]
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    now = timezone.now()
    SigningKey.objects.filter(expires_at__lte=now).delete()
    SigningKey.objects.filter(expires_at=None).update(expires_at=now + timedelta(seconds=settings.OAUTH_TOKEN_S))
    key = SigningKey.objects.create(
        kid=kid,
        sealed_private_key=seal(get_public_schema_name(), pem, purpose=PURPOSE),
        public_jwk=jwk | {"kid": kid, "alg": ALGORITHM, "use": "sig"},
    )
    record(action="signing_key.rotated", target=kid)
    return key


def rotate_old_signing_key() -> bool:
    """Rotates a key older than ``AVB_OAUTH_KEY_DAYS``; housekeeping. True when it did."""
    newest = _newest()
    if newest is None or newest.created_at > timezone.now() - timedelta(days=settings.OAUTH_KEY_DAYS):
        return False
    rotate_signing_key()
    return True


def public_keys() -> list[dict[str, Any]]:
    """A JWK for each key whose tokens may still be good."""
    return list(_proving().order_by("-pk").values_list("public_jwk", flat=True))


def find_public_key(kid: str) -> Any:
    """None for a key that signs and proves nothing any more."""
    jwk = _proving().filter(kid=kid).values_list("public_jwk", flat=True).first()
    return PyJWK(jwk).key if jwk else None


def _newest() -> SigningKey | None:
    return SigningKey.objects.filter(expires_at=None).order_by("-pk").first()


def _proving() -> QuerySet[SigningKey]:
    return SigningKey.objects.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()))


@lru_cache(maxsize=2)
def _open(kid: str, sealed: bytes) -> Any:
    return serialization.load_pem_private_key(unseal(get_public_schema_name(), sealed, purpose=PURPOSE), None)
