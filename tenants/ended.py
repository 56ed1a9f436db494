"""What is told when somebody's access ends. No Django here: the live world hears it."""

from typing import Literal

import msgspec

CHANNEL = "avb:access:ended"


class AccessEnded(msgspec.Struct, frozen=True, kw_only=True):
    """``key_id`` empty: the whole tenant. ``reason`` is told to callers as the close reason's code."""

    tenant: str
    key_id: str = ""
    reason: Literal["api_key_revoked", "api_key_expired", "oauth_client_revoked", "tenant_suspended", "tenant_deleted"]


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(AccessEnded).decode
