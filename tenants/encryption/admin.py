"""Which keys protect what, for platform operators: never a key itself."""

from django.contrib import admin

from tenants.admin_site import PlatformModelAdmin
from tenants.encryption.models import DataKey


@admin.register(DataKey)
class DataKeyAdmin(PlatformModelAdmin):
    list_display = ["tenant", "version", "state", "master_key_id", "created_at"]
    list_filter = ["state", "master_key_id"]
    search_fields = ["tenant", "master_key_id"]
    exclude = ["wrapped"]
    list_per_page = 50
