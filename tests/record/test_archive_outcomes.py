"""What calls leave behind of agent versions and tool calls: whatever the order, and however often."""

from typing import Any

import msgspec
import pytest
from django.db import DataError
from django_tenants.utils import tenant_context
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.tools.types import Receipt
from agents.trials.models import CallOutcome
from realtime.archive.events import CallEnded, CallStarted, ItemStored, Outcome
from realtime.archive.models import Conversation, Item
from realtime.archive.operations import apply_events
from realtime.archive.text import plain_text
from tenants.audit.models import Entry
from tenants.audit.verification import verify
from tests.record.test_archive_events import check_order_and_repetition
from tests.record.world import BEGUN, Api, World


def started(seq: int = 1, agent: str = "desk", version: int = 3, trial: str = "", at: float = BEGUN) -> CallStarted:
    return CallStarted(
        session_id="sess_x", seq=seq, at=at, conversation_id="conv_x", agent=agent, channel="websocket", key_id="key_1",
        end_user="", model="m", agent_version=version, trial=trial,
    )  # fmt: skip


def outcome(agent: str = "desk", version: int = 3, **fields: Any) -> Outcome:
    return Outcome(agent=agent, agent_version=version, **fields)


def ended(*outcomes: Outcome, seq: int = 9, at: float = BEGUN + 60, reason: str = "client_closed") -> CallEnded:
    return CallEnded(session_id="sess_x", seq=seq, at=at, reason=reason, duration_s=60.0, outcomes=outcomes)


def called(item_id: str, seq: int, receipt: dict[str, Any] | None, text: str = "sunny") -> ItemStored:
    item = {"id": item_id, "type": "mcp_call", "server_label": "http", "name": "weather", "output": text}
    return ItemStored(
        session_id="sess_x", seq=seq, at=BEGUN + seq, item=item, previous_item_id=None, agent="desk", agent_version=3,
        receipt=receipt,
    )  # fmt: skip


def receipt_of(tool: str, **fields: Any) -> dict[str, Any]:
    return msgspec.to_builtins(
        Receipt(
            tool=tool, kind="http", integration="weather", asked='{"city": "Oslo"}', sent={"url": "https://w.example"},
            answered={"status": 200}, began_at=BEGUN, took_ms=41.5, agent="desk", agent_version=3, **fields,
        )
    )  # fmt: skip


def rows() -> list[Any]:
    def plain(found: Any) -> list[dict[str, Any]]:
        return [{name: value for name, value in row.items() if name != "id"} for row in found.values()]

    return [
        list(Conversation.objects.filter(pk="sess_x").values()),
        plain(Item.objects.filter(conversation="sess_x").order_by("item_id")),
        plain(CallOutcome.objects.filter(session_id="sess_x").order_by("agent", "version")),
        sorted(tool_entries()),
    ]


def tool_entries() -> list[str]:
    """The items whose tool calls are in the audit log."""
    return [entry.after["item"] for entry in Entry.objects.filter(action="tool.called", after__session="sess_x")]


@pytest.fixture
def alpha(world: World) -> Any:
    with tenant_context(world.alpha.tenant):
        yield world


agents = st.sampled_from(["desk", "night"])
versions = st.integers(0, 3)
numbers = st.integers(0, 2**31 - 1)
trials = st.sampled_from(["", "t-1", "t-2"])
some_outcome = st.builds(
    Outcome,
    agent=agents,
    agent_version=versions,
    trial=trials,
    turns=numbers,
    answers=numbers,
    failed=st.booleans(),
    hung_up=st.booleans(),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Any]:
    """A call's events as a gateway numbers them, each number once; stranger than any gateway."""
    events: list[Any] = []
    for seq in range(1, draw(st.integers(2, 9))):
        at = BEGUN + draw(st.integers(0, 30))
        match draw(st.sampled_from(["started", "ended", "called", "called"])):
            case "started":
                events.append(started(seq, draw(agents), draw(versions), draw(trials), at))
            case "ended":
                whole = ended(
                    *draw(st.lists(some_outcome, max_size=4, unique_by=lambda one: (one.agent, one.agent_version)))
                )
                events.append(msgspec.structs.replace(whole, seq=seq, at=at, duration_s=draw(st.integers(0, 90))))
            case "called":
                receipt = draw(st.none() | st.sampled_from(["a", "b"]).map(receipt_of))
                events.append(called(draw(st.sampled_from(["i", "j"])), seq, receipt, draw(st.text(max_size=3))))
    return events


