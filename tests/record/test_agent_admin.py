"""Versions in the admin: read, published, switched, never changed."""

from typing import Any

import pytest
from django.test import Client
from django_tenants.utils import tenant_context

from agents.models import AgentVersion
from agents.operations import create_agent, update_agent
from agents.queries import find_agent
from tenants.audit.models import Entry
from tests.record.test_admin import sign_in
from tests.record.world import World

AGENTS, VERSIONS = "/admin/agents/agent/", "/admin/agents/agentversion/"


@pytest.fixture
def owner(world: World) -> Client:
    return sign_in(world.alpha.host, world.alpha.owner.email)


def act(owner: Client, page: str, action: str, row: Any) -> str:
    """What the page says after an action was taken on a row."""
    answer = owner.post(page, {"action": action, "_selected_action": [row.pk]}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_an_owner_publishes_activates_and_rolls_back(world: World, owner: Client) -> None:
    with tenant_context(world.alpha.tenant):
        agent = find_agent("alpha-desk")
        first = agent.versions.get()
    assert "alpha-desk: version 2 takes calls." in act(owner, AGENTS, "publish", agent)
    assert "alpha-desk: version 1 takes calls." in act(owner, AGENTS, "roll_back", agent)
    assert "alpha-desk: version 2 takes calls." in act(owner, AGENTS, "roll_back", agent)
    assert "alpha-desk@1 takes calls." in act(owner, VERSIONS, "activate", first)
    with tenant_context(world.alpha.tenant):
        entry = Entry.objects.latest("seq")
        assert (entry.action, entry.actor_kind) == ("agent.version_activated", "person")
        assert find_agent("alpha-desk").live == first


def test_what_cannot_be_done_is_said(world: World, owner: Client) -> None:
    with tenant_context(world.alpha.tenant):
        agent = create_agent(slug="new", name="New", instructions="{{ x }}")
    assert "nobody knows a variable" in act(owner, AGENTS, "publish", agent)
    assert "has no earlier version to go back to" in act(owner, AGENTS, "roll_back", agent)
    with tenant_context(world.alpha.tenant):
        assert not AgentVersion.objects.filter(agent=agent).exists()


def test_versions_are_read_and_never_changed(world: World, owner: Client) -> None:
    with tenant_context(world.alpha.tenant):
        version = AgentVersion.objects.get(agent__slug="alpha-desk")
    assert "Secret of alpha" in owner.get(f"{VERSIONS}{version.pk}/change/").content.decode()
    assert owner.get(f"{VERSIONS}add/").status_code == 403
    assert owner.post(f"{VERSIONS}{version.pk}/change/", {"note": "x"}).status_code == 403
    assert owner.post(f"{VERSIONS}{version.pk}/delete/", {"post": "yes"}).status_code == 403


def test_another_tenants_versions_are_not_there(world: World, owner: Client) -> None:
    with tenant_context(world.beta.tenant):
        version = AgentVersion.objects.get(agent__slug="beta-desk")
    assert owner.get(f"{VERSIONS}{version.pk}/change/", follow=True).content.decode().count("Secret of beta") == 0
    act(owner, VERSIONS, "activate", version)
    with tenant_context(world.beta.tenant):
        assert Entry.objects.filter(action="agent.version_activated").count() == 0


def test_lists_cost_a_fixed_number_of_queries(world: World, owner: Client, django_assert_max_num_queries: Any) -> None:
    for page in (AGENTS, VERSIONS):
        owner.get(page)
        with django_assert_max_num_queries(30) as few:
            owner.get(page)
        with tenant_context(world.alpha.tenant):
            agents = [create_agent(slug=f"{page[-3]}{number}", name="Many") for number in range(10)]
            for agent in agents:
                agent.live = AgentVersion.objects.create(agent=agent, number=1, definition={})
                agent.save()
        with django_assert_max_num_queries(len(few)):
            owner.get(page)


def test_an_agent_that_is_needed_is_not_deleted_and_the_page_says_why(world: World, owner: Client) -> None:
    with tenant_context(world.alpha.tenant):
        needed = create_agent(slug="billing", name="Billing")
        update_agent(agent=find_agent("alpha-desk"), colleagues=[{"agent": "billing"}])
    for address, sent in (
        (f"{AGENTS}{needed.pk}/delete/", {"post": "yes"}),
        (AGENTS, {"action": "delete_selected", "_selected_action": [needed.pk], "post": "yes"}),
    ):
        page = owner.post(address, sent, follow=True).content.decode()
        assert "is named by the agent &#x27;alpha-desk&#x27;: change these first." in page
        assert "uccessfully deleted" not in page
    with tenant_context(world.alpha.tenant):
        assert find_agent("billing").name == "Billing"
