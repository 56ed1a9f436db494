"""Who calls the platform API: ``Authorization: Bearer avb_live_…``."""

from django.db import connection
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.request import Request

from tenants.keys.operations import touch_key
from tenants.keys.queries import KeyRefused, find_key, principal_of
from tenants.principal import Principal


class ApiKeyAuthentication(BaseAuthentication):
    """Finds the key, and turns the connection to its tenant's schema; ``TenantAPIView`` turns it back."""

    def authenticate(self, request: Request) -> tuple[None, Principal] | None:
        header = get_authorization_header(request).split()
        if not header:
            return None
        if len(header) != 2 or header[0].lower() != b"bearer":
            raise AuthenticationFailed("Send the header 'Authorization: Bearer <API key>'.", "invalid_authorization")
        try:
            key = find_key(header[1].decode("ascii", "replace"))
        except KeyRefused as refusal:
            raise AuthenticationFailed(refusal.message, refusal.code) from refusal
        touch_key(key=key)
        connection.set_tenant(key.tenant)
        return None, principal_of(key, request.META.get("REMOTE_ADDR", ""))

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class ScopeRequired(APIException):
    status_code = 403
