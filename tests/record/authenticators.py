"""What people hold in their hands: an authenticator app, and a security key that is software (``none`` attestation)."""

import hashlib
import json
import os
from typing import Any

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData


def app_code(secret: str) -> str:
    """What the app shows now."""
    return format_hotp_value(hotp_value(secret, list(yield_hotp_counters_from_time())[1]))


class SecurityKey:
    """Answers as ``navigator.credentials`` does, in the JSON that a page sends. The owner always touches it."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.rp_id = origin.split("//")[1].split(":")[0]
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.credential_id = os.urandom(32)
        self.user_handle = b""
        self.uses = 0

    def create(self, options: dict[str, Any]) -> str:
        self.user_handle = websafe_decode(options["publicKey"]["user"]["id"])
        public = ES256.from_cryptography_key(self.private.public_key())
        attested = AttestedCredentialData.create(b"\0" * 16, self.credential_id, public)
        attestation = AttestationObject.create("none", self._data(0x45, attested), {})
        client_data = self._client_data("webauthn.create", options)
        response = {
            "clientDataJSON": websafe_encode(client_data), "attestationObject": websafe_encode(bytes(attestation)),
            "transports": ["internal"],
        }  # fmt: skip
        return self._credential(response, clientExtensionResults={"credProps": {"rk": True}})

    def get(self, options: dict[str, Any]) -> str:
        self.uses += 1
        data, client_data = self._data(0x05), self._client_data("webauthn.get", options)
        signature = self.private.sign(bytes(data) + hashlib.sha256(client_data).digest(), ec.ECDSA(SHA256()))
        return self._credential(
            {
                "clientDataJSON": websafe_encode(client_data), "authenticatorData": websafe_encode(bytes(data)),
                "signature": websafe_encode(signature), "userHandle": websafe_encode(self.user_handle),
            }
        )  # fmt: skip

    def _data(self, flags: int, attested: Any = None) -> AuthenticatorData:
        rp_hash = hashlib.sha256(self.rp_id.encode()).digest()
        return AuthenticatorData.create(rp_hash, flags, self.uses, attested or b"")

    def _client_data(self, kind: str, options: dict[str, Any]) -> bytes:
        challenge = options["publicKey"]["challenge"]
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin}).encode()

    def _credential(self, response: dict[str, Any], **more: Any) -> str:
        name = websafe_encode(self.credential_id)
        credential = {
            "id": name, "rawId": name, "type": "public-key", "response": response, "clientExtensionResults": {},
            "authenticatorAttachment": "platform",
        }  # fmt: skip
        return json.dumps(credential | more)
