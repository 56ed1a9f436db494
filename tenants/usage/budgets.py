"""Budgets: an amount for each month, and a word to the owners and admins when a share of it is used up.

Runs inside the tenant's schema. Each threshold is told once a month: the database decides who writes the alert, and
whoever sends the mail holds its row meanwhile.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.utils import timezone

from tenants.audit.operations import record
from tenants.errors import TenancyError
from tenants.models import Membership, Tenant
from tenants.permissions import Role
from tenants.prices.operations import PriceRefused, check_currency
from tenants.usage import queries
from tenants.usage.models import Budget, BudgetAlert

THRESHOLDS = (50, 80, 100)
HIGHEST_THRESHOLD = 1_000
MOST_THRESHOLDS = 10
HIGHEST_AMOUNT = Decimal(10) ** 12
FIELDS = ("name", "amount", "currency", "thresholds", "agent")

log = logging.getLogger(__name__)


class BudgetRefused(TenancyError):
    """The budget cannot be like this."""


@transaction.atomic
def set_budget(
    *, name: str, amount: Decimal, currency: str, thresholds: Iterable[int] = THRESHOLDS, agent: str = ""
) -> Budget:
    """A new one. Raises BudgetRefused."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"budgets:{connection.schema_name}"])
    if Budget.objects.count() >= settings.BUDGETS:
        raise BudgetRefused(f"There may be {settings.BUDGETS} budgets; delete one first.", "name")
    fields = {"name": name, "amount": amount, "currency": currency, "thresholds": list(thresholds), "agent": agent}
    check(fields)
    budget = Budget.objects.create(**fields)
    record(
        action="budget.created",
        target=str(budget.pk),
        after=_shown(budget),
        tenant=connection.schema_name,
    )
    return budget


@transaction.atomic
def change_budget(*, budget: Budget, **fields: Any) -> Budget:
    """What was told this month is not told again. Raises BudgetRefused."""
    budget = Budget.objects.select_for_update().get(pk=budget.pk)
    before = _shown(budget)
    for name, value in fields.items():
        setattr(budget, name, value)
    check({name: getattr(budget, name) for name in FIELDS})
    budget.save()
    after = _shown(budget)
    changed = [name for name in FIELDS if before[name] != after[name]]
    if changed:
        record(
            action="budget.updated",
            target=str(budget.pk),
            before={name: before[name] for name in changed},
            after={name: after[name] for name in changed},
            tenant=connection.schema_name,
        )
    return budget


@transaction.atomic
def delete_budget(*, budget: Budget) -> None:
    before, target = _shown(budget), str(budget.pk)
    budget.delete()
    record(action="budget.deleted", target=target, before=before, tenant=connection.schema_name)


def check(fields: dict[str, Any]) -> None:
    """Raises BudgetRefused."""
    amount, thresholds = fields["amount"], fields["thresholds"]
    if not fields["name"].strip():
        raise BudgetRefused("A budget has a name.", "name")
    if not (amount.is_finite() and 0 < amount < HIGHEST_AMOUNT and amount == amount.quantize(Decimal("0.01"))):
        raise BudgetRefused("An amount is above 0, with at most two decimals.", "amount")
    try:
        check_currency(fields["currency"])
    except PriceRefused as error:
        raise BudgetRefused(error.message, error.param) from error
    rising = sorted({value for value in thresholds if 1 <= value <= HIGHEST_THRESHOLD})
    if not thresholds or len(thresholds) > MOST_THRESHOLDS or thresholds != rising:
        raise BudgetRefused(
            f"Thresholds are 1 to {MOST_THRESHOLDS} different percentages from 1 to {HIGHEST_THRESHOLD}, rising.",
            "thresholds",
        )


def _shown(budget: Budget) -> dict[str, Any]:
    shown = {name: getattr(budget, name) for name in FIELDS}
    return {**shown, "amount": str(budget.amount), "thresholds": list(budget.thresholds)}


def first_of_month(now: datetime) -> date:
    return now.astimezone(UTC).date().replace(day=1)


@transaction.atomic
def note_passed_thresholds(*, now: datetime | None = None) -> int:
    """Write the alerts that are due and not written yet; how many were new."""
    month = first_of_month(now or timezone.now())
    new = 0
    for budget in Budget.objects.all():
        spent = queries.spent(budget, month=month)
        for threshold in budget.thresholds:
            if spent * 100 >= budget.amount * threshold:
                _, created = BudgetAlert.objects.get_or_create(
                    budget=budget, month=month, threshold=threshold, defaults={"spent": spent}
                )
                new += created
    return new


def tell_alerts(*, tenant: Tenant) -> int:
    """Send one mail for each budget and month with alerts that nobody has told: of the highest threshold. How many.

    Raises what sending raises: the rest is told the next time.
    """
    told = 0
    while first := BudgetAlert.objects.filter(told_at=None).order_by("month", "budget", "id").first():
        with transaction.atomic():
            # Whoever looks at the same moment waits here, and finds nothing then.
            same = BudgetAlert.objects.filter(told_at=None, budget=first.budget_id, month=first.month)
            alerts = list(same.select_for_update(of=("self",)).select_related("budget").order_by("threshold"))
            if alerts:
                _tell(tenant, alerts[-1])
                same.filter(pk__in=[alert.pk for alert in alerts]).update(told_at=timezone.now())
                told += 1
    return told


def _tell(tenant: Tenant, alert: BudgetAlert) -> None:
    budget = alert.budget
    log.warning(
        "a budget's threshold was passed",
        extra={"tenant_id": tenant.schema_name, "budget_id": str(budget.pk), "threshold": alert.threshold},
    )
    members = Membership.objects.filter(tenant=tenant, role__in=(Role.OWNER, Role.ADMIN), user__is_active=True)
    addresses = sorted(members.values_list("user__email", flat=True))
    if not addresses:
        return
    scope = f" of the agent {budget.agent}" if budget.agent else ""
    # Names are the tenant's own to choose; a subject has one line.
    subject = " ".join(f"{tenant.name}: {alert.threshold} % of the budget '{budget.name}' is used up".split())
    EmailMessage(
        subject=subject,
        body=(
            f"In {alert.month:%B %Y} (UTC) the use{scope} of {tenant.name} has cost {alert.spent:.2f} "
            f"{budget.currency}. That is {int(alert.spent * 100 / budget.amount)} % of the monthly budget "
            f"'{budget.name}' ({budget.amount} {budget.currency}), past its threshold of {alert.threshold} %.\n\n"
            "Nothing is stopped by this. You get this mail as an owner or admin, at most once per threshold and month; "
            "of several thresholds passed at once, for the highest.\n"
        ),
        to=addresses,
    ).send()
