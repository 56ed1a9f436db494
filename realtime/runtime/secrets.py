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
from redis.exceptions import RedisError

from speech.connections import close_redis, open_redis
from tenants.keys.credential import Kind

PREFIX = "ek_"
ALPHABET = string.ascii_letters + string.digits
RANDOM_CHARACTERS = 32
SHORTEST_S, DEFAULT_S, LONGEST_S = 10, 600, 7_200
BETA_DEFAULT_S = 60

# KEYS: the secret, its key's live secrets by their end, its tenant's as hash:bytes by their end, what those take.
# ARGV: the secret, its hash, its life in seconds, its end, now, the most of one key, the most bytes of a tenant.
# Gives which of the two limits is full, or 0; and then the end of the secret that ends first.
CREATE = f"""
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[5])
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[6]) then
  return {{1, tonumber(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2])}}
end
local ended = 0
for _, one in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[5])) do
  ended = ended + tonumber(string.match(one, '%d+$'))
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[5])
local taken = redis.call('DECRBY', KEYS[4], ended)
if taken + #ARGV[1] > tonumber(ARGV[7]) then
  redis.call('EXPIRE', KEYS[4], {LONGEST_S})
  return {{2, tonumber(redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2] or ARGV[4])}}
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[2])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[2] .. ':' .. #ARGV[1])
redis.call('INCRBY', KEYS[4], #ARGV[1])
for at = 2, 4 do redis.call('EXPIRE', KEYS[at], {LONGEST_S}) end
return {{0, 0}}
"""


class ClientSecret(msgspec.Struct, frozen=True, kw_only=True):
    """What a secret opens. ``kind`` and ``key_id`` name who made it, as their ``Credential`` does. ``agent`` is a slug,
    or None for the tenant's default agent, ``version`` one of its versions by name; ``session`` is as it was asked for,
    checked, with its ``type``, but for the ``tools`` that are in ``sealed`` (``realtime.rest.sealed_tools``);
    ``expires_at`` is Unix time in seconds; ``end_user`` is who it was made for, ``values`` what was said of them
    (``caller.name``)."""

    tenant: str
    key_id: str
    kind: Kind = "key"
    agent: str | None
    session: dict[str, Any]
    expires_at: int
    end_user: str = ""
    version: str = ""
    values: dict[str, str] = {}
    sealed: bytes = b""


class SecretsUnavailable(Exception):
    """Redis does not answer, so no secret can be made or looked up."""


class TooManySecrets(Exception):
    """Whoever asks, or their tenant, has as many live secrets as they may have; the words say who. ``retry_after_s`` is
    when the first of them ends."""

    def __init__(self, words: str, retry_after_s: int) -> None:
        super().__init__(words)
        self.retry_after_s = retry_after_s


class ClientSecrets:
    """Secrets of all tenants, in Redis. ``timeout_s`` bounds each answer, ``per_key`` the live secrets of a key, a
    client or a person, ``tenant_bytes`` what those of a tenant take together."""

    def __init__(self, redis_url: str, timeout_s: float, per_key: int, tenant_bytes: int = 16 * 1024 * 1024) -> None:
        self._per_key, self._tenant_bytes = per_key, tenant_bytes
        self._redis = open_redis(redis_url, timeout_s, connections=8)

    async def create(self, secret: ClientSecret, ttl_s: int) -> str:
        """The secret's value, which is kept nowhere. It may open several sessions. Raises TooManySecrets and
        SecretsUnavailable."""
        value = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARACTERS))
        key, now = secret_key(value), int(time.time())
        try:
            full, first_ends = await self._redis.eval(
                CREATE,
                4,
                key,
                live_key(secret.tenant, secret.key_id),
                f"avb:{secret.tenant}:client_secret_sizes",
                f"avb:{secret.tenant}:client_secret_bytes",
                msgspec.json.encode(secret),
                key.rpartition(":")[2],
                ttl_s,
                secret.expires_at,
                now,
                self._per_key,
                self._tenant_bytes,
            )
        except (RedisError, OSError) as error:
            raise SecretsUnavailable("Redis does not answer") from error
        if full:
            whose = {"key": "this API key", "client": "this OAuth client", "person": "this person"}[secret.kind]
            words = f"{whose} has {self._per_key} that have not expired yet."
            if full == 2:
                words = f"those of this tenant that have not expired yet may take {self._tenant_bytes} bytes."
            raise TooManySecrets(words, max(1, first_ends - now))
        return value

    async def find(self, value: str) -> ClientSecret | None:
        """None when there is no such secret, or no longer. Raises SecretsUnavailable."""
        try:
            found = await self._redis.get(secret_key(value))
        except (RedisError, OSError) as error:
            raise SecretsUnavailable("Redis does not answer") from error
        return msgspec.json.decode(found, type=ClientSecret) if found is not None else None

    async def stop(self) -> None:
        await close_redis(self._redis)


def is_client_secret(key: str) -> bool:
    return key.startswith(PREFIX)


def secret_key(value: str) -> str:
    """Where a secret lies: whoever reads Redis cannot call with what they see there."""
    return f"avb:client_secret:{hashlib.sha256(value.encode()).hexdigest()}"


def live_key(tenant: str, key_id: str) -> str:
    """Sorted set: the hashes of the secrets that somebody has made, by the Unix time at which each ends."""
    return f"avb:{tenant}:client_secrets:{key_id}"
