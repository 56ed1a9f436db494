"""The limits by name: what each counts, over how long. One table; plans, tenants, keys and end users use its names.

The number that holds is the first that is there of: the tenant's own, its plan's, the platform's default. A key, and an
end user of a tenant, can have a number of their own beside it, and only a lower one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

MINUTE_S, DAY_S = 60, 86_400
LARGEST = 10**12
"""Beyond this a number says 'no limit' and no more."""


@dataclass(frozen=True, slots=True)
class LimitKind:
    """``unit`` is what is counted; ``window_s`` 0 counts what is there at the same time. ``per_unit`` is how many of
    what the counter counts make one of what people write: audio is counted in ms and written in minutes."""

    name: str
    unit: Literal["requests", "tokens", "sessions", "ms", "connections"]
    window_s: int
    title: str
    for_end_users: bool = True
    per_unit: int = 1


KINDS = {
    kind.name: kind
    for kind in (
        LimitKind("requests_per_minute", "requests", MINUTE_S, "REST requests and responses of calls, per minute"),
        LimitKind("tokens_per_minute", "tokens", MINUTE_S, "tokens of responses, per minute"),
        LimitKind("concurrent_sessions", "sessions", 0, "calls at the same time", for_end_users=False),
        LimitKind("sessions_per_end_user", "sessions", 0, "calls of one end user at the same time"),
        LimitKind(
            "audio_minutes_per_day", "ms", DAY_S, "minutes of audio, heard and spoken, in 24 hours", per_unit=60_000
        ),
        LimitKind("connections_per_second", "connections", 1, "new calls per second", for_end_users=False),
    )
}


class LimitInvalid(Exception):
    """A limit that cannot be set; ``name`` is which."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.message = message
        self.name = name


def check_limits(limits: Any, *, at_most: Mapping[str, int] | None = None, end_user: bool = False) -> dict[str, int]:
    """The limits as they may be kept. ``at_most``: the numbers above, which can only be lowered.

    Raises LimitInvalid.
    """
    if not isinstance(limits, dict):
        raise LimitInvalid('Limits are an object, such as {"requests_per_minute": 50}.', "")
    allowed = [kind.name for kind in KINDS.values() if kind.for_end_users or not end_user]
    for name, limit in limits.items():
        if name not in allowed:
            raise LimitInvalid(f"There is no limit {str(name)[:64]!r} here; there are {', '.join(allowed)}.", str(name))
        if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit <= LARGEST:
            raise LimitInvalid(f"{name} is a whole number from 0 to {LARGEST}; got {str(limit)[:64]!r}.", name)
        if at_most is not None and limit > at_most[name]:
            raise LimitInvalid(f"{name} can only be lowered here: the tenant has {at_most[name]}, got {limit}.", name)
    return dict(limits)
