"""What is told when somebody's access ends. No Django here: the live world hears it."""

from typing import Literal

import msgspec

CHANNEL = "avb:access:ended"


EndReason = Literal[
    "api_key_revoked",
    "api_key_expired",
    "oauth_client_revoked",
    "member_removed",
    "role_changed",
    "tenant_suspended",
    "tenant_deleted",
]


class AccessEnded(msgspec.Struct, frozen=True, kw_only=True):
    """``key_id`` is the ``id`` of a ``tenants.keys.credential.Credential``; empty: the whole tenant. ``reason`` is told
    to callers as the close reason's code."""

    tenant: str
    key_id: str = ""
    reason: EndReason


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(AccessEnded).decode
