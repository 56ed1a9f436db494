"""Connections to Redis of one event loop: so many, none waited for longer than a command is."""

from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def open_redis(redis_url: str, timeout_s: float, *, connections: int, retries: int = 0) -> Any:
    """A client whose keys and values are bytes; redis-py types one answer for all protocols and decodings. A command
    that fails is tried ``retries`` times more, at once."""
    pool = redis.BlockingConnectionPool.from_url(
        redis_url,
        max_connections=connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), retries),
    )
    return redis.Redis(connection_pool=pool)


async def close_redis(client: Any) -> None:
    await client.aclose()
    await client.connection_pool.disconnect()
