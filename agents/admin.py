"""Agents of the tenant whose host this is; its owners and admins may change them."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from agents.models import Agent
from agents.operations import FIELDS, create_agent, update_agent
from tenants.admin_site import TenantModelAdmin


@admin.register(Agent)
class AgentAdmin(TenantModelAdmin):
    fields = [
        "slug", "name", "instructions", "greeting", "voice", "speed", "language", "model", "temperature",
        "turn_detection", "record", "is_default", "created_at", "updated_at",
    ]  # fmt: skip
    may_add = may_change = may_delete = True
    list_display = ["name", "slug", "voice", "language", "is_default", "updated_at"]
    search_fields = ["name", "slug"]
    list_filter = ["language", "is_default"]
    list_per_page = 50
    readonly_fields = ["created_at", "updated_at"]

    def save_model(self, request: HttpRequest, obj: Agent, form: Any, change: bool) -> None:
        fields = {name: getattr(obj, name) for name in FIELDS}
        if change:
            update_agent(agent=obj, **fields)
        else:
            obj.pk = create_agent(**fields).pk
