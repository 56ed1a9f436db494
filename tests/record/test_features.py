"""Features that operators turn on and off: for the platform, for one tenant, and what then happens."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django_tenants.utils import tenant_context

from agents.loading import load_spec
from agents.models import Agent
from agents.operations import publish_agent, update_agent
from agents.toolbox.models import McpServer
from agents.trials.judging import judge_all
from agents.trials.models import Release
from agentvoicebox import admission
from realtime.runtime.door import Refusal, read_visit
from tenants.audit.models import Entry
from tenants.features.flags import DEFAULTS, Feature
from tenants.features.models import Setting
from tenants.features.operations import set_feature
from tenants.features.queries import is_enabled, snapshot
from tenants.keys.queries import credential_of, find_key
from tenants.lifecycle.platform_keys import issue_platform_key
from tests.record.people import PLATFORM
from tests.record.test_admin import sign_in
from tests.record.test_trials_judging import NOW
from tests.record.test_trials_judging import store as store_calls
from tests.record.world import Api, World

BETA = Feature.REALTIME_BETA


@pytest.fixture(autouse=True)
def forgetful(settings: Any) -> Iterator[None]:
    """Each question is asked of the database; and what a test's transaction said is forgotten with it."""
    settings.FEATURE_CACHE_S = 0
    yield
    snapshot.forget()


@pytest.fixture
def operator(world: World) -> Api:
    return Api(issue_platform_key(name="robot")[1])


def test_every_feature_has_a_default_and_says_what_it_is() -> None:
    assert set(DEFAULTS) == set(Feature)
    assert all(len(feature.label) > 20 for feature in Feature)


def test_a_tenants_own_setting_comes_before_the_platforms(world: World) -> None:
    alpha = world.alpha.tenant
    assert is_enabled(BETA, "alpha") is DEFAULTS[BETA] is True
    set_feature(feature=BETA, is_enabled=False)
    assert (is_enabled(BETA, "alpha"), is_enabled(BETA, "beta")) == (False, False)
    set_feature(feature=BETA, is_enabled=True, tenant=alpha)
    assert (is_enabled(BETA, "alpha"), is_enabled(BETA, "beta")) == (True, False)
    set_feature(feature=BETA, is_enabled=None, tenant=alpha)
    set_feature(feature=BETA, is_enabled=None)
    assert is_enabled(BETA, "alpha") is True
    assert not Setting.objects.exists()


def test_it_is_answered_from_memory(
    world: World, settings: Any, django_assert_num_queries: Any, django_capture_on_commit_callbacks: Any
) -> None:
    settings.FEATURE_CACHE_S = 60
    snapshot.forget()
    with django_assert_num_queries(1):
        for feature in Feature:
            for tenant in ("alpha", "beta"):
                assert is_enabled(feature, tenant)
    with django_capture_on_commit_callbacks(execute=True):
        set_feature(feature=BETA, is_enabled=False)
        assert is_enabled(BETA, "alpha"), "before it is committed nobody else sees it"
    with django_assert_num_queries(1):
        assert not is_enabled(BETA, "alpha")
        assert not is_enabled(BETA, "beta")


def test_a_change_is_in_the_platforms_log_and_in_the_tenants(world: World) -> None:
    set_feature(feature=BETA, is_enabled=False, tenant=world.alpha.tenant)
    set_feature(feature=BETA, is_enabled=False, tenant=world.alpha.tenant)
    [entry] = Entry.objects.filter(action="feature.set")
    assert (entry.target, entry.before) == ("realtime_beta", {"is_enabled": None})
    assert entry.after == {"is_enabled": False, "tenant": "alpha"}
    for house, count in ((world.alpha, 1), (world.beta, 0)):
        with tenant_context(house.tenant):
            assert Entry.objects.filter(action="feature.set").count() == count


# --- the API and the admin ---


def test_operators_set_features_by_rest(operator: Api) -> None:
    status, answer = operator("GET", "features/")
    assert (status, [row["name"] for row in answer["data"]["results"]]) == (200, Feature.values)
    assert answer["data"]["results"][0] == {
        "name": "realtime_beta", "description": BETA.label, "default": True, "is_enabled": None, "tenants": {},
    }  # fmt: skip
    status, answer = operator("PATCH", "features/realtime_beta/", {"is_enabled": False, "tenants": {"alpha": True}})
    assert (status, answer["data"]["is_enabled"], answer["data"]["tenants"]) == (200, False, {"alpha": True})
    assert (is_enabled(BETA, "alpha"), is_enabled(BETA, "beta")) == (True, False)
    status, answer = operator("PATCH", "features/realtime_beta/", {"tenants": {"alpha": None, "beta": False}})
    assert (answer["data"]["is_enabled"], answer["data"]["tenants"]) == (False, {"beta": False})
    assert operator("GET", "features/realtime_beta/")[1]["data"] == answer["data"]


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("features/telepathy/", {}, 404, None),
        ("features/realtime_beta/", {"tenants": {"nobody": True}}, 400, "tenants"),
        ("features/realtime_beta/", {"tenants": {"alpha": "perhaps"}}, 400, "tenants.alpha"),
        ("features/realtime_beta/", {"tenants": [1]}, 400, "tenants"),
        ("features/realtime_beta/", {"is_enabled": "perhaps"}, 400, "is_enabled"),
        ("features/realtime_beta/", {"enabled": True}, 400, "enabled"),
        ("features/realtime_beta/", {"tenants": {str(number): True for number in range(1_001)}}, 400, "tenants"),
    ],
)
def test_what_cannot_be_set_is_refused_by_name(
    operator: Api, path: str, body: dict[str, Any], status: int, param: str | None
) -> None:
    found, answer = operator("PATCH", path, body)
    assert (found, answer["error"]["param"]) == (status, param), answer
    assert not Setting.objects.exists()


