"""Writing the archive: events in, rows out. Runs inside the tenant's schema.

What a set of events leaves behind does not depend on their order or on how often each arrives: of two events about the
same thing the one with the higher ``seq`` wins, and times of first appearance are the earliest seen. A tool call's
receipt is kept by itself, since a later event about its item may bring none; with the first one goes an entry in the
audit log.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction

from agents.trials.outcomes import store_outcomes
from realtime.archive.events import AnyArchiveEvent, CallEnded, CallStarted, ItemDeleted, ItemStored
from realtime.archive.models import NEVER
from realtime.archive.outcomes import outcomes_of
from realtime.archive.receipts import record_tool_calls
from realtime.archive.text import clean, plain_text

Row = dict[str, Any]

# A row's PostgreSQL types; json_to_recordset reads a whole batch from one parameter.
STORED = """json_to_recordset(%s::json) AS new(conversation_id text, item_id text, seq bigint, first_seq bigint,
    previous_item_id text, type text, role text, status text, content jsonb, text text, response_id text,
    audio_ms integer, timings_ms jsonb, agent text, agent_version integer, created_at timestamptz,
    updated_at timestamptz)"""

SEE_CALLS = """
INSERT INTO archive_conversation AS old (id, conversation_id, agent, channel, key_id, end_user, model, started_at,
    end_reason, item_count, started_seq, ended_seq)
SELECT new.id, '', '', '', '', '', '', new.started_at, '', 0, -1, -1
FROM json_to_recordset(%s::json) AS new(id text, started_at timestamptz) ORDER BY new.id
ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at WHERE excluded.started_at < old.started_at
"""
START_CALLS = """
UPDATE archive_conversation AS old
SET conversation_id = new.conversation_id, agent = new.agent, channel = new.channel, key_id = new.key_id,
    end_user = new.end_user, model = new.model, agent_version = new.agent_version, trial = new.trial,
    started_seq = new.seq
FROM json_to_recordset(%s::json) AS new(id text, seq bigint, conversation_id text, agent text, channel text,
    key_id text, end_user text, model text, agent_version integer, trial text)
WHERE old.id = new.id AND new.seq > old.started_seq
"""
END_CALLS = """
UPDATE archive_conversation AS old
SET end_reason = new.reason, duration_s = new.duration_s, ended_at = new.ended_at, ended_seq = new.seq
FROM json_to_recordset(%s::json) AS new(id text, seq bigint, reason text, duration_s double precision,
    ended_at timestamptz)
WHERE old.id = new.id AND new.seq > old.ended_seq
"""
STORE_ITEMS = f"""
INSERT INTO archive_item AS old (conversation_id, item_id, seq, first_seq, deleted_seq, previous_item_id, type, role,
    status, content, text, response_id, audio_ms, timings_ms, agent, agent_version, created_at, updated_at)
SELECT conversation_id, item_id, seq, first_seq, -1, previous_item_id, type, role, status, content, text, response_id,
    audio_ms, timings_ms, agent, agent_version, created_at, updated_at
FROM {STORED} ORDER BY conversation_id, item_id
ON CONFLICT (conversation_id, item_id) DO UPDATE SET
    seq = excluded.seq, previous_item_id = excluded.previous_item_id, type = excluded.type, role = excluded.role,
    status = excluded.status, content = excluded.content, text = excluded.text, response_id = excluded.response_id,
    audio_ms = excluded.audio_ms, timings_ms = excluded.timings_ms, agent = excluded.agent,
    agent_version = excluded.agent_version, updated_at = excluded.updated_at
WHERE excluded.seq > old.seq
"""  # noqa: S608  (a constant of ours)
DATE_ITEMS = f"""
UPDATE archive_item AS old
SET first_seq = least(old.first_seq, new.first_seq), created_at = least(old.created_at, new.created_at)
FROM {STORED}
WHERE old.conversation_id = new.conversation_id AND old.item_id = new.item_id
    AND (old.first_seq IS NULL OR new.first_seq < old.first_seq OR new.created_at < old.created_at)
"""  # noqa: S608
DELETE_ITEMS = """
INSERT INTO archive_item AS old (conversation_id, item_id, seq, deleted_seq, type, role, status, content, text,
    response_id, audio_ms, timings_ms, created_at, updated_at)
