"""Writing the ledger. Runs inside the tenant's schema.

An entry counts once, whoever brings it how often and in which order: its key is unique, and the sums by day and the
list of calls grow in the same statement by what was really new.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from tenants.usage.meters import Meter
from tenants.usage.models import Call, Entry

HIGHEST = Decimal(10) ** 17
SMALLEST = Decimal("0.001")

STORE = """
WITH brought AS (
    SELECT * FROM json_to_recordset(%s::json) AS row(key text, at timestamptz, meter text, quantity numeric,
        provider text, model text, agent text, key_id text, end_user text, session_id text)
), kept AS (
    INSERT INTO usage_entry (key, at, meter, quantity, provider, model, agent, key_id, end_user, session_id)
    SELECT key, at, meter, quantity, provider, model, agent, key_id, end_user, session_id FROM brought ORDER BY key
    ON CONFLICT (key) DO NOTHING
    RETURNING *
), days AS (
    INSERT INTO usage_day AS old (day, meter, provider, model, agent, key_id, quantity, entries)
    SELECT (at AT TIME ZONE 'UTC')::date, meter, provider, model, agent, key_id, sum(quantity), count(*)
    FROM kept GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (day, meter, provider, model, agent, key_id) DO UPDATE
    SET quantity = old.quantity + excluded.quantity, entries = old.entries + excluded.entries
), calls AS (
    INSERT INTO usage_call AS old (session_id, began_at, agent, key_id, end_user)
    SELECT session_id, min(at), max(agent), max(key_id), max(end_user)
    FROM kept WHERE session_id <> '' GROUP BY 1 ORDER BY 1
    ON CONFLICT (session_id) DO UPDATE SET began_at = excluded.began_at WHERE excluded.began_at < old.began_at
)
SELECT count(*) FROM kept
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one thing used. ``source`` names it within the session: a response, an item, a request.

    ``quantities`` has a number for each meter, in the meter's unit; those that are zero are not written.
    """

    at: datetime
    session_id: str
    source: str
    quantities: dict[str, Decimal]
    provider: str = ""
    model: str = ""
    agent: str = ""
    key_id: str = ""
    end_user: str = ""


@transaction.atomic
def store_uses(uses: Iterable[Use]) -> int:
    """Write what is not in the ledger yet; how many entries that was.

    Raises ValueError for a meter that does not exist, and for a number that is no quantity.
    """
    rows = [row for use in uses for row in _rows(use)]
    if not rows:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(STORE, [json.dumps(rows)])
        return int(cursor.fetchone()[0])


@transaction.atomic
def forget_end_user(*, end_user: str) -> int:
    """Take the person out of the ledger; what was used stays counted. Gives the number of entries."""
    Call.objects.filter(end_user=end_user).exclude(end_user="").update(end_user="")
    return Entry.objects.filter(end_user=end_user).exclude(end_user="").update(end_user="")


@transaction.atomic
def store_kept_bytes(*, at: datetime, object_bytes: int = 0) -> int:
    """The day's entry of what the tenant keeps: its schema's tables and ``object_bytes`` beside them; once a day."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(pg_total_relation_size(class.oid)), 0) FROM pg_class AS class"
            " JOIN pg_namespace AS space ON space.oid = class.relnamespace"
            " WHERE space.nspname = %s AND class.relkind IN ('r', 'm')",
            [connection.schema_name],
        )
        kept = int(cursor.fetchone()[0]) + object_bytes
    day = at.astimezone(UTC).date()
    use = Use(at=at, session_id="", source=f"stored/{day}", quantities={Meter.STORED_BYTE_DAYS: Decimal(kept)})
    return store_uses([use])


def _rows(use: Use) -> list[dict[str, Any]]:
    shared = {name: _clean(value) if isinstance(value, str) else value for name, value in asdict(use).items()}
    quantities, source = shared.pop("quantities"), shared.pop("source")
    shared["at"] = use.at.astimezone(UTC).isoformat(timespec="microseconds")
    rows = []
    for name, quantity in sorted(quantities.items()):
        meter = Meter(name)
        if not (quantity.is_finite() and 0 <= quantity < HIGHEST and quantity == quantity.quantize(SMALLEST)):
            raise ValueError(f"{meter} cannot count {quantity}: a quantity is 0 or more, with at most three decimals")
        if quantity:
            key = "/".join([shared["session_id"], source, meter, shared["provider"], shared["model"]])
            rows.append({**shared, "key": key, "meter": meter, "quantity": str(quantity)})
    return rows


def _clean(text: str) -> str:
    """Without NUL characters, which JSON may hold and PostgreSQL's text may not."""
    return text.replace("\0", "")
