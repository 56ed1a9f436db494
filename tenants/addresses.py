"""Where a request comes from."""

from django.conf import settings
from django.http import HttpRequest

from tenants.keys.networks import client_address


def request_address(request: HttpRequest) -> str:
    """The caller's IP address; ``X-Forwarded-For`` counts as far as ``AVB_TRUSTED_PROXIES`` wrote it."""
    forwarded_for = request.META.get("HTTP_X_FORWARDED_FOR", "")
    return client_address(request.META.get("REMOTE_ADDR", ""), forwarded_for, settings.TRUSTED_PROXIES)
