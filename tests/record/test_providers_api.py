"""``/api/v1/providers/`` and the admin's page of them."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django_tenants.utils import tenant_context

from agents.llm.choice import read_platform
from agents.models import Agent
from agents.providers import checking, queries
from agents.providers.models import Provider
from tests.llm.server import ChatServer, chat
from tests.record.test_admin import sign_in
from tests.record.world import Api, World

NEW = {
    "name": "vllm", "kind": "openai_compatible", "base_url": "https://llm.example.com/v1",
    "credentials": {"api_key": "top-secret"}, "model": "llama", "sees": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _platform(monkeypatch: pytest.MonkeyPatch) -> None:
    platform = read_platform({"OPENAI_API_KEY": "sk-platform", "OLLAMA_HOST": "127.0.0.1:9"})
    monkeypatch.setattr(queries, "platform", lambda: platform)


class Running:
    """A chat server on a loop of its own."""

    def __enter__(self) -> ChatServer:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = ChatServer()
        asyncio.run_coroutine_threadsafe(self._server.__aenter__(), self._loop).result()
        return self._server

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._server.__aexit__(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with Running() as server:
        yield server


def test_a_provider_is_created_read_changed_and_deleted(alpha_api: Api) -> None:
    status, answer = alpha_api("POST", "providers/", NEW)
    assert status == 201, answer
    shown = answer["data"]
    assert "credentials" not in shown
    assert "top-secret" not in str(answer)
    expected = {
        "name": "vllm", "owner": "tenant", "is_default": False, "kind": "openai_compatible",
        "base_url": "https://llm.example.com/v1", "credentials_set": ["api_key"], "model": "llama", "sees": False,
        "is_enabled": True,
    }  # fmt: skip
    assert {name: shown[name] for name in expected} == expected
    status, answer = alpha_api("PATCH", "providers/vllm/", {"model": "llama-2", "credentials": {"api_key": None}})
    assert (status, answer["data"]["model"], answer["data"]["credentials_set"]) == (200, "llama-2", [])
    assert alpha_api("GET", "providers/vllm/")[1]["data"]["model"] == "llama-2"
    assert alpha_api("DELETE", "providers/vllm/") == (204, None)
    status, answer = alpha_api("GET", "providers/vllm/")
    assert (status, answer["error"]["message"]) == (404, "There is no provider 'vllm'.")


def test_of_the_platforms_a_tenant_sees_the_name_alone(alpha_api: Api) -> None:
    alpha_api("POST", "providers/", NEW)
    page = alpha_api("GET", "providers/")[1]["data"]
    assert [shown["name"] for shown in page["results"]] == ["ollama", "openai", "vllm"]
    assert page["results"][1] == {
        "name": "openai", "owner": "platform", "is_default": True, "kind": None, "base_url": None,
        "credentials_set": None, "model": None, "sees": None, "is_enabled": True, "created_at": None,
        "updated_at": None,
    }  # fmt: skip
    assert alpha_api("GET", "providers/openai/")[1]["data"] == page["results"][1]
    for method in ("PATCH", "DELETE"):
        assert alpha_api(method, "providers/openai/", {} if method == "PATCH" else None)[0] == 404
    assert alpha_api("POST", "providers/openai/check/", {})[0] == 404


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (NEW | {"kind": "gemini"}, "kind", "invalid_choice"),
        (NEW | {"base_url": ""}, "base_url", "invalid"),
        (NEW | {"credentials": {"token": "x"}}, "credentials", "invalid"),
        (NEW | {"credentials": "top-secret"}, "credentials", "not_a_dict"),
        (NEW | {"tenant": "beta"}, "tenant", "unknown_parameter"),
        (NEW | {"credentials_set": []}, "credentials_set", "unknown_parameter"),
    ],
)
def test_what_is_wrong_is_named(alpha_api: Api, body: dict[str, Any], param: str, code: str) -> None:
    status, answer = alpha_api("POST", "providers/", body)
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, param, code)
    assert "top-secret" not in str(answer)


def test_a_name_is_taken_once_and_one_in_use_stays(world: World, alpha_api: Api) -> None:
    alpha_api("POST", "providers/", NEW)
    status, answer = alpha_api("POST", "providers/", NEW)
    assert (status, answer["error"]["code"]) == (400, "name_taken")
    with tenant_context(world.alpha.tenant):
        Agent.objects.filter(slug="alpha-desk").update(model="vllm/llama")
    status, answer = alpha_api("DELETE", "providers/vllm/")
    assert (status, answer["error"]["code"]) == (409, "provider_in_use")
    assert "alpha-desk" in answer["error"]["message"]


def test_a_check_says_how_it_went(
    alpha_api: Api, server: ChatServer, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setenv("AVB_EGRESS_PRIVATE_NETWORKS", "127.0.0.0/8")
    server.events = chat({"content": "ok."})
    assert alpha_api("POST", "providers/", NEW | {"base_url": server.url})[0] == 201
    status, answer = alpha_api("POST", "providers/vllm/check/", {})
    checked = answer["data"]
    assert (status, checked["answers"], checked["model"], checked["code"]) == (200, True, "llama", "")
    assert 0 <= checked["first_token_ms"] < 10_000
    assert "bearer top-secret" in server.headers[0]
    assert (server.requests[0]["model"], server.requests[0]["max_tokens"]) == ("llama", 16)
    server.status = 401
    checked = alpha_api("POST", "providers/vllm/check/", {"model": "other"})[1]["data"]
    assert checked == {
        "answers": False, "model": "other", "first_token_ms": None, "code": "llm_auth",
        "message": "vllm answered HTTP 401.",
    }  # fmt: skip
    settings.PROVIDER_CHECKS = 0
    status, answer = alpha_api("POST", "providers/vllm/check/", {})
    assert (status, answer["error"]["code"]) == (503, "busy")


def test_a_check_reaches_no_address_that_is_not_public(
    alpha_api: Api, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AVB_EGRESS_PRIVATE_NETWORKS", raising=False)
    for address in (server.url, "http://169.254.169.254/v1", "https://localhost:1/v1"):
        alpha_api("POST", "providers/", NEW | {"base_url": address})
        checked = alpha_api("POST", "providers/vllm/check/", {})[1]["data"]
        assert (checked["answers"], checked["code"]) == (False, "llm_refused")
        assert "not public" in checked["message"]
        alpha_api("DELETE", "providers/vllm/")
    assert server.requests == []


def test_a_check_that_takes_too_long_ends(alpha_api: Api, server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVB_EGRESS_PRIVATE_NETWORKS", "127.0.0.0/8")
    monkeypatch.setattr(checking, "CHECK_S", 0.3)
    server.before_head_s = 5.0
    alpha_api("POST", "providers/", NEW | {"base_url": server.url})
    assert alpha_api("POST", "providers/vllm/check/", {})[1]["data"]["code"] == "llm_timeout"


def form(**changes: str) -> dict[str, str]:
    return {"name": "vllm", "kind": "openai_compatible", "base_url": "https://llm.example.com/v1", "model": "llama",
            "sees": "on", "is_enabled": "on", "api_key": "top-secret"} | changes  # fmt: skip


@pytest.fixture
def owner(world: World) -> Client:
    return sign_in(world.alpha.host, world.alpha.owner.email)


def test_the_admin_takes_credentials_and_shows_none(world: World, owner: Client) -> None:
    assert owner.post("/admin/providers/provider/add/", form()).status_code == 302
    with tenant_context(world.alpha.tenant):
        made = Provider.objects.get()
        assert made.credentials == {"api_key": "top-secret"}
    address = f"/admin/providers/provider/{made.pk}/change/"
    page = owner.get(address).content.decode()
    assert "There is one; write another to replace it." in page
    assert "top-secret" not in page
    assert owner.post(address, form(model="llama-2", api_key="")).status_code == 302
    refused = owner.post(address, form(kind="anthropic", api_key="")).content.decode()
    assert "Send the credentials too" in refused
    with tenant_context(world.alpha.tenant):
        made = Provider.objects.get()
        assert (made.model, made.kind, made.credentials) == ("llama-2", "openai_compatible", {"api_key": "top-secret"})
        Agent.objects.filter(slug="alpha-desk").update(model="vllm")
    owner.post(f"/admin/providers/provider/{made.pk}/delete/", {"post": "yes"})
    with tenant_context(world.alpha.tenant):
        assert Provider.objects.exists()
        Agent.objects.filter(slug="alpha-desk").update(model="")
    owner.post(f"/admin/providers/provider/{made.pk}/delete/", {"post": "yes"})
    with tenant_context(world.alpha.tenant):
        assert not Provider.objects.exists()
