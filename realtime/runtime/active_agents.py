"""Which agent serves an end user now: after a hand-off a call that comes back soon is taken by the colleague, not by
the agent that it calls. In Redis, for every gateway. Without it calls begin with the agent that they ask for."""

import asyncio
import logging
from typing import NamedTuple

import msgspec
from redis.exceptions import RedisError

from speech.connections import close_redis, open_redis
from tenants.limits.allowance import fingerprint

WRITES_MAX = 64
"""Writes that may be under way at once; beyond that they are dropped."""

log = logging.getLogger(__name__)


class ActiveAgent(NamedTuple):
    """``agent`` serves an end user who called ``entry``. Both are slugs; an empty entry is the plain assistant."""

    entry: str
    agent: str


def active_agent_key(tenant: str, channel: str, end_user: str) -> str:
    return f"avb:{tenant}:active_agent:{channel}:{fingerprint(end_user)}"


class ActiveAgents:
    """``ttl_s`` 0 keeps nothing; ``timeout_s`` bounds each answer."""

    def __init__(self, redis_url: str, timeout_s: float, ttl_s: int) -> None:
        self._redis = open_redis(redis_url, timeout_s, connections=8)
        self._ttl_s = ttl_s
        self._writes: set[asyncio.Task[None]] = set()

    async def recall(self, tenant: str, channel: str, end_user: str) -> ActiveAgent | None:
        """Never raises."""
        if not (self._ttl_s and end_user):
            return None
        try:
            kept = await self._redis.get(active_agent_key(tenant, channel, end_user))
            return None if kept is None else msgspec.json.decode(kept, type=ActiveAgent)
        except (TimeoutError, RedisError, OSError, msgspec.MsgspecError) as error:
            log.warning("a call begins without its active agent: %s", type(error).__name__)
            return None

    def remember(self, tenant: str, channel: str, end_user: str, active: ActiveAgent) -> None:
        """Neither blocks nor raises."""
        if not (self._ttl_s and end_user):
            return
        if len(self._writes) >= WRITES_MAX:
            log.warning("an active agent is not remembered: Redis is slow")
            return
        task = asyncio.get_running_loop().create_task(
            self._write(active_agent_key(tenant, channel, end_user), msgspec.json.encode(active))
        )
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _write(self, key: str, value: bytes) -> None:
        try:
            await self._redis.set(key, value, ex=self._ttl_s)
        except (TimeoutError, RedisError, OSError) as error:
            log.warning("an active agent is not remembered: %s", type(error).__name__)

    async def stop(self) -> None:
        """What is being written is written first."""
        await asyncio.gather(*self._writes)
        await close_redis(self._redis)
