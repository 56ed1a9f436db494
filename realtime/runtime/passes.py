"""Who is inside with which key, and how they are asked to leave when the key opens nothing any more.

1. An end of access is told on one channel (``tenants.ended``), and heard by every gateway at once.
2. What the channel did not carry is found all the same: every few seconds, and whenever the channel is there again,
   the keys of everybody inside are looked up in one query.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any
from weakref import WeakSet

import msgspec
import redis.asyncio as redis
from redis.exceptions import RedisError

from realtime.runtime.metrics import FAULTS
from realtime.runtime.work import end_tasks
from speech.logs import kind_and_place
from tenants.ended import CHANNEL, AccessEnded, decode
from tenants.keys.credential import Kind

RECONNECT_S = 0.2
PING_S = 5.0

MESSAGES = {
    "api_key_revoked": "The API key was revoked.",
    "api_key_expired": "The API key has expired.",
    "oauth_client_revoked": "The OAuth client was revoked.",
    "member_removed": "Whoever opened this does not belong to the tenant any more.",
    "role_changed": "The role of whoever opened this does not allow calls any more.",
    "tenant_suspended": "This tenant is suspended.",
    "tenant_deleted": "This tenant is being deleted.",
}

log = logging.getLogger(__name__)

Who = tuple[Kind, str, str, str]
"""(kind, tenant, key id, scope), as ``tenants.keys.credential`` has them; the scope is the one that let them in, empty
where none was asked for."""


class Pass:
    """Somebody is inside. ``ended`` is set when they have to leave; ``leave`` is called then, once."""

    __slots__ = ("__weakref__", "ended", "leave", "who")

    def __init__(self, who: Who, leave: Callable[[AccessEnded], None] | None = None) -> None:
        self.who = who
        self.leave = leave
        self.ended: AccessEnded | None = None

    def end(self, ended: AccessEnded) -> None:
        if self.ended is None:
            self.ended = ended
            if self.leave is not None:
                self.leave(ended)


class Passes:
    """Everybody inside this process; a pass counts for as long as somebody holds it. ``find_ended`` asks the database,
    and raises when that does not answer."""

    def __init__(
        self,
        redis_url: str,
        find_ended: Callable[[Collection[Who]], Awaitable[list[AccessEnded]]],
        *,
        recheck_s: float,
        timeout_s: float = 0.5,
    ) -> None:
        # A subscriber waits for as long as nothing is said.
        self._redis: Any = redis.Redis.from_url(
            redis_url, socket_timeout=None, socket_connect_timeout=timeout_s, health_check_interval=PING_S
        )
        self._find_ended = find_ended
        self._recheck_s = recheck_s
        self._inside: WeakSet[Pass] = WeakSet()
        self._missed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self._inside)

    def enter(self, who: Who, leave: Callable[[AccessEnded], None] | None = None) -> Pass:
        entered = Pass(who, leave)
        self._inside.add(entered)
        return entered

    def end(self, ended: AccessEnded) -> None:
        for inside in list(self._inside):
            _, tenant, key_id, _ = inside.who
            if tenant == ended.tenant and ended.key_id in ("", key_id):
                inside.end(ended)

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._listen(), name="access-ended"),
            asyncio.create_task(self._recheck(), name="access-recheck"),
        ]

    async def stop(self) -> None:
        await end_tasks(*self._tasks)
        await self._redis.aclose()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(CHANNEL)
                    # Subscribed: from here on nothing is missed, but something may have been before.
                    self._missed.set()
                    while True:
                        message = await channel.get_message(timeout=PING_S)
                        if message is None:
                            await channel.ping()
                        elif message["type"] == "message":
                            self._hear(message["data"])
            except (RedisError, OSError) as error:
                log.warning("ends of access are not heard for the moment: %s", type(error).__name__)
            except Exception as error:
                FAULTS.labels("passes").inc()
                log.error("listening for ends of access failed: %s", kind_and_place(error))
            await asyncio.sleep(RECONNECT_S)

    def _hear(self, told: bytes) -> None:
        try:
            ended = decode(told)
        except msgspec.MsgspecError:
            log.error("an end of access could not be read; keys are looked up instead")
            self._missed.set()
            return
        log.info("access ended: %s", ended.reason, extra={"tenant_id": ended.tenant})
        self.end(ended)

    async def _recheck(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._recheck_s):
                    await self._missed.wait()
            except TimeoutError:
                pass
            self._missed.clear()
            who = {inside.who for inside in self._inside if inside.ended is None}
            if not who:
                continue
            try:
                for ended in await self._find_ended(who):
                    self.end(ended)
            except Exception as error:
                # Whatever it is: calls go on, and the next look may find out.
                log.warning("keys of calls in progress cannot be looked up: %s", type(error).__name__)
