"""The gateway's end of the archive: events into the tenant's durable Redis stream, off the path of the call.

``put`` only appends to memory. One background task sends what has gathered every 50 ms in one pipeline, another asks
for a drain. While Redis is away events wait in memory up to ``memory_events``, then on disk, until it is back.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import redis.asyncio
from prometheus_client import Counter, Gauge
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from realtime.archive.events import TENANTS_KEY, AnyArchiveEvent, encode_event, stream_key
from realtime.archive.spill import Entry, Spill

log = logging.getLogger(__name__)

EVENTS = Counter("agentvoicebox_archive_events_total", "Archive events by what became of them", ["outcome"])
WAITING = Gauge("agentvoicebox_archive_waiting_events", "Archive events in memory, not yet in Redis")
LAG = Gauge("agentvoicebox_archive_lag_seconds", "Age of the oldest archive event that is not yet in Redis")

FLUSH_S = 0.05
PIPELINE_EVENTS = 500
BACK_OFF_S = (0.1, 0.2, 0.5, 1.0)
SUBMIT_INTERVAL_S = 0.2
FIELD = b"event"


class RedisArchive:
    """Implements ``realtime.runtime.ports.Archive``.

    ``submit(tenant)`` asks a worker to drain the tenant's stream; it may block and may fail, since the worker also
    looks by itself every few seconds. ``write_timeout_s`` bounds one pipeline.
    """

    def __init__(
        self,
        redis_url: str,
        submit: Callable[[str], object],
        spill_dir: Path,
        *,
        memory_events: int = 1_000,
        write_timeout_s: float = 0.5,
    ) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            redis_url,
            socket_timeout=write_timeout_s,
            socket_connect_timeout=write_timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        self._submit = submit
        self._spill = Spill(spill_dir)
        self._memory_events = memory_events
        self._waiting: deque[tuple[float, Entry]] = deque()
        self._unasked: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._sent = asyncio.Event()
        self._failures = 0

    def put(self, tenant: str, event: AnyArchiveEvent) -> None:
        try:
            encoded = encode_event(event)
        except (UnicodeEncodeError, msgspec.MsgspecError, TypeError):
            encoded = _encode_leniently(event)
        self._waiting.append((time.monotonic(), (tenant, encoded)))

    async def start(self) -> None:
        """Begin to send, first of all what an earlier run left on disk. Returns at once, with or without Redis."""
        self._tasks = [
            asyncio.create_task(self._run(), name="archive-send"),
            asyncio.create_task(self._ask(), name="archive-ask"),
        ]

    async def stop(self) -> None:
        """Send what is left, or leave it on disk for the next start. Nothing is in memory when this returns."""
        self._stopping.set()
        self._sent.set()
        await asyncio.gather(*self._tasks)
        while self._waiting and await self._send_waiting():
            pass
        await self._spill_waiting(keep=0)
        if self._waiting:
            log.error("%d archive events are lost: neither Redis nor the disk took them", len(self._waiting))
            EVENTS.labels("lost").inc(len(self._waiting))
        if not self._failures:
            await self._ask_once()
        await self._redis.aclose()

    async def _run(self) -> None:
        on_disk = True
        while not self._stopping.is_set():
            await self._pause(FLUSH_S if not self._failures else BACK_OFF_S[min(self._failures, len(BACK_OFF_S)) - 1])
            while self._waiting or on_disk:
                sent = await self._send_waiting()
                if sent and on_disk:
                    on_disk = not await self._send_spilled()
                    sent = not on_disk
                if not sent:
                    on_disk = await self._spill_waiting(keep=self._memory_events) or on_disk
                    break
            self._measure()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _measure(self) -> None:
        WAITING.set(len(self._waiting))
        LAG.set(time.monotonic() - self._waiting[0][0] if self._waiting else 0)

    async def _send_waiting(self) -> bool:
        """One pipeline of the oldest events; False when Redis did not take all of them: they wait on."""
        count = min(len(self._waiting), PIPELINE_EVENTS)
        entries = [self._waiting[position][1] for position in range(count)]
        if not await self._send(entries):
            return False
        for _ in range(count):
            self._waiting.popleft()
        EVENTS.labels("sent").inc(count)
        return True

    async def _send_spilled(self) -> bool:
        for file in await asyncio.to_thread(self._spill.files):
            try:
                entries = await asyncio.to_thread(lambda file=file: list(self._spill.read(file)))
            except (OSError, msgspec.MsgspecError) as error:
                log.error("the archive events in %s cannot be read: %s", file.name, error)
                continue
            for begin in range(0, len(entries), PIPELINE_EVENTS):
                if not await self._send(entries[begin : begin + PIPELINE_EVENTS]):
                    return False
            await asyncio.to_thread(self._spill.remove, file)
            EVENTS.labels("recovered").inc(len(entries))
        return True

    async def _send(self, entries: list[Entry]) -> bool:
        tenants = {tenant for tenant, _ in entries}
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for tenant, event in entries:
                    pipe.xadd(stream_key(tenant), {FIELD: event})
                if tenants:
                    # After the events: a worker that finds the stream empty takes the tenant off this set.
                    pipe.sadd(TENANTS_KEY, *tenants)
                else:
                    pipe.ping()
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            if not self._failures:
                log.warning("Redis does not take archive events (%s); they wait here", type(error).__name__)
            self._failures += 1
            return False
        if self._failures:
            log.info("Redis takes archive events again")
        self._failures = 0
        if tenants:
            self._unasked |= tenants
            self._sent.set()
        return True

    async def _spill_waiting(self, *, keep: int) -> bool:
        """Write all but the latest ``keep`` events to disk; False when there were no more, or the disk refused."""
        surplus = len(self._waiting) - keep
        if surplus <= 0:
            return False
        # Not one file per event: half of what memory may hold makes room for a while.
        count = min(len(self._waiting), max(surplus, keep // 2))
        entries = [self._waiting[position][1] for position in range(count)]
        try:
            await asyncio.to_thread(self._spill.write, entries)
        except OSError as error:
            log.error("archive events cannot be written to disk: %s", error)
            return False
        for _ in range(count):
            self._waiting.popleft()
        EVENTS.labels("spilled").inc(count)
        return True

    async def _ask(self) -> None:
        while not self._stopping.is_set():
            await self._sent.wait()
            self._sent.clear()
            await self._ask_once()
            await self._pause(SUBMIT_INTERVAL_S)

    async def _ask_once(self) -> None:
        tenants, self._unasked = self._unasked, set()
        if tenants:
            await asyncio.to_thread(self._submit_all, tenants)

    def _submit_all(self, tenants: set[str]) -> None:
        for tenant in tenants:
            try:
                self._submit(tenant)
            except Exception as error:  # whatever the broker raises: the worker's own round finds the tenants
                log.warning("no drain could be asked for: %s", type(error).__name__)
                return


def _encode_leniently(event: AnyArchiveEvent) -> bytes:
    """For an event that JSON cannot hold as it is (half a surrogate pair in a client's text): keep the rest."""
    fields = {name: _mend(getattr(event, name)) for name in event.__struct_fields__}
    return encode_event(type(event)(**fields))


def _mend(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {str(_mend(name)): _mend(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_mend(entry) for entry in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return repr(value)
