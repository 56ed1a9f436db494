"""Routing rules of the tenant whose host this is; its owners and admins may change them."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest

from agents.models import Agent
from agents.routing.matching import ConditionsInvalid, read_conditions
from agents.routing.models import RoutingRule
from agents.routing.operations import FIELDS, create_rule, delete_rule, update_rule
from tenants.admin_site import TenantModelAdmin


class RuleForm(forms.ModelForm):
    class Meta:
        model = RoutingRule
        fields = FIELDS

    def clean_agent(self) -> str:
        slug = str(self.cleaned_data["agent"])
        if not Agent.objects.filter(slug=slug).exists():
            raise ValidationError(f"There is no agent {slug!r}.")
        return slug

    def clean_conditions(self) -> Any:
        conditions = self.cleaned_data["conditions"] or {}
        try:
            read_conditions(conditions)
        except ConditionsInvalid as error:
            raise ValidationError(str(error)) from error
        return conditions


@admin.register(RoutingRule)
class RoutingRuleAdmin(TenantModelAdmin):
    form = RuleForm
    fields = [*FIELDS, "position", "created_at", "updated_at"]
    readonly_fields = ["position", "created_at", "updated_at"]
    may_add = may_change = may_delete = True
    list_display = ["position", "name", "agent", "is_enabled", "updated_at"]
    list_display_links = ["name"]
    list_filter = ["is_enabled"]
    search_fields = ["name", "agent"]
    list_per_page = 50

    def save_model(self, request: HttpRequest, obj: RoutingRule, form: Any, change: bool) -> None:
        fields = {name: getattr(obj, name) for name in FIELDS}
        if change:
            update_rule(rule=obj, **fields)
        else:
            rule = create_rule(**fields)
            obj.pk, obj.position = rule.pk, rule.position

    def delete_model(self, request: HttpRequest, obj: RoutingRule) -> None:
        delete_rule(rule=obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[RoutingRule]) -> None:
        for rule in queryset:
            delete_rule(rule=rule)
