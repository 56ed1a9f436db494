"""Events in, rows out: whatever the order, and however often."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from django.db import DataError, transaction
from django_tenants.utils import tenant_context
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realtime.archive.events import CallEnded, CallStarted, ItemDeleted, ItemStored, decode_event, encode_event
from realtime.archive.models import Conversation, Item
from realtime.archive.operations import apply_events
from realtime.archive.queries import arrange, load_items, present
from realtime.archive.text import plain_text
from tests.record.world import BEGUN, World, call


def stored(item_id: str, seq: int, text: str = "hello", previous: str | None = None, **fields: Any) -> ItemStored:
    item = {"id": item_id, "type": "message", "role": "user", "status": "completed"}
    item["content"] = [{"type": "input_text", "text": text}]
    return ItemStored(session_id="sess_x", seq=seq, at=BEGUN + seq, item=item | fields, previous_item_id=previous)


def rows() -> list[Any]:
    ignored = {"id", "_state"}
    items = Item.objects.filter(conversation="sess_x").order_by("item_id").values()
    calls = Conversation.objects.filter(pk="sess_x").values()
    return [list(calls), [{name: value for name, value in row.items() if name not in ignored} for row in items]]


@pytest.fixture
def alpha(world: World) -> Any:
    with tenant_context(world.alpha.tenant):
        yield world


words = st.text(st.characters(codec="utf-8"), max_size=12)
some_item = st.sampled_from(["a", "b", "c"])


@st.composite
def histories(draw: st.DrawFn) -> list[Any]:
    """A call's events as a gateway numbers them, each number once."""
    events: list[Any] = []
    for seq in range(1, draw(st.integers(2, 9))):
        at = BEGUN + draw(st.integers(0, 30))
        match draw(st.sampled_from(["stored", "stored", "stored", "deleted", "started", "ended"])):
            case "stored":
                event: Any = stored(draw(some_item), seq, draw(words), draw(st.none() | some_item))
                events.append(msgspec.structs.replace(event, at=at))
            case "deleted":
                events.append(ItemDeleted(session_id="sess_x", seq=seq, at=at, item_id=draw(some_item)))
            case "started":
                events.append(msgspec.structs.replace(call("sess_x", draw(words), [])[0], seq=seq, at=at))
            case "ended":
                events.append(CallEnded(session_id="sess_x", seq=seq, at=at, reason=draw(words), duration_s=1.5))
    return events


def check_order_and_repetition(history: list[Any], data: st.DataObject, rows: Callable[[], Any]) -> None:
    """Events leave the same ``rows``, in whatever order, however often and in whichever batches they come."""
    shuffled = data.draw(st.permutations(history))
    repeated = shuffled + data.draw(st.lists(st.sampled_from(history), max_size=4))
    cut = data.draw(st.integers(0, len(repeated)))
    with transaction.atomic():
        for event in history:
            apply_events([decode_event(encode_event(event))])
        expected = rows()
        transaction.set_rollback(True)
    with transaction.atomic():
        apply_events(repeated[:cut])
        apply_events(repeated[cut:])
        assert rows() == expected
        transaction.set_rollback(True)


