"""Who calls the addresses of platform operators: ``Authorization: Bearer avb_platform_…``."""

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from tenants.addresses import request_address
from tenants.keys.queries import KeyRefused
from tenants.lifecycle.platform_keys import PREFIX, find_platform_key, principal_of, touch_platform_key
from tenants.principal import Principal


class PlatformKeyAuthentication(BaseAuthentication):
    """Leaves every other header to whoever comes next."""

    def authenticate(self, request: Request) -> tuple[None, Principal] | None:
        scheme, _, secret = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer" or not secret.strip().startswith(PREFIX.encode()):
            return None
        try:
            key = find_platform_key(secret.strip().decode("ascii", "replace"))
        except KeyRefused as refusal:
            raise AuthenticationFailed(refusal.message, refusal.code) from refusal
        touch_platform_key(key=key)
        return None, principal_of(key, request_address(request))

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
