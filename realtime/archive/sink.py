"""The gateway's end of the archive: events into the tenant's durable Redis stream, off the path of the call.

``put`` only appends to memory. One background task sends what has gathered every 50 ms in one pipeline, another asks
for a drain. While Redis is away events wait in memory up to ``memory_events`` and ``memory_bytes``, then on disk, until
it is back. Both tasks outlive whatever one of their rounds may raise.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import redis.asyncio
from prometheus_client import Counter, Gauge
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from realtime.archive.events import TENANTS_KEY, AnyArchiveEvent, encode_event, stream_key
from realtime.archive.spill import Entry, Spill
from speech.logs import kind_and_place

log = logging.getLogger(__name__)

EVENTS = Counter("agentvoicebox_archive_events_total", "Archive events by what became of them", ["outcome"])
WAITING = Gauge("agentvoicebox_archive_waiting_events", "Archive events in memory, not yet in Redis")
WAITING_BYTES = Gauge("agentvoicebox_archive_waiting_bytes", "Their size")
FAULTS = Counter("agentvoicebox_archive_faults", "What went wrong in the gateway's archive, by the work", ["work"])
LAG = Gauge("agentvoicebox_archive_lag_seconds", "Age of the oldest archive event that is not yet in Redis")

FLUSH_S = 0.05
PIPELINE_EVENTS = 500
PIPELINE_BYTES = 8 * 1024 * 1024
BACK_OFF_S = (0.1, 0.2, 0.5, 1.0)
SUBMIT_INTERVAL_S = 0.2
FIELD = b"event"


class RedisArchive:
    """Implements ``realtime.runtime.ports.Archive``.

    ``submit(tenant)`` asks a worker to drain the tenant's stream; it may block and may fail, since the worker also
    looks by itself every few seconds. ``write_timeout_s`` bounds one pipeline. The bounds of memory are looked at in
    each round, so at most 1.5 s after they were passed.
    """

    def __init__(
        self,
        redis_url: str,
        submit: Callable[[str], object],
        spill_dir: Path,
        *,
        memory_events: int = 1_000,
        memory_bytes: int = 64 * 1024 * 1024,
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
        self._memory_bytes = memory_bytes
        self._waiting: deque[tuple[float, Entry]] = deque()
        self._waiting_bytes = 0
        self._on_disk = True
        self._undeleted: set[Path] = set()
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
        self._waiting_bytes += len(encoded)

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
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                log.error("a task of the archive had ended: %s", kind_and_place(ended))
        while self._waiting and await self._send_waiting():
            pass
        await self._spill_waiting(keep_events=0, keep_bytes=0)
        if self._waiting:
            log.error("%d archive events are lost: neither Redis nor the disk took them", len(self._waiting))
            EVENTS.labels("lost").inc(len(self._waiting))
        if not self._failures:
            await self._ask_once()
        await self._redis.aclose()

    async def _run(self) -> None:
        faults = 0
        while not self._stopping.is_set():
            failures = max(self._failures, faults)
            await self._pause(FLUSH_S if not failures else BACK_OFF_S[min(failures, len(BACK_OFF_S)) - 1])
            try:
                await self._flush()
                faults = 0
            except Exception as error:
                faults += 1
                FAULTS.labels("send").inc()
                log.error("a round of the archive broke: %s", kind_and_place(error))
            self._measure()

    async def _flush(self) -> None:
        """Send what waits, and then what lies on disk; when that does not go, keep within memory."""
        while self._waiting or self._on_disk:
            if not await self._send_waiting():
                await self._keep_within_memory()
                return
            if self._on_disk:
                if not await self._send_spilled():
                    return
                self._on_disk = False

    async def _keep_within_memory(self) -> None:
        if len(self._waiting) > self._memory_events or self._waiting_bytes > self._memory_bytes:
            # Not one file per event: half of what memory may hold makes room for a while.
            await self._spill_waiting(keep_events=self._memory_events // 2, keep_bytes=self._memory_bytes // 2)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _measure(self) -> None:
        WAITING.set(len(self._waiting))
        WAITING_BYTES.set(self._waiting_bytes)
        LAG.set(time.monotonic() - self._waiting[0][0] if self._waiting else 0)

    async def _send_waiting(self) -> bool:
        """One pipeline of the oldest events; False when Redis did not take all of them: they wait on."""
        entries = next(_pipelines(entry for _, entry in self._waiting), [])
        if not await self._send(entries):
            return False
        self._drop_oldest(len(entries))
        EVENTS.labels("sent").inc(len(entries))
        return True

    def _surplus(self, keep_events: int, keep_bytes: int) -> Iterator[Entry]:
        """The oldest events, until no more than that is left behind them."""
        events, size_bytes = len(self._waiting), self._waiting_bytes
        for _, entry in self._waiting:
            if events <= keep_events and size_bytes <= keep_bytes:
                return
            yield entry
            events, size_bytes = events - 1, size_bytes - len(entry[1])

    def _drop_oldest(self, count: int) -> None:
        for _ in range(count):
            _, (_, encoded) = self._waiting.popleft()
            self._waiting_bytes -= len(encoded)

    async def _send_spilled(self) -> bool:
        """False when Redis did not take all of it. A file that cannot be read, or not removed, is no reason to stop."""
        for file in await asyncio.to_thread(self._spill.files):
            if file not in self._undeleted:
                try:
                    entries = await asyncio.to_thread(lambda file=file: list(self._spill.read(file)))
                except (OSError, msgspec.MsgspecError) as error:
                    log.error("the archive events in %s cannot be read: %s", file.name, type(error).__name__)
                    continue
                for pipeline in _pipelines(entries):
                    if not await self._send(pipeline):
                        return False
                EVENTS.labels("recovered").inc(len(entries))
            await self._remove(file)
        return True

    async def _remove(self, file: Path) -> None:
        try:
            await asyncio.to_thread(self._spill.remove, file)
            self._undeleted.discard(file)
        except OSError as error:
            # Its events are in Redis: this process does not send them again, the next one may, which changes nothing.
            self._undeleted.add(file)
            FAULTS.labels("send").inc()
            log.error("%s cannot be removed, though its archive events are sent: %s", file.name, error)

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
        except (RedisError, OSError) as error:
            if not self._failures:
                log.warning("Redis does not take archive events (%s); they wait here", type(error).__name__)
            self._failures += 1
            return False
        except Exception as error:
            # Whatever it is: the events are not in Redis, and must not pile up behind it.
            FAULTS.labels("send").inc()
            log.error("archive events were not sent: %s", kind_and_place(error))
            self._failures += 1
            return False
        if self._failures:
            log.info("Redis takes archive events again")
        self._failures = 0
        if tenants:
            self._unasked |= tenants
            self._sent.set()
        return True

    async def _spill_waiting(self, *, keep_events: int, keep_bytes: int) -> None:
        """Write the oldest events to disk until no more than that is left in memory, or the disk refuses."""
        while entries := next(_pipelines(self._surplus(keep_events, keep_bytes)), None):
            try:
                await asyncio.to_thread(self._spill.write, entries)
            except Exception as error:
                FAULTS.labels("spill").inc()
                # The system's own message says what is wrong with the disk; any other may hold what was said.
                why = str(error) if isinstance(error, OSError) else kind_and_place(error)
                log.error("archive events cannot be written to disk: %s", why)
                return
            self._on_disk = True
            self._drop_oldest(len(entries))
            EVENTS.labels("spilled").inc(len(entries))

    async def _ask(self) -> None:
        while not self._stopping.is_set():
            await self._sent.wait()
            self._sent.clear()
            try:
                await self._ask_once()
            except Exception as error:
                FAULTS.labels("ask").inc()
                log.error("no drain could be asked for: %s", kind_and_place(error))
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


def _pipelines(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """In order, as many as one pipeline takes; an event that is larger than that goes alone."""
    pipeline: list[Entry] = []
    total_bytes = 0
    for entry in entries:
        if pipeline and (len(pipeline) == PIPELINE_EVENTS or total_bytes + len(entry[1]) > PIPELINE_BYTES):
            yield pipeline
            pipeline, total_bytes = [], 0
        pipeline.append(entry)
        total_bytes += len(entry[1])
    if pipeline:
        yield pipeline


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
    if value is None or isinstance(value, bool | int | float | Decimal):
        return value
    return repr(value)
