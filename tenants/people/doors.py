"""What the doors of this room share: the body, the tenant, whether an owner asks, and how refusals are told."""

from typing import Any

from django.db import connection
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.request import Request

from tenants.errors import TenancyError
from tenants.keys.bounds import KeyBound
from tenants.models import Tenant
from tenants.people import invitations, operations, sign_on
from tenants.people.oauth import clients
from tenants.people.standing import find_standing
from tenants.permissions import Role

FORBIDDEN = (operations.OwnersOnly, operations.RoleBeyond, clients.ClientScopesRefused, KeyBound)
CONFLICTS = (
    operations.LastOwner, invitations.AlreadyMember, invitations.AlreadyInvited, invitations.InvitationsExhausted,
    invitations.InvitationOver, invitations.TenantNotOpen, sign_on.DomainUnproven, clients.ClientsExhausted,
    clients.ClientGone,
)  # fmt: skip


class Conflict(APIException):
    status_code = 409


class Forbidden(APIException):
    status_code = 403


def read_body(request: Request, shape: type[Any]) -> dict[str, Any]:
    """The fields that were sent. Raises ValidationError."""
    body = shape(data=request.data)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)


def refusal(error: TenancyError) -> APIException:
    """What the caller is told: 403 where others may, 409 where the state of things does not allow it, else 400."""
    kind = Forbidden if isinstance(error, FORBIDDEN) else Conflict if isinstance(error, CONFLICTS) else ValidationError
    return kind({error.param: [ErrorDetail(error.message, getattr(error, "code", "invalid"))]})


def attempt(operation: Any, **arguments: Any) -> Any:
    """What the operation gives. Raises its refusal as the caller is told it."""
    try:
        return operation(**arguments)
    except TenancyError as error:
        raise refusal(error) from error


def own_tenant() -> Tenant:
    return Tenant.objects.get(schema_name=connection.schema_name)


def asks_as_owner(request: Request) -> bool:
    """Only a person can: keys and OAuth clients are never owners, whatever scopes they hold."""
    if request.auth.kind != "person":
        return False
    standing = find_standing(request._request)
    return standing is not None and standing.role == Role.OWNER
