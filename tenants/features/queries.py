"""Whether a feature is on. Doors and workers ask often, so it is answered from memory: a process reads the settings of
all tenants in one query, at most every ``settings.FEATURE_CACHE_S``."""

import time
from dataclasses import dataclass, field

from django.conf import settings

from tenants.features.flags import DEFAULTS, Feature
from tenants.features.models import Setting

Known = dict[tuple[str, str], bool]
"""By feature and schema name; the empty one is the platform's."""


@dataclass(slots=True)
class Snapshot:
    """The settings as they were ``read_at``, on the monotonic clock."""

    known: Known = field(default_factory=dict)
    read_at: float = float("-inf")

    def read(self) -> Known:
        now = time.monotonic()
        if now - self.read_at >= settings.FEATURE_CACHE_S:
            rows = Setting.objects.order_by().values_list("feature", "tenant__schema_name", "is_enabled")
            self.known = {(feature, schema or ""): is_enabled for feature, schema, is_enabled in rows}
            self.read_at = now
        return self.known

    def forget(self) -> None:
        self.read_at = float("-inf")


snapshot = Snapshot()


def is_enabled(feature: Feature, tenant: str) -> bool:
    """For the tenant of this schema: its own setting, else the platform's, else the default. Not for the event loop: it
    may ask the database. Raises ``django.db.OperationalError``."""
    known = snapshot.read()
    return known.get((feature, tenant), known.get((feature, ""), DEFAULTS[feature]))


@dataclass(frozen=True, slots=True)
class State:
    """``is_enabled`` for the whole platform, None where nobody has said so and the default holds; ``tenants`` by slug
    what is otherwise."""

    feature: Feature
    description: str
    default: bool
    is_enabled: bool | None
    tenants: dict[str, bool]


def list_states() -> list[State]:
    """All features as they are now."""
    rows = list(Setting.objects.select_related("tenant"))
    return [_state(feature, [row for row in rows if row.feature == feature]) for feature in Feature]


def find_state(feature: Feature) -> State:
    return _state(feature, list(Setting.objects.filter(feature=feature).select_related("tenant")))


def _state(feature: Feature, rows: list[Setting]) -> State:
    return State(
        feature=feature,
        description=str(feature.label),
        default=DEFAULTS[feature],
        is_enabled=next((row.is_enabled for row in rows if row.tenant is None), None),
        tenants={row.tenant.slug: row.is_enabled for row in rows if row.tenant is not None},
    )
