"""Who may enter Django's admin on which host.

On a tenant's host: that tenant's owners and admins, and nobody else, platform operators included. On any other host:
platform operators. What each of them sees is decided by ``TenantModelAdmin`` and ``PlatformModelAdmin``.
"""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from django.contrib import admin
from django.contrib.auth.forms import AuthenticationForm
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from tenants.models import Tenant
from tenants.people.queries import find_role
from tenants.permissions import Role

ENTERING_ROLES = {Role.OWNER, Role.ADMIN}


def tenant_of(request: HttpRequest) -> Tenant | None:
    """The tenant whose host this is, or None on the platform's own."""
    return getattr(request, "tenant", None)


def role_in_request(request: HttpRequest) -> str | None:
    """The signed-in person's role in the tenant of this host; asked of the database once per request."""
    if not hasattr(request, "tenant_role"):
        tenant = tenant_of(request)
        member = tenant is not None and request.user.is_authenticated
        request.tenant_role = find_role(request.user, tenant) if member else None
    return request.tenant_role


def manages_tenant(request: HttpRequest) -> bool:
    return bool(request.user.is_active and role_in_request(request) in ENTERING_ROLES)


def operates_platform(request: HttpRequest) -> bool:
    return bool(tenant_of(request) is None and request.user.is_active and request.user.is_superuser)


class TenantAdminSite(admin.AdminSite):
    site_title = site_header = "AgentVoiceBox"
    login_form = AuthenticationForm

    def has_permission(self, request: HttpRequest) -> bool:
        return manages_tenant(request) or operates_platform(request)

    def admin_view(self, view: Callable[..., HttpResponse], cacheable: bool = False) -> Callable[..., HttpResponse]:
        """Each page is one transaction, its template included: that is where lists are read."""

        def show(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            with transaction.atomic():
                response = view(request, *args, **kwargs)
                return response.render() if isinstance(response, TemplateResponse) else response

        return super().admin_view(update_wrapper(show, view), cacheable)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        tenant = tenant_of(request)
        owner = tenant.name if tenant else "platform"
        return super().each_context(request) | {"site_header": f"AgentVoiceBox · {owner}"}


class ScopedModelAdmin(admin.ModelAdmin):
    """Rights come from the host and the role, not from Django's permission rows."""

    may_add = may_change = may_delete = False

    def in_scope(self, request: HttpRequest) -> bool:
        raise NotImplementedError

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.in_scope(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.in_scope(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may_add and self.in_scope(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may_change and self.in_scope(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may_delete and self.in_scope(request)


class TenantModelAdmin(ScopedModelAdmin):
    """Rows of the tenant whose host this is."""

    def in_scope(self, request: HttpRequest) -> bool:
        return manages_tenant(request)


class PlatformModelAdmin(ScopedModelAdmin):
    """Rows of the shared schema, for platform operators on the platform's host."""

    def in_scope(self, request: HttpRequest) -> bool:
        return operates_platform(request)
