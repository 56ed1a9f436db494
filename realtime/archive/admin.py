"""What was said, for the owners and admins of the tenant whose host this is. Nobody can change it here."""

import json
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

    def shown(self) -> list[dict[str, Any]]:
        return [
            {
                "who": item.role or item.type,
                "by": f"{item.agent}@{item.agent_version}" if item.agent_version else item.agent,
                "text": item.text,
                "status": item.status,
                "created_at": item.created_at,
                "details": _details(item),
            }
            for item in self.get_queryset()
        ]


class ItemInline(TabularInline):
    """Read as a list of what was said, by ``admin/archive/items.html``: what a tool call left is folded away."""

    model = Item
    formset = LatestItems
    template = "admin/archive/items.html"
    fields = readonly_fields = ["text"]
    extra = 0
    can_delete = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return manages_tenant(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _details(item: Item) -> list[tuple[str, str]]:
    """Title and text of each."""
    times = [f"audio: {item.audio_ms} ms"] if item.audio_ms else []
    times += [f"{name}: {value} ms" for name, value in item.timings_ms.items()]
    found = [("Timings", "\n".join(times))] if times else []
    if item.receipt:
        found.append(("Receipt", json.dumps(item.receipt, ensure_ascii=False, indent=2)))
    return found


@admin.register(Conversation)
class ConversationAdmin(TenantModelAdmin):
    list_display = ["started_at", "agent", "agent_version", "channel", "duration_s", "item_count", "end_reason", "id"]
    list_filter = ["agent", "channel", "end_reason"]
    date_hierarchy = "started_at"
    search_fields = ["id", "conversation_id", "end_user"]
    exclude = ["started_seq", "ended_seq"]
    inlines = [ItemInline]
    list_per_page = 50
