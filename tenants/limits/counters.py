"""Counting exactly, from any number of processes: one script in Redis, one round trip for all limits of one request.

**A window** is a log of what was admitted. An amount admitted at ``t`` counts until ``t + window``, so at no moment
have more than ``limit`` been admitted in the window before it, from wherever they came: Redis runs one script at a
time, and its clock is the only one asked. To bound memory the log has slots: one per microsecond where the limit is at
most ``SLOTS`` (then the log is exact, with ``limit`` entries at most), else ``SLOTS`` to a window, and a slot counts
until its last moment is out of the window: what is counted never leaves too early, at most a ``1/SLOTS`` of a window
too late.

**A place** is a session in a sorted set by when its heartbeat lapses; one whose process is gone frees itself.

Either all counters of a request admit it or none of them counts it.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tenants.limits.counter import Counter

# KEYS: two for each counter: amounts by slot (or the set of places), and the slots by their last moment.
# ARGV: now in µs or empty for the server's clock; then for each counter: kind, limit, window in µs, slot in µs, cost,
# member. Gives: the counter that refused (0: none), µs until it might admit (-1: never), now, then for each counter
# what is used and the µs until all of it is free.
SCRIPT = """
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local seconds = string.format('%.6f', now / 1000000)
local count = #KEYS / 2
local used, refused, wait = {}, 0, 0

local function read(i)
  local at = 1 + (i - 1) * 6
  return ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]),
    ARGV[at + 6], KEYS[2 * i - 1], KEYS[2 * i]
end

local function wait_for_room(book, order, limit, window, cost, taken)
  if cost > limit then return -1 end
  local first, page = 0, 16
  while true do
    local slots = redis.call('ZRANGE', order, first, first + page - 1, 'WITHSCORES')
    if #slots == 0 then return 0 end
    for at = 1, #slots, 2 do
      taken = taken - tonumber(redis.call('HGET', book, slots[at]))
      if taken + cost <= limit then return tonumber(slots[at + 1]) + window - now end
    end
    first = first + page
  end
end

for i = 1, count do
  local kind, limit, window, step, cost, member, book, order = read(i)
  if kind == 'place' or kind == 'count' then
    used[i] = redis.call('ZCOUNT', book, '(' .. seconds, '+inf')
    if kind == 'place' and used[i] >= limit and not redis.call('ZSCORE', book, member) and refused == 0 then
      refused, wait = i, 1000000
    end
  elseif kind ~= 'note' then
    local gone = 0
    for _, slot in ipairs(redis.call('ZRANGEBYSCORE', order, '-inf', string.format('%.0f', now - window))) do
      gone = gone + tonumber(redis.call('HGET', book, slot))
      redis.call('HDEL', book, slot)
      redis.call('ZREM', order, slot)
    end
    if gone ~= 0 then redis.call('HINCRBY', book, 'total', -gone) end
    used[i] = tonumber(redis.call('HGET', book, 'total') or '0')
    if kind == 'window' and used[i] + cost > limit and refused == 0 then
      refused, wait = i, wait_for_room(book, order, limit, window, cost, used[i])
    end
  end
end

