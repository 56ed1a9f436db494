"""Reading routing rules. Runs inside the tenant's schema."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from agents.models import Agent
from agents.routing.matching import Choice, Conditions, ConditionsInvalid, StoredRule, choose, read_conditions
from agents.routing.models import RoutingRule


class RuleUnknown(Exception):
    """The tenant has no such rule."""

    def __init__(self, rule_id: UUID) -> None:
        super().__init__(f"There is no routing rule {rule_id}.")
        self.message = str(self)


def list_rules(*, agent: str | None = None, is_enabled: bool | None = None) -> QuerySet[RoutingRule]:
    """In their order."""
    wanted = {"agent": agent, "is_enabled": is_enabled}
    return RoutingRule.objects.filter(**{name: value for name, value in wanted.items() if value is not None})


def find_rule(rule_id: UUID) -> RoutingRule:
    """Raises RuleUnknown."""
    rule = RoutingRule.objects.filter(pk=rule_id).first()
    if rule is None:
        raise RuleUnknown(rule_id)
    return rule


def choose_agent(*, channel: str, attributes: Mapping[str, str], now: datetime) -> Choice:
    """Who takes a call that names no agent, and which rules wait for its first words.

    ``attributes`` are the call's variables by their names (``caller.tier``); ``now`` knows its time zone.
    """
    rules = read_rules(RoutingRule.objects.filter(is_enabled=True))
    return choose(rules, channel=channel, attributes=attributes, now=now)


def find_default_agent() -> str | None:
    """Who takes a call that no rule holds for, by slug; None: a plain assistant."""
    return Agent.objects.filter(is_default=True, live__isnull=False).values_list("slug", flat=True).first()


def read_rules(rows: Iterable[RoutingRule]) -> list[StoredRule]:
    """As the matcher takes them. A rule that cannot hold any more has a ``fault``: calls go on by the others."""
    rows = list(rows)
    answering = agents_taking_calls(row.agent for row in rows)
    return [_read(row, row.agent in answering) for row in rows]


def _read(row: RoutingRule, answers: bool) -> StoredRule:
    fault = "" if answers else f"The agent {row.agent!r} takes no calls."
    if not row.is_enabled:
        fault = "It is switched off."
    try:
        return StoredRule(row.name, row.agent, read_conditions(row.conditions), fault)
    except ConditionsInvalid as error:
        # It was good when it was written; a time zone may vanish with an update of the system's.
        return StoredRule(row.name, row.agent, Conditions(), str(error))


def agents_taking_calls(slugs: Iterable[str]) -> set[str]:
    return set(Agent.objects.filter(slug__in=set(slugs), live__isnull=False).values_list("slug", flat=True))
