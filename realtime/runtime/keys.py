"""Whose key it is: from Redis where it is known there, else from the database. An address that has guessed too often
is not looked up for any more, but for keys that are known."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from redis.exceptions import RedisError

from speech.connections import close_redis, open_redis
from tenants.keys import credential as credentials
from tenants.keys.credential import Credential
from tenants.keys.refusals import KeyRefused
from tenants.keys.secret import PREFIXES, hash_secret
from tenants.limits.counter import Counter
from tenants.limits.counters import Answer, Limiter, LimitsUnavailable


class TooManyUnknown(Exception):
    """An address has brought as many unknown keys as it may for now."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("too many unknown keys")
        self.answer = answer


class Keys:
    """``look_up(secret, address)`` asks the database, in a thread of its own; ``unknown(address)`` is the counter of
    those who bring keys that open nothing; ``ttl_s`` 0 keeps nothing. Access tokens are looked up each time."""

    def __init__(
        self,
        redis_url: str,
        timeout_s: float,
        *,
        look_up: Callable[[str, str], Awaitable[Credential]],
        limiter: Limiter,
        unknown: Callable[[str], Counter],
        ttl_s: int,
    ) -> None:
        self._redis = open_redis(redis_url, timeout_s, connections=16, retries=1)
        self._look_up = look_up
        self._limiter = limiter
        self._unknown = unknown
        self._ttl_s = ttl_s

    async def find(self, secret: str, address: str) -> Credential:
        """Raises KeyRefused, TooManyUnknown, LimitsUnavailable, and what ``look_up`` raises."""
        secret_hash = hash_secret(secret) if secret.startswith(PREFIXES) else ""
        try:
            known = await credentials.recall(self._redis, secret_hash) if secret_hash else None
        except (TimeoutError, RedisError, OSError) as error:
            raise LimitsUnavailable(type(error).__name__) from error
        if known is not None:
            return known
        counter = self._unknown(address)
        guessed = await self._limiter.ask([replace(counter, cost=0, kind="charge")])
        if not guessed.standings[0].remaining:
            raise TooManyUnknown(await self._limiter.ask([counter]))
        try:
            found = await self._look_up(secret, address)
        except KeyRefused:
            await self._limiter.ask([counter])
            raise
        if found.secret_hash:
            try:
                await credentials.keep(self._redis, found, self._ttl_s)
            except (RedisError, OSError) as error:
                raise LimitsUnavailable(type(error).__name__) from error
        return found

    async def stop(self) -> None:
        await close_redis(self._redis)
