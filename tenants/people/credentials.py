"""What people and OAuth clients open under ``/v1`` and on sockets, in the same shape as API keys. All of it reads the
shared schema."""

from tenants.keys.credential import Credential, id_of_person, person_of
from tenants.keys.queries import require_active
from tenants.keys.refusals import MemberRemoved
from tenants.limits.allowance import Allowance
from tenants.limits.queries import find_tenant, tenant_limits
from tenants.models import Membership
from tenants.people.oauth.tokens import find_usable_client
from tenants.people.standing import Standing
from tenants.permissions import ROLE_SCOPES, Role
from tenants.principal import Principal


def credential_of_client(principal: Principal) -> Credential:
    """Of a client that came with a token."""
    return Credential(
        kind="client",
        id=principal.id,
        name=principal.name,
        tenant=principal.tenant,
        scopes=principal.scopes,
        allowance=Allowance(tenant=tenant_limits(find_tenant(principal.tenant))),
    )


def find_client_credential(client_id: str) -> Credential:
    """Of a client without its token, with all the scopes that it holds. Raises KeyRefused."""
    client = find_usable_client(client_id)
    return Credential(
        kind="client",
        id=client.client_id,
        name=client.name,
        tenant=client.tenant.schema_name,
        scopes=frozenset(client.scopes),
        allowance=Allowance(tenant=tenant_limits(client.tenant)),
    )


def credential_of_person(standing: Standing) -> Credential:
    """Of a person who is signed in and acts in a tenant: ``standing`` has one. Unlike on the platform API they count in
    its limits, since what is used under ``/v1`` costs the tenant."""
    assert standing.tenant is not None  # noqa: S101 - by contract
    assert standing.role is not None  # noqa: S101
    return Credential(
        kind="person",
        id=id_of_person(standing.user.pk),
        name=standing.user.name,
        tenant=standing.tenant.schema_name,
        scopes=frozenset(ROLE_SCOPES[standing.role]),
        allowance=Allowance(tenant=tenant_limits(standing.tenant)),
    )


def find_member_credential(person_id: str, tenant: str) -> Credential:
    """Of a person without their session, in this tenant (a schema name). Raises MemberRemoved or TenantSuspended."""
    membership = (
        Membership.objects.select_related("user", "tenant__plan")
        .filter(user=person_of(person_id), tenant__schema_name=tenant, user__is_active=True)
        .first()
    )
    if membership is None:
        raise MemberRemoved
    require_active(membership.tenant)
    return credential_of_person(Standing(membership.user, membership.tenant, Role(membership.role)))
