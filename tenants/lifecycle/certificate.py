"""The certificate of an erasure: what was counted and removed, signed by the platform.

Ed25519. The key is derived from ``AVB_SECRET_KEY`` (HKDF-SHA256), so that it is nowhere on a disk. Certificates of an
earlier secret stay good while it is in ``AVB_SECRET_KEY_FALLBACKS``, or for whoever kept the public key.
"""

import base64
import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

PURPOSE = b"agentvoicebox certificate of erasure 1"


class CertificateInvalid(Exception):
    """It does not say what was signed, or was not signed by this platform."""


def sign(certificate: dict[str, Any]) -> dict[str, str]:
    """``certificate`` as JSON text, with the ``sha256`` and the ``signature`` of its bytes, and the ``public_key``."""
    content = json.dumps(certificate, sort_keys=True).encode()
    key = _private_key(settings.SECRET_KEY)
    return {
        "certificate": content.decode(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "signature": base64.b64encode(key.sign(content)).decode(),
        "public_key": _text(key.public_key()),
    }


def verify(signed: dict[str, Any], public_key: str | None = None) -> dict[str, Any]:
    """What the certificate says. Raises CertificateInvalid.

    ``public_key`` is one that was kept, in base64; without it this platform's own are good.
    """
    try:
        content = signed["certificate"].encode()
        signature = base64.b64decode(signed["signature"], validate=True)
        signer, sha256 = signed["public_key"], signed["sha256"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CertificateInvalid("This is no certificate of an erasure.") from error
    if sha256 != hashlib.sha256(content).hexdigest():
        raise CertificateInvalid("What it says has been changed: the hash is another one.")
    if signer not in ([public_key] if public_key else public_keys()):
        raise CertificateInvalid(
            "Signed with another key. Name the earlier secret in AVB_SECRET_KEY_FALLBACKS, or give the public key."
        )
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(signer, validate=True)).verify(signature, content)
    except (InvalidSignature, ValueError) as error:
        raise CertificateInvalid("The signature does not belong to what it says.") from error
    return dict(json.loads(content))


def public_keys() -> list[str]:
    """Of the secret in use and of the earlier ones, in base64: what to keep beside the certificates."""
    return [
        _text(_private_key(secret).public_key()) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    ]


def _private_key(secret: str) -> Ed25519PrivateKey:
    seed = HKDF(algorithm=SHA256(), length=32, salt=None, info=PURPOSE).derive(secret.encode())
    return Ed25519PrivateKey.from_private_bytes(seed)


def _text(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()
