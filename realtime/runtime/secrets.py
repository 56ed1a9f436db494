"""Ephemeral client secrets: what a browser may open calls with, until it expires, and the session it gets.

Looking one up is the one thing that happens before the tenant is known: the key is the secret's hash alone, and the
tenant is in what lies there. Redis forgets a secret when its time is over.
"""

import hashlib
import secrets
import string
from typing import Any

import msgspec
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

PREFIX = "ek_"
ALPHABET = string.ascii_letters + string.digits
RANDOM_CHARACTERS = 32
SHORTEST_S, DEFAULT_S, LONGEST_S = 10, 600, 7_200
BETA_DEFAULT_S = 60


class ClientSecret(msgspec.Struct, frozen=True, kw_only=True):
    """What a secret opens. ``agent`` is a slug, or None for the tenant's default agent; ``session`` is as it was asked
    for, checked, with its ``type``; ``expires_at`` is Unix time in seconds."""

    tenant: str
    key_id: str
    agent: str | None
    session: dict[str, Any]
    expires_at: int


class SecretsUnavailable(Exception):
    """Redis does not answer, so no secret can be made or looked up."""


class ClientSecrets:
    """Secrets of all tenants, in Redis. ``timeout_s`` bounds each answer."""

    def __init__(self, redis_url: str, timeout_s: float) -> None:
        pool = redis.BlockingConnectionPool.from_url(
            redis_url,
            max_connections=8,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        # redis-py types one answer for all protocols and decodings; here keys and values are bytes.
        self._redis: Any = redis.Redis(connection_pool=pool)

    async def create(self, secret: ClientSecret, ttl_s: int) -> str:
        """The secret's value, which is kept nowhere. It may open several sessions. Raises SecretsUnavailable."""
        value = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
        try:
            await self._redis.set(secret_key(value), msgspec.json.encode(secret), ex=ttl_s)
        except (RedisError, OSError) as error:
            raise SecretsUnavailable("Redis does not answer") from error
        return value

    async def find(self, value: str) -> ClientSecret | None:
        """None when there is no such secret, or no longer. Raises SecretsUnavailable."""
        try:
            found = await self._redis.get(secret_key(value))
        except (RedisError, OSError) as error:
            raise SecretsUnavailable("Redis does not answer") from error
        return msgspec.json.decode(found, type=ClientSecret) if found is not None else None

    async def stop(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


def is_client_secret(key: str) -> bool:
    return key.startswith(PREFIX)


def secret_key(value: str) -> str:
    """Where a secret lies: whoever reads Redis cannot call with what they see there."""
    return f"avb:client_secret:{hashlib.sha256(value.encode()).hexdigest()}"
