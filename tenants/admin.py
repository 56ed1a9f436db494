"""The platform operator's view: tenants, their host names, keys and people. Read here, changed by operations."""

from django.contrib import admin
from django.http import HttpRequest

from tenants.admin_site import PlatformModelAdmin
from tenants.keys.operations import revoke_key
from tenants.models import ApiKey, Domain, Membership, Tenant, User


class ReadOnlyInline(admin.TabularInline):
    extra = 0
    can_delete = False
    show_change_link = True

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class DomainInline(ReadOnlyInline):
    model = Domain


class MembershipInline(ReadOnlyInline):
    model = Membership


@admin.register(Tenant)
class TenantAdmin(PlatformModelAdmin):
    list_display = ["name", "slug", "schema_name", "created_at"]
    search_fields = ["name", "slug"]
    inlines = [DomainInline, MembershipInline]


@admin.register(ApiKey)
class ApiKeyAdmin(PlatformModelAdmin):
    list_display = ["name", "prefix", "tenant", "created_at", "last_used_at", "expires_at", "revoked_at"]
    list_select_related = ["tenant"]
    list_filter = ["tenant"]
    exclude = ["secret_hash"]
    actions = ["revoke"]

    @admin.action(description="Revoke the selected keys")
    def revoke(self, request: HttpRequest, keys: list[ApiKey]) -> None:
        for key in keys:
            revoke_key(key=key)
        self.message_user(request, f"{len(keys)} revoked: they open nothing from now on.")


@admin.register(User)
class UserAdmin(PlatformModelAdmin):
    list_display = ["email", "name", "is_active", "is_superuser", "last_login"]
    search_fields = ["email", "name"]
    fields = ["email", "name", "is_active", "is_superuser", "last_login", "date_joined"]
    inlines = [MembershipInline]


@admin.register(Membership)
class MembershipAdmin(PlatformModelAdmin):
    list_display = ["user", "tenant", "role", "created_at"]
    list_select_related = ["user", "tenant"]
    list_filter = ["role", "tenant"]
