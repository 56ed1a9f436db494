"""The audit log, read only: on a tenant's host the tenant's, on the platform's host the platform's."""

from django.contrib import admin

from tenants.admin_site import SharedModelAdmin
from tenants.audit.models import Entry


@admin.register(Entry)
class EntryAdmin(SharedModelAdmin):
    list_display = ["seq", "at", "action", "target", "actor_kind", "actor_name", "address"]
    list_filter = ["actor_kind"]
    search_fields = ["action", "target", "actor_id", "actor_name", "address"]
    date_hierarchy = "at"
    list_per_page = 50
    show_full_result_count = False
