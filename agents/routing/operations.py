"""What can be done to routing rules. Runs inside the tenant's schema; each function is one transaction.

Positions are 0, 1, 2, …: whoever changes them holds one lock, and the calls that begin meanwhile see the old order or
the new one.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F

from agents.models import Agent
from agents.routing.matching import ConditionsInvalid, read_conditions, write_conditions
from agents.routing.models import RoutingRule
from tenants.audit.operations import changes, record

FIELDS = ("name", "is_enabled", "agent", "conditions")


class RuleInvalid(Exception):
    """``param`` is the path of the field at fault."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


@transaction.atomic
def create_rule(*, name: str, agent: str, is_enabled: bool = True, conditions: Any = None) -> RoutingRule:
    """Behind all others. Raises RuleInvalid."""
    _hold_order()
    count = RoutingRule.objects.count()
    if count >= settings.ROUTING_RULES:
        raise RuleInvalid(f"There may be {settings.ROUTING_RULES} routing rules; delete one first.", "name")
    rule = RoutingRule(
        position=count, name=name, agent=agent, is_enabled=is_enabled, conditions=_conditions(conditions or {})
    )
    _check_agent(agent)
    rule.save(force_insert=True)
    _record("routing_rule.created", rule, after=_shown(rule))
    return rule


@transaction.atomic
def update_rule(*, rule: RoutingRule, **fields: Any) -> RoutingRule:
    """Changes the named fields only; ``conditions`` take the place of those that were there. Raises RuleInvalid."""
    rule = RoutingRule.objects.select_for_update().get(pk=rule.pk)
    before = _shown(rule)
    if "conditions" in fields:
        fields["conditions"] = _conditions(fields["conditions"])
    if fields.get("agent", rule.agent) != rule.agent:
        _check_agent(fields["agent"])
    for name, value in fields.items():
        setattr(rule, name, value)
    rule.save(update_fields=[*FIELDS, "updated_at"])
    old, new = changes(before, _shown(rule))
    if new:
        _record("routing_rule.updated", rule, before=old, after=new)
    return rule


@transaction.atomic
def delete_rule(*, rule: RoutingRule) -> None:
    """Those behind it move up."""
    _hold_order()
    position = RoutingRule.objects.values_list("position", flat=True).get(pk=rule.pk)
    RoutingRule.objects.filter(pk=rule.pk).delete()
    RoutingRule.objects.filter(position__gt=position).update(position=F("position") - 1)
    _record("routing_rule.deleted", rule, before=_shown(rule))


@transaction.atomic
def order_rules(*, rules: Sequence[UUID]) -> None:
    """All rules of the tenant by their ids, in the order in which they are read from now on. Raises RuleInvalid."""
    _hold_order()
    known = dict(RoutingRule.objects.values_list("pk", "position"))
    if len(set(rules)) != len(rules):
        raise RuleInvalid("A rule is named more than once.", "rules")
    if strange := [rule for rule in rules if rule not in known]:
        raise RuleInvalid(f"There is no routing rule {strange[0]}.", "rules")
    if missing := sorted(known.keys() - set(rules), key=lambda rule: known[rule]):
        raise RuleInvalid(f"Name every rule: {missing[0]} is missing.", "rules")
    before = sorted(known, key=lambda rule: known[rule])
    if before == list(rules):
        return
    RoutingRule.objects.bulk_update(
        [RoutingRule(pk=rule, position=place) for place, rule in enumerate(rules)], ["position"]
    )
    record(
        action="routing_rules.reordered",
        before={"rules": [str(rule) for rule in before]},
        after={"rules": [str(rule) for rule in rules]},
        tenant=connection.schema_name,
    )


def _hold_order() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"routing:{connection.schema_name}"])


def _conditions(raw: Any) -> dict[str, Any]:
    try:
        return write_conditions(read_conditions(raw))
    except ConditionsInvalid as error:
        path = "conditions" if error.path == "conditions" else f"conditions.{error.path}"
        raise RuleInvalid(error.message, path) from error


def _check_agent(slug: str) -> None:
    if not Agent.objects.filter(slug=slug).exists():
        raise RuleInvalid(f"There is no agent {slug!r}.", "agent")


def _record(action: str, rule: RoutingRule, **what: Any) -> None:
    record(action=action, target=str(rule.pk), tenant=connection.schema_name, **what)


def _shown(rule: RoutingRule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in FIELDS}
