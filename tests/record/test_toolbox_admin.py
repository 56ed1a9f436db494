"""Tools in the admin: a tenant's owner changes their own, and no page shows a secret."""

import json

import pytest
from django.test import Client
from django_tenants.utils import tenant_context

from agents.toolbox.models import Credential, McpServer, Tool
from agents.toolbox.operations import create_credential, create_mcp_server, create_tool
from tenants.audit.models import Entry
from tests.record.test_admin import sign_in
from tests.record.world import House, World

SECRET = "k-9f8e7d6c5b4a"


@pytest.fixture
def owner(world: World) -> Client:
    return sign_in(world.alpha.host, world.alpha.owner.email)


def furnish(house: House) -> tuple[Tool, McpServer, Credential]:
    name = house.tenant.slug
    with tenant_context(house.tenant):
        key = create_credential(name=f"key_{name}", kind="bearer", config={}, secret={"token": SECRET})
        request = {"method": "GET", "url": f"https://{name}.example/"}
        tool = create_tool(name=f"tool_{name}", request=request, credential=key)
        server = create_mcp_server(label=f"mcp_{name}", url=f"https://{name}.example/mcp", headers={"X-Token": SECRET})
    return tool, server, key


def form(tool: Tool, **change: str) -> dict[str, str]:
    shown = {
        "name": tool.name, "description": "", "parameters": json.dumps(tool.parameters),
        "request": json.dumps(tool.request), "response": "{}", "credential": str(tool.credential_id or ""),
        "timeout_ms": "10000", "integration": "", "calls_per_minute": "", "is_enabled": "on",
    }  # fmt: skip
    return shown | change


def test_an_owner_sees_their_own_and_no_secret(world: World, owner: Client) -> None:
    tool, server, key = furnish(world.alpha)
    other = furnish(world.beta)
    for path, row, foreign in (
        ("tool", tool, other[0]), ("mcpserver", server, other[1]), ("credential", key, other[2]),
    ):  # fmt: skip
        listed = owner.get(f"/admin/toolbox/{path}/").content.decode()
        page = owner.get(f"/admin/toolbox/{path}/{row.pk}/change/").content.decode()
        assert str(row) in listed
        assert str(foreign) not in listed
        assert SECRET not in listed + page
        assert owner.get(f"/admin/toolbox/{path}/{foreign.pk}/change/").status_code == 302
    assert 'name="_save"' not in owner.get(f"/admin/toolbox/credential/{key.pk}/change/").content.decode()


def test_an_owner_changes_a_tool_by_the_same_rules(world: World, owner: Client) -> None:
    tool, _, _ = furnish(world.alpha)
    path = f"/admin/toolbox/tool/{tool.pk}/change/"
    bad = owner.post(path, form(tool, request='{"method": "GET", "url": "https://{{arguments.host}}/"}'))
    assert bad.status_code == 200
    assert "An address begins with https://" in bad.content.decode()
    assert owner.post(path, form(tool, description="Reads it.")).status_code == 302
    made = {"request": '{"method": "GET", "url": "https://a.example/"}', "name": "fresh", "credential": ""}
    assert owner.post("/admin/toolbox/tool/add/", form(tool, **made)).status_code == 302
    with tenant_context(world.alpha.tenant):
        assert Tool.objects.get(pk=tool.pk).description == "Reads it."
        assert Entry.objects.get(action="tool.updated").after == {"description": "Reads it."}
        assert Entry.objects.filter(action="tool.created", target="fresh").count() == 1


def test_an_owner_changes_a_server_and_its_headers_stay(world: World, owner: Client) -> None:
    _, server, _ = furnish(world.alpha)
    sent = {
        "allowed_tools": '["find_slot"]', "require_approval": '"never"', "timeout_ms": "500", "calls_per_minute": "",
        "credential": "",
    }  # fmt: skip
    assert owner.post(f"/admin/toolbox/mcpserver/{server.pk}/change/", sent).status_code == 302
    with tenant_context(world.alpha.tenant):
        stored = McpServer.objects.get(pk=server.pk)
        assert (stored.timeout_ms, stored.is_enabled, stored.allowed_tools) == (500, False, ["find_slot"])
        assert stored.headers == {"X-Token": SECRET}


def test_a_credential_in_use_stays(world: World, owner: Client) -> None:
    tool, _, key = furnish(world.alpha)
    page = owner.post(f"/admin/toolbox/credential/{key.pk}/delete/", {"post": "yes"})
    assert tool.name in page.content.decode()
    assert owner.post(f"/admin/toolbox/tool/{tool.pk}/delete/", {"post": "yes"}).status_code == 302
    assert owner.post(f"/admin/toolbox/credential/{key.pk}/delete/", {"post": "yes"}).status_code == 302
    with tenant_context(world.alpha.tenant):
        assert not Credential.objects.exists()
        assert Entry.objects.filter(action="tool_credential.deleted").count() == 1
