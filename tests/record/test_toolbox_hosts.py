"""Credentials that are bound to hosts: they go nowhere else, whoever may write tools."""

import json
import logging
from typing import Any

import pytest
from django.test import Client
from django_tenants.utils import tenant_context

from agents.toolbox.hosts import is_inside, is_narrower
from agents.toolbox.models import Credential, McpServer, Tool
from agents.toolbox.operations import update_credential
from agents.toolbox.queries import freeze_tools, resolve_tools
from tenants.audit.models import Entry
from tests.record.test_admin import sign_in
from tests.record.tool_server import ToolServer, tool_server
from tests.record.world import Api, World

__all__ = ["tool_server"]
SECRET = "k-9f8e7d6c5b4a"
KEY = {"name": "key", "kind": "bearer", "config": {}, "secret": {"token": SECRET}, "hosts": ["shop.example.com"]}
TOOL: dict[str, Any] = {
    "name": "t",
    "request": {"method": "GET", "url": "https://shop.example.com/"},
    "credential": "key",
}
SERVER = {"label": "s", "url": "https://shop.example.com/mcp", "credential": "key"}
ELSEWHERE = {"method": "GET", "url": "https://evil.example/"}


@pytest.mark.parametrize(
    ("hosts", "url", "inside"),
    [
        ([], "https://anywhere.example/", True),
        (["a.example"], "https://a.example/x/{{arguments.id}}", True),
        (["A.Example"], "https://a.EXAMPLE:443/", True),
        (["a.example"], "https://a.example:8443/", False),
        (["a.example:8443"], "https://a.example:8443/", True),
        (["a.example:8443"], "https://a.example/", False),
        (["a.example"], "http://a.example/", False),
        (["a.example:80"], "http://a.example/", True),
        (["a.example"], "https://b.a.example/", False),
        (["a.example"], "https://a.example.evil.example/", False),
        (["a.example"], "https://xa.example/", False),
        (["a.example"], "https://a.example./", False),
        (["*.a.example"], "https://b.a.example/", True),
        (["*.a.example"], "https://a.example/", False),
        (["*.a.example"], "https://c.b.a.example/", False),
        (["*.a.example"], "https://b.a.example:8443/", False),
        (["*.a.example:8443"], "https://b.a.example:8443/", True),
        (["b.example", "a.example"], "https://a.example/", True),
        (["[2001:db8::1]"], "https://[2001:DB8::1]/", True),
        (["127.0.0.1:80"], "https://127.0.0.1:8080/", False),
    ],
)
def test_what_lies_inside(hosts: list[str], url: str, inside: bool) -> None:
    assert is_inside(hosts, url) is inside


@pytest.mark.parametrize(
    ("hosts", "than", "narrower"),
    [
        (["a.example"], [], True),
        ([], ["a.example"], False),
        (["a.example"], ["b.example", "a.example"], True),
        (["a.example"], ["a.example:443"], True),
        (["a.example:8443"], ["a.example"], False),
        (["b.a.example"], ["*.a.example"], True),
        (["*.a.example"], ["b.a.example"], False),
        (["*.b.a.example"], ["*.a.example"], False),
        (["a.example", "b.example"], ["a.example"], False),
    ],
)
def test_what_only_narrows(hosts: list[str], than: list[str], narrower: bool) -> None:
    assert is_narrower(hosts, than) is narrower


