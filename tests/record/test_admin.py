"""Django's admin: what the owner of a tenant and the platform's operator see, and what they may do."""

import html
import json
import re

import pytest
import redis
from django.test import Client
from django.utils import timezone
from django_tenants.utils import tenant_context

from agents.models import Agent
from realtime.archive.events import ItemStored, encode_event
from realtime.archive.operations import apply_events
from tenants.audit.models import Entry
from tenants.audit.operations import record
from tenants.keys.queries import KeyRevoked, find_key
from tenants.lifecycle.operations import suspend_tenant
from tenants.models import ApiKey, Invitation, Membership, Plan, Tenant, User
from tenants.people.operations import add_member
from tenants.prices.models import Price
from tests.record.world import BEGUN, PASSWORD, World, call


def sign_in(host: str, email: str) -> Client:
    client = Client(headers={"Host": host})
    client.post("/accounts/login/?next=/admin/", {"login": email, "password": PASSWORD})
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
        "time_zone": "UTC",
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


def test_a_tool_call_shows_its_receipt_folded_away_and_ids_as_they_are(world: World, owner: Client) -> None:
    item = {"id": "item_9", "type": "mcp_call", "server_label": "http", "name": "weather", "output": "sunny"}
    receipt = {"tool": "weather", "sent": {"url": "https://w.example"}, "took_ms": 41.5}
    stored = ItemStored(
        session_id="sess_tool", seq=9, at=BEGUN, item=item, previous_item_id=None, agent="desk", agent_version=3,
        timings_ms={"tool": 41.5}, receipt=receipt,
    )  # fmt: skip
    with tenant_context(world.alpha.tenant):
        apply_events([*call("sess_tool", "alpha-desk", []), stored])
    page = owner.get("/admin/archive/conversation/sess_5Ftool/change/").content.decode()
    folded = re.findall(r"<details><summary>(\w+)</summary><pre>(.*?)</pre></details>", page, re.DOTALL)
    assert [title for title, _ in folded] == ["Timings", "Receipt"]
    assert "tool: 41.5 ms" in folded[0][1]
    assert json.loads(html.unescape(folded[1][1])) == receipt
    assert "desk@3" in page
    assert "sess_tool" in page
    assert "Sess_tool" not in page


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
        ({"tools": '[{"type": "http"}]'}, "tools[0].name: This is needed."),
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


def test_the_operator_revokes_a_key_after_being_asked_and_never_sees_its_hash(world: World, operator: Client) -> None:
    key = ApiKey.objects.get(tenant=world.beta.tenant)
    assert key.secret_hash not in operator.get(f"/admin/tenants/apikey/{key.pk}/change/").content.decode()
    chosen = {"action": "revoke", "_selected_action": [key.pk]}
    question = operator.post("/admin/tenants/apikey/", chosen)
    assert "Revoke these keys?" in question.content.decode()
    assert find_key(world.beta.key)
    operator.post("/admin/tenants/apikey/", chosen | {"apply": "1"})
    with pytest.raises(KeyRevoked):
        find_key(world.beta.key)
    with tenant_context(world.beta.tenant):
        entry = Entry.objects.filter(action="api_key.revoked").latest("seq")
    assert (entry.actor_kind, entry.target) == ("operator", key.public_id)


