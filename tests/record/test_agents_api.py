"""``/api/v1/agents/``."""

import pytest
from django_tenants.utils import tenant_context

from agents.models import Agent
from agents.operations import create_agent, publish_agent, update_agent
from agents.routing.operations import create_rule
from tenants.keys.operations import issue_key
from tenants.permissions import Scope
from tests.record.world import Api, World

NEW = {"slug": "desk", "name": "Desk"}


def test_an_agent_is_created_read_changed_and_deleted(alpha_api: Api) -> None:
    status, answer = alpha_api("POST", "agents/", NEW | {"voice": "af_heart", "turn_detection": None})
    assert status == 201
    assert answer["status"] == "success"
    assert answer["data"]["turn_detection"] is None
    assert answer["data"]["speed"] == 1.0
    status, answer = alpha_api("PATCH", "agents/desk/", {"speed": 1.25, "language": "de"})
    assert (status, answer["data"]["speed"], answer["data"]["voice"]) == (200, 1.25, "af_heart")
    assert alpha_api("GET", "agents/desk/")[1]["data"]["language"] == "de"
    assert alpha_api("DELETE", "agents/desk/") == (204, None)
    status, answer = alpha_api("GET", "agents/desk/")
    assert status == 404
    assert answer == {
        "status": "error",
        "error": {
            "code": "not_found",
            "message": "There is no agent 'desk'.",
            "param": None,
            "documentation": "/api/v1/docs/errors/#404",
        },
    }


def test_an_agent_without_details_listens_with_server_vad(alpha_api: Api) -> None:
    answer = alpha_api("POST", "agents/", NEW)[1]["data"]
    assert answer["turn_detection"] == {"type": "server_vad", "silence_duration_ms": 500}


def test_agents_are_listed_in_pages(alpha_api: Api) -> None:
    for number in range(3):
        alpha_api("POST", "agents/", {"slug": f"z{number}", "name": "Z"})
    first = alpha_api("GET", "agents/?limit=2")[1]["data"]
    assert [agent["slug"] for agent in first["results"]] == ["alpha-desk", "z0"]
    second = alpha_api("GET", first["next"].partition("/api/v1/")[2])[1]["data"]
    assert [agent["slug"] for agent in second["results"]] == ["z1", "z2"]
    assert second["next"] is None


def test_a_new_default_takes_the_place_of_the_old_one(world: World, alpha_api: Api) -> None:
    assert alpha_api("POST", "agents/", NEW | {"is_default": True})[0] == 201
    with tenant_context(world.alpha.tenant):
        assert list(Agent.objects.filter(is_default=True).values_list("slug", flat=True)) == ["desk"]
    with tenant_context(world.beta.tenant):
        assert list(Agent.objects.filter(is_default=True).values_list("slug", flat=True)) == ["beta-desk"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name=ALPHA", ["alpha-desk"]), ("name=nobody", []), ("voice=alloy", ["alpha-desk", "desk"]),
        ("voice=marin", []), ("is_default=true", ["alpha-desk"]), ("is_default=false", ["desk"]), ("language=de", []),
    ],
)  # fmt: skip
def test_agents_are_filtered(alpha_api: Api, query: str, expected: list[str]) -> None:
    alpha_api("POST", "agents/", NEW)
    assert [agent["slug"] for agent in alpha_api("GET", f"agents/?{query}")[1]["data"]["results"]] == expected


@pytest.mark.parametrize("query", ["is_default=perhaps", "voice=", "voice=%00", "name=a&name=b"])
def test_a_wrong_filter_is_refused_by_name(alpha_api: Api, query: str) -> None:
    status, answer = alpha_api("GET", f"agents/?{query}")
    assert (status, answer["error"]["param"]) == (400, query.partition("=")[0])


def test_voices_are_listed_and_described(alpha_api: Api) -> None:
    everyone = alpha_api("GET", "voices/")[1]["data"]["results"]
    assert everyone[0] == {"id": "alloy", "language": "en-us", "gender": "female", "engine_voice": "af_alloy"}
    assert len({voice["id"] for voice in everyone}) == len(everyone) > 60
    men = alpha_api("GET", "voices/?language=en&gender=male")[1]["data"]["results"]
    assert {voice["language"] for voice in men} == {"en-us", "en-gb"}
    assert {voice["gender"] for voice in men} == {"male"}
    assert alpha_api("GET", "voices/marin/")[1]["data"]["engine_voice"] == "af_heart"
    assert alpha_api("GET", "voices/nobody/")[0] == 404
    assert alpha_api("GET", "voices/?gender=x")[1]["error"]["param"] == "gender"