@given(history=histories(), data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_and_any_repetition_leave_the_same_rows(
    alpha: World, history: list[Any], data: st.DataObject
) -> None:
    check_order_and_repetition(history, data, rows)


def test_items_that_come_before_their_call_are_kept(alpha: World) -> None:
    history = call("sess_x", "desk", ["one", "two"])
    apply_events(history[1:])
    early = Conversation.objects.get(pk="sess_x")
    assert (early.agent, early.item_count) == ("", 2)
    apply_events(history[:1])
    whole = Conversation.objects.get(pk="sess_x")
    assert (whole.agent, whole.channel, whole.item_count, whole.end_reason) == ("desk", "websocket", 2, "client_closed")
    assert whole.started_at.timestamp() == BEGUN


def test_a_late_transcript_replaces_the_empty_one_and_keeps_the_first_time(alpha: World) -> None:
    apply_events([stored("a", 1, "")])
    apply_events([stored("a", 5, "what was said")])
    apply_events([stored("a", 3, "half of what")])
    item = Item.objects.get(conversation="sess_x")
    assert (item.text, item.seq, item.first_seq) == ("what was said", 5, 1)
    assert item.created_at.timestamp() == BEGUN + 1
    assert item.updated_at.timestamp() == BEGUN + 5


def test_a_deleted_item_can_be_put_back_by_a_later_event_only(alpha: World) -> None:
    apply_events([stored("a", 1), ItemDeleted(session_id="sess_x", seq=3, at=BEGUN, item_id="a"), stored("a", 2)])
    assert not present(Item.objects.filter(conversation="sess_x")).exists()
    assert Item.objects.get(conversation="sess_x").text == "hello"
    apply_events([stored("a", 4)])
    assert present(Item.objects.filter(conversation="sess_x")).count() == 1


def test_nul_characters_are_left_out_because_postgresql_has_none(alpha: World) -> None:
    apply_events([stored("a", 1, "nul\0 here", name="x\0y")])
    item = Item.objects.get(conversation="sess_x")
    assert item.text == "nul here"
    assert item.content["name"] == "xy"


def test_a_batch_is_stored_whole_or_not_at_all(alpha: World) -> None:
    bad = msgspec.structs.replace(stored("b", 2), audio_ms=2**40)
    with pytest.raises(DataError):
        apply_events([stored("a", 1), bad])
    assert not Conversation.objects.filter(pk="sess_x").exists()


@pytest.mark.parametrize("item", [{}, {"id": ""}, {"id": 7}, {"id": None}])
def test_an_item_without_an_id_is_refused(alpha: World, item: dict) -> None:
    with pytest.raises(ValueError, match="no id"):
        apply_events([msgspec.structs.replace(stored("a", 1), item=item)])


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"content": [{"type": "input_text", "text": "typed"}]}, "typed"),
        (
            {"content": [{"type": "output_audio", "transcript": "said"}, {"type": "output_text", "text": "shown"}]},
            "said\nshown",
        ),
        ({"content": [{"type": "input_audio", "transcript": None}]}, ""),
        ({"type": "function_call", "name": "weather", "arguments": "{}"}, ""),
        ({"type": "function_call_output", "output": "sunny"}, "sunny"),
        ({"content": "text"}, ""),
        ({"content": ["text", None, {"text": 5}]}, ""),
    ],
)
def test_the_plain_text_of_an_item(item: dict, text: str) -> None:
    assert plain_text(item) == text


@pytest.mark.parametrize(
    ("arrived", "expected"),
    [
        ([("a", None), ("b", "a"), ("c", "b")], "abc"),
        ([("a", None), ("b", "a"), ("c", "a")], "acb"),
        ([("a", None), ("b", "root")], "ba"),
        ([("a", None), ("b", "gone"), ("c", "b")], "abc"),
        ([("a", "gone"), ("b", "a")], "ab"),
        ([], ""),
    ],
)
def test_items_are_arranged_as_the_conversation_orders_them(arrived: list, expected: str) -> None:
    items = [Item(item_id=item_id, previous_item_id=previous) for item_id, previous in arrived]
    assert "".join(item.item_id for item in arrange(items)) == expected


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.none() | st.sampled_from("abcdefghz")), unique_by=lambda row: row[0]
    )
)
def test_arranging_loses_and_repeats_nothing(arrived: list) -> None:
    items = [Item(item_id=item_id, previous_item_id=previous) for item_id, previous in arrived]
    assert sorted(item.item_id for item in arrange(items)) == sorted(item_id for item_id, _ in arrived)


def test_the_last_hundred_of_many_items_are_read_fast(alpha: World) -> None:
    import time

    for number in range(20):
        apply_events(call(f"sess_{number}", "desk", ["word"] * 100, begun=BEGUN + number))
    apply_events(call("sess_x", "desk", ["word"] * 1_000))
    begun = time.perf_counter()
    items, left_out = load_items(Conversation.objects.get(pk="sess_x"), limit=100)
    elapsed_s = time.perf_counter() - begun
    assert (len(items), left_out) == (100, 900)
    assert elapsed_s < 5


def test_a_started_call_wins_by_number_not_by_arrival(alpha: World) -> None:
    first = call("sess_x", "old", [])[0]
    apply_events([msgspec.structs.replace(first, seq=4, agent="new"), first])
    assert Conversation.objects.get(pk="sess_x").agent == "new"
    assert isinstance(first, CallStarted)
