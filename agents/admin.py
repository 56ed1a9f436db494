"""Agents of the tenant whose host this is; its owners and admins may change their drafts and publish them."""

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from agents.models import Agent, AgentVersion
from agents.operations import (
    FIELDS,
    AgentInUse,
    AgentInvalid,
    NothingToRollBack,
    activate_version,
    create_agent,
    delete_agent,
    publish_agent,
    refuse_in_use,
    roll_back_agent,
    update_agent,
)
from tenants.admin_site import TenantModelAdmin


@admin.register(Agent)
class AgentAdmin(TenantModelAdmin):
    fields = [*FIELDS, "live", "standby", "created_at", "updated_at"]
    may_add = may_change = may_delete = True
    list_display = ["name", "slug", "live", "standby", "voice", "is_default", "updated_at"]
    list_select_related = ["live__agent", "standby__agent"]
    search_fields = ["name", "slug"]
    list_filter = ["language", "is_default"]
    list_per_page = 50
    readonly_fields = ["live", "standby", "created_at", "updated_at"]
    actions = ["publish", "roll_back"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        return super().get_queryset(request).defer("live__definition", "standby__definition")

    def save_model(self, request: HttpRequest, obj: Agent, form: Any, change: bool) -> None:
        fields = {name: getattr(obj, name) for name in FIELDS}
        if change:
            update_agent(agent=obj, **fields)
        else:
            obj.pk = create_agent(**fields).pk

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, set[str], list[Any]]:
        """What cannot be deleted is said on the page that asks whether to delete it, and none of it is."""
        found, counts, needed, protected = super().get_deleted_objects(objs, request)
        for agent in objs:
            try:
                refuse_in_use(agent)
            except AgentInUse as error:
                protected.append(error.message)
        return found, counts, needed, protected

    def delete_model(self, request: HttpRequest, obj: Agent) -> None:
        try:
            delete_agent(agent=obj)
        except AgentInUse as error:
            self.message_user(request, error.message, messages.ERROR)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Agent]) -> None:
        for agent in queryset:
            self.delete_model(request, agent)

    @admin.action(description="Publish the draft")
    def publish(self, request: HttpRequest, queryset: QuerySet[Agent]) -> None:
        for agent in queryset:
            try:
                with transaction.atomic():
                    version = publish_agent(agent=agent)
            except AgentInvalid as error:
                self.message_user(request, f"{agent.slug} was not published: {error}", messages.ERROR)
            else:
                self.message_user(request, f"{agent.slug}: version {version.number} takes calls.", messages.SUCCESS)

    @admin.action(description="Roll back to the version before")
    def roll_back(self, request: HttpRequest, queryset: QuerySet[Agent]) -> None:
        for agent in queryset:
            try:
                with transaction.atomic():
                    now = roll_back_agent(agent=agent).live
            except NothingToRollBack as error:
                self.message_user(request, error.message, messages.ERROR)
            else:
                number = now.number if now else None
                self.message_user(request, f"{agent.slug}: version {number} takes calls.", messages.SUCCESS)


@admin.register(AgentVersion)
class AgentVersionAdmin(TenantModelAdmin):
    """Published versions are never changed."""

    fields = ["agent", "number", "note", "published_by", "created_at", "definition"]
    readonly_fields = fields
    list_display = ["agent", "number", "note", "published_by", "created_at"]
    list_select_related = ["agent"]
    list_filter = ["agent"]
    list_per_page = 50
    actions = ["activate"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AgentVersion]:
        return super().get_queryset(request).order_by("agent__slug", "-number")

    @admin.action(description="Make live: new calls get this version")
    def activate(self, request: HttpRequest, queryset: QuerySet[AgentVersion]) -> None:
        for version in queryset:
            activate_version(version=version)
            self.message_user(request, f"{version} takes calls.", messages.SUCCESS)