BAD = [
    ({}, "slug", "required"),
    ({"slug": "desk"}, "name", "required"),
    (NEW | {"slug": "Desk"}, "slug", "invalid"),
    (NEW | {"slug": "-desk"}, "slug", "invalid"),
    (NEW | {"slug": "desk\nx"}, "slug", "invalid"),
    (NEW | {"slug": "a" * 64}, "slug", "invalid"),
    (NEW | {"slug": "alpha-desk"}, "slug", "slug_taken"),
    (NEW | {"slug": None}, "slug", "null"),
    (NEW | {"name": ""}, "name", "blank"),
    (NEW | {"name": "n" * 201}, "name", "max_length"),
    (NEW | {"name": "nul\0"}, "name", "null_characters_not_allowed"),
    (NEW | {"name": ["list"]}, "name", "invalid"),
    (NEW | {"instructions": "i" * 64_001}, "instructions", "max_length"),
    (NEW | {"greeting": "g" * 2_001}, "greeting", "max_length"),
    (NEW | {"voice": "../etc"}, "voice", "invalid"),
    (NEW | {"voice": "nosuch"}, "voice", "invalid"),
    (NEW | {"voice": "v" * 65}, "voice", "max_length"),
    (NEW | {"speed": 0.2}, "speed", "min_value"),
    (NEW | {"speed": 1.6}, "speed", "max_value"),
    (NEW | {"speed": "fast"}, "speed", "invalid"),
    (NEW | {"temperature": 2.1}, "temperature", "max_value"),
    (NEW | {"temperature": -0.1}, "temperature", "min_value"),
    (NEW | {"language": "deutsch"}, "language", None),
    (NEW | {"language": "D1"}, "language", "invalid"),
    (NEW | {"model": "m" * 201}, "model", "max_length"),
    (NEW | {"is_default": "perhaps"}, "is_default", "invalid"),
    (NEW | {"turn_detection": "server_vad"}, "turn_detection", "invalid"),
    (NEW | {"turn_detection": {}}, "turn_detection", "invalid"),
    (NEW | {"turn_detection": {"type": ["server_vad"]}}, "turn_detection", "invalid"),
    (NEW | {"turn_detection": {"type": "server_vad", "eagerness": "low"}}, "turn_detection", "invalid"),
    (NEW | {"turn_detection": {"type": "server_vad", "threshold": 1.1}}, "turn_detection", "invalid"),
    (NEW | {"turn_detection": {"type": "server_vad", "threshold": True}}, "turn_detection", "invalid"),
    (NEW | {"turn_detection": {"type": "server_vad", "silence_duration_ms": 10_001}}, "turn_detection", "invalid"),
    (NEW | {"turn_detection": {"type": "server_vad", "silence_duration_ms": 0.5}}, "turn_detection", "invalid"),
    (NEW | {"turn_detection": {"type": "server_vad", "create_response": "yes"}}, "turn_detection", "invalid"),
    (NEW | {"turn_detection": {"type": "semantic_vad", "eagerness": "very"}}, "turn_detection", "invalid"),
    (NEW | {"tenant": "beta"}, "tenant", "unknown_parameter"),
    (NEW | {"id": "x"}, "id", "unknown_parameter"),
    (NEW | {"created_at": "2027-01-01T00:00:00Z"}, "created_at", "unknown_parameter"),
]


@pytest.mark.parametrize(("body", "param", "code"), BAD, ids=lambda value: str(value)[:50])
def test_bad_input_is_refused_by_name(world: World, alpha_api: Api, body: dict, param: str, code: str | None) -> None:
    status, answer = alpha_api("POST", "agents/", body)
    assert status == 400, answer
    assert answer["error"]["param"] == param
    assert answer["error"]["message"]
    if code:
        assert answer["error"]["code"] == code
    with tenant_context(world.alpha.tenant):
        assert Agent.objects.count() == 1


@pytest.mark.parametrize(("body", "param", "code"), [case for case in BAD[2:] if case[0].keys() - NEW.keys()][:-3])
def test_a_change_obeys_the_same_rules(alpha_api: Api, body: dict, param: str, code: str | None) -> None:
    status, answer = alpha_api("PATCH", "agents/alpha-desk/", {param: body[param]})
    assert status == 400, answer
    assert answer["error"]["param"] == param
    assert code in (None, answer["error"]["code"])


