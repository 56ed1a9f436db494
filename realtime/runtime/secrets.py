"""Ephemeral client secrets: what a browser may open calls with, until it expires, and the session it gets.

Looking one up is the one thing that happens before the tenant is known: the key is the secret's hash alone, and the
tenant is in what lies there. Redis forgets a secret when its time is over.
"""

import hashlib
import secrets
import string
import time
from typing import Any

import msgspec
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tenants.keys.credential import Kind

PREFIX = "ek_"
ALPHABET = string.ascii_letters + string.digits
RANDOM_CHARACTERS = 32
SHORTEST_S, DEFAULT_S, LONGEST_S = 10, 600, 7_200
BETA_DEFAULT_S = 60

# KEYS: the secret, its key's live secrets by their end. ARGV: the secret, its hash, its life in seconds, its end, now,
# the most of one key. Gives 0, or the end of the secret that ends first when there are too many.
CREATE = f"""
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[5])
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[6]) then
  return tonumber(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2])
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[2])
redis.call('EXPIRE', KEYS[2], {LONGEST_S})
return 0
"""


class ClientSecret(msgspec.Struct, frozen=True, kw_only=True):
    """What a secret opens. ``kind`` and ``key_id`` name who made it, as their ``Credential`` does. ``agent`` is a slug,
    or None for the tenant's default agent; ``session`` is as it was asked for, checked, with its ``type``;
    ``expires_at`` is Unix time in seconds; ``end_user`` is who it was made for."""

    tenant: str
    key_id: str
    kind: Kind = "key"
    agent: str | None
    session: dict[str, Any]
    expires_at: int
    end_user: str = ""


class SecretsUnavailable(Exception):
    """Redis does not answer, so no secret can be made or looked up."""


class TooManySecrets(Exception):
    """Whoever asks has as many live secrets as they may have; ``retry_after_s`` is when the first of them ends."""

    def __init__(self, whose: Kind, per_key: int, retry_after_s: int) -> None:
        super().__init__(f"this {whose} has {per_key} live client secrets already")
        self.whose = {"key": "this API key", "client": "this OAuth client", "person": "this person"}[whose]
        self.per_key = per_key
        self.retry_after_s = retry_after_s


class ClientSecrets:
    """Secrets of all tenants, in Redis. ``timeout_s`` bounds each answer, ``per_key`` the live secrets of a key, a
    client or a person."""

    def __init__(self, redis_url: str, timeout_s: float, per_key: int) -> None:
        self._per_key = per_key
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
        """The secret's value, which is kept nowhere. It may open several sessions. Raises TooManySecrets and
        SecretsUnavailable."""
        value = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
        key, now = secret_key(value), int(time.time())
        try:
            first_ends = await self._redis.eval(
                CREATE,
                2,
                key,
                live_key(secret.tenant, secret.key_id),
                msgspec.json.encode(secret),
                key.rpartition(":")[2],
                ttl_s,
                secret.expires_at,
                now,
                self._per_key,
            )
        except (RedisError, OSError) as error:
            raise SecretsUnavailable("Redis does not answer") from error
        if first_ends:
            raise TooManySecrets(secret.kind, self._per_key, max(1, first_ends - now))
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


def live_key(tenant: str, key_id: str) -> str:
    """Sorted set: the hashes of the secrets that somebody has made, by the Unix time at which each ends."""
    return f"avb:{tenant}:client_secrets:{key_id}"
