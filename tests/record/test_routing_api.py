"""``/api/v1/routing-rules/``, the door's question to it, and the admin."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from django.test import Client
from django.urls import reverse
from django_tenants.utils import tenant_context

from agents.documents import read_document
from agents.operations import apply_agent, create_agent, publish_agent, update_agent
from agents.queries import find_agent
from agents.routing import trying
from agents.routing.models import RoutingRule
from agents.routing.operations import create_rule, order_rules
from agents.routing.queries import choose_agent
from agents.spec import Rule
from tenants.audit.models import Entry
from tests.record.world import Api, House, World

NOW = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
GOLD = {"attributes": {"caller.tier": ["gold"]}}


@pytest.fixture
def rules(world: World) -> dict[str, str]:
    """Four rules of alpha by their names, and one of beta; their ids."""
    with tenant_context(world.beta.tenant):
        create_rule(name="beta's", agent="beta-desk")
    found = {}
    with tenant_context(world.alpha.tenant):
        publish_agent(agent=create_agent(slug="gold-desk", name="Gold desk"))
        for name, agent, conditions in [
            ("booking", "alpha-desk", {"intent": "a reservation"}),
            ("gold", "gold-desk", GOLD),
            ("german", "gold-desk", {"languages": ["de"], **GOLD}),
            ("rest", "alpha-desk", {}),
        ]:
            found[name] = str(create_rule(name=name, agent=agent, conditions=conditions).pk)
    return found


def ask(house: House, **attributes: str):
    with tenant_context(house.tenant):
        named = {f"caller.{name}": value for name, value in attributes.items()}
        return choose_agent(channel="websocket", attributes=named, now=NOW)


def names(api: Api) -> list[str]:
    return [rule["name"] for rule in api("GET", "routing-rules/")[1]["data"]["results"]]


def audited(house: House, action: str) -> Entry:
    with tenant_context(house.tenant):
        return Entry.objects.filter(action=action).latest("seq")


def test_a_rule_is_created_read_changed_and_deleted(world: World, alpha_api: Api) -> None:
    status, answer = alpha_api("POST", "routing-rules/", {"name": "Gold", "agent": "alpha-desk", "conditions": GOLD})
    assert status == 201
    rule = answer["data"]
    assert (rule["position"], rule["is_enabled"]) == (0, True)
    assert rule["conditions"] == {"channels": [], "hours": None, "languages": [], "intent": "", **GOLD}
    path = f"routing-rules/{rule['id']}/"
    hours = {"time_zone": "Europe/Berlin", "from": "08:00", "to": "18:00"}
    status, answer = alpha_api("PATCH", path, {"conditions": {"hours": hours}, "is_enabled": False})
    assert (status, answer["data"]["name"], answer["data"]["is_enabled"]) == (200, "Gold", False)
    assert answer["data"]["conditions"]["attributes"] == {}
    assert answer["data"]["conditions"]["hours"]["days"] == ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    assert alpha_api("GET", path)[1] == answer
    assert alpha_api("DELETE", path) == (204, None)
    assert alpha_api("GET", path)[0] == 404
    assert audited(world.alpha, "routing_rule.created").after["agent"] == "alpha-desk"
    changed = audited(world.alpha, "routing_rule.updated")
    assert (changed.before["is_enabled"], changed.after["is_enabled"]) == (True, False)
    assert "name" not in changed.after
    assert audited(world.alpha, "routing_rule.deleted").target == rule["id"]


def test_rules_are_listed_in_their_order_and_filtered(alpha_api: Api, beta_api: Api, rules: dict[str, str]) -> None:
    assert names(alpha_api) == ["booking", "gold", "german", "rest"]
    assert names(beta_api) == ["beta's"]
    first = alpha_api("GET", "routing-rules/?limit=3")[1]["data"]
    second = alpha_api("GET", first["next"].partition("/api/v1/")[2])[1]["data"]
    assert [rule["name"] for rule in second["results"]] == ["rest"]
    found = alpha_api("GET", "routing-rules/?agent=gold-desk&is_enabled=true")[1]["data"]["results"]
    assert [rule["name"] for rule in found] == ["gold", "german"]
    assert alpha_api("GET", "routing-rules/?is_enabled=false")[1]["data"]["results"] == []


def test_a_deleted_rule_leaves_no_gap(alpha_api: Api, rules: dict[str, str]) -> None:
    alpha_api("DELETE", f"routing-rules/{rules['gold']}/")
    found = alpha_api("GET", "routing-rules/")[1]["data"]["results"]
    assert [(rule["name"], rule["position"]) for rule in found] == [("booking", 0), ("german", 1), ("rest", 2)]


def test_rules_get_another_order(world: World, alpha_api: Api, rules: dict[str, str]) -> None:
    wanted = [rules[name] for name in ("rest", "german", "booking", "gold")]
    status, answer = alpha_api("PUT", "routing-rules/order/", {"rules": wanted})
    assert (status, answer["data"]) == (200, {"rules": wanted})
    assert alpha_api("GET", "routing-rules/order/")[1]["data"] == {"rules": wanted}
    assert names(alpha_api) == ["rest", "german", "booking", "gold"]
    entry = audited(world.alpha, "routing_rules.reordered")
    assert (entry.before["rules"], entry.after["rules"]) == (list(rules.values()), wanted)
    alpha_api("PUT", "routing-rules/order/", {"rules": wanted})
    assert audited(world.alpha, "routing_rules.reordered").seq == entry.seq


def test_an_order_names_every_rule_once(world: World, alpha_api: Api, rules: dict[str, str]) -> None:
    mine = list(rules.values())
    with tenant_context(world.beta.tenant):
        others = str(RoutingRule.objects.get().pk)
    for wrong in ([], mine[:-1], [*mine, mine[0]], [*mine[:-1], others], [*mine, others]):
        status, answer = alpha_api("PUT", "routing-rules/order/", {"rules": wrong})
        assert (status, answer["error"]["param"]) == (400, "rules"), wrong
    assert names(alpha_api) == ["booking", "gold", "german", "rest"]


BAD = [
    ({}, "name"),
    ({"name": "x"}, "agent"),
    ({"name": "", "agent": "alpha-desk"}, "name"),
    ({"name": "x", "agent": "nobody"}, "agent"),
    ({"name": "x", "agent": "beta-desk"}, "agent"),
    ({"name": "x", "agent": "alpha-desk", "position": 3}, "position"),
    ({"name": "x", "agent": "alpha-desk", "conditions": []}, "conditions"),
    ({"name": "x", "agent": "alpha-desk", "conditions": {"hour": {}}}, "conditions.hour"),
    ({"name": "x", "agent": "alpha-desk", "conditions": {"hours": {}}}, "conditions.hours.time_zone"),
    (
        {"name": "x", "agent": "alpha-desk", "conditions": {"hours": {"time_zone": "Mars"}}},
        "conditions.hours.time_zone",
    ),
    ({"name": "x", "agent": "alpha-desk", "conditions": {"languages": ["xx1"]}}, "conditions.languages"),
    (
        {"name": "x", "agent": "alpha-desk", "conditions": {"attributes": {"caller.tier": []}}},
        "conditions.attributes.caller.tier",
    ),
]


@pytest.mark.parametrize(("body", "param"), BAD)
def test_a_wrong_rule_is_refused_by_name(alpha_api: Api, body: dict, param: str) -> None:
    status, answer = alpha_api("POST", "routing-rules/", body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert names(alpha_api) == []


def test_a_change_is_checked_like_a_new_rule(alpha_api: Api, rules: dict[str, str]) -> None:
    path = f"routing-rules/{rules['gold']}/"
    assert alpha_api("PATCH", path, {"agent": "nobody"})[1]["error"]["param"] == "agent"
    assert alpha_api("PATCH", path, {"conditions": {"channels": ["A B"]}})[1]["error"]["param"] == "conditions.channels"
    assert alpha_api("GET", path)[1]["data"]["agent"] == "gold-desk"


def test_there_are_only_so_many_rules(alpha_api: Api, rules: dict[str, str], settings) -> None:
    settings.ROUTING_RULES = 4
    status, answer = alpha_api("POST", "routing-rules/", {"name": "fifth", "agent": "alpha-desk"})
    assert (status, answer["error"]["message"]) == (400, "There may be 4 routing rules; delete one first.")


def test_a_rule_of_another_tenant_is_not_there(world: World, beta_api: Api, rules: dict[str, str]) -> None:
    for method, body in [("GET", None), ("PATCH", {"name": "mine"}), ("DELETE", None)]:
        assert beta_api(method, f"routing-rules/{rules['gold']}/", body)[0] == 404
    assert beta_api("PUT", "routing-rules/order/", {"rules": list(rules.values())})[0] == 400


# --- the door ---


def test_the_door_is_told_who_takes_the_call_and_what_waits(world: World, rules: dict[str, str]) -> None:
    choice = ask(world.alpha)
    assert (choice.agent, choice.rule) == ("alpha-desk", "rest")
    assert choice.rules == (Rule("booking", "alpha-desk", (), "a reservation"),)
    choice = ask(world.alpha, tier="gold")
    assert (choice.agent, choice.rule, len(choice.rules)) == ("gold-desk", "gold", 1)
    choice = ask(world.beta, tier="gold")
    assert (choice.agent, choice.rule, choice.rules) == ("beta-desk", "beta's", ())


def test_the_door_passes_over_rules_that_are_switched_off_or_lead_nowhere(
    world: World, alpha_api: Api, rules: dict[str, str]
) -> None:
    alpha_api("PATCH", f"routing-rules/{rules['booking']}/", {"is_enabled": False})
    with tenant_context(world.alpha.tenant):
        RoutingRule.objects.filter(pk=rules["gold"]).update(agent="gone")
        RoutingRule.objects.filter(pk=rules["german"]).update(conditions={"hours": {"time_zone": "Mars/Base"}})
    choice = ask(world.alpha, tier="gold")
    assert (choice.agent, choice.rules) == ("alpha-desk", ())


def test_the_door_asks_the_database_twice(world: World, rules: dict[str, str], django_assert_num_queries) -> None:
    with tenant_context(world.alpha.tenant):
        RoutingRule.objects.exists()  # says which schema
        with django_assert_num_queries(2):
            choose_agent(channel="websocket", attributes={}, now=NOW)


# --- trying ---


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str, str]]:
    """What a language model that always finds the first intent was asked."""
    asked = []

    def find(rules: Sequence[Rule], words: str, language: str) -> Rule | None:
        asked.append(([rule.name for rule in rules], words, language))
        return rules[0] if "table" in words else None

    monkeypatch.setattr(trying, "find_by_model", find)
    return asked


def outcomes(answer: dict) -> dict[str, str]:
    return {rule["name"]: rule["outcome"] for rule in answer["data"]["rules"]}


def test_a_call_is_tried_without_words(alpha_api: Api, rules: dict[str, str], model: list) -> None:
    status, answer = alpha_api("POST", "routing-rules/try/", {"attributes": {"caller.tier": "gold"}})
    assert (status, answer["data"]["agent"], answer["data"]["rule"]) == (200, "gold-desk", rules["gold"])
    assert outcomes(answer) == {"booking": "waits", "gold": "holds", "german": "not_reached", "rest": "not_reached"}
    assert answer["data"]["rules"][3]["reason"] == "The rule 'gold' comes before it."
    assert model == []


def test_a_call_is_tried_with_its_first_words(alpha_api: Api, rules: dict[str, str], model: list) -> None:
    asked = {"attributes": {"caller.tier": "gold"}, "words": "A table, please.", "language": "en"}
    answer = alpha_api("POST", "routing-rules/try/", asked)[1]
    assert (answer["data"]["agent"], answer["data"]["rule"]) == ("alpha-desk", rules["booking"])
    assert outcomes(answer) == {
        "booking": "holds",
        "gold": "not_reached",
        "german": "not_reached",
        "rest": "not_reached",
    }
    answer = alpha_api("POST", "routing-rules/try/", asked | {"words": "Good morning."})[1]
    assert outcomes(answer) | {"german": ""} == {
        "booking": "does_not_hold",
        "gold": "holds",
        "german": "",
        "rest": "not_reached",
    }
    assert model == [(["booking"], "A table, please.", "en"), (["booking"], "Good morning.", "en")]


def test_a_call_is_tried_at_another_time(world: World, alpha_api: Api) -> None:
    with tenant_context(world.alpha.tenant):
        publish_agent(agent=create_agent(slug="gold-desk", name="Gold desk"))
    hours = {"time_zone": "Europe/Berlin", "days": ["fri"], "from": "08:00", "to": "18:00"}
    alpha_api("POST", "routing-rules/", {"name": "open", "agent": "gold-desk", "conditions": {"hours": hours}})
    for at, agent, is_default in [
        ("2027-01-15T07:00:00Z", "gold-desk", False),
        ("2027-01-15T06:59:00Z", "alpha-desk", True),
        ("2027-01-16T09:00:00Z", "alpha-desk", True),
    ]:
        answer = alpha_api("POST", "routing-rules/try/", {"at": at})[1]["data"]
        assert (answer["agent"], answer["is_default"]) == (agent, is_default), at
    assert answer["rule"] is None
    assert "sat 10:00 in Europe/Berlin" in answer["rules"][0]["reason"]


def test_without_a_default_agent_nobody_is_named(world: World, alpha_api: Api) -> None:
    with tenant_context(world.alpha.tenant):
        update_agent(agent=find_agent("alpha-desk"), is_default=False)
    answer = alpha_api("POST", "routing-rules/try/", {})[1]["data"]
    assert (answer["agent"], answer["is_default"], answer["rule"]) == (None, False, None)


def test_the_supervisor_of_the_manual_can_be_applied_in_its_order(world: World) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "routing.md").read_text()
    documents = [read_document(part.partition("```")[0]) for part in manual.split("```yaml\n")[1:]]
    assert [document["slug"] for document in documents] == ["billing", "shipping", "complaints", "front-desk"]
    with tenant_context(world.alpha.tenant):
        for document in documents:
            publish_agent(agent=apply_agent(**document).agent)
        desk = find_agent("front-desk")
        assert desk.live is not None
        assert [colleague["agent"] for colleague in desk.colleagues] == ["billing", "shipping", "complaints"]


def test_without_a_model_words_find_no_intent(alpha_api: Api, rules: dict[str, str], monkeypatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    answer = alpha_api("POST", "routing-rules/try/", {"words": "Two tables, please."})[1]
    assert outcomes(answer)["booking"] == "does_not_hold"
    assert answer["data"]["agent"] == "alpha-desk"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"words": "x" * 2_001}, "words"),
        ({"at": "noon"}, "at"),
        ({"attributes": {"caller.tier": {}}}, "attributes.caller.tier"),
        ({"chanel": "x"}, "chanel"),
    ],
)
def test_a_wrong_trial_is_refused_by_name(alpha_api: Api, body: dict, param: str) -> None:
    status, answer = alpha_api("POST", "routing-rules/try/", body)
    assert (status, answer["error"]["param"]) == (400, param)


# --- the admin ---


def test_owners_write_rules_in_the_admin_and_it_checks_them(world: World, rules: dict[str, str]) -> None:
    client = Client(headers={"Host": world.alpha.host})
    client.force_login(world.alpha.owner)
    page = client.get(reverse("admin:routing_routingrule_changelist"))
    assert all(name in page.content.decode() for name in rules)
    assert "beta&#x27;s" not in page.content.decode()
    add = reverse("admin:routing_routingrule_add")
    form = {"name": "new", "agent": "nobody", "conditions": '{"hours": {}}', "is_enabled": "on"}
    page = client.post(add, form).content.decode()
    assert "There is no agent &#x27;nobody&#x27;." in page
    assert "hours.time_zone: Use a name such as" in page
    assert client.post(add, form | {"agent": "alpha-desk", "conditions": "{}"}).status_code == 302
    with tenant_context(world.alpha.tenant):
        new = RoutingRule.objects.get(name="new")
    assert (new.position, new.conditions["channels"]) == (4, [])
    delete = reverse("admin:routing_routingrule_delete", args=[rules["booking"]])
    assert client.post(delete, {"post": "yes"}).status_code == 302
    with tenant_context(world.alpha.tenant):
        found = list(RoutingRule.objects.values_list("name", "position"))
    assert found == [("gold", 0), ("german", 1), ("rest", 2), ("new", 3)]
    entry = audited(world.alpha, "routing_rule.deleted")
    assert (entry.actor_kind, entry.before["name"]) == ("person", "booking")


def test_order_is_kept_whatever_it_is(world: World, rules: dict[str, str]) -> None:
    ids = [UUID(rule) for rule in rules.values()]
    with tenant_context(world.alpha.tenant):
        for wanted in (ids[::-1], [ids[2], ids[0], ids[3], ids[1]]):
            order_rules(rules=wanted)
            assert list(RoutingRule.objects.values_list("pk", "position")) == list(zip(wanted, range(4), strict=True))