@given(history=histories(), data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_and_any_repetition_leave_the_same_rows(
    alpha: World, history: list[Any], data: st.DataObject
) -> None:
    check_order_and_repetition(history, data, rows)


# --- outcomes ---


def test_a_call_counts_from_its_begin_on_and_has_failed_only_when_it_has(alpha: World) -> None:
    apply_events([started(trial="t-1")])
    begun = CallOutcome.objects.get(session_id="sess_x")
    assert (begun.agent, begun.version, begun.trial, begun.ended_at, begun.failed) == ("desk", 3, "t-1", None, False)
    apply_events([ended(outcome(trial="t-1", turns=4, answers=2, failed=True, hung_up=True), reason="error")])
    over = CallOutcome.objects.get(session_id="sess_x")
    assert (over.turns, over.answers, over.failed, over.hung_up, over.end_reason) == (4, 2, True, True, "error")
    assert (over.started_at.timestamp(), over.ended_at.timestamp(), over.duration_s) == (BEGUN, BEGUN + 60, 60.0)


def test_each_agent_that_took_part_has_its_own(alpha: World) -> None:
    apply_events([started(), ended(outcome(turns=2), outcome("night", 1, turns=5, hung_up=True))])
    found = CallOutcome.objects.filter(session_id="sess_x").order_by("agent")
    assert [(one.agent, one.version, one.turns, one.hung_up) for one in found] == [
        ("desk", 3, 2, False),
        ("night", 1, 5, True),
    ]


def test_drafts_and_plain_sessions_are_nobodys_sample(alpha: World) -> None:
    apply_events([started(version=0), ended(outcome(version=0), outcome("", 0))])
    assert not CallOutcome.objects.exists()
    assert Conversation.objects.get(pk="sess_x").agent_version == 0


def test_what_the_gateway_says_itself_counts_more_than_that_it_was_lost(alpha: World) -> None:
    lost = ended(seq=0, reason="lost")
    apply_events([started(), lost])
    assert CallOutcome.objects.get().ended_at is None
    apply_events([ended(outcome(turns=3)), lost])
    assert (CallOutcome.objects.get().turns, CallOutcome.objects.get().end_reason) == (3, "client_closed")


def test_an_outcome_that_cannot_be_stored_takes_its_batch_with_it(alpha: World) -> None:
    with pytest.raises(DataError):
        apply_events([started(), ended(outcome(turns=2**40))])
    assert not Conversation.objects.filter(pk="sess_x").exists()


def test_one_tenants_outcomes_are_not_the_others(alpha: World) -> None:
    apply_events([started(), ended(outcome())])
    with tenant_context(alpha.beta.tenant):
        assert not CallOutcome.objects.exists()


# --- receipts ---


def test_a_tool_call_has_its_receipt_and_one_entry_in_the_audit_log(alpha: World) -> None:
    receipt = receipt_of("weather", outcome="failed")
    for _ in range(3):
        apply_events([started(), called("i", 2, None, ""), called("i", 4, receipt), called("i", 5, None, "later")])
    item = Item.objects.get(conversation="sess_x")
    assert (item.agent, item.agent_version, item.receipt, item.text) == ("desk", 3, receipt, "weather (http): later")
    [entry] = Entry.objects.filter(action="tool.called")
    assert (entry.target, entry.actor_kind) == ("weather", "system")
    assert entry.after == {
        "session": "sess_x", "item": "i", "agent": "desk", "version": 3, "kind": "http", "integration": "weather",
        "outcome": "failed", "took_ms": 41.5,
    }  # fmt: skip
    with tenant_context(alpha.beta.tenant):
        assert not Entry.objects.filter(action="tool.called").exists()


def test_the_audit_log_holds_nothing_that_was_asked_or_answered(alpha: World) -> None:
    apply_events([called("i", 4, receipt_of("weather"))])
    [entry] = Entry.objects.filter(action="tool.called")
    assert "Oslo" not in str(entry.after)
    assert "w.example" not in str(entry.after)


def test_a_batch_that_is_refused_leaves_no_entry(alpha: World) -> None:
    bad = msgspec.structs.replace(called("j", 5, None), audio_ms=2**40)
    with pytest.raises(DataError):
        apply_events([called("i", 4, receipt_of("weather")), bad])
    assert tool_entries() == []


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"type": "mcp_call", "name": "weather", "server_label": "http", "arguments": "{}"}, "weather (http)"),
        ({"type": "mcp_call", "name": "weather", "server_label": "http", "output": "sunny"}, "weather (http): sunny"),
        (
            {
                "type": "mcp_call", "name": "weather", "server_label": "http", "output": None,
                "error": {"type": "http_error", "code": 503, "message": "The server answered 503."},
            },
            "weather (http) failed: The server answered 503.",
        ),
        ({"type": "mcp_call", "name": "w", "server_label": "h", "error": {}}, "w (h)"),
        (
            {"type": "mcp_call", "name": "w", "server_label": "h", "error": {"type": "x"}},
            "w (h) failed: no reason was given",
        ),
        (
            {"type": "mcp_list_tools", "server_label": "crm", "tools": [{"name": "find"}, {"name": "book"}]},
            "crm offers find, book",
        ),
        ({"type": "mcp_list_tools", "server_label": "crm", "tools": []}, "crm offers nothing"),
        (
            {"type": "mcp_list_tools", "server_label": "crm", "tools": [], "error": {"message": "no answer"}},
            "crm does not say what it offers: no answer",
        ),
        ({"type": "mcp_approval_request", "name": "book", "server_label": "crm"}, "May book (crm) be called?"),
        ({"type": "mcp_approval_response", "approve": True}, "yes"),
        ({"type": "mcp_approval_response", "approve": False, "reason": "too dear"}, "no: too dear"),
    ],
)  # fmt: skip
def test_items_of_tools_read_well(item: dict, text: str) -> None:
    assert plain_text(item) == text


