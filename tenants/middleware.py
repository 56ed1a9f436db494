"""Which tenant a request belongs to, when the host name decides; and that no request leaves a tenant behind."""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port
from django.shortcuts import render
from redis.exceptions import RedisError

from tenants.addresses import request_address
from tenants.lifecycle.queries import CLOSED, find_tenant_by_host
from tenants.models import Tenant, TenantStatus
from tenants.people.standing import find_standing, host_tenant
from tenants.principal import SYSTEM, acting_as

log = logging.getLogger(__name__)

PAGES_BY_HOST = ("/admin/",)
PAGES_OF_ACCOUNT = "/accounts/"
PAGES_OF_PEOPLE = ("/admin/", PAGES_OF_ACCOUNT)
OPEN_TO_BOUND = {
    "people_home", "people_choose", "people_invitation", "people_find_sign_on", "people_sign_on", "account_login",
    "account_logout", "account_inactive", "openid_connect_login", "openid_connect_callback",
    "socialaccount_login_cancelled", "socialaccount_login_error",
}  # fmt: skip


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
                if tenant and tenant.status in CLOSED:
                    return show_closed(request, tenant)
                if tenant:
                    # On the platform's own host there is no such attribute: django-tenants' templates ask for it.
                    request.tenant = tenant
                    connection.set_tenant(tenant)
            return self.get_response(request)
        finally:
            connection.set_schema_to_public()


class PersonMiddleware:
    """On pages where people are signed in, what is done is done by them: the audit asks who acts.

    Behind ``TenantMiddleware`` and Django's ``AuthenticationMiddleware``. The API's doors find out for themselves.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        standing = find_standing(request) if request.path.startswith(PAGES_OF_PEOPLE) else None
        principal = standing.principal(request_address(request)) if standing else SYSTEM
        with acting_as(principal):
            return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Attempts to sign in are counted in Redis; without it nobody gets to guess."""
        if not isinstance(error, RedisError) or not request.path.startswith(PAGES_OF_ACCOUNT):
            return None
        log.warning("nobody can sign in: Redis does not answer (%s)", type(error).__name__)
        response = render(request, "people/unavailable.html", status=HTTPStatus.SERVICE_UNAVAILABLE)
        response["Retry-After"] = "5"
        return response

    def process_view(self, request: HttpRequest, *_: Any) -> HttpResponse | None:
        """A session that a tenant's identity provider opened is not good for the person's own account: whoever runs
        the provider could set a password in it and come back as them, everywhere."""
        if not request.path.startswith(PAGES_OF_ACCOUNT):
            return None
        host_tenant(request)  # whose host it is stands on every page
        standing = find_standing(request)
        if standing is None or standing.bound_to is None or request.resolver_match.url_name in OPEN_TO_BOUND:
            return None
        return render(request, "people/bound.html", {"standing": standing}, status=403)


def show_closed(request: HttpRequest, tenant: Tenant) -> HttpResponse:
    """Instead of any page of a tenant that opens nothing: its schema may not be there."""
    status = HTTPStatus.SERVICE_UNAVAILABLE if tenant.status == TenantStatus.CREATING else HTTPStatus.FORBIDDEN
    _, words = CLOSED[TenantStatus(tenant.status)]
    response = render(request, "closed.html", {"words": words}, status=status)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response["Retry-After"] = "5"
    return response
