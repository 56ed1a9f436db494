"""Where a signed-in person stands: in which tenant they act, in which role, and what their session does not open.

1. On a tenant's host they act in that tenant; elsewhere in the one they chose, which lies in their session.
2. Membership is asked of the database at every request: who is removed is out at the next one.
3. A session that a tenant's own identity provider opened is good for that tenant alone. The provider belongs to the
   tenant's owners, so whatever it says must not count anywhere else.
"""

from dataclasses import dataclass

from allauth.account.authentication import get_authentication_records
from django.http import HttpRequest
from django.http.request import split_domain_port

from tenants.lifecycle.queries import CLOSED, find_tenant_by_host
from tenants.models import Membership, SingleSignOn, Tenant, TenantStatus, User
from tenants.permissions import PLATFORM_SCOPES, ROLE_SCOPES, Role
from tenants.principal import Principal

CHOSEN = "tenant"
"""The key in the session: the primary key of the tenant that the person chose."""
NO_TENANT = 0


class StandingRefused(Exception):
    """The person is signed in, but not for this tenant. ``code`` and ``message`` may be shown."""

    code = "not_a_member"
    message = "You do not belong to this tenant."

    def __init__(self) -> None:
        super().__init__(self.message)


class TenantNotChosen(StandingRefused):
    code = "tenant_not_chosen"
    message = "Choose the tenant to act in: PATCH /api/v1/me/ with its 'tenant', or use the tenant's host name."


class TenantClosed(StandingRefused):
    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__()


class SignOnRequired(StandingRefused):
    code = "single_sign_on_required"
    message = "This tenant asks its people to sign in by its own single sign-on."


class SessionBound(StandingRefused):
    code = "session_bound"
    message = "You signed in by another tenant's single sign-on, which opens that tenant alone. Sign in again."


@dataclass(frozen=True)
class Standing:
    """``tenant`` and ``role`` are None together: somebody who acts in no tenant. ``refusal`` says why, where they
    could be expected to."""

    user: User
    tenant: Tenant | None = None
    role: Role | None = None
    bound_to: int | None = None
    refusal: StandingRefused | None = None

    @property
    def operates_platform(self) -> bool:
        """Whether the person may, where no tenant is concerned."""
        return bool(self.user.is_superuser and self.bound_to is None)

    def principal(self, address: str) -> Principal:
        name = self.user.name or f"person {self.user.pk}"
        identity = str(self.user.pk)
        if self.tenant and self.role:
            return Principal("person", identity, name, self.tenant.schema_name, ROLE_SCOPES[self.role], address)
        if self.operates_platform and isinstance(self.refusal, TenantNotChosen):
            return Principal("operator", identity, name, "", PLATFORM_SCOPES, address)
        return Principal("person", identity, name, address=address)


def find_standing(request: HttpRequest) -> Standing | None:
    """Of the person who sends this request, None when nobody is signed in; asked of the database once per request."""
    if not request.user.is_authenticated:
        return None
    if not hasattr(request, "standing"):
        request.standing = _find(request)
    return request.standing


def host_tenant(request: HttpRequest) -> Tenant | None:
    """The tenant whose host this is, or None on the platform's own."""
    if not hasattr(request, "tenant_of_host"):
        request.tenant_of_host = find_tenant_by_host(split_domain_port(request.get_host())[0])
    return request.tenant_of_host


def bound_tenant_id(request: HttpRequest) -> int | None:
    """The tenant whose identity provider had a part in opening this session; ``NO_TENANT`` when it is no more."""
    providers = [
        entry["provider"] for entry in get_authentication_records(request, request.user) if "provider" in entry
    ]
    if not providers:
        return None
    tenants = set(SingleSignOn.objects.filter(public_id__in=providers).values_list("tenant_id", flat=True))
    return tenants.pop() if len(tenants) == 1 else NO_TENANT


def choose_tenant(request: HttpRequest, slug: str) -> Standing:
    """From now on the person's session acts in this tenant. Raises StandingRefused, and then nothing has changed."""
    tenant = Tenant.objects.filter(slug=slug).first() if slug.isprintable() else None
    own = host_tenant(request)
    if tenant is None or (own is not None and own != tenant):
        raise StandingRefused
    standing = _stand_in(request.user, tenant.pk, bound_tenant_id(request))
    if standing.refusal:
        raise standing.refusal
    request.session[CHOSEN] = tenant.pk
    request.standing = standing
    return standing


def _find(request: HttpRequest) -> Standing:
    bound_to = bound_tenant_id(request)
    own = host_tenant(request)
    tenant_id = own.pk if own else request.session.get(CHOSEN, bound_to)
    if tenant_id is None and not request.user.is_superuser:
        # Where there is nothing to choose from, nobody has to.
        only = Membership.objects.filter(user=request.user).values_list("tenant_id", flat=True)[:2]
        tenant_id = only[0] if len(only) == 1 else None
    if tenant_id is None:
        return Standing(request.user, bound_to=bound_to, refusal=TenantNotChosen())
    standing = _stand_in(request.user, tenant_id, bound_to)
    if own is None and standing.tenant is None and type(standing.refusal) is StandingRefused:
        # They chose it once, and were removed since.
        return Standing(request.user, bound_to=bound_to, refusal=TenantNotChosen())
    return standing


def _stand_in(user: User, tenant_id: int, bound_to: int | None) -> Standing:
    if bound_to is not None and bound_to != tenant_id:
        return Standing(user, bound_to=bound_to, refusal=SessionBound())
    membership = (
        Membership.objects.select_related("tenant", "tenant__single_sign_on")
        .filter(user=user, tenant_id=tenant_id)
        .first()
    )
    if membership is None:
        return Standing(user, bound_to=bound_to, refusal=StandingRefused())
    tenant, role = membership.tenant, Role(membership.role)
    if tenant.status != TenantStatus.ACTIVE:
        return Standing(user, bound_to=bound_to, refusal=TenantClosed(*CLOSED[TenantStatus(tenant.status)]))
    sign_on = getattr(tenant, "single_sign_on", None)
    # A provider that is configured wrongly must not lock out those who can repair it.
    if sign_on and sign_on.required and bound_to is None and role != Role.OWNER:
        return Standing(user, bound_to=bound_to, refusal=SignOnRequired())
    return Standing(user, tenant, role, bound_to)
