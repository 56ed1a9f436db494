"""Features, for platform operators: a setting without a tenant holds for all that have none of their own."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from tenants.admin_site import PlatformModelAdmin
from tenants.features.flags import DEFAULTS, Feature
from tenants.features.models import Setting
from tenants.features.operations import set_feature


class SettingForm(forms.ModelForm):
    # Not the model's to know: each new feature would be a migration.
    feature = forms.ChoiceField(choices=Feature.choices)


@admin.register(Setting)
class SettingAdmin(PlatformModelAdmin):
    form = SettingForm
    may_add = may_change = may_delete = True
    fields = ["feature", "tenant", "is_enabled", "set_by", "set_at"]
    readonly_fields = ["set_by", "set_at"]
    list_display = ["feature", "tenant", "is_enabled", "default", "set_by", "set_at"]
    list_select_related = ["tenant"]
    list_filter = ["feature", "is_enabled"]
    search_fields = ["tenant__name", "tenant__slug"]
    list_per_page = 50
    list_before_template = "admin/features/flags.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        flags = [{"name": flag.value, "about": flag.label, "is_enabled": DEFAULTS[flag]} for flag in Feature]
        return super().changelist_view(request, {**(extra_context or {}), "flags": flags})

    @admin.display(boolean=True)
    def default(self, setting: Setting) -> bool | None:
        """None: this release knows no such feature any more."""
        return {feature.value: default for feature, default in DEFAULTS.items()}.get(setting.feature)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Another feature or tenant is another setting."""
        return [*self.readonly_fields, *(["feature", "tenant"] if obj else [])]

    def save_model(self, request: HttpRequest, obj: Setting, form: Any, change: bool) -> None:
        set_feature(feature=obj.feature, is_enabled=obj.is_enabled, tenant=obj.tenant)
        obj.pk = Setting.objects.get(feature=obj.feature, tenant=obj.tenant).pk

    def delete_model(self, request: HttpRequest, obj: Setting) -> None:
        set_feature(feature=obj.feature, is_enabled=None, tenant=obj.tenant)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Setting]) -> None:
        for setting in queryset:
            self.delete_model(request, setting)
