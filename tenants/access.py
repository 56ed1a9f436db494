"""Telling every gateway at once that somebody's access ended: they close the sockets and forget the key."""

import logging
from functools import cache
from typing import Any

import redis
from django.conf import settings
from django.db import transaction
from redis.exceptions import RedisError

from tenants.ended import CHANNEL, AccessEnded, decode, encode
from tenants.keys.credential import FORGOTTEN, FORGOTTEN_S, credential_key
from tenants.models import ApiKey

__all__ = ["CHANNEL", "AccessEnded", "announce", "decode", "encode", "forget"]

BATCH = 500

log = logging.getLogger(__name__)


@cache
def _client(url: str) -> Any:
    return redis.Redis.from_url(
        url,
        socket_timeout=settings.REDIS_WRITE_TIMEOUT_S,
        socket_connect_timeout=settings.REDIS_WRITE_TIMEOUT_S,
    )


def announce(ended: AccessEnded) -> None:
    """As soon as the transaction around it is committed; what ends stays ended when Redis is away.

    Then gateways find out by themselves: every few seconds they ask the database about the keys of their live calls.
    """
    hashes = _hashes(ended)

    def tell() -> None:
        try:
            _forget(hashes)
            _client(settings.REDIS_URL).publish(CHANNEL, encode(ended))
        except (RedisError, OSError) as error:
            log.warning("gateways were not told that access ended (%s): %s", ended.reason, type(error).__name__)

    transaction.on_commit(tell)


def forget(*, tenant: str, key_id: str = "") -> None:
    """What is kept of a key, or of all keys of a tenant, is wrong from the commit on; calls in progress go on."""
    hashes = _hashes(AccessEnded(tenant=tenant, key_id=key_id, reason="api_key_revoked"))

    def tell() -> None:
        try:
            _forget(hashes)
        except (RedisError, OSError) as error:
            log.warning("a changed key is known by its old state for a while yet: %s", type(error).__name__)

    transaction.on_commit(tell)


def _hashes(ended: AccessEnded) -> list[str]:
    keys = ApiKey.objects.filter(tenant__schema_name=ended.tenant)
    if ended.key_id:
        keys = keys.filter(public_id=ended.key_id)
    return list(keys.values_list("secret_hash", flat=True))


def _forget(hashes: list[str]) -> None:
    client = _client(settings.REDIS_URL)
    for start in range(0, len(hashes), BATCH):
        with client.pipeline(transaction=False) as pipe:
            for secret_hash in hashes[start : start + BATCH]:
                pipe.set(credential_key(secret_hash), FORGOTTEN, ex=FORGOTTEN_S)
            pipe.execute()
