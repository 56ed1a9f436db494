"""One counter, and what a request asks of it. Plain values: ``tenants.limits.counters`` does the counting."""

from dataclasses import dataclass
from typing import Literal

SLOTS = 1_000
PLACE_S = 30.0
"""How long a place is held for a session that has not had a heartbeat yet; the register's own measure."""

Level = Literal["tenant", "key", "end_user", "address"]
Kind = Literal["window", "charge", "settle", "place", "count", "note"]


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter and what a request asks of it.

    ``kind``: ``window`` refuses when there is no room for ``cost``, ``charge`` counts it all the same, ``settle``
    corrects what slot ``member`` counts by ``cost``, ``place`` holds a place for session ``member``, ``count`` only
    looks, ``note`` tells with ``used`` 1 whether this is the first time in ``window_s``.
    """

    name: str
    level: Level
    key: str
    limit: int
    window_s: float
    cost: int
    kind: Kind = "window"
    member: str = ""

    @property
    def slot_us(self) -> int:
        return 1 if self.limit <= SLOTS else max(1, int(self.window_s * 1_000_000) // SLOTS)

    @property
    def keys(self) -> tuple[str, str]:
        return self.key, f"{self.key}:slots"

    @property
    def arguments(self) -> tuple[str | int, ...]:
        window_s = PLACE_S if self.kind in ("place", "count") else self.window_s
        return self.kind, self.limit, int(window_s * 1_000_000), self.slot_us, self.cost, self.member

    def slot_at(self, now_us: int) -> str:
        return str(now_us // self.slot_us)