@pytest.mark.parametrize("body", ["{", "[]", '"text"', "null", "1", b"\xff\xfe", '{"slug": NaN}', "[" * 5_000])
def test_what_is_no_json_object_is_refused(alpha_api: Api, body: str | bytes) -> None:
    status, answer = alpha_api("POST", "agents/", body)
    assert status == 400
    assert answer["status"] == "error"


def test_a_body_may_have_only_so_many_bytes(alpha_api: Api, settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    status, answer = alpha_api("POST", "agents/", NEW | {"instructions": "x" * 100})
    assert (status, answer["error"]["code"]) == (413, "body_too_large")


def test_another_agents_slug_cannot_be_taken_by_a_change(alpha_api: Api) -> None:
    alpha_api("POST", "agents/", NEW)
    status, answer = alpha_api("PATCH", "agents/desk/", {"slug": "alpha-desk"})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "slug_taken", "slug")


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "limit=-1", "limit=٣", "page=2", "tenant=beta"])
def test_bad_list_parameters_are_refused(alpha_api: Api, query: str) -> None:
    status, answer = alpha_api("GET", f"agents/?{query}")
    assert status == 400
    assert answer["error"]["param"] == query.partition("=")[0]


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer a b", "Basic abc", "Bearer avb_live_" + "x" * 40, "Bearer \xff"]
)
def test_without_a_good_key_nothing_opens(world: World, header: str) -> None:
    api = Api(None)
    response = api.client.get("/api/v1/agents/", headers={"Authorization": header} if header else {})
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert response.json()["error"]["code"] in {"not_authenticated", "invalid_authorization", "invalid_api_key"}


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_reading_key_cannot_write(world: World, method: str) -> None:
    _, secret = issue_key(tenant=world.alpha.tenant, name="reader", scopes=[Scope.AGENTS_READ])
    path = "agents/" if method == "POST" else "agents/alpha-desk/"
    assert Api(secret)("GET", path)[0] == 200
    status, answer = Api(secret)(method, path, NEW)
    assert (status, answer["error"]["code"]) == (403, "insufficient_scope")


def test_a_method_that_does_not_exist_says_so(alpha_api: Api) -> None:
    status, answer = alpha_api("PUT", "agents/alpha-desk/", NEW)
    assert (status, answer["error"]["code"]) == (405, "method_not_allowed")


def test_a_fault_of_ours_shows_nothing_of_itself(alpha_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("agents.operations.create_agent", fail)
    status, answer = alpha_api("POST", "agents/", NEW)
    assert (status, answer["error"]["code"]) == (500, "internal_error")
    assert "hunter2" not in str(answer)


@pytest.mark.parametrize("where", ["draft", "live", "rule", "default"])
def test_who_is_needed_is_not_deleted(world: World, alpha_api: Api, where: str) -> None:
    with tenant_context(world.alpha.tenant):
        desk = Agent.objects.get(slug="alpha-desk")
        needed = create_agent(slug="billing", name="Billing")
        publish_agent(agent=needed)
        words = "is named by the agent 'alpha-desk': change these first."
        if where in ("draft", "live"):
            update_agent(agent=desk, colleagues=[{"agent": "billing"}])
        if where == "live":
            publish_agent(agent=desk)
            update_agent(agent=desk, colleagues=[])
        if where == "rule":
            create_rule(name="Bills", agent="billing")
            words = "is named by the routing rule 'Bills': change these first."
        if where == "default":
            update_agent(agent=needed, is_default=True)
            words = "is the default, who answers callers that name nobody: make another the default first."
    status, answer = alpha_api("DELETE", "agents/billing/")
    assert (status, answer["error"]["code"], answer["error"]["message"]) == (
        409,
        "agent_in_use",
        f"The agent 'billing' {words}",
    )
    with tenant_context(world.alpha.tenant):
        assert Agent.objects.filter(slug="billing").exists()


def test_a_colleague_is_deleted_once_nobody_names_it(world: World, alpha_api: Api) -> None:
    with tenant_context(world.alpha.tenant):
        create_agent(slug="billing", name="Billing")
        desk = update_agent(agent=Agent.objects.get(slug="alpha-desk"), colleagues=[{"agent": "billing"}])
        update_agent(agent=desk, colleagues=[])
    assert alpha_api("DELETE", "agents/billing/") == (204, None)
    with tenant_context(world.alpha.tenant):
        assert not Agent.objects.filter(slug="billing").exists()
