"""Limits of single end users. Each function is one transaction inside the tenant's schema."""

import secrets
from typing import Any

from django.db import IntegrityError, connection, transaction

from tenants.audit.operations import record
from tenants.errors import TenancyError
from tenants.limits.models import EndUserLimits
from tenants.limits.names import LimitInvalid, check_limits
from tenants.limits.queries import find_tenant, tenant_limits

END_USER_CHARACTERS = 200


class EndUserLimitsInvalid(TenancyError):
    """The limits, or the end user's name, cannot be that."""

    code = "invalid"


class EndUserTaken(TenancyError):
    """This end user has limits already."""

    code = "end_user_taken"


@transaction.atomic
def limit_end_user(*, end_user: str, limits: dict[str, int]) -> EndUserLimits:
    """Lower limits for one end user, on the calls that begin from now on.

    Raises EndUserLimitsInvalid and EndUserTaken.
    """
    if not 1 <= len(end_user) <= END_USER_CHARACTERS or "\0" in end_user:
        raise EndUserLimitsInvalid(f"An end user is named by 1 to {END_USER_CHARACTERS} characters.", "end_user")
    checked = _checked(limits)
    try:
        with transaction.atomic():
            row = EndUserLimits.objects.create(
                public_id="eul_" + secrets.token_hex(12), end_user=end_user, limits=checked
            )
    except IntegrityError as error:
        raise EndUserTaken("This end user has limits already; change those.", "end_user") from error
    _record("end_user_limits.created", row, after=checked)
    return row


@transaction.atomic
def change_end_user_limits(*, row: EndUserLimits, limits: dict[str, int]) -> EndUserLimits:
    """Raises EndUserLimitsInvalid."""
    before, row.limits = row.limits, _checked(limits)
    row.save(update_fields=["limits", "updated_at"])
    _record("end_user_limits.updated", row, before=before, after=row.limits)
    return row


@transaction.atomic
def free_end_user(*, row: EndUserLimits) -> None:
    """The tenant's limits hold again."""
    before, public_id = row.limits, row.public_id
    row.delete()
    row.public_id = public_id
    _record("end_user_limits.deleted", row, before=before)


def _checked(limits: Any) -> dict[str, int]:
    try:
        return check_limits(limits, at_most=tenant_limits(find_tenant(connection.schema_name)), end_user=True)
    except LimitInvalid as error:
        raise EndUserLimitsInvalid(error.message, f"limits.{error.name}" if error.name else "limits") from error


def _record(action: str, row: EndUserLimits, **what: Any) -> None:
    # The audit outlives an end user's erasure, so it names the row and not the person.
    record(action=action, target=row.public_id, tenant=connection.schema_name, **what)