def test_the_operator_sees_health_and_what_waits(world: World, operator: Client, valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        client.rpush("stt", "job")
        client.zadd("avb:beta:sessions", {"sess_1": 4_000_000_000})
    page = operator.get("/admin/health/").content.decode()
    for shown in ("postgres", "worker_stt", "Jobs that wait", "Beta"):
        assert shown in page
    overview = operator.get("/admin/").content.decode()
    assert "1 jobs wait" in overview
    assert "/admin/dead-letters/" in overview


def test_the_operator_sends_dead_letters_again_and_throws_them_away(
    world: World, operator: Client, valkey_url: str
) -> None:
    words = "what a caller said"
    event = next(encode_event(event) for event in call("sess_dead", "desk", [words]) if isinstance(event, ItemStored))
    with redis.Redis.from_url(valkey_url) as client:
        first = client.xadd("avb:beta:archive:dead", {b"event": event, b"reason": b"DataError: x"}).decode()
        second = client.xadd("avb:beta:archive:dead", {b"event": b"no event", b"reason": b"DecodeError"}).decode()
        assert "Beta" in operator.get("/admin/dead-letters/").content.decode()
        page = operator.get("/admin/dead-letters/beta/").content.decode()
        for shown in ("item.stored", "sess_dead", "DataError: x", "unreadable"):
            assert shown in page
        assert words not in page
        operator.post("/admin/dead-letters/beta/", {"action": "replay", "letter": [first]})
        assert [fields for _, fields in client.xrange("avb:beta:archive")] == [{b"event": event}]
        assert client.sismember("avb:archive:tenants", "beta")
        question = operator.post("/admin/dead-letters/beta/", {"action": "purge", "letter": [second]})
        assert "What they hold is lost" in question.content.decode()
        assert client.xlen("avb:beta:archive:dead") == 1
        operator.post("/admin/dead-letters/beta/", {"action": "purge", "letter": [second], "apply": "1"})
        assert client.xlen("avb:beta:archive:dead") == 0
    assert operator.post("/admin/dead-letters/beta/", {"action": "burn", "letter": ["1-1"]}).status_code == 404
    assert operator.get("/admin/dead-letters/nosuch/").status_code == 404
    acts = list(Entry.objects.order_by("-seq").values_list("action", flat=True)[:2])
    assert acts == ["archive_dead_letters.purged", "archive_dead_letters.replayed"]


@pytest.mark.parametrize("page", ["health/", "dead-letters/", "dead-letters/alpha/", "search/"])
def test_a_tenants_owner_sees_nothing_of_the_platform(owner: Client, page: str) -> None:
    assert owner.get(f"/admin/{page}").status_code in (403, 404)


def test_the_admins_scripts_are_ours_and_only_there_may_words_become_functions(owner: Client) -> None:
    policy = owner.get("/admin/")["Content-Security-Policy"]
    assert "script-src 'self' 'unsafe-eval';" in policy
    assert "unsafe-eval" not in owner.get("/")["Content-Security-Policy"]
    assert "unsafe-eval" not in owner.get("/accounts/login/")["Content-Security-Policy"]


def fifty_rows(world: World) -> None:
    """Fifty more of everything that the platform's lists show."""
    tenants = [Tenant(slug=f"many-{n}", name=f"Many {n}", schema_name=f"many_{n}") for n in range(50)]
    Tenant.objects.bulk_create(tenants)
    users = User.objects.bulk_create([User(email=f"person{n}@many.localhost") for n in range(50)])
    Membership.objects.bulk_create(
        [Membership(user=user, tenant=tenant, role="viewer") for user, tenant in zip(users, tenants, strict=True)]
    )
    Plan.objects.bulk_create([Plan(slug=f"plan-{n}", name=f"Plan {n}") for n in range(50)])
    Invitation.objects.bulk_create(
        [
            Invitation(tenant=tenant, email="x@y.z", role="viewer", token_hash=tenant.slug, expires_at=timezone.now())
            for tenant in tenants
        ]
    )
    ApiKey.objects.bulk_create(
        [
            ApiKey(tenant=tenant, public_id=f"key_{tenant.slug}", name="k", prefix="p", secret_hash=tenant.slug)
            for tenant in tenants
        ]
    )
    Price.objects.bulk_create(
        [
            Price(tenant=tenant, meter="audio_seconds_in", currency="EUR", amount=1, effective_from="2027-01-01")
            for tenant in tenants
        ]
    )
    for number in range(50):
        record(action="test.made", target=str(number))


LISTS = [
    "tenants/tenant", "tenants/user", "tenants/membership", "tenants/plan", "tenants/invitation", "tenants/apikey",
    "tenants/platformkey", "prices/price", "prices/stripecustomer", "audit/entry", "encryption/datakey",
]  # fmt: skip


def test_a_list_of_fifty_costs_as_many_queries_as_a_list_of_a_few(
    world: World, operator: Client, django_assert_max_num_queries
) -> None:
    few = {}
    for page in LISTS:
        operator.get(f"/admin/{page}/")
        with django_assert_max_num_queries(40) as asked:
            assert operator.get(f"/admin/{page}/").status_code == 200
        few[page] = len(asked)
    fifty_rows(world)
    for page in LISTS:
        # A date hierarchy asks once more when there is more than one day.
        with django_assert_max_num_queries(few[page] + 1):
            assert operator.get(f"/admin/{page}/").status_code == 200


def test_a_price_is_set_by_the_operation_and_never_changed(world: World, operator: Client) -> None:
    form = {"meter": "audio_seconds_in", "currency": "EUR", "amount": "0.01", "per": "60"}
    form["effective_from"] = "2099-01-01"
    response = operator.post("/admin/prices/price/add/", form)
    assert response.status_code == 302, response.context["errors"]
    price = Price.objects.get(effective_from="2099-01-01")
    assert Entry.objects.filter(action="price.set").exists()
    wrong = operator.post("/admin/prices/price/add/", form | {"currency": "euro"})
    assert (wrong.status_code, Price.objects.count()) == (200, 1)
    assert operator.post(f"/admin/prices/price/{price.pk}/change/", form | {"amount": "9"}).status_code == 403
    operator.post("/admin/prices/price/", {"action": "withdraw", "_selected_action": [price.pk], "apply": "1"})
    assert not Price.objects.exists()


def test_an_unknown_host_is_the_platforms_and_opens_to_no_owner(world: World) -> None:
    client = sign_in("nowhere.localhost", world.alpha.owner.email)
    assert client.get("/admin/").status_code == 302


@pytest.mark.parametrize(
    ("role", "enters"),
    [("owner", True), ("admin", True), ("developer", False), ("support", False), ("viewer", False)],
)
def test_only_who_may_enter_is_led_to_the_admin(world: World, role: str, enters: bool) -> None:
    add_member(tenant=world.alpha.tenant, email=world.alpha.member.email, role=role)
    client = sign_in(world.alpha.host, world.alpha.member.email)
    assert ("To the admin" in client.get("/accounts/").content.decode()) is enters
    entered = client.get("/admin/login/")
    assert entered.status_code == (302 if enters else 403)
    if not enters:
        assert "is for its owners and admins" in entered.content.decode()


def test_the_operator_is_told_where_the_platforms_admin_is(world: World, settings) -> None:
    client = sign_in(world.alpha.host, world.operator.email)
    refused = client.get("/admin/login/")
    assert refused.status_code == 403
    assert 'href="http://platform.localhost/admin/"' in refused.content.decode()
    assert 'href="http://platform.localhost/admin/"' in client.get("/accounts/").content.decode()
    outsider = sign_in(world.alpha.host, world.alpha.member.email).get("/admin/login/")
    assert "platform.localhost" not in outsider.content.decode()
    settings.DEV = False
    assert "any host name that belongs to no tenant" in client.get("/admin/login/").content.decode()


def test_of_a_suspended_tenant_the_admin_is_closed_and_accounts_stay(world: World) -> None:
    client = sign_in(world.alpha.host, world.alpha.owner.email)
    suspend_tenant(tenant=world.alpha.tenant, reason="unpaid")
    for page in ("/admin/", "/admin/login/", "/admin/agents/agent/"):
        closed = client.get(page)
        assert closed.status_code == 403
        assert "This tenant is suspended." in closed.content.decode()
    home = client.get("/accounts/")
    assert home.status_code == 200
    assert "This tenant is suspended." in home.content.decode()
    assert "To the admin" not in home.content.decode()
    assert client.get("/accounts/password/change/").status_code in (200, 302)
