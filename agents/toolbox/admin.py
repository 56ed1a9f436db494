"""Tools, MCP servers and credentials of the tenant whose host this is; its owners and admins may change them. Secrets
are given over the API only: no page ever holds one."""

from typing import Any

from django.contrib import admin
from django.forms import ModelForm
from django.http import HttpRequest

from agents.toolbox.errors import ToolboxError
from agents.toolbox.models import Credential, McpServer, Tool
from agents.toolbox.operations import (
    TOOL_FIELDS,
    check,
    create_tool,
    delete_credential,
    delete_mcp_server,
    delete_tool,
    update_mcp_server,
    update_tool,
)
from tenants.admin_site import TenantModelAdmin

TIMES = ["created_at", "updated_at"]
SERVER_FIELDS = ["allowed_tools", "require_approval", "timeout_ms", "calls_per_minute", "is_enabled", "credential"]


class CheckedForm(ModelForm):
    """Says beside each field what the operation would refuse."""

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        try:
            check(self.instance)
        except ToolboxError as error:
            for param, message in error.errors.items():
                field, _, rest = param.partition(".")
                self.add_error(field if field in self.fields else None, f"{rest}: {message}" if rest else message)


@admin.register(Tool)
class ToolAdmin(TenantModelAdmin):
    form = CheckedForm
    fields = [
        "name", "description", "parameters", "request", "response", "credential", "timeout_ms", "integration",
        "calls_per_minute", "is_enabled", *TIMES,
    ]  # fmt: skip
    may_add = may_change = may_delete = True
    list_display = ["name", "integration", "credential", "is_enabled", "updated_at"]
    search_fields = ["name", "integration"]
    list_filter = ["is_enabled"]
    list_select_related = ["credential"]
    list_per_page = 50

    def get_readonly_fields(self, request: HttpRequest, obj: Tool | None = None) -> list[str]:
        return TIMES if obj is None else ["name", *TIMES]

    def save_model(self, request: HttpRequest, obj: Tool, form: Any, change: bool) -> None:
        fields = {name: getattr(obj, name) for name in TOOL_FIELDS}
        if change:
            update_tool(tool=obj, **fields)
        else:
            obj.pk = create_tool(**fields).pk

    def delete_model(self, request: HttpRequest, obj: Tool) -> None:
        delete_tool(tool=obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for tool in queryset:
            delete_tool(tool=tool)


@admin.register(McpServer)
class McpServerAdmin(TenantModelAdmin):
    form = CheckedForm
    fields = ["label", "url", *SERVER_FIELDS, *TIMES]
    readonly_fields = ["label", "url", *TIMES]
    may_change = may_delete = True
    list_display = ["label", "url", "credential", "is_enabled", "updated_at"]
    search_fields = ["label"]
    list_filter = ["is_enabled"]
    list_select_related = ["credential"]
    list_per_page = 50

    def save_model(self, request: HttpRequest, obj: McpServer, form: Any, change: bool) -> None:
        update_mcp_server(server=obj, **{name: getattr(obj, name) for name in SERVER_FIELDS})

    def delete_model(self, request: HttpRequest, obj: McpServer) -> None:
        delete_mcp_server(server=obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for server in queryset:
            delete_mcp_server(server=server)


@admin.register(Credential)
class CredentialAdmin(TenantModelAdmin):
    fields = readonly_fields = ["name", "kind", "config", "hosts", *TIMES]
    may_delete = True
    list_display = ["name", "kind", "hosts", "updated_at"]
    search_fields = ["name"]
    list_filter = ["kind"]
    list_per_page = 50

    def delete_model(self, request: HttpRequest, obj: Credential) -> None:
        delete_credential(credential=obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for credential in queryset:
            delete_credential(credential=credential)
