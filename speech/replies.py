"""The gateway's ear: one Redis subscription per process, from which each job's frames reach whoever waits for that job.

Pub/sub forgets what nobody heard: after a break of the line every waiting job is told (``missed``) to read its stream.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import redis.asyncio as redis
from prometheus_client import Counter
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from speech import jobs
from speech.logs import kind_and_place

log = logging.getLogger(__name__)

IDLE_S = 1.0
SILENT_PINGS = 2
RECONNECT_S = (0.1, 0.2, 0.5)
WATCH_S = 0.1

BREAKS = Counter("agentvoicebox_speech_line_breaks", "Ends of the gateway's subscription, by the error", ["error"])
UNREADABLE = Counter("agentvoicebox_speech_frames_unreadable", "Frames of workers that could not be delivered")


class Inbox:
    """One job's frames on their way to its waiter: bounded in bytes, and never blocking who delivers."""

    def __init__(self, tenant: str, job_id: str, limit_bytes: int) -> None:
        self.tenant = tenant
        self.job_id = job_id
        self.missed = False
        self.overflowed = False
        self.outage = ""
        self.heard_at = time.monotonic()
        self._frames: list[jobs.AnyFrame] = []
        self._bytes = 0
        self._limit_bytes = limit_bytes
        self._wake = asyncio.Event()

    def put(self, frame: jobs.AnyFrame) -> None:
        self.heard_at = time.monotonic()
        if isinstance(frame, jobs.Spoken):
            self._bytes += len(frame.pcm)
            if self._bytes > self._limit_bytes:
                self.overflowed = True
        if not self.overflowed:
            self._frames.append(frame)
        self._wake.set()

    def miss(self) -> None:
        """The subscription was broken for a while: frames may be in the stream only."""
        self.missed = True
        self._wake.set()

    def cut_off(self, why: str) -> None:
        """There has been no Redis for too long."""
        self.outage = why
        self._wake.set()

    async def take(self, timeout_s: float) -> list[jobs.AnyFrame]:
        """All frames that have come, after at most ``timeout_s``; none when woken for another reason."""
        if not self._wake.is_set():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                return []
        self._wake.clear()
        frames, self._frames, self._bytes = self._frames, [], 0
        return frames


class Replies:
    """Subscribes to this gateway's channel for as long as it runs."""

    def __init__(self, redis_url: str, gateway_id: str, outage_s: float) -> None:
        self._channel = jobs.replies_channel(gateway_id)
        # Blocking reads may last forever; a dead line is found by pings.
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=None, socket_connect_timeout=outage_s, retry=Retry(NoBackoff(), 0)
        )
        self._outage_s = outage_s
        self._inboxes: dict[str, Inbox] = {}
        self._connected = asyncio.Event()
        self._down_since = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="speech replies")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._connected.clear()
        for inbox in self._inboxes.values():
            inbox.cut_off("the gateway stops")
        await self._redis.aclose()

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    async def wait_connected(self) -> bool:
        """Whether there is a subscription, now or within the outage that is borne."""
        if not self._connected.is_set():
            remaining_s = self._down_since + self._outage_s - time.monotonic()
            try:
                async with asyncio.timeout(max(0.05, remaining_s)):
                    await self._connected.wait()
            except TimeoutError:
                return False
        return True

    def open(self, inbox: Inbox) -> None:
        self._inboxes[inbox.job_id] = inbox

    def close(self, inbox: Inbox) -> None:
        self._inboxes.pop(inbox.job_id, None)

    async def _run(self) -> None:
        watch = asyncio.get_running_loop().create_task(self._watch_outage(), name="speech outage")
        failures = 0
        try:
            while True:
                try:
                    async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                        await pubsub.subscribe(self._channel)
                        failures = 0
                        self._set_connected()
                        await self._listen(pubsub)
                except Exception as error:
                    BREAKS.labels(type(error).__name__).inc()
                    if not isinstance(error, (RedisError, OSError)):
                        log.error("the subscription for speech broke: %s", kind_and_place(error))
                    self._set_down(type(error).__name__)
                await asyncio.sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
                failures += 1
        finally:
            watch.cancel()

    async def _listen(self, pubsub: redis.client.PubSub) -> None:
        unanswered = 0
        while True:
            message = await pubsub.get_message(ignore_subscribe_messages=False, timeout=IDLE_S)
            if message is None:
                if unanswered >= SILENT_PINGS:
                    raise redis.ConnectionError("pings are not answered")
                await pubsub.ping()
                unanswered += 1
                continue
            unanswered = 0
            if message["type"] == "message":
                self._deliver(message["data"])

    def _deliver(self, raw: bytes) -> None:
        try:
            frame = jobs.decode_frame(raw)
            inbox = self._inboxes.get(frame.job_id)
            # Nobody waits any more: cancelled, or answered by another attempt.
            if inbox is not None and inbox.tenant == frame.tenant:
                inbox.put(frame)
        except Exception as error:
            # One frame's fault is no reason to miss those of all other jobs: the line stays open.
            UNREADABLE.inc()
            log.error("a frame on %s cannot be delivered: %s", self._channel, kind_and_place(error))

    def _set_connected(self) -> None:
        if not self._connected.is_set():
            self._connected.set()
            self._tell(Inbox.miss)
            log.info("listening for speech workers")

    def _set_down(self, why: str) -> None:
        if self._connected.is_set():
            self._connected.clear()
            self._down_since = time.monotonic()
            log.warning("the line to Redis broke: %s", why)

    async def _watch_outage(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            if not self._connected.is_set() and time.monotonic() - self._down_since > self._outage_s:
                self._tell(lambda inbox: inbox.cut_off("Redis does not answer"))

    def _tell(self, what: Callable[[Inbox], None]) -> None:
        for inbox in tuple(self._inboxes.values()):
            what(inbox)
