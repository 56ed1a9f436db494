"""The calls in progress, as any process can read them: metadata in Redis, kept alive by a heartbeat.

A process writes only the calls that it runs, so the last write is the true one. What a call changes is in Redis within
50 ms, and told on the tenant's channel. While Redis is away calls go on; with the next beat after its return
everything is there again. A call whose heartbeat stops for ``HEARTBEAT_TTL_S`` has lost its process: the sweeper
(``realtime.archive.sweeping``) ends it.
"""

import asyncio
import contextlib
import logging
import time
from typing import Any, Literal

import msgspec
import redis.asyncio as redis
from redis.exceptions import RedisError

from realtime.runtime.metrics import FAULTS
from speech.logs import kind_and_place
from tenants.limits.allowance import sessions_key

HEARTBEAT_TTL_S = 30
HEARTBEAT_S = 10.0
FLUSH_S = 0.02
RETRY_S = 1.0
RECORD_TTL_S = 3 * HEARTBEAT_TTL_S
"""Longer than the heartbeat, so that the sweeper still finds out what it is that ended."""
CHANGES_MAX = 10_000
"""Changes that wait while Redis is away; beyond that only beginnings and ends do."""
TENANTS_KEY = "avb:sessions:tenants"

Kind = Literal["session.created", "session.updated", "session.closed"]

log = logging.getLogger(__name__)


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What others may know of a call: nothing that was said. ``started_at`` is Unix time in seconds."""

    id: str
    tenant: str
    conversation_id: str
    gateway: str
    agent: str
    model: str
    channel: str
    key_id: str
    end_user: str
    started_at: float
    type: Literal["realtime", "transcription"] = "realtime"
    voice: str = ""
    output_modality: str = ""


class SessionChange(msgspec.Struct, frozen=True, kw_only=True):
    """What the tenant's channel tells. ``reason`` with ``session.closed``: the archive's words, or ``lost``."""

    type: Kind
    session: SessionRecord
    reason: str = ""


def record_key(tenant: str, session_id: str) -> str:
    return f"avb:{tenant}:session:{session_id}"


def heartbeats_key(tenant: str) -> str:
    """Sorted set: session id → Unix time in seconds at which its heartbeat lapses, on Redis's clock."""
    return sessions_key(tenant, "tenant")


def counted_in(record: SessionRecord) -> list[str]:
    """The sorted sets that limits count a session in: its tenant's, its key's and its end user's."""
    keys = [heartbeats_key(record.tenant), sessions_key(record.tenant, "key", record.key_id)]
    if record.end_user:
        keys.append(sessions_key(record.tenant, "end_user", record.end_user))
    return keys


def changes_channel(tenant: str) -> str:
    return f"avb:{tenant}:sessions:changes"


encode = msgspec.json.Encoder().encode
decode_record = msgspec.json.Decoder(SessionRecord).decode
decode_change = msgspec.json.Decoder(SessionChange).decode


