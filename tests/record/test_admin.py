"""Django's admin: what the owner of a tenant and the platform's operator see, and what they may do."""

import re

import pytest
from django.test import Client
from django_tenants.utils import tenant_context

from agents.models import Agent
from realtime.archive.operations import apply_events
from tenants.keys.queries import KeyRevoked, find_key
from tenants.models import ApiKey
from tests.record.world import BEGUN, PASSWORD, World, call


def sign_in(host: str, email: str) -> Client:
    client = Client(headers={"Host": host})
    client.post("/admin/login/?next=/admin/", {"username": email, "password": PASSWORD})
    return client


@pytest.fixture
def owner(world: World) -> Client:
    return sign_in(world.alpha.host, world.alpha.owner.email)


@pytest.fixture
def operator(world: World) -> Client:
    return sign_in("platform.localhost", world.operator.email)


def agent_form(**changes: str) -> dict[str, str]:
    form = {
        "slug": "desk", "name": "Desk", "instructions": "", "greeting": "", "voice": "alloy", "speed": "1.0",
        "language": "", "model": "", "temperature": "0.7", "turn_detection": '{"type": "server_vad"}',
    }  # fmt: skip
    return form | changes


def test_an_owner_reads_their_conversations_with_items(owner: Client) -> None:
    overview = owner.get("/admin/").content.decode()
    assert "AgentVoiceBox · Alpha" in overview
    assert "Conversations" in overview
    assert "API keys" not in overview
    assert "sess_alpha" in owner.get("/admin/archive/conversation/").content.decode()
    page = owner.get("/admin/archive/conversation/sess_5Falpha/change/").content.decode()
    assert "hello from alpha" in page
    assert "welcome to alpha" in page
    assert 'name="_save"' not in page


def test_a_long_conversation_shows_its_latest_items_and_says_so(world: World, owner: Client, settings) -> None:
    with tenant_context(world.alpha.tenant):
        apply_events(call("sess_long", "alpha-desk", [f"word {number}." for number in range(12)]))
    settings.API_MAX_ITEMS = 5
    page = owner.get("/admin/archive/conversation/sess_5Flong/change/").content.decode()
    assert [f"word {number}." in page for number in range(12)] == [False] * 7 + [True] * 5
    assert page.index("word 10.") < page.index("word 11.")
    assert "7 more items are not shown" in page
    settings.API_MAX_ITEMS = 12
    page = owner.get("/admin/archive/conversation/sess_5Flong/change/").content.decode()
    assert "word 0." in page
    assert "not shown" not in page


def test_pages_bring_an_icon_and_only_files_of_this_server(owner: Client) -> None:
    for path in ("", "archive/conversation/", "archive/conversation/sess_5Falpha/change/"):
        page = owner.get(f"/admin/{path}").content.decode()
        assert '<link rel="icon" href="/static/icon.svg"' in page
        assert not re.search(r"""(src|href)=["'](https?:)?//""", page)


def test_a_conversation_cannot_be_changed_in_the_admin(owner: Client) -> None:
    assert owner.get("/admin/archive/conversation/add/").status_code == 403
    assert owner.post("/admin/archive/conversation/sess_5Falpha/change/", {"agent": "x"}).status_code == 403
    assert owner.post("/admin/archive/conversation/sess_5Falpha/delete/", {"post": "yes"}).status_code == 403


def test_an_owner_adds_changes_and_deletes_an_agent(world: World, owner: Client) -> None:
    response = owner.post("/admin/agents/agent/add/", agent_form(is_default="on"))
    assert response.status_code == 302, response.context["errors"]
    with tenant_context(world.alpha.tenant):
        agent = Agent.objects.get(slug="desk")
        assert not Agent.objects.get(slug="alpha-desk").is_default
    change = f"/admin/agents/agent/{agent.pk}/change/"
    assert owner.post(change, agent_form(name="Front desk")).status_code == 302
    with tenant_context(world.alpha.tenant):
        assert Agent.objects.get(slug="desk").name == "Front desk"
    assert "Front desk" in owner.get(f"/admin/agents/agent/{agent.pk}/history/").content.decode()
    assert owner.post(f"/admin/agents/agent/{agent.pk}/delete/", {"post": "yes"}).status_code == 302
    with tenant_context(world.alpha.tenant):
        assert not Agent.objects.filter(slug="desk").exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"slug": "Not A Slug"}, "lower-case"),
        ({"slug": "alpha-desk"}, "already exists"),
        ({"speed": "9"}, "less than or equal to 1.5"),
        ({"turn_detection": '{"type": "guess"}'}, "server_vad or semantic_vad"),
    ],
)
def test_a_wrong_agent_is_shown_again_with_the_reason(owner: Client, changes: dict, complaint: str) -> None:
    response = owner.post("/admin/agents/agent/add/", agent_form(**changes))
    assert response.status_code == 200
    assert complaint in response.content.decode()


def test_lists_cost_a_fixed_number_of_queries(world: World, owner: Client, django_assert_max_num_queries) -> None:
    with django_assert_max_num_queries(30) as few:
        owner.get("/admin/archive/conversation/")
    with tenant_context(world.alpha.tenant):
        for number in range(30):
            apply_events(call(f"sess_{number}", "alpha-desk", ["a", "b"], begun=BEGUN + number))
    with django_assert_max_num_queries(len(few)):
        owner.get("/admin/archive/conversation/")


def test_the_operator_sees_the_platform_and_no_tenants_rows(world: World, operator: Client) -> None:
    overview = operator.get("/admin/").content.decode()
    assert "Tenants" in overview
    assert "API keys" in overview
    assert "Conversations" not in overview
    assert operator.get("/admin/archive/conversation/").status_code == 403
    for page in ("tenants/tenant/", "tenants/apikey/", "tenants/user/", "tenants/membership/"):
        assert "lpha" in operator.get(f"/admin/{page}").content.decode()
    assert "beta.localhost" in operator.get(f"/admin/tenants/tenant/{world.beta.tenant.pk}/change/").content.decode()


def test_the_operator_revokes_a_key_and_never_sees_its_hash(world: World, operator: Client) -> None:
    key = ApiKey.objects.get(tenant=world.beta.tenant)
    assert key.secret_hash not in operator.get(f"/admin/tenants/apikey/{key.pk}/change/").content.decode()
    operator.post("/admin/tenants/apikey/", {"action": "revoke", "_selected_action": [key.pk]})
    with pytest.raises(KeyRevoked):
        find_key(world.beta.key)


def test_an_unknown_host_is_the_platforms_and_opens_to_no_owner(world: World) -> None:
    client = sign_in("nowhere.localhost", world.alpha.owner.email)
    assert client.get("/admin/").status_code == 302
