"""Who may enter Django's admin on which host.

On a tenant's host: that tenant's owners and admins, and nobody else, platform operators included. On any other host:
platform operators. What each of them sees is decided by ``TenantModelAdmin`` and ``PlatformModelAdmin``.
"""

from collections.abc import Callable, Iterable
from functools import update_wrapper
from typing import Any, ClassVar

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from unfold.admin import ModelAdmin
from unfold.sites import UnfoldAdminSite

from tenants.addresses import platform_admin_url
from tenants.models import Tenant
from tenants.people.standing import find_standing
from tenants.permissions import Role

ENTERING_ROLES = {Role.OWNER, Role.ADMIN}


def tenant_of(request: HttpRequest) -> Tenant | None:
    """The tenant whose host this is, or None on the platform's own."""
    return getattr(request, "tenant", None)


def role_in_request(request: HttpRequest) -> str | None:
    """The signed-in person's role in the tenant of this host; asked of the database once per request."""
    standing = find_standing(request)
    return standing.role if standing and standing.tenant and standing.tenant == tenant_of(request) else None


def manages_tenant(request: HttpRequest) -> bool:
    return bool(request.user.is_active and role_in_request(request) in ENTERING_ROLES)


def operates_platform(request: HttpRequest) -> bool:
    standing = find_standing(request)
    return bool(tenant_of(request) is None and standing and standing.operates_platform)


class TenantAdminSite(UnfoldAdminSite):
    index_title = "Overview"
    pages: ClassVar[list[URLPattern]] = []
    """What is no list of rows: whoever has such pages adds them, each view inside ``admin_view``."""

    def extra_urls(self) -> list[URLPattern]:
        return self.pages

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Unfold keeps what a person found in a cache that knows no tenants; each list has a search of its own."""
        raise Http404

    def register(self, model: Any, admin_class: Any = None, **options: Any) -> None:
        """Pages that libraries bring ask Django's permission rows who may see them; here the host and the role say it,
        so a page that does not know them is not shown at all."""
        if isinstance(admin_class, type) and issubclass(admin_class, ScopedModelAdmin):
            super().register(model, admin_class, **options)

    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """People sign in at one place, where second factors and rate limits are; here only whether they may enter."""
        asked = request.GET.get("next") or request.POST.get("next") or ""
        safe = url_has_allowed_host_and_scheme(asked, {request.get_host()}, require_https=request.is_secure())
        onward = asked if safe else reverse("admin:index")
        if not request.user.is_authenticated:
            return redirect_to_login(onward)
        if self.has_permission(request):
            return HttpResponseRedirect(onward)
        shown = {
            "standing": find_standing(request),
            "tenant": tenant_of(request),
            "platform_url": platform_admin_url(request),
        }
        return render(request, "people/no_entry.html", shown, status=403)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return redirect("account_change_password")

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
        header = f"AgentVoiceBox · {owner}"
        return super().each_context(request) | {"site_header": header, "site_title": header}


class ScopedModelAdmin(ModelAdmin):
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

    def confirmed(self, request: HttpRequest, rows: Iterable[Any], title: str) -> HttpResponse | None:
        """For actions that cannot be taken back: the page that asks once more, or None when it was answered."""
        if "apply" in request.POST:
            return None
        context = self.admin_site.each_context(request) | {
            "title": title,
            "rows": list(rows),
            "action": request.POST["action"],
            "checkbox": ACTION_CHECKBOX_NAME,
            "opts": self.opts,
            "back": request.get_full_path(),
        }
        return TemplateResponse(request, "admin/confirm.html", context)


class TenantModelAdmin(ScopedModelAdmin):
    """Rows of the tenant whose host this is."""

    def in_scope(self, request: HttpRequest) -> bool:
        return manages_tenant(request)


class SharedModelAdmin(ScopedModelAdmin):
    """For tables that each schema has one of: on a tenant's host its own, on the platform's the platform's."""

    def in_scope(self, request: HttpRequest) -> bool:
        return manages_tenant(request) or operates_platform(request)


class PlatformModelAdmin(ScopedModelAdmin):
    """Rows of the shared schema, for platform operators on the platform's host."""

    def in_scope(self, request: HttpRequest) -> bool:
        return operates_platform(request)
