"""Reading the ledger, with what it cost. Runs inside the tenant's schema.

Reports add up ``Day``; those of single calls and of one end user add up the entries themselves, found by index. A cost
is computed when it is asked for: every entry by the price of its own UTC day, all of it in decimals, rounded once, at
the end, to a millionth of the currency.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from typing import Any, Literal

from django.db import connection
from django.db.models import QuerySet

from tenants.prices.queries import RULES
from tenants.usage.models import Budget, Call, Entry

GroupBy = Literal["day", "month", "agent", "key", "model", "total"]
COLUMNS: dict[str, tuple[str, ...]] = {
    "day": ("day",),
    "month": ("date_trunc('month', day)::date",),
    "agent": ("agent",),
    "key": ("key_id",),
    "model": ("provider", "model"),
    "total": (),
    "call": ("session_id",),
}
MILLIONTH = Decimal("0.000001")
Kind = tuple[date, str, str, str]
"""(day, meter, provider, model): what decides the price of an entry."""

DAYS = "SELECT day, meter, provider, model, agent, key_id, quantity FROM usage_day WHERE day BETWEEN %s AND %s"
ENTRIES = """SELECT (at AT TIME ZONE 'UTC')::date AS day, meter, provider, model, agent, key_id, session_id, quantity
    FROM usage_entry WHERE"""
SUMS = """
WITH used AS MATERIALIZED ({used}),
priced AS MATERIALIZED (
    SELECT kind.*, rule.currency, rule.amount, rule.per
    FROM (SELECT DISTINCT day, meter, provider, model FROM used) AS kind {rules}
)
SELECT {columns} meter, currency, per, sum(quantity), sum(quantity * amount)
FROM used JOIN priced USING (day, meter, provider, model)
GROUP BY {numbers} ORDER BY {numbers}
"""
PRICES = f"""
SELECT kind.*, rule.currency, rule.amount, rule.per
FROM json_to_recordset(%s::json) AS kind(day date, meter text, provider text, model text) {RULES}
"""  # noqa: S608  (a constant of ours)


@dataclass(slots=True)
class Sum:
    """``group`` has the values of what was grouped by. ``unpriced``: meters that have a use without a price."""

    group: tuple[Any, ...]
    quantities: dict[str, Decimal] = field(default_factory=dict)
    unpriced: set[str] = field(default_factory=set)
    _costs: dict[str, Fraction] = field(default_factory=dict)

    def add(self, meter: str, quantity: Decimal, currency: str | None, value: Decimal | None, per: int | None) -> None:
        self.quantities[meter] = self.quantities.get(meter, Decimal(0)) + quantity
        if currency is None or value is None or per is None:
            self.unpriced.add(meter)
        else:
            self._costs[currency] = self._costs.get(currency, Fraction(0)) + Fraction(value) / per

    @property
    def costs(self) -> dict[str, Decimal]:
        """By currency."""
        return {currency: to_amount(cost) for currency, cost in sorted(self._costs.items())}


def to_amount(cost: Fraction) -> Decimal:
    with localcontext(prec=60):
        return (Decimal(cost.numerator) / Decimal(cost.denominator)).quantize(MILLIONTH, ROUND_HALF_UP)


def add_up(
    group_by: GroupBy,
    *,
    first: date,
    last: date,
    agent: str | None = None,
    key: str | None = None,
    end_user: str | None = None,
) -> list[Sum]:
    """What was used from the first to the last of these UTC days, in the order of the groups."""
    if end_user is None:
        used, values = DAYS, [first, last]
    else:
        used, values = f"{ENTRIES} end_user = %s AND at >= %s AND at < %s", [end_user, *bounds(first, last)]
    for column, wanted in (("agent", agent), ("key_id", key)):
        if wanted is not None:
            used += f" AND {column} = %s"
            values.append(wanted)
    return _sums(used, values, COLUMNS[group_by])


def add_up_calls(session_ids: Sequence[str]) -> dict[str, Sum]:
    """Each call's sum, whatever days it spans."""
    found = _sums(f"{ENTRIES} session_id = ANY(%s)", [list(session_ids)], COLUMNS["call"])
    return {total.group[0]: total for total in found}


def _sums(used: str, values: Sequence[Any], columns: tuple[str, ...]) -> list[Sum]:
    shown = "".join(f"{column}, " for column in columns)
    numbers = ", ".join(str(number + 1) for number in range(len(columns) + 3))
    statement = SUMS.format(used=used, rules=RULES, columns=shown, numbers=numbers)
    sums: dict[tuple[Any, ...], Sum] = {}
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        for *group, meter, currency, per, quantity, value in cursor.fetchall():
            sums.setdefault(tuple(group), Sum(tuple(group))).add(meter, quantity, currency, value, per)
    return list(sums.values())


def find_prices(kinds: Iterable[Kind]) -> dict[Kind, tuple[str, Decimal, int]]:
    """Currency, amount and per of each kind that has a price."""
    rows = [dict(zip(("day", "meter", "provider", "model"), kind, strict=True)) for kind in set(kinds)]
    with connection.cursor() as cursor:
        cursor.execute(PRICES, [json.dumps(rows, default=str)])
        return {tuple(row[:4]): tuple(row[4:]) for row in cursor.fetchall() if row[5] is not None}  # type: ignore[misc]


def list_calls(
    *, first: date, last: date, agent: str | None = None, key: str | None = None, end_user: str | None = None
) -> QuerySet[Call]:
    """Calls and requests that began on these UTC days, newest first."""
    begin, end = bounds(first, last)
    found = Call.objects.filter(began_at__gte=begin, began_at__lt=end)
    for name, wanted in (("agent", agent), ("key_id", key), ("end_user", end_user)):
        if wanted is not None:
            found = found.filter(**{name: wanted})
    return found


def read_entries(
    *,
    first: date,
    last: date,
    agent: str | None = None,
    key: str | None = None,
    end_user: str | None = None,
    after: tuple[datetime, int] | None = None,
    limit: int,
) -> list[Entry]:
    """The next entries behind ``after`` (time, id), oldest first."""
    begin, end = bounds(first, last)
    found = Entry.objects.filter(at__gte=begin, at__lt=end)
    for name, wanted in (("agent", agent), ("key_id", key), ("end_user", end_user)):
        if wanted is not None:
            found = found.filter(**{name: wanted})
    if after is not None:
        # One comparison of rows uses the index; what Q objects would make of it does not.
        found = found.extra(where=["(at, id) > (%s, %s)"], params=list(after))
    return list(found.order_by("at", "id")[:limit])


def bounds(first: date, last: date) -> tuple[datetime, datetime]:
    """Where these UTC days begin, and where the next one does."""
    return datetime.combine(first, time(), UTC), datetime.combine(last + timedelta(days=1), time(), UTC)


class BudgetUnknown(Exception):
    """The tenant has no such budget."""

    def __init__(self, identity: object) -> None:
        super().__init__(f"There is no budget {identity}.")
        self.message = str(self)


def find_budget(identity: object) -> Budget:
    """Raises BudgetUnknown."""
    budget = Budget.objects.prefetch_related("alerts").filter(pk=identity).first()
    if budget is None:
        raise BudgetUnknown(identity)
    return budget


def spent(budget: Budget, *, month: date) -> Decimal:
    """What of the budget is used up in that month, in its currency."""
    last = (month.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
    sums = add_up("total", first=month.replace(day=1), last=last, agent=budget.agent or None)
    return sums[0].costs.get(budget.currency, Decimal(0)) if sums else Decimal(0)
