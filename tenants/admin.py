"""The platform operator's view: tenants, their host names, keys and people. Read here, changed by operations."""

from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import TabularInline

from tenants.admin_site import PlatformModelAdmin, operates_platform
from tenants.errors import TenancyError
from tenants.keys.operations import revoke_key
from tenants.lifecycle.admin import LifecycleAdmin, PlanAdmin
from tenants.lifecycle.platform_keys import revoke_platform_key
from tenants.models import ApiKey, Domain, Invitation, Membership, Plan, PlatformKey, Tenant, User


class ReadOnlyInline(TabularInline):
    extra = 0
    can_delete = False
    show_change_link = True
    tab = True

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return operates_platform(request)

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class DomainInline(ReadOnlyInline):
    model = Domain
    show_change_link = False


class MembershipInline(ReadOnlyInline):
    model = Membership
    fields = ["user", "tenant", "role", "created_at"]
    readonly_fields = ["created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("user", "tenant")


class KeyInline(ReadOnlyInline):
    model = ApiKey
    fields = readonly_fields = ["name", "prefix", "created_at", "last_used_at", "expires_at", "revoked_at"]


@admin.register(Tenant)
class TenantAdmin(LifecycleAdmin, PlatformModelAdmin):
    list_display = ["name", "slug", "status", "progress", "plan", "member_count", "created_at"]
    list_select_related = ["plan"]
    list_filter = ["status", "plan"]
    search_fields = ["name", "slug"]
    date_hierarchy = "created_at"
    list_per_page = 50
    inlines = [DomainInline, MembershipInline, KeyInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        return super().get_queryset(request).annotate(members=Count("memberships"))

    @admin.display(description="members", ordering="members")
    def member_count(self, tenant: Tenant) -> int:
        return tenant.members  # type: ignore[attr-defined]


@admin.register(Plan)
class PlanModelAdmin(PlanAdmin, PlatformModelAdmin):
    list_per_page = 50


class RevocableAdmin(PlatformModelAdmin):
    """Keys of any kind: seen without their secrets, and revoked."""

    exclude = ["secret_hash"]
    actions = ["revoke"]
    list_per_page = 50
    date_hierarchy = "created_at"

    def revoke_one(self, key: ApiKey | PlatformKey) -> None:
        raise NotImplementedError

    @admin.action(description="Revoke the selected keys")
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> HttpResponse | None:
        if question := self.confirmed(request, keys, "Revoke these keys? They open nothing any more, at once."):
            return question
        revoked = 0
        for key in keys:
            try:
                self.revoke_one(key)
            except TenancyError as error:
                messages.error(request, f"{key}: {error.message}")
            else:
                revoked += 1
        self.message_user(request, f"{revoked} revoked: they open nothing from now on.")
        return None


@admin.register(PlatformKey)
class PlatformKeyAdmin(RevocableAdmin):
    list_display = ["name", "prefix", "created_at", "last_used_at", "expires_at", "revoked_at"]
    search_fields = ["name", "prefix", "public_id"]

    def revoke_one(self, key: PlatformKey) -> None:
        revoke_platform_key(key=key)


class KeyState(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        return [("open", "not revoked"), ("revoked", "revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        chosen = {"open": Q(revoked_at=None), "revoked": ~Q(revoked_at=None)}
        return queryset.filter(chosen.get(self.value() or "", Q()))


@admin.register(ApiKey)
class ApiKeyAdmin(RevocableAdmin):
    list_display = ["name", "prefix", "tenant", "created_at", "last_used_at", "expires_at", "revoked_at"]
    list_select_related = ["tenant"]
    list_filter = [KeyState, "tenant"]
    search_fields = ["name", "prefix", "public_id", "tenant__name", "tenant__slug"]

    def revoke_one(self, key: ApiKey) -> None:
        revoke_key(key=key)


@admin.register(User)
class UserAdmin(PlatformModelAdmin):
    list_display = ["email", "name", "is_active", "is_superuser", "tenant_count", "last_login", "date_joined"]
    list_filter = ["is_active", "is_superuser"]
    search_fields = ["email", "name"]
    fields = ["email", "name", "is_active", "is_superuser", "last_login", "date_joined"]
    inlines = [MembershipInline]
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).annotate(tenants=Count("memberships"))

    @admin.display(description="tenants", ordering="tenants")
    def tenant_count(self, user: User) -> int:
        return user.tenants  # type: ignore[attr-defined]


@admin.register(Membership)
class MembershipAdmin(PlatformModelAdmin):
    list_display = ["user", "tenant", "role", "created_at"]
    list_select_related = ["user", "tenant"]
    list_filter = ["role", "tenant"]
    search_fields = ["user__email", "tenant__name", "tenant__slug"]
    list_per_page = 50


@admin.register(Invitation)
class InvitationAdmin(PlatformModelAdmin):
    list_display = ["email", "tenant", "role", "created_at", "expires_at", "accepted_at", "revoked_at"]
    list_select_related = ["tenant"]
    list_filter = ["role", "tenant"]
    search_fields = ["email", "tenant__name", "tenant__slug"]
    exclude = ["token_hash"]
    list_per_page = 50
