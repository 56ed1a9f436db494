"""CORS per tenant: which web origins may read the REST API's answers with a key of the tenant.

A preflight carries no key, so it cannot say whose origin it is: it passes when any active tenant lists the origin, and
tells nothing by it but that. What counts is the answer: only the tenant whose key was used decides whether the browser
may read it. Credentials (cookies) are never allowed across origins.
"""

from urllib.parse import urlsplit

from corsheaders.middleware import CorsMiddleware
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from tenants.models import Tenant, TenantStatus

ORIGINS_MAX = 50


class TenantCorsMiddleware(CorsMiddleware):
    """django-cors-headers, with the tenants' lists in place of one list in the settings."""

    def check_signal(self, request: HttpRequest) -> bool:
        origin = request.headers.get("Origin", "")
        if not _is_origin(origin):
            return False
        listed = Tenant.objects.filter(status=TenantStatus.ACTIVE, cors_origins__contains=[origin])
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return listed.exists()
        # ``TenantAPIView`` notes whose key was used; without a good one nobody's.
        schema_name = getattr(request, "answered_for", "")
        return bool(schema_name) and listed.filter(schema_name=schema_name).exists()

    def is_enabled(self, request: HttpRequest) -> bool:
        return request.path.startswith("/api/v1/")


def check_origins(origins: object) -> None:
    """Raises ValidationError unless it is a list of web origins: scheme, host and perhaps a port, without a path."""
    if not isinstance(origins, list) or not all(isinstance(origin, str) for origin in origins):
        raise ValidationError("A list of origins such as https://app.example.com.", "invalid")
    if len(origins) > ORIGINS_MAX:
        raise ValidationError(f"At most {ORIGINS_MAX} origins; got {len(origins)}.", "max_length")
    for origin in origins:
        if not _is_origin(origin):
            words = f"{origin[:100]!r} is no origin; one is https:// and a host in lower case, without a path."
            raise ValidationError(words, "invalid")


def _is_origin(text: str) -> bool:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    plain = f"{url.scheme}://{host}" + (f":{port}" if port is not None else "")
    return url.scheme in ("http", "https") and bool(url.hostname) and text == plain and text.isprintable()
