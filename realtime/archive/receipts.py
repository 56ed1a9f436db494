"""Tool calls in the tenant's audit log: which tool ran for whom, never what was asked or answered."""

from collections.abc import Iterable
from typing import Any

from django.db import connection

from tenants.audit.operations import Act, record_all

SHOWN = {
    "agent": "agent", "agent_version": "version", "kind": "kind", "integration": "integration", "outcome": "outcome",
    "took_ms": "took_ms",
}  # fmt: skip
"""What of a receipt, and by which name."""


def record_tool_calls(calls: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
    """An entry for each: session, item, receipt. Whoever calls knows that they are not in the log yet."""
    acts = [
        Act(
            action="tool.called",
            target=str(receipt.get("tool") or ""),
            after={"session": session_id, "item": item_id} | {SHOWN[name]: receipt.get(name) for name in SHOWN},
        )
        for session_id, item_id, receipt in calls
    ]
    if acts:
        record_all(acts, tenant=connection.schema_name)
