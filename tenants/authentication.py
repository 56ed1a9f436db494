"""Who calls the platform API: ``Authorization: Bearer`` with an API key or an access token, or a signed-in person."""

from django.db import connection
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.exceptions import APIException, AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from tenants.addresses import request_address
from tenants.keys.networks import is_allowed
from tenants.keys.operations import touch_key
from tenants.keys.queries import AddressRefused, KeyRefused, find_key, principal_of
from tenants.lifecycle.platform_keys import PREFIX as PLATFORM_PREFIX
from tenants.lifecycle.platform_keys import find_platform_key
from tenants.models import User
from tenants.people.oauth.tokens import find_client_principal, looks_like_token
from tenants.people.standing import find_standing
from tenants.principal import Principal

WHERE_PLATFORM_KEYS_OPEN = (
    "This is a platform operator's key: it opens /api/v1/tenants/, /plans/, /prices/ and /platform/, and nothing "
    "inside a tenant. Here send an API key of the tenant, avb_live_… or avb_test_…."
)


class ApiKeyAuthentication(BaseAuthentication):
    """Finds the key, and turns the connection to its tenant's schema; ``TenantAPIView`` turns it back."""

    def authenticate(self, request: Request) -> tuple[None, Principal] | None:
        header = get_authorization_header(request).split()
        if not header:
            return None
        if len(header) != 2 or header[0].lower() != b"bearer":
            raise AuthenticationFailed("Send the header 'Authorization: Bearer <API key>'.", "invalid_authorization")
        secret = header[1].decode("ascii", "replace")
        try:
            if secret.startswith(PLATFORM_PREFIX):
                # Only who has a good one hears what it is.
                find_platform_key(secret)
                raise PermissionDenied(WHERE_PLATFORM_KEYS_OPEN, "platform_key")
            key = find_key(secret)
        except KeyRefused as refusal:
            raise AuthenticationFailed(refusal.message, refusal.code) from refusal
        address = request_address(request)
        if not is_allowed(address, key.allowed_networks):
            refusal = AddressRefused(address)
            raise PermissionDenied(refusal.message, refusal.code)
        touch_key(key=key)
        connection.set_tenant(key.tenant)
        return None, principal_of(key, address)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class OAuthClientAuthentication(BaseAuthentication):
    """An access token of ``POST /oauth/token``; whatever else the header holds is left to the next in line."""

    def authenticate(self, request: Request) -> tuple[None, Principal] | None:
        header = get_authorization_header(request).split()
        if len(header) != 2 or header[0].lower() != b"bearer" or not looks_like_token(header[1]):
            return None
        try:
            principal = find_client_principal(header[1].decode("ascii"), request_address(request))
        except KeyRefused as refusal:
            raise AuthenticationFailed(refusal.message, refusal.code) from refusal
        connection.set_schema(principal.tenant)
        return None, principal

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class PersonAuthentication(SessionAuthentication):
    """A person who signed in here, with the scopes of their role in the tenant where they act. CSRF is enforced.

    A view with ``needs_tenant = False`` also answers people who act in none.
    """

    def authenticate(self, request: Request) -> tuple[User, Principal] | None:
        user = request._request.user
        if not user.is_authenticated:
            return None
        self.enforce_csrf(request)
        standing = find_standing(request._request)
        principal = standing.principal(request_address(request))
        needs_tenant = getattr(request.parser_context.get("view"), "needs_tenant", True)
        if standing.refusal and needs_tenant and principal.kind != "operator":
            raise PermissionDenied(standing.refusal.message, standing.refusal.code)
        if standing.tenant:
            connection.set_tenant(standing.tenant)
        return user, principal


class ScopeRequired(APIException):
    status_code = 403
