"""How much of each limit somebody has, at each level, and the counters that this means."""

import hashlib
import re
from collections.abc import Mapping

import msgspec

from tenants.limits.counter import Counter, Kind, Level
from tenants.limits.names import KINDS

PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers by the names of ``tenants.limits.names``. ``tenant`` has all of them; ``key`` and ``end_user`` only what
    was lowered there."""

    tenant: dict[str, int]
    key: dict[str, int] = {}
    end_user: dict[str, int] = {}

    def effective(self, name: str) -> int:
        return min(level[name] for level in (self.tenant, self.key, self.end_user) if name in level)


def combine(defaults: Mapping[str, int], plan: Mapping[str, int], tenant: Mapping[str, int]) -> dict[str, int]:
    """The tenant's numbers. Names that are no longer there are left out."""
    merged = {**defaults, **plan, **tenant}
    return {name: merged[name] for name in KINDS}


def fingerprint(subject: str) -> str:
    """A subject as part of a Redis key: no colon, and no word of who an end user is."""
    return hashlib.sha256(subject.encode()).hexdigest()[:32]


def counters_key(tenant: str, name: str, level: Level, subject: str = "") -> str:
    """Where a counter lies. The tenant's own has no subject."""
    if level == "tenant":
        return f"avb:{tenant}:limit:{name}"
    told = fingerprint(subject) if level == "end_user" or not PLAIN.fullmatch(subject) else subject
    return f"avb:{tenant}:limit:{name}:{level}:{told}"


def sessions_key(tenant: str, level: Level, subject: str = "") -> str:
    """Sorted set: session id → Unix time in seconds at which its heartbeat lapses. The tenant's is the register's."""
    if level == "tenant":
        return f"avb:{tenant}:sessions"
    told = fingerprint(subject) if level == "end_user" or not PLAIN.fullmatch(subject) else subject
    return f"avb:{tenant}:sessions:{level}:{told}"


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """Whose counters: a tenant's, one of its keys (or clients, or people), and where it is known an end user."""

    tenant: str
    key_id: str
    end_user: str = ""
    allowance: Allowance

    def counters(self, name: str, cost: int, *, refuses: bool = True) -> list[Counter]:
        """The limit at each level that has one; ``cost`` in what the counter counts. ``refuses`` False counts all the
        same when there is no room."""
        kind = KINDS[name]
        levels: list[tuple[Level, Mapping[str, int], str]] = [
            ("tenant", self.allowance.tenant, ""),
            ("key", self.allowance.key, self.key_id),
        ]
        if self.end_user:
            levels.append(("end_user", self.allowance.end_user, self.end_user))
        return [
            Counter(
                name=name,
                level=level,
                key=counters_key(self.tenant, name, level, subject),
                limit=limits[name] * kind.per_unit,
                window_s=kind.window_s,
                # What is more than a whole window gets the whole window, instead of nothing ever.
                cost=(min(cost, limits[name] * kind.per_unit) or cost) if refuses else cost,
                kind="window" if refuses else "charge",
            )
            for level, limits, subject in levels
            if name in limits
        ]

    def places(self, session_id: str) -> list[Counter]:
        """One session's places; an empty id only counts them."""
        kind: Kind = "place" if session_id else "count"
        asked: list[tuple[str, Level, int, str]] = [
            ("concurrent_sessions", "tenant", self.allowance.tenant["concurrent_sessions"], "")
        ]
        if "concurrent_sessions" in self.allowance.key:
            asked.append(("concurrent_sessions", "key", self.allowance.key["concurrent_sessions"], self.key_id))
        if self.end_user:
            most = self.allowance.effective("sessions_per_end_user")
            asked.append(("sessions_per_end_user", "end_user", most, self.end_user))
        return [
            Counter(
                name=name,
                level=level,
                key=sessions_key(self.tenant, level, subject),
                limit=limit,
                window_s=0,
                cost=1,
                kind=kind,
                member=session_id,
            )
            for name, level, limit, subject in asked
        ]