class SessionRegister:
    """The calls of one process. ``enter``, ``change`` and ``leave`` never block and never raise."""

    def __init__(self, redis_url: str, gateway_id: str, *, write_timeout_s: float = 0.5) -> None:
        self.gateway_id = gateway_id
        # redis-py types one answer for all protocols and decodings.
        self._redis: Any = redis.Redis.from_url(
            redis_url, socket_timeout=write_timeout_s, socket_connect_timeout=write_timeout_s
        )
        self._live: dict[str, SessionRecord] = {}
        self._dirty: set[str] = set()
        self._changes: list[SessionChange] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        # How far Redis's clock is ahead of this process's: places for sessions are counted by Redis's alone.
        self._ahead_s = 0.0

    def __len__(self) -> int:
        return len(self._live)

    def enter(self, record: SessionRecord) -> None:
        self._live[record.id] = record
        self._note("session.created", record)

    def change(self, session_id: str, **fields: Any) -> None:
        """New values for some of a call's fields; what stays the same is not told."""
        before = self._live.get(session_id)
        if before is None:
            return
        after = msgspec.structs.replace(before, **fields)
        if after != before:
            self._live[session_id] = after
            self._note("session.updated", after)

    def leave(self, session_id: str, reason: str) -> None:
        record = self._live.pop(session_id, None)
        if record is not None:
            self._note("session.closed", record, reason)

    def _note(
        self,
        kind: Literal["session.created", "session.updated", "session.closed"],
        record: SessionRecord,
        reason: str = "",
    ) -> None:
        self._dirty.add(record.id)
        # A client may change its session as often as it likes, also while Redis takes nothing; the record that is
        # written then is the present one.
        if kind != "session.updated" or len(self._changes) < CHANGES_MAX:
            self._changes.append(SessionChange(type=kind, session=record, reason=reason))
        self._wake.set()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="session-register")

    async def stop(self) -> None:
        """Tell what is left to tell; what Redis does not take lapses by itself."""
        if self._task is not None:
            # Not cancelled: while redis-py waits for an answer it may keep a cancellation to itself.
            self._stopping = True
            self._wake.set()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await self._write(beat=False)
        await self._redis.aclose()

    async def _run(self) -> None:
        beat_at = 0.0
        while not self._stopping:
            beat = time.monotonic() >= beat_at
            try:
                if beat or self._changes:
                    await self._write(beat=beat)
                if beat:
                    beat_at = time.monotonic() + HEARTBEAT_S
            except (RedisError, OSError) as error:
                log.warning("sessions are not in Redis for the moment: %s", type(error).__name__)
                beat_at = 0.0  # after an outage everything is written anew
                await asyncio.sleep(RETRY_S)
                continue
            except Exception as error:
                FAULTS.labels("register").inc()
                log.error("sessions could not be registered: %s", kind_and_place(error))
                await asyncio.sleep(RETRY_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, beat_at - time.monotonic())):
                    await self._wake.wait()
                    await asyncio.sleep(FLUSH_S)
            self._wake.clear()

    async def _write(self, *, beat: bool) -> None:
        """One pipeline: the records that changed, or all of them with a beat, and what is to be told."""
        if beat:
            seconds, micros = await self._redis.time()
            self._ahead_s = seconds + micros / 1_000_000 - time.time()
        changes = list(self._changes)
        ids = set(self._dirty) | (set(self._live) if beat else set())
        told = {change.session.id: change.session for change in changes}
        lapses_at = time.time() + self._ahead_s + HEARTBEAT_TTL_S
        async with self._redis.pipeline(transaction=False) as pipe:
            for session_id in ids:
                record = self._live.get(session_id)
                if record is not None:
                    pipe.set(record_key(record.tenant, session_id), encode(record), ex=RECORD_TTL_S)
                    for key in counted_in(record):
                        pipe.zadd(key, {session_id: lapses_at})
                    for key in counted_in(record)[1:]:
                        pipe.expire(key, RECORD_TTL_S)
                    pipe.sadd(TENANTS_KEY, record.tenant)
                elif session_id in told:
                    pipe.delete(record_key(told[session_id].tenant, session_id))
                    for key in counted_in(told[session_id]):
                        pipe.zrem(key, session_id)
            for change in changes:
                pipe.publish(changes_channel(change.session.tenant), encode(change))
            if ids or changes:
                await pipe.execute()
        del self._changes[: len(changes)]
        self._dirty -= ids - {change.session.id for change in self._changes}

    async def read(self, tenant: str) -> list[SessionRecord]:
        """The tenant's calls in progress, on whatever gateway, oldest first. Raises RedisError."""
        ids = await self._redis.zrangebyscore(heartbeats_key(tenant), time.time() + self._ahead_s, "+inf")
        if not ids:
            return []
        found = await self._redis.mget([record_key(tenant, session_id.decode()) for session_id in ids])
        return sorted(
            (decode_record(record) for record in found if record is not None), key=lambda record: record.started_at
        )
