"""Circuit breakers that all gateways share through Redis: who has failed ``failures`` times in a row is left alone for
``open_s``; then one probe decides. It has a lease: where its process dies another may probe when the lease is over.

Closed, a success forgets the failures before it. Open, only the probe's word counts: what was begun before it opened
says nothing new. Redis runs one step at a time, on its own clock. While it is away each process counts for itself.
"""

import asyncio
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from urllib.parse import quote
from weakref import WeakKeyDictionary

from redis.exceptions import RedisError

from agents.egress.metrics import BREAKERS
from speech.answers import wait_for_answer
from speech.connections import close_redis, open_redis

log = logging.getLogger(__name__)

REDIS_RETRY_S = 1.0
"""While Redis is away it is asked no more often than this: nobody's call waits for its time-out each time."""
STATE_TTL_S = 3_600
"""Failures that are older than this, and alone, are no row."""
LOCAL_STATES = 10_000
"""Breakers that a process keeps by itself; the one that was longest untouched goes first."""

# KEYS: the breaker. ARGV: now in ms or empty for the server's clock, a token for this attempt, the probe's lease in ms.
# Gives: 1 when it may be asked, and else ms until a probe may.
ASK = """
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local state = redis.call('HMGET', KEYS[1], 'open_until', 'probe_until', 'probe')
-- Its own probe: Redis is asked again where its answer was lost.
if not state[1] or state[3] == ARGV[2] then return {1, 0} end
local busy = math.max(tonumber(state[1]), tonumber(state[2] or '0'))
if now < busy then return {0, busy - now} end
redis.call('HSET', KEYS[1], 'probe', ARGV[2], 'probe_until', string.format('%.0f', now + tonumber(ARGV[3])))
return {1, 0}
"""

# KEYS: the breaker. ARGV: now in ms or empty, the attempt's token, how it ended, failures that open, ms for which it is
# open then, ms after which the state is forgotten. Gives: opened, recovered or nothing.
TELL = """
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local ended = ARGV[3]
local state = redis.call('HMGET', KEYS[1], 'open_until', 'probe')
if state[1] then
  if state[2] ~= ARGV[2] then return '' end
  if ended == 'succeeded' then
    redis.call('DEL', KEYS[1])
    return 'recovered'
  end
  redis.call('HDEL', KEYS[1], 'probe', 'probe_until')
  if ended == 'failed' then
    redis.call('HSET', KEYS[1], 'open_until', string.format('%.0f', now + tonumber(ARGV[5])))
    redis.call('PEXPIRE', KEYS[1], ARGV[6])
  end
  return ''
end
if ended == 'succeeded' then redis.call('DEL', KEYS[1]) end
if ended ~= 'failed' then return '' end
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[6])
if failures < tonumber(ARGV[4]) then return '' end
redis.call('HSET', KEYS[1], 'open_until', string.format('%.0f', now + tonumber(ARGV[5])))
return 'opened'
"""

Ended = Literal["succeeded", "failed", "dropped"]
Change = Literal["", "opened", "recovered"]


class BreakerOpen(Exception):
    """Nobody asks there at the moment. ``retry_after_s`` until a probe may."""

    def __init__(self, name: str, retry_after_s: float) -> None:
        super().__init__(f"{name} has failed repeatedly and is left alone for {retry_after_s:.0f} s.")
        self.name = name
        self.retry_after_s = retry_after_s


class Permit(Protocol):
    """One attempt. Exactly one of these is called, once; each is quick and raises nothing."""

    async def succeed(self) -> None: ...

    async def fail(self) -> None: ...

    async def drop(self) -> None:
        """Cancelled, or refused for a reason that says nothing of the other side's health."""
        ...


class Breakers(Protocol):
    async def ask(self, name: str, *, tenant: str = "") -> Permit:
        """For one attempt at ``name`` (``llm:openai``, ``tool:crm``) of a tenant, or of the platform. Raises
        BreakerOpen. Without Redis each process counts for itself."""
        ...


def breaker_key(name: str, tenant: str) -> str:
    """``name`` is a kind, a colon and whatever the kind calls it."""
    kind, _, rest = name.partition(":")
    return ":".join(["avb", *([tenant] if tenant else []), "breaker", kind, quote(rest, safe="")])


@dataclass(slots=True)
class _State:
    failures: int = 0
    open_until_ms: int | None = None
    probe: str = ""
    probe_until_ms: int = 0