@pytest.mark.parametrize(
    ("hosts", "param"),
    [
        ("a.example", "hosts"),
        (None, "hosts"),
        (["a.example", "https://a.example"], "hosts[1]"),
        (["a.example/path"], "hosts[0]"),
        (["*"], "hosts[0]"),
        (["*.com"], "hosts[0]"),
        (["a.*.example"], "hosts[0]"),
        (["*.0.0.1"], "hosts[0]"),
        (["a.example:0"], "hosts[0]"),
        (["a.example:70000"], "hosts[0]"),
        (["user@a.example"], "hosts[0]"),
        (["a" * 261], "hosts[0]"),
        (["a..example"], "hosts[0]"),
        (["a.exa mple"], "hosts[0]"),
        ([f"a{number}.example" for number in range(33)], "hosts"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_hosts_are_refused_by_name(alpha_api: Api, hosts: Any, param: str) -> None:
    assert alpha_api("POST", "tool-credentials/", KEY)[0] == 201
    for method, way, body in (
        ("POST", "tool-credentials/", KEY | {"name": "k2"}),
        ("PATCH", "tool-credentials/key/", {}),
    ):
        status, answer = alpha_api(method, way, body | {"hosts": hosts})
        assert status == 400, answer
        assert answer["error"]["param"] == param


def test_what_lies_elsewhere_cannot_name_it(world: World, alpha_api: Api, beta_api: Api) -> None:
    for api in (alpha_api, beta_api):
        assert api("POST", "tool-credentials/", KEY)[0] == 201
    status, answer = alpha_api("POST", "tools/", TOOL | {"request": ELSEWHERE})
    assert (status, answer["error"]["param"]) == (400, "credential")
    assert answer["error"]["message"] == (
        "'key' may be sent to shop.example.com only, which evil.example:443 is not: see its hosts."
    )
    assert alpha_api("POST", "mcp-servers/", SERVER | {"url": ELSEWHERE["url"]})[1]["error"]["param"] == "credential"
    assert alpha_api("POST", "tools/", TOOL)[0] == 201
    assert alpha_api("POST", "mcp-servers/", SERVER)[0] == 201
    assert alpha_api("PATCH", "tools/t/", {"request": ELSEWHERE})[1]["error"]["param"] == "credential"
    assert (
        alpha_api("PATCH", "mcp-servers/s/", {"url": "https://evil.example/mcp"})[1]["error"]["param"] == "credential"
    )
    assert alpha_api("PATCH", "tools/t/", {"request": ELSEWHERE, "credential": None})[0] == 200
    assert alpha_api("PATCH", "tools/t/", {"credential": "key"})[1]["error"]["param"] == "credential"
    document = json.dumps({
        "openapi": "3.0.0", "info": {"title": "x", "version": "1"}, "servers": [{"url": "https://evil.example"}],
        "components": {"securitySchemes": {"k": {"type": "http", "scheme": "bearer"}}}, "security": [{"k": []}],
        "paths": {"/a": {"get": {"responses": {}}}},
    })  # fmt: skip
    asked = {"document": document, "create": True, "credentials": {"k": "key"}}
    status, answer = alpha_api("POST", "tools/import/", asked)
    assert (status, answer["error"]["param"]) == (400, "GET /a: credential")
    with tenant_context(world.beta.tenant):
        assert Tool.objects.count() == McpServer.objects.count() == 0


def test_hosts_are_added_only_with_the_secret(world: World, alpha_api: Api, beta_api: Api) -> None:
    way = "tool-credentials/key/"
    alpha_api("POST", "tool-credentials/", KEY | {"hosts": []})
    assert alpha_api("PATCH", way, {"hosts": ["shop.example.com", "b.example"]})[1]["data"]["hosts"] == [
        "shop.example.com", "b.example",
    ]  # fmt: skip
    assert alpha_api("PATCH", way, {"hosts": ["shop.example.com"]})[0] == 200
    for wider in ([], ["b.example"], ["shop.example.com", "b.example"], ["*.example.com"]):
        status, answer = alpha_api("PATCH", way, {"hosts": wider})
        assert (status, answer["error"]["param"]) == (400, "secret"), wider
    assert beta_api("PATCH", way, {"hosts": []})[0] == 404
    assert alpha_api("PATCH", way, {"hosts": ["b.example"], "secret": {"token": "another"}})[0] == 200
    with tenant_context(world.alpha.tenant):
        entry = Entry.objects.filter(action="tool_credential.updated").latest("seq")
    assert entry.before == {"hosts": ["shop.example.com"]}
    assert entry.after == {"hosts": ["b.example"], "secret_replaced": "•••"}


def test_hosts_are_not_narrowed_past_what_uses_it(alpha_api: Api) -> None:
    alpha_api("POST", "tool-credentials/", KEY | {"hosts": ["shop.example.com", "b.example"]})
    alpha_api("POST", "tools/", TOOL)
    alpha_api("POST", "mcp-servers/", SERVER)
    for body in ({"hosts": ["b.example"]}, {"hosts": ["b.example"], "secret": {"token": "another"}}):
        status, answer = alpha_api("PATCH", "tool-credentials/key/", body)
        assert (status, answer["error"]["param"]) == (400, "hosts")
        assert "s, t would be elsewhere" in answer["error"]["message"]
    assert alpha_api("PATCH", "tool-credentials/key/", {"hosts": ["shop.example.com"]})[0] == 200


def test_a_version_that_is_elsewhere_begins_its_calls_without(
    world: World, alpha_api: Api, beta_api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for api in (alpha_api, beta_api):
        api("POST", "tool-credentials/", KEY)
        api("POST", "tools/", TOOL)
        api("POST", "mcp-servers/", SERVER)
    refs = [{"type": "http", "name": "t"}, {"type": "mcp", "server": "s"}]
    kept = {}
    for house in (world.alpha, world.beta):
        with tenant_context(house.tenant):
            kept[house] = freeze_tools(refs)
            found = resolve_tools(kept[house])
            assert (len(found.tools), len(found.mcp_servers)) == (1, 1)
    for way in ("tools/t/", "mcp-servers/s/"):
        assert alpha_api("PATCH", way, {"credential": None})[0] == 200
    moved = {"hosts": ["new.example"], "secret": {"token": "of-the-new-place"}}
    assert alpha_api("PATCH", "tool-credentials/key/", moved)[0] == 200
    with tenant_context(world.alpha.tenant):
        found = resolve_tools(kept[world.alpha])
        assert (found.tools, found.mcp_servers) == ((), ())
    assert "without t of type http: credential: 'key' may be sent to new.example only" in caplog.text
    assert "without s of type mcp: credential: 'key' may be sent to new.example only" in caplog.text
    with tenant_context(world.beta.tenant):
        found = resolve_tools(kept[world.beta])
        assert found.tools[0].config.credential.token == SECRET
        assert len(found.mcp_servers) == 1


def test_a_try_does_not_send_it_elsewhere(
    world: World, alpha_api: Api, tool_server: ToolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVB_EGRESS_PRIVATE_NETWORKS", "127.0.0.0/8")
    place = tool_server.url.removeprefix("http://")
    alpha_api("POST", "tool-credentials/", KEY | {"hosts": [place]})
    alpha_api("POST", "tools/", TOOL | {"request": {"method": "GET", "url": f"{tool_server.url}/a"}})
    alpha_api("POST", "mcp-servers/", SERVER | {"url": f"{tool_server.url}/mcp"})
    assert alpha_api("POST", "tools/t/try/", {})[0] == 200
    assert tool_server.asked[0][2]["authorization"] == f"Bearer {SECRET}"
    with tenant_context(world.alpha.tenant):  # as a race of two requests may leave it
        Credential.objects.update(hosts=["shop.example.com"])
    for method, way, body in (("POST", "tools/t/try/", {}), ("GET", "mcp-servers/s/tools/", None)):
        status, answer = alpha_api(method, way, body)
        assert (status, answer["error"]["param"]) == (400, "credential")
    assert len(tool_server.asked) == 1


def test_the_admin_shows_hosts_and_holds_to_them(world: World, alpha_api: Api) -> None:
    alpha_api("POST", "tool-credentials/", KEY)
    alpha_api("POST", "tools/", TOOL)
    owner = sign_in(world.alpha.host, world.alpha.owner.email)
    assert isinstance(owner, Client)
    with tenant_context(world.alpha.tenant):
        tool, key = Tool.objects.get(), Credential.objects.get()
    assert "shop.example.com" in owner.get(f"/admin/toolbox/credential/{key.pk}/change/").content.decode()
    form = {
        "description": "", "parameters": json.dumps(tool.parameters), "request": json.dumps(ELSEWHERE),
        "response": "{}", "credential": key.pk, "timeout_ms": 10_000, "integration": "",
        "calls_per_minute": "", "is_enabled": "on",
    }  # fmt: skip
    page = owner.post(f"/admin/toolbox/tool/{tool.pk}/change/", form)
    assert page.status_code == 200
    assert "may be sent to shop.example.com only" in page.content.decode()
    with tenant_context(world.alpha.tenant):
        assert Tool.objects.get().request == TOOL["request"]


def test_a_secret_that_was_rotated_meanwhile_stays_rotated(world: World, alpha_api: Api) -> None:
    alpha_api("POST", "tool-credentials/", KEY)
    with tenant_context(world.alpha.tenant):
        older = Credential.objects.get()
        assert older.secret == {"token": SECRET}
        update_credential(credential=Credential.objects.get(), secret={"token": "new"}, hosts=["new.example"])
        update_credential(credential=older, config={})
        stored = Credential.objects.get()
    assert (stored.secret, stored.hosts) == ({"token": "new"}, ["new.example"])
