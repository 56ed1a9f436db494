"""Which tenant a request belongs to, when the host name decides; and that no request leaves a tenant behind."""

from collections.abc import Callable

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port

from tenants.lifecycle.queries import find_tenant_by_host

PAGES_BY_HOST = ("/admin/",)


class TenantMiddleware:
    """Pages where people sign in belong to the tenant of the host name; everything else starts in the public schema.

    An unknown host is the platform's own. The API never looks at the host: there the key decides.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        connection.set_schema_to_public()
        try:
            if request.path.startswith(PAGES_BY_HOST):
                tenant = find_tenant_by_host(split_domain_port(request.get_host())[0])
                if tenant:
                    # On the platform's own host there is no such attribute: django-tenants' templates ask for it.
                    request.tenant = tenant
                    connection.set_tenant(tenant)
            return self.get_response(request)
        finally:
            connection.set_schema_to_public()
