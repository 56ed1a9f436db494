"""What was said, for the owners and admins of the tenant whose host this is. Nobody can change it here."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from unfold.admin import TabularInline

from realtime.archive.models import Conversation, Item
from realtime.archive.queries import load_items
from tenants.admin_site import TenantModelAdmin, manages_tenant


class LatestItems(BaseInlineFormSet):
    """What the API shows of a conversation: its latest items in their order; ``left_out`` counts the earlier ones."""

    left_out = 0

    def get_queryset(self) -> list[Item]:
        if not hasattr(self, "_latest"):
            self._latest, self.left_out = load_items(self.instance, limit=settings.API_MAX_ITEMS)
        return self._latest


class ItemInline(TabularInline):
    model = Item
    formset = LatestItems
    template = "admin/archive/items.html"
    fields = readonly_fields = [
        "role",
        "text",
        "created_at",
        "status",
        "type",
        "spoken_by",
        "audio_ms",
        "timings_ms",
        "receipt",
    ]
    extra = 0
    can_delete = False

    @admin.display(description="Agent")
    def spoken_by(self, item: Item) -> str:
        return f"{item.agent}@{item.agent_version}" if item.agent_version else item.agent

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return manages_tenant(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Conversation)
class ConversationAdmin(TenantModelAdmin):
    list_display = ["started_at", "agent", "agent_version", "channel", "duration_s", "item_count", "end_reason", "id"]
    list_filter = ["agent", "channel", "end_reason"]
    date_hierarchy = "started_at"
    search_fields = ["id", "conversation_id", "end_user"]
    exclude = ["started_seq", "ended_seq"]
    inlines = [ItemInline]
    list_per_page = 50