class LocalBreakers:
    """The same in one process's memory. Used by itself in tests, and where Redis is away."""

    def __init__(
        self, *, failures: int, open_s: float, probe_s: float, clock_ms: Callable[[], int] | None = None
    ) -> None:
        self._failures = failures
        self._open_ms = int(open_s * 1000)
        self._probe_ms = int(probe_s * 1000)
        self._clock_ms = clock_ms or (lambda: time.monotonic_ns() // 1_000_000)
        self._states: OrderedDict[str, _State] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, key: str, token: str) -> int:
        """0 when it may be asked, else ms until a probe may."""
        with self._lock:
            return self._ask(key, token)

    def tell(self, key: str, token: str, ended: Ended) -> Change:
        with self._lock:
            return self._tell(key, token, ended)

    def _ask(self, key: str, token: str) -> int:
        state, now = self._states.get(key), self._clock_ms()
        if state is None or state.open_until_ms is None:
            return 0
        busy = max(state.open_until_ms, state.probe_until_ms)
        if now < busy:
            return busy - now
        state.probe, state.probe_until_ms = token, now + self._probe_ms
        return 0

    def _tell(self, key: str, token: str, ended: Ended) -> Change:
        state, now = self._states.get(key), self._clock_ms()
        if state is not None and state.open_until_ms is not None:
            if state.probe != token:
                return ""
            if ended == "succeeded":
                del self._states[key]
                return "recovered"
            state.probe, state.probe_until_ms = "", 0
            if ended == "failed":
                state.open_until_ms = now + self._open_ms
            return ""
        if ended == "succeeded":
            self._states.pop(key, None)
        if ended != "failed":
            return ""
        state = self._states.setdefault(key, _State())
        self._states.move_to_end(key)
        if len(self._states) > LOCAL_STATES:
            self._states.popitem(last=False)
        state.failures += 1
        if state.failures < self._failures:
            return ""
        state.open_until_ms = now + self._open_ms
        return "opened"


class RedisBreakers:
    """For any number of processes, and of event loops in them: each loop has connections of its own, which ``stop``
    closes.

    ``timeout_s`` bounds each answer of Redis. ``failures`` in a row open a breaker for ``open_s``; ``probe_s`` is a
    probe's lease, longer than attempts take. ``clock_ms`` is for tests: else Redis's own holds.
    """

    def __init__(
        self,
        redis_url: str,
        timeout_s: float,
        *,
        failures: int = 5,
        open_s: float = 30.0,
        probe_s: float = 30.0,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        self._redis_url = redis_url
        self._timeout_s = timeout_s
        self._failures = failures
        self._open_ms = int(open_s * 1000)
        self._probe_ms = int(probe_s * 1000)
        self._clock_ms = clock_ms
        self._local = LocalBreakers(failures=failures, open_s=open_s, probe_s=probe_s, clock_ms=clock_ms)
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Scripts] = WeakKeyDictionary()
        self._away_until = 0.0

    async def ask(self, name: str, *, tenant: str = "") -> Permit:
        """Raises BreakerOpen."""
        key, token = breaker_key(name, tenant), secrets.token_hex(8)
        told = await self._run("ask", key, token, self._probe_ms)
        wait_ms = self._local.ask(key, token) if told is None else int(told[1])
        if wait_ms:
            raise BreakerOpen(name, wait_ms / 1000)
        return _Permit(self, name, tenant, key, token, shared=told is not None)

    async def tell(self, permit: "_Permit", ended: Ended) -> None:
        told = None
        if permit.shared:
            state_ms = STATE_TTL_S * 1000 + self._open_ms + self._probe_ms
            told = await self._run("tell", permit.key, permit.token, ended, self._failures, self._open_ms, state_ms)
        if told is None:
            change = self._local.tell(permit.key, permit.token, ended)
        else:
            change = told.decode()
        if change:
            BREAKERS.labels(permit.name.partition(":")[0], change).inc()
            whose = f" of {permit.tenant}" if permit.tenant else ""
            if change == "opened":
                log.warning(
                    "%s%s has failed %d times in a row and is left alone for %.0f s",
                    permit.name, whose, self._failures, self._open_ms / 1000,
                )  # fmt: skip
            else:
                log.info("%s%s answers again", permit.name, whose)

    async def stop(self) -> None:
        """Closes the connections of the running loop."""
        scripts = self._clients.pop(asyncio.get_running_loop(), None)
        if scripts is not None:
            await scripts.close()

    async def _run(self, step: Literal["ask", "tell"], key: str, *arguments: str | int) -> Any:
        """What the script gives; None while Redis is away."""
        if time.monotonic() < self._away_until:
            return None
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = _Scripts(self._redis_url, self._timeout_s)
        now = "" if self._clock_ms is None else self._clock_ms()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await wait_for_answer(getattr(self._clients[loop], step)([key], [now, *arguments]))
        except (TimeoutError, RedisError, OSError) as error:
            self._away_until = time.monotonic() + REDIS_RETRY_S
            log.warning("circuit breakers are counted by this process alone: %s", type(error).__name__)
            return None


class _Scripts:
    """One loop's connections."""

    def __init__(self, redis_url: str, timeout_s: float) -> None:
        self._redis = open_redis(redis_url, timeout_s, connections=16, retries=1)
        self.ask = self._redis.register_script(ASK)
        self.tell = self._redis.register_script(TELL)

    async def close(self) -> None:
        await close_redis(self._redis)


@dataclass(slots=True)
class _Permit:
    breakers: RedisBreakers
    name: str
    tenant: str
    key: str
    token: str
    shared: bool
    told: bool = False

    async def succeed(self) -> None:
        await self._tell("succeeded")

    async def fail(self) -> None:
        await self._tell("failed")

    async def drop(self) -> None:
        await self._tell("dropped")

    async def _tell(self, ended: Ended) -> None:
        """The first word counts."""
        if not self.told:
            self.told = True
            await self.breakers.tell(self, ended)