SELECT conversation_id, item_id, -1, seq, '', '', '', '{}', '', '', 0, '{}', NULL, NULL
FROM json_to_recordset(%s::json) AS new(conversation_id text, item_id text, seq bigint)
ORDER BY conversation_id, item_id
ON CONFLICT (conversation_id, item_id) DO UPDATE SET deleted_seq = excluded.deleted_seq
WHERE excluded.deleted_seq > old.deleted_seq
"""
STORE_RECEIPTS = """
UPDATE archive_item AS item SET receipt = new.receipt, receipt_seq = new.seq
FROM json_to_recordset(%s::json) AS new(conversation_id text, item_id text, seq bigint, receipt jsonb)
JOIN archive_item AS old ON old.conversation_id = new.conversation_id AND old.item_id = new.item_id
WHERE item.id = old.id AND new.seq > old.receipt_seq
RETURNING item.conversation_id, item.item_id, old.receipt_seq
"""
COUNT_ITEMS = """
UPDATE archive_conversation AS old
SET item_count = (SELECT count(*) FROM archive_item WHERE conversation_id = old.id AND deleted_seq < seq)
WHERE id = ANY(%s)
"""


@transaction.atomic
def apply_events(events: Iterable[AnyArchiveEvent]) -> int:
    """Store a batch, all or nothing; the number of events. Repeated and outdated events change nothing.

    Raises ``django.db.DataError`` for an event that PostgreSQL cannot hold.
    """
    events = list(events)
    batch = fold(events)
    with connection.cursor() as cursor:
        for statement, rows in (
            (SEE_CALLS, batch.seen),
            (START_CALLS, batch.started),
            (END_CALLS, batch.ended),
            (STORE_ITEMS, batch.stored),
            (DATE_ITEMS, batch.stored),
            (DELETE_ITEMS, batch.deleted),
        ):
            if rows:
                cursor.execute(statement, [json.dumps(list(rows.values()))])
        if batch.stored or batch.deleted:
            touched = {conversation for conversation, _ in (*batch.stored, *batch.deleted)}
            cursor.execute(COUNT_ITEMS, [sorted(touched)])
        if batch.receipts:
            cursor.execute(STORE_RECEIPTS, [json.dumps(list(batch.receipts.values()))])
            new = [(row[0], row[1]) for row in cursor.fetchall() if row[2] == NEVER]
    store_outcomes(outcomes_of(events))
    if batch.receipts:
        record_tool_calls((*identity, batch.receipts[identity]["receipt"]) for identity in new)
    return len(events)


class Batch:
    """The rows that a batch of events amounts to: at most one per thing, since one statement may touch a row once."""

    def __init__(self) -> None:
        self.seen: dict[str, Row] = {}
        self.started: dict[str, Row] = {}
        self.ended: dict[str, Row] = {}
        self.stored: dict[tuple[str, str], Row] = {}
        self.deleted: dict[tuple[str, str], Row] = {}
        self.receipts: dict[tuple[str, str], Row] = {}


def fold(events: Iterable[AnyArchiveEvent]) -> Batch:
    batch = Batch()
    for event in events:
        session_id = clean(event.session_id)
        at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="microseconds")
        call = batch.seen.setdefault(session_id, {"id": session_id, "started_at": at})
        call["started_at"] = min(call["started_at"], at)
        match event:
            case CallStarted():
                _keep_latest(batch.started, session_id, _started_row(event, session_id))
            case CallEnded():
                _keep_latest(batch.ended, session_id, _ended_row(event, session_id, at))
            case ItemStored():
                row = _stored_row(event, session_id, at)
                identity = (session_id, row["item_id"])
                if known := batch.stored.get(identity):
                    row["first_seq"] = known["first_seq"] = min(row["first_seq"], known["first_seq"])
                    row["created_at"] = known["created_at"] = min(row["created_at"], known["created_at"])
                _keep_latest(batch.stored, identity, row)
                if event.receipt is not None:
                    _keep_latest(batch.receipts, identity, _receipt_row(event, identity))
            case ItemDeleted():
                item_id = clean(event.item_id)
                row = {"conversation_id": session_id, "item_id": item_id, "seq": event.seq}
                _keep_latest(batch.deleted, (session_id, item_id), row)
    return batch


def _keep_latest(rows: dict[Any, Row], identity: Any, row: Row) -> None:
    if identity not in rows or row["seq"] > rows[identity]["seq"]:
        rows[identity] = row


STARTED = ("conversation_id", "agent", "channel", "key_id", "end_user", "model", "agent_version", "trial")


def _started_row(event: CallStarted, session_id: str) -> Row:
    return clean({"id": session_id, "seq": event.seq} | {name: getattr(event, name) for name in STARTED})


def _ended_row(event: CallEnded, session_id: str, at: str) -> Row:
    return clean(
        {"id": session_id, "seq": event.seq, "reason": event.reason, "duration_s": event.duration_s, "ended_at": at}
    )


def _stored_row(event: ItemStored, session_id: str, at: str) -> Row:
    item = clean(event.item)
    item_id = item.get("id")
    if not isinstance(item_id, str) or not item_id:
        raise ValueError("the item has no id")
    return {
        "conversation_id": session_id,
        "item_id": item_id,
        "seq": event.seq,
        "first_seq": event.seq,
        "previous_item_id": clean(event.previous_item_id),
        "type": str(item.get("type") or ""),
        "role": str(item.get("role") or ""),
        "status": str(item.get("status") or ""),
        "content": item,
        "text": plain_text(item),
        "response_id": clean(event.response_id or ""),
        "audio_ms": event.audio_ms,
        "timings_ms": clean(event.timings_ms),
        "agent": clean(event.agent),
        "agent_version": event.agent_version,
        "created_at": at,
        "updated_at": at,
    }


def _receipt_row(event: ItemStored, identity: tuple[str, str]) -> Row:
    session_id, item_id = identity
    return {"conversation_id": session_id, "item_id": item_id, "seq": event.seq, "receipt": clean(event.receipt)}
