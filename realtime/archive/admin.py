"""What was said, for the owners and admins of the tenant whose host this is. Nobody can change it here."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from realtime.archive.models import Conversation, Item
from realtime.archive.queries import present
from tenants.admin_site import TenantModelAdmin, manages_tenant


class ItemInline(admin.TabularInline):
    model = Item
    fields = readonly_fields = ["created_at", "role", "type", "status", "text", "audio_ms", "timings_ms"]
    ordering = ["first_seq", "id"]
    extra = 0
    can_delete = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Item]:
        return present(super().get_queryset(request))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return manages_tenant(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Conversation)
class ConversationAdmin(TenantModelAdmin):
    list_display = ["id", "agent", "channel", "started_at", "duration_s", "item_count", "end_reason"]
    list_filter = ["agent", "channel", "end_reason"]
    date_hierarchy = "started_at"
    search_fields = ["id", "conversation_id", "end_user"]
    exclude = ["started_seq", "ended_seq"]
    inlines = [ItemInline]
    list_per_page = 50
