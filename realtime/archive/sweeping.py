"""Calls whose gateway is gone: nobody else would say that they are over."""

import time

import msgspec
import redis

from realtime.archive.events import TENANTS_KEY, CallEnded, encode_event, stream_key
from realtime.archive.sink import FIELD
from realtime.runtime import register

SWEEP_SESSIONS_S = 30.0
LOST_SEQ = 0
"""Below every number that the gateway itself gives: if it comes back, its own word counts."""


def sweep_sessions(client: "redis.Redis[bytes]") -> int:
    """End each call whose heartbeat has lapsed: tell its tenant's channel and its archive. Gives their number."""
    swept = 0
    seconds, micros = client.time()
    now = seconds + micros / 1_000_000
    for tenant in client.smembers(register.TENANTS_KEY):
        name = tenant.decode()
        key = register.heartbeats_key(name)
        for session_id in client.zrangebyscore(key, "-inf", now):
            # Whoever takes it off the set has it: two sweepers end no call twice.
            if client.zrem(key, session_id):
                _end(client, name, session_id.decode())
                swept += 1
        if not client.exists(key):
            client.srem(register.TENANTS_KEY, tenant)
    return swept


def _end(client: "redis.Redis[bytes]", tenant: str, session_id: str) -> None:
    record_key = register.record_key(tenant, session_id)
    stored = client.get(record_key)
    client.delete(record_key)
    if stored is None:
        return
    try:
        record = register.decode_record(stored)
    except msgspec.MsgspecError:
        return
    now = time.time()
    last_beat_at = now - register.HEARTBEAT_TTL_S
    ended = CallEnded(
        session_id=session_id,
        seq=LOST_SEQ,
        at=last_beat_at,
        reason="lost",
        duration_s=round(max(0.0, last_beat_at - record.started_at), 3),
    )
    change = register.SessionChange(type="session.closed", session=record, reason="lost")
    with client.pipeline(transaction=False) as pipe:
        pipe.xadd(stream_key(tenant), {FIELD: encode_event(ended)})
        pipe.sadd(TENANTS_KEY, tenant)
        pipe.publish(register.changes_channel(tenant), register.encode(change))
        pipe.execute()
