"""Plans: what the tenants on them may use. Each function is one transaction; refusals are named exceptions."""

from typing import Any

from django.db import transaction
from django.db.models import ProtectedError

from tenants.access import forget
from tenants.audit.operations import record
from tenants.errors import TenancyError
from tenants.limits import names
from tenants.models import Plan


class PlanUnknown(TenancyError):
    """There is no such plan."""

    code = "plan_unknown"


class PlanTaken(TenancyError):
    """There is a plan of this slug already."""

    code = "slug_taken"


class PlanInUse(TenancyError):
    """Tenants are on this plan."""

    code = "plan_in_use"


class LimitsRefused(TenancyError):
    """A limit that there is not, or a value that it cannot have."""

    code = "limits_refused"


def find_plan(slug: str | None) -> Plan | None:
    """None has no plan: the platform's defaults. Raises PlanUnknown."""
    if slug is None:
        return None
    plan = Plan.objects.filter(slug=slug).first()
    if plan is None:
        raise PlanUnknown(f"There is no plan {slug!r}.", "plan")
    return plan


@transaction.atomic
def create_plan(*, slug: str, name: str, limits: dict[str, Any] | None = None) -> Plan:
    """Raises PlanTaken or LimitsRefused."""
    checked = check_limits({} if limits is None else limits, "limits")
    plan, made = Plan.objects.get_or_create(slug=slug, defaults={"name": name, "limits": checked})
    if not made:
        raise PlanTaken(f"A plan {slug!r} exists already.", "slug")
    record(action="plan.created", target=slug, after={"name": name, "limits": checked})
    return plan


@transaction.atomic
def update_plan(*, plan: Plan, **changes: Any) -> Plan:
    """``name``, ``limits``; what is not given stays. The tenants on it have the new limits. Raises LimitsRefused."""
    plan = Plan.objects.select_for_update().get(pk=plan.pk)
    before = {name: getattr(plan, name) for name in changes}
    if "limits" in changes:
        changes["limits"] = check_limits(changes["limits"], "limits")
    for name, value in changes.items():
        setattr(plan, name, value)
    plan.save(update_fields=["name", "limits"])
    if before != changes:
        for schema_name in plan.tenants.values_list("schema_name", flat=True):
            forget(tenant=schema_name)
        record(action="plan.changed", target=plan.slug, before=before, after=changes)
    return plan


@transaction.atomic
def delete_plan(*, plan: Plan) -> None:
    """Raises PlanInUse."""
    try:
        Plan.objects.select_for_update().get(pk=plan.pk).delete()
    except ProtectedError as error:
        raise PlanInUse(f"Tenants are on the plan {plan.slug!r}; give them another one first.", "plan") from error
    record(action="plan.deleted", target=plan.slug, before={"name": plan.name, "limits": plan.limits})


def check_limits(limits: Any, param: str) -> dict[str, int]:
    """The limits as they are kept; their names are those of ``tenants.limits``. Raises LimitsRefused."""
    try:
        return names.check_limits(limits)
    except names.LimitInvalid as error:
        raise LimitsRefused(error.message, f"{param}.{error.name}" if error.name else param) from error
