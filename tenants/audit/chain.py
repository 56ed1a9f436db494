"""The hash of an audit entry: SHA-256 over its canonical JSON, which holds the hash of the entry before."""

import hashlib
import json

from tenants.audit.models import Entry

FIRST = "0" * 64
"""What the first entry has for the hash of the entry before."""


def digest(entry: Entry) -> str:
    """64 hex digits."""
    shown = {
        "seq": entry.seq,
        "at": entry.at.isoformat(timespec="microseconds"),
        "action": entry.action,
        "target": entry.target,
        "actor": [entry.actor_kind, entry.actor_id, entry.actor_name],
        "address": entry.address,
        "before": entry.before,
        "after": entry.after,
        "previous_hash": entry.previous_hash,
    }
    return hashlib.sha256(json.dumps(shown, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