# --- what the API shows ---


def test_conversations_and_items_name_their_agents_version(alpha: World) -> None:
    receipt = receipt_of("weather")
    with tenant_context(alpha.alpha.tenant):
        apply_events([started(trial="t-1"), called("i", 2, receipt), ended(outcome(trial="t-1"))])
    api = Api(alpha.alpha.key)
    data = api("GET", "conversations/sess_x/")[1]["data"]
    assert (data["agent"], data["agent_version"], data["trial"]) == ("desk", 3, "t-1")
    [item] = data["items"]
    assert (item["agent"], item["agent_version"], item["receipt"]) == ("desk", 3, receipt)
    assert item["text"] == "weather (http): sunny"
    for query, expected in [
        ("agent=desk&agent_version=3", ["sess_x"]),
        ("agent_version=2", []),
        ("agent_version=0", ["sess_alpha"]),
        ("trial=t-1", ["sess_x"]),
        ("trial=t-2", []),
    ]:
        found = api("GET", f"conversations/?{query}")[1]["data"]["results"]
        assert [row["id"] for row in found] == expected, query
    status, answer = api("GET", "conversations/?agent_version=-1")
    assert (status, answer["error"]["param"]) == (400, "agent_version")


def test_many_tool_calls_of_one_batch_keep_the_log_whole(alpha: World) -> None:
    apply_events([started(), *(called(f"i{number}", number + 2, receipt_of("weather")) for number in range(30))])
    apply_events([called("j", 99, receipt_of("weather"))])
    assert len(tool_entries()) == 31
    assert verify("alpha").broken is None