local told = {refused, wait, now}
for i = 1, count do
  local kind, limit, window, step, cost, member, book, order = read(i)
  local reset = 0
  if kind == 'note' then
    used[i] = 0
    if refused == 0 and redis.call('SET', book, '1', 'NX', 'PX', window / 1000) then used[i] = 1 end
  elseif kind == 'place' then
    if refused == 0 then
      if not redis.call('ZSCORE', book, member) then used[i] = used[i] + 1 end
      redis.call('ZADD', book, string.format('%.6f', (now + window) / 1000000), member)
      -- The tenant's own set is the register's. The others go with the last place in them, should nobody come in.
      if string.find(book, ':sessions:', 1, true) then redis.call('PEXPIRE', book, window / 1000 + 1000) end
    end
  elseif kind ~= 'count' then
    local slot = member
    if kind ~= 'settle' then slot = string.format('%.0f', math.floor(now / step)) end
    local counts = cost ~= 0 and (kind == 'charge' or (kind == 'window' and refused == 0))
    local there = kind == 'settle' and redis.call('HEXISTS', book, slot) == 1
    if kind == 'settle' then
      counts = cost > 0 or (there and cost ~= 0)
      -- What it corrects has left the window already; what came on top of it is used now.
      if not there then slot = string.format('%.0f', math.floor(now / step)) end
    end
    -- Another counter of this list may be the same one: what it counted above is in this one's answer.
    used[i] = tonumber(redis.call('HGET', book, 'total') or '0')
    if counts then
      redis.call('HINCRBY', book, slot, cost)
      used[i] = redis.call('HINCRBY', book, 'total', cost)
      if not there then
        redis.call('ZADD', order, string.format('%.0f', (tonumber(slot) + 1) * step - 1), slot)
      end
      local life = math.ceil((window + step) / 1000) + 1000
      redis.call('PEXPIRE', book, life)
      redis.call('PEXPIRE', order, life)
    end
    local last = redis.call('ZRANGE', order, -1, -1, 'WITHSCORES')
    if last[2] then reset = tonumber(last[2]) + window - now end
  end
  told[#told + 1] = used[i]
  told[#told + 1] = reset
end
return told
"""


class LimitsUnavailable(Exception):
    """Redis does not answer, so nobody knows what is left."""


class Standing(NamedTuple):
    """A counter after a request. ``reset_s`` is when all of it will be free again."""

    counter: Counter
    used: int
    reset_s: float

    @property
    def remaining(self) -> int:
        return max(0, self.counter.limit - self.used)


class Answer(NamedTuple):
    """``refused`` is the counter that had no room, None when the request is admitted. ``retry_after_s`` is when it may
    have room, None for never. ``at_us`` is the time on Redis's clock at which it was counted."""

    refused: Counter | None
    retry_after_s: float | None
    at_us: int
    standings: list[Standing]


def _script_input(counters: Sequence[Counter], now_us: int | None) -> tuple[list[str], list[str | int]]:
    keys = [key for counter in counters for key in counter.keys]
    return keys, ["" if now_us is None else now_us, *(value for counter in counters for value in counter.arguments)]


def _answer(counters: Sequence[Counter], told: list[int]) -> Answer:
    refused, wait_us, at_us = told[:3]
    standings = [
        Standing(counter, told[3 + 2 * index], max(0, told[4 + 2 * index]) / 1_000_000)
        for index, counter in enumerate(counters)
    ]
    retry_after_s = None if wait_us < 0 else wait_us / 1_000_000
    return Answer(counters[refused - 1] if refused else None, retry_after_s, at_us, standings)


Clock = Callable[[], int]


class Limiter:
    """For the event loop. ``timeout_s`` bounds each answer; ``clock`` gives µs, for tests: else Redis's own holds."""

    def __init__(self, redis_url: str, timeout_s: float, *, connections: int = 16, clock: Clock | None = None) -> None:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            redis_url,
            max_connections=connections,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=AsyncRetry(NoBackoff(), 1),
        )
        self._redis: Any = redis.asyncio.Redis(connection_pool=pool)
        self._script = self._redis.register_script(SCRIPT)
        self._clock = clock

    async def ask(self, counters: Sequence[Counter]) -> Answer:
        """Of counters that refuse, each at most once. Raises LimitsUnavailable."""
        keys, arguments = _script_input(counters, self._clock() if self._clock else None)
        try:
            told = await self._script(keys, arguments)
        except (TimeoutError, RedisError, OSError) as error:
            raise LimitsUnavailable(type(error).__name__) from error
        return _answer(counters, told)

    async def free(self, counters: Sequence[Counter]) -> None:
        """The places of a session that did not begin after all. Raises LimitsUnavailable."""
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for counter in counters:
                    pipe.zrem(counter.key, counter.member)
                await pipe.execute()
        except (RedisError, OSError) as error:
            raise LimitsUnavailable(type(error).__name__) from error

    async def stop(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


class BlockingLimiter:
    """For threads."""

    def __init__(self, redis_url: str, timeout_s: float, *, clock: Clock | None = None) -> None:
        self._redis: Any = redis.Redis.from_url(
            redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 1)
        )
        self._script = self._redis.register_script(SCRIPT)
        self._clock = clock

    def ask(self, counters: Sequence[Counter]) -> Answer:
        """Raises LimitsUnavailable."""
        keys, arguments = _script_input(counters, self._clock() if self._clock else None)
        try:
            told = self._script(keys, arguments)
        except (RedisError, OSError) as error:
            raise LimitsUnavailable(type(error).__name__) from error
        return _answer(counters, told)

    def is_noted(self, note: Counter) -> bool:
        """Without noting it. Raises LimitsUnavailable."""
        try:
            return bool(self._redis.exists(note.key))
        except (RedisError, OSError) as error:
            raise LimitsUnavailable(type(error).__name__) from error


_lock = threading.Lock()
_blocking: dict[tuple[str, float], BlockingLimiter] = {}


def blocking_limiter(redis_url: str, timeout_s: float) -> BlockingLimiter:
    """The process's own, one per server."""
    with _lock:
        if (redis_url, timeout_s) not in _blocking:
            _blocking[redis_url, timeout_s] = BlockingLimiter(redis_url, timeout_s)
        return _blocking[redis_url, timeout_s]
