"""The hash of an audit entry: SHA-256 over its canonical JSON, which holds the hash of the entry before.

What is hashed must come back from PostgreSQL as it went in. ``jsonb`` keeps numbers as decimals, so 1e22 comes back
whole and -0.0 without its sign; it holds no NaN, no infinity, no NUL character and no half of a surrogate pair. So
``to_json`` turns every value into one that survives, before it is stored, and ``digest`` writes numbers in one way.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from tenants.audit.models import Entry

FIRST = "0" * 64
"""What the first entry has for the hash of the entry before."""
DEEPEST = 32


def digest(entry: Entry) -> str:
    """64 hex digits."""
    shown = {
        "seq": entry.seq,
        "at": at_text(entry.at),
        "action": entry.action,
        "target": entry.target,
        "actor": [entry.actor_kind, entry.actor_id, entry.actor_name],
        "address": entry.address,
        "before": _canonical(entry.before),
        "after": _canonical(entry.after),
        "previous_hash": entry.previous_hash,
    }
    return hashlib.sha256(json.dumps(shown, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def at_text(at: datetime) -> str:
    """A time as it is hashed, which is how every export and answer shows it: UTC, to the microsecond."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def to_json(value: Any, depth: int = 0) -> Any:
    """The value as JSON that PostgreSQL gives back unchanged: times in ISO 8601, decimals and ids as text, what is no
    number by its name. Raises TypeError for what has no such form, ValueError for what is nested too deeply."""
    if depth > DEEPEST:
        raise ValueError(f"an audit entry is nested at most {DEEPEST} deep")
    if value is None or (isinstance(value, bool | int) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return to_json(value.value, depth)
    if isinstance(value, str):
        return to_text(value)
    if isinstance(value, float):
        return _number(value) if math.isfinite(value) else str(value)
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat(timespec="microseconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {to_text(str(name)): to_json(entry, depth + 1) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry, depth + 1) for entry in value]
    if isinstance(value, set | frozenset):
        return sorted((to_json(entry, depth + 1) for entry in value), key=str)
    raise TypeError(f"an audit entry cannot hold a {type(value).__name__}")


def to_text(text: str) -> str:
    """Without what PostgreSQL's text cannot hold."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _number(value: float) -> int | float:
    """A whole float as the integer that it is: so it comes back from ``jsonb`` when it is large."""
    return int(value) if value.is_integer() else value


def _canonical(value: Any) -> Any:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict):
        return {name: _canonical(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_canonical(entry) for entry in value]
    return value
