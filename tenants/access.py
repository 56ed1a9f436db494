"""Telling every gateway at once that somebody's access ended: they close the sockets and forget the key."""

from functools import cache
from typing import Any, Literal

import msgspec
import redis
from django.conf import settings
from django.db import transaction

CHANNEL = "avb:access:ended"


class AccessEnded(msgspec.Struct, frozen=True, kw_only=True):
    """``key_id`` empty: the whole tenant. ``reason`` is told to callers as the close reason's code."""

    tenant: str
    key_id: str = ""
    reason: Literal["api_key_revoked", "api_key_expired", "tenant_suspended", "tenant_deleted"]


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(AccessEnded).decode


@cache
def _client() -> Any:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=settings.REDIS_WRITE_TIMEOUT_S,
        socket_connect_timeout=settings.REDIS_WRITE_TIMEOUT_S,
    )


def announce(ended: AccessEnded) -> None:
    """As soon as the transaction around it is committed."""
    transaction.on_commit(lambda: _client().publish(CHANNEL, encode(ended)))