def test_a_tenants_own_people_and_keys_see_none_of_it(world: World) -> None:
    assert Api(world.alpha.key)("GET", "features/")[0] == 403


def test_operators_set_features_in_the_admin(world: World) -> None:
    client = Client(headers={"Host": PLATFORM})
    client.force_login(world.operator)
    path = "/admin/features/setting/"
    fields = {"feature": "realtime_beta", "tenant": world.alpha.tenant.pk}
    assert client.post(f"{path}add/", fields).status_code == 302
    setting = Setting.objects.get()
    assert (setting.is_enabled, setting.set_by) == (False, f"person {world.operator.pk}")
    assert client.post(f"{path}add/", fields).status_code == 200, "there is one already"
    assert client.get(path).status_code == 200
    client.post(f"{path}{setting.pk}/change/", {"is_enabled": "on"})
    assert is_enabled(BETA, "alpha")
    client.post(f"{path}{setting.pk}/delete/", {"post": "yes"})
    assert not Setting.objects.exists()
    assert Entry.objects.filter(action="feature.set").count() == 3
    owner = Client(headers={"Host": world.alpha.host})
    owner.force_login(world.alpha.owner)
    assert owner.get(path).status_code in (403, 404)


# --- what they turn off ---


def test_without_the_beta_a_tenants_clients_are_told_so_at_the_door(world: World) -> None:
    set_feature(feature=BETA, is_enabled=False, tenant=world.alpha.tenant)
    for house, is_refused in ((world.alpha, True), (world.beta, False)):
        credential = credential_of(find_key(house.key))
        for headers, refused in (({"openai-beta": "realtime=v1"}, is_refused), ({}, False)):
            visit = read_visit({"authorization": f"Bearer {house.key}"} | headers, [], "model=gpt-realtime")
            if refused:
                with pytest.raises(Refusal, match="no longer supported"):
                    admission._read(credential, visit, "sess_x", None, None)
            else:
                caller, *_ = admission._read(credential, visit, "sess_x", None, None)
                assert caller.agent.slug == house.agent


def test_without_server_tools_an_agent_keeps_what_reaches_nobody(world: World) -> None:
    refs = [
        {"type": "builtin", "name": "current_time"},
        {"type": "mcp", "server": "crm"},
        {"type": "function", "name": "show_map", "description": "Shows a map.", "parameters": {"type": "object"}},
    ]
    with tenant_context(world.alpha.tenant):
        McpServer.objects.create(label="crm", url="https://mcp.example.com/mcp")
        agent = Agent.objects.get(slug=world.alpha.agent)
        update_agent(agent=agent, tools=refs)
        publish_agent(agent=agent)
        spec = load_spec(world.alpha.agent)
        assert [server.label for server in spec.mcp_servers] == ["crm"]
        set_feature(feature=Feature.SERVER_TOOLS, is_enabled=False, tenant=world.alpha.tenant)
        spec = load_spec(world.alpha.agent)
    assert [tool.kind for tool in spec.tools] == ["builtin"]
    assert spec.mcp_servers == ()
    assert [function["name"] for function in spec.functions] == ["show_map"]


def test_without_the_watch_nothing_is_taken_back(world: World) -> None:
    for house in (world.alpha, world.beta):
        with tenant_context(house.tenant):
            store_calls(1, 100, at=NOW, agent=house.agent)
            publish_agent(agent=Agent.objects.get(slug=house.agent))
    set_feature(feature=Feature.RELEASE_WATCH, is_enabled=False, tenant=world.alpha.tenant)
    for house, releases in ((world.alpha, 0), (world.beta, 1)):
        with tenant_context(house.tenant):
            judge_all(now=NOW)
            assert Release.objects.count() == releases


def test_the_admin_says_which_features_there_are(world: World) -> None:
    page = sign_in("platform.localhost", world.operator.email).get("/admin/features/setting/").content.decode()
    assert all(flag.value in page and flag.label in page for flag in Feature)
