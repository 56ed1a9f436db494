"""``/api/v1/conversations/``."""

import base64

import pytest
from django_tenants.utils import tenant_context

from realtime.archive.events import ItemDeleted
from realtime.archive.operations import apply_events
from tenants.keys.operations import issue_key
from tenants.permissions import Scope
from tests.record.world import BEGUN, Api, World, call


def ids(answer: dict) -> list[str]:
    return [row["id"] for row in answer["data"]["results"]]


@pytest.fixture
def busy(world: World) -> World:
    with tenant_context(world.alpha.tenant):
        for number in range(5):
            apply_events(call(f"sess_{number}", f"agent-{number % 2}", ["a", "b"], begun=BEGUN + 1000 * (number + 1)))
    return world


def test_conversations_come_newest_first_in_pages(busy: World, alpha_api: Api) -> None:
    seen, path = [], "conversations/?limit=2"
    while path:
        status, answer = alpha_api("GET", path)
        assert status == 200
        seen += ids(answer)
        path = (answer["data"]["next"] or "").partition("/api/v1/")[2]
    assert seen == ["sess_4", "sess_3", "sess_2", "sess_1", "sess_0", "sess_alpha"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("agent=agent-1", ["sess_3", "sess_1"]),
        ("agent=nobody", []),
        ("channel=websocket&agent=agent-0", ["sess_4", "sess_2", "sess_0"]),
        ("channel=phone", []),
        ("started_after=2027-01-15T09:06:40Z", ["sess_4", "sess_3"]),
        ("key_id=key_1&agent=agent-1", ["sess_3", "sess_1"]),
        ("key_id=key_2", []),
        ("end_user=nobody", []),
        ("end_reason=client_closed&agent=agent-1", ["sess_3", "sess_1"]),
        ("end_reason=error", []),
        ("min_duration_s=60&max_duration_s=60.5&agent=agent-1", ["sess_3", "sess_1"]),
        ("min_duration_s=60.1", []),
        ("max_duration_s=59", []),
        ("started_before=2027-01-15T08:16:40Z", ["sess_alpha"]),
        ("started_after=2027-01-15T08:16:40Z&started_before=2027-01-15T08:16:41Z", ["sess_0"]),
    ],
)
def test_filters(busy: World, alpha_api: Api, query: str, expected: list[str]) -> None:
    assert ids(alpha_api("GET", f"conversations/?{query}")[1]) == expected


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("started_after=yesterday", "started_after"),
        ("started_before=2027-13-01", "started_before"),
        ("agent=", "agent"),
        ("limit=1000", "limit"),
        ("agnet=x", "agnet"),
        ("agent=%00", "agent"),
        ("agent=a&agent=b", "agent"),
        ("min_duration_s=-1", "min_duration_s"),
        ("min_duration_s=nan", "min_duration_s"),
        ("max_duration_s=long", "max_duration_s"),
        ("min_duration_s=2&max_duration_s=1", "max_duration_s"),
    ],
)
def test_bad_filters_are_refused_by_name(alpha_api: Api, query: str, param: str) -> None:
    status, answer = alpha_api("GET", f"conversations/?{query}")
    assert (status, answer["error"]["param"]) == (400, param)


@pytest.mark.parametrize("inside", [b"\xff", b"o=x", b"p=yesterday", b"p=2027-01-01%00", b"p=%00"])
@pytest.mark.parametrize("path", ["conversations/", "agents/"])
def test_a_bad_cursor_never_breaks_anything(alpha_api: Api, path: str, inside: bytes) -> None:
    status, answer = alpha_api("GET", f"{path}?cursor={base64.b64encode(inside).decode()}")
    assert status in (200, 400)
    assert status == 200 or (answer["error"]["param"], answer["error"]["code"]) == ("cursor", "invalid_cursor")


def test_one_conversation_with_its_items(world: World, alpha_api: Api) -> None:
    status, answer = alpha_api("GET", "conversations/sess_alpha/")
    assert status == 200
    data = answer["data"]
    assert (data["agent"], data["channel"], data["end_reason"], data["duration_s"]) == (
        "alpha-desk", "websocket", "client_closed", 60.0,
    )  # fmt: skip
    assert data["item_count"] == 2
    assert data["items_left_out"] == 0
    assert [(item["role"], item["text"]) for item in data["items"]] == [
        ("user", "hello from alpha"),
        ("assistant", "welcome to alpha"),
    ]
    assert data["items"][0]["timings_ms"] == {"stt": 80.5}
    assert data["items"][1]["previous_item_id"] == "item_0"


def test_a_deleted_item_is_not_shown(world: World, alpha_api: Api) -> None:
    with tenant_context(world.alpha.tenant):
        apply_events([ItemDeleted(session_id="sess_alpha", seq=9, at=BEGUN, item_id="item_0")])
    data = alpha_api("GET", "conversations/sess_alpha/")[1]["data"]
    assert [item["id"] for item in data["items"]] == ["item_1"]
    assert data["item_count"] == 1


def test_very_long_conversations_show_their_latest_items(world: World, alpha_api: Api, settings) -> None:
    settings.API_MAX_ITEMS = 3
    with tenant_context(world.alpha.tenant):
        apply_events(call("sess_long", "a", [f"word {number}" for number in range(10)]))
    data = alpha_api("GET", "conversations/sess_long/")[1]["data"]
    assert [item["text"] for item in data["items"]] == ["word 7", "word 8", "word 9"]
    assert data["items_left_out"] == 7


def test_all_items_come_in_pages(world: World, alpha_api: Api, settings) -> None:
    settings.API_MAX_ITEMS = 3
    with tenant_context(world.alpha.tenant):
        apply_events(call("sess_long", "a", [f"word {number}" for number in range(10)]))
        apply_events([ItemDeleted(session_id="sess_long", seq=99, at=BEGUN, item_id="item_4")])
    seen, path = [], "conversations/sess_long/items/?limit=4"
    while path:
        status, answer = alpha_api("GET", path)
        assert status == 200
        seen += [item["text"] for item in answer["data"]["results"]]
        path = (answer["data"]["next"] or "").partition("/api/v1/")[2]
    assert seen == [f"word {number}" for number in range(10) if number != 4]
    assert alpha_api("GET", "conversations/sess_beta/items/")[0] == 404


@pytest.mark.parametrize("session_id", ["sess_none", "sess_beta", "%00", "a" * 3000])
def test_what_is_not_there_is_not_found(world: World, alpha_api: Api, session_id: str) -> None:
    status, answer = alpha_api("GET", f"conversations/{session_id}/")
    assert (status, answer["status"]) == (404, "error")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_written(alpha_api: Api, method: str) -> None:
    assert alpha_api(method, "conversations/sess_alpha/", {})[0] == 405


def test_the_scope_is_needed(world: World) -> None:
    _, secret = issue_key(tenant=world.alpha.tenant, name="caller", scopes=[Scope.REALTIME])
    assert Api(secret)("GET", "conversations/")[0] == 403


def test_reading_costs_a_fixed_number_of_queries(busy: World, alpha_api: Api, django_assert_num_queries) -> None:
    """Schema, time limit, key, schema, rows; around them the savepoint that is a transaction outside of tests."""
    alpha_api("GET", "conversations/")  # notes the key's use
    with django_assert_num_queries(7):
        alpha_api("GET", "conversations/")
    with django_assert_num_queries(8):
        alpha_api("GET", "conversations/sess_alpha/")
