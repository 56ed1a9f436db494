"""Where a request comes from."""

from django.conf import settings
from django.http import HttpRequest

from tenants.keys.networks import client_address
from tenants.platform_host import platform_address


def request_address(request: HttpRequest) -> str:
    """The caller's IP address; ``X-Forwarded-For`` counts as far as ``AVB_TRUSTED_PROXIES`` wrote it."""
    forwarded_for = request.META.get("HTTP_X_FORWARDED_FOR", "")
    return client_address(request.META.get("REMOTE_ADDR", ""), forwarded_for, settings.TRUSTED_PROXIES)


def platform_admin_url(request: HttpRequest) -> str | None:
    """The platform's own admin, for who is on another host of a developer's machine; elsewhere None."""
    here = f"{request.scheme}://{request.get_host()}"
    there = platform_address(here)
    return f"{there}/admin/" if settings.DEV and there != here else None
