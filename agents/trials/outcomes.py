"""Writing what came of calls. Runs inside the tenant's schema and the transaction that stores the calls.

What a set of outcomes leaves behind does not depend on their order or on how often each arrives: of two about the same
version on the same call the one with the higher ``seq`` wins, and the beginning is the earliest seen.
"""

import json
from collections.abc import Iterable
from typing import Any

from django.db import connection
from django.forms.models import model_to_dict

from agents.trials.models import NEVER, CallOutcome

SEE = """
INSERT INTO trials_calloutcome AS old (session_id, agent, version, trial, seq, failed, hung_up, turns, answers,
    duration_s, end_reason, started_at, ended_at)
SELECT session_id, agent, version, trial, -1, false, false, 0, 0, NULL, '', started_at, NULL
FROM json_to_recordset(%s::json) AS new(session_id text, agent text, version integer, trial text,
    started_at timestamptz)
ORDER BY session_id, agent, version
ON CONFLICT (session_id, agent, version) DO UPDATE
SET started_at = least(old.started_at, excluded.started_at), trial = greatest(old.trial, excluded.trial)
WHERE excluded.started_at < old.started_at OR excluded.trial > old.trial
"""
END = """
UPDATE trials_calloutcome AS old
SET seq = new.seq, failed = new.failed, hung_up = new.hung_up, turns = new.turns, answers = new.answers,
    duration_s = new.duration_s, end_reason = new.end_reason, ended_at = new.ended_at
FROM json_to_recordset(%s::json) AS new(session_id text, agent text, version integer, seq bigint, failed boolean,
    hung_up boolean, turns integer, answers integer, duration_s double precision, end_reason text,
    ended_at timestamptz)
WHERE old.session_id = new.session_id AND old.agent = new.agent AND old.version = new.version AND new.seq > old.seq
"""


def store_outcomes(outcomes: Iterable[CallOutcome]) -> int:
    """How many there were. Those with ``seq`` NEVER tell only that a call began. Drafts (version 0) are nobody's
    sample. Raises ``django.db.DataError`` for one that PostgreSQL cannot hold."""
    seen: dict[tuple[str, str, int], dict[str, Any]] = {}
    ended: dict[tuple[str, str, int], dict[str, Any]] = {}
    for outcome in outcomes:
        if not outcome.version:
            continue
        identity = (outcome.session_id or "", outcome.agent, outcome.version)
        row = model_to_dict(outcome)
        known = seen.setdefault(identity, row | {})
        known["started_at"] = min(known["started_at"], row["started_at"])
        known["trial"] = max(known["trial"], row["trial"])
        if outcome.seq > ended.get(identity, {"seq": NEVER})["seq"]:
            ended[identity] = row
    with connection.cursor() as cursor:
        for statement, rows in ((SEE, seen), (END, ended)):
            if rows:
                cursor.execute(statement, [json.dumps(list(rows.values()), default=str)])
    return len(seen)


def forget_sessions(sessions: Iterable[str]) -> int:
    """Their conversations are removed. Of calls that took part in a trial the numbers stay, so that it can still be
    read; how many outcomes that were."""
    theirs = CallOutcome.objects.filter(session_id__in=list(sessions))
    theirs.filter(trial="").delete()
    return theirs.update(session_id=None)
