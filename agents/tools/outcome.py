"""What came of one run of a tool, before it becomes an answer and a receipt."""

from dataclasses import dataclass, field
from typing import Literal

from agents.tools.types import JsonObject, ToolError


@dataclass(frozen=True, slots=True)
class Outcome:
    """``output`` is what the model reads where there is no ``error``. ``sent`` and ``answered`` are for the receipt.
    ``healthy`` is for the breaker: whether the other side works; None where nothing was learnt of it."""

    output: str = ""
    error: ToolError | None = None
    outcome: Literal["completed", "failed", "timeout", "refused"] = "completed"
    sent: JsonObject = field(default_factory=dict)
    answered: JsonObject = field(default_factory=dict)
    healthy: bool | None = True


def failure(
    message: str,
    *,
    outcome: Literal["failed", "timeout", "refused"] = "failed",
    sent: JsonObject | None = None,
    healthy: bool | None = None,
) -> Outcome:
    error = ToolError("tool_execution_error", message)
    return Outcome(error=error, outcome=outcome, sent=sent or {}, healthy=healthy)
