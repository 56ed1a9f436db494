"""The ledger: every use counts once, whatever the order and however often it comes, and nobody changes it."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction
from django_tenants.utils import tenant_context
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realtime.archive import draining
from realtime.archive.draining import USAGE_TENANTS_KEY, dead_letter_key, drain
from realtime.archive.events import CallEnded, UsageMetered, decode_event, encode_event, stream_key
from realtime.archive.models import Conversation
from tenants.usage.meters import Meter, to_ms
from tenants.usage.models import Call, Day, Entry
from tenants.usage.operations import Use, forget_end_user, store_kept_bytes, store_uses
from tests.record.test_drain import client, push
from tests.record.world import BEGUN, World, call

__all__ = ["client"]
AT = datetime.fromtimestamp(BEGUN, UTC)


def use(source: str = "resp_1", **fields: Any) -> Use:
    quantities = fields.pop("quantities", {Meter.LLM_TOKENS_IN: Decimal(7)})
    return Use(**{"at": AT, "session_id": "sess_u", "source": source, "quantities": quantities, **fields})


def metered(source: str, seq: int = 1, at: float = BEGUN, **quantities: str) -> UsageMetered:
    return UsageMetered(
        session_id="sess_u", seq=seq, at=at, source=source, provider="openai", model="m", agent="desk", key_id="key_1",
        end_user="ada", quantities={name: Decimal(quantity) for name, quantity in quantities.items()},
    )  # fmt: skip


def sums() -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """Of the ledger, and of what is maintained beside it."""
    entries: Counter[str] = Counter()
    for meter, quantity in Entry.objects.values_list("meter", "quantity"):
        entries[meter] += quantity
    days: Counter[str] = Counter()
    for meter, quantity in Day.objects.values_list("meter", "quantity"):
        days[meter] += quantity
    return dict(entries), dict(days)


@pytest.fixture
def alpha(world: World) -> Any:
    with tenant_context(world.alpha.tenant):
        yield world


METERS = st.sampled_from(["llm_tokens_in", "llm_tokens_out", "stt_seconds", "audio_seconds_out"])


@st.composite
def histories(draw: st.DrawFn) -> list[UsageMetered]:
    events = []
    for number in range(draw(st.integers(1, 8))):
        quantities = draw(st.dictionaries(METERS, st.decimals(0, 10_000, places=3).map(str), max_size=3))
        # Around midnight, so that several days are summed up.
        at = BEGUN + draw(st.integers(-86_400, 86_400))
        events.append(metered(f"resp_{number}", number, at, **quantities))
    return events


@given(history=histories(), data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_any_repetition_and_any_batches_give_the_same_sums(
    alpha: World, history: list[UsageMetered], data: st.DataObject
) -> None:
    expected: Counter[str] = Counter()
    for event in history:
        for meter, quantity in event.quantities.items():
            expected[meter] += quantity
    wanted = {meter: quantity for meter, quantity in expected.items() if quantity}
    repeated = data.draw(st.permutations(history + data.draw(st.lists(st.sampled_from(history), max_size=6))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(repeated)), max_size=3)))
    with transaction.atomic():
        for begin, end in zip([0, *cuts], [*cuts, len(repeated)], strict=True):
            draining._store([decode_event(encode_event(event)) for event in repeated[begin:end]])
        assert sums() == (wanted, wanted)
        assert sum(Day.objects.values_list("entries", flat=True)) == Entry.objects.count()
        transaction.set_rollback(True)


def test_a_stream_that_is_drained_again_after_a_fault_counts_once(
    committed: World, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenant_context(committed.alpha.tenant):
        before, _ = sums()
    session = f"sess_{datetime.now(UTC).timestamp()}"
    events = [*call(session, "desk", ["one"]), metered("resp_a", llm_tokens_in="5", audio_seconds_out="1.250")]
    push(client, "alpha", [event if event in events[:-1] else _with_session(event, session) for event in events])

    class Lost(Exception):
        pass

    def lose_power(*_: object) -> None:
        raise Lost

    with monkeypatch.context() as patched:
        patched.setattr(draining, "_take_off", lose_power)
        with pytest.raises(Lost):
            drain(client, "alpha")
    push(client, "alpha", [_with_session(events[-1], session)])
    assert drain(client, "alpha") == 5
    assert client.sismember(USAGE_TENANTS_KEY, "alpha")
    with tenant_context(committed.alpha.tenant):
        after, days = sums()
        assert after == days
        assert after["llm_tokens_in"] - before.get("llm_tokens_in", 0) == 5
        assert after["audio_seconds_out"] - before.get("audio_seconds_out", 0) == Decimal("1.250")
        assert Call.objects.filter(pk=session).exists()
    with tenant_context(committed.beta.tenant):
        assert not Entry.objects.filter(session_id=session).exists()


def _with_session(event: UsageMetered, session: str) -> UsageMetered:
    return decode_event(encode_event(event).replace(b"sess_u", session.encode()))


def test_a_use_that_is_none_goes_to_the_dead_letters_and_the_rest_is_stored(committed: World, client: Any) -> None:
    session = f"sess_bad_{datetime.now(UTC).timestamp()}"
    bad = [
        metered("resp_a", surprise="1"),
        metered("resp_b", llm_tokens_in="-1"),
        metered("resp_c", llm_tokens_in="NaN"),
        metered("resp_d", llm_tokens_in="0.0001"),
        metered("resp_e", llm_tokens_in="1e30"),
    ]
    good = metered("resp_f", llm_tokens_in="3")
    push(client, "alpha", [_with_session(event, session) for event in [*bad, good]])
    assert drain(client, "alpha") == 6
    letters = [fields for _, fields in client.xrange(dead_letter_key("alpha"))]
    assert [letter[b"reason"].partition(b":")[0] for letter in letters] == [b"ValueError"] * 5
    assert client.xlen(stream_key("alpha")) == 0
    with tenant_context(committed.alpha.tenant):
        assert [entry.quantity for entry in Entry.objects.filter(session_id=session)] == [Decimal(3)]


def test_usage_makes_no_conversation_and_other_events_no_entry(alpha: World) -> None:
    draining._store([metered("request", tts_characters="12")])
    assert not Conversation.objects.filter(pk="sess_u").exists()
    draining._store([CallEnded(session_id="sess_v", seq=1, at=BEGUN, reason="expired", duration_s=1.0)])
    assert Entry.objects.count() == 1


def test_an_entry_keeps_who_what_and_when(alpha: World) -> None:
    draining._store([metered("resp_1", llm_tokens_in="7", llm_tokens_out="0")])
    [entry] = Entry.objects.all()
    assert entry.key == "sess_u/resp_1/llm_tokens_in/openai/m"
    assert (entry.agent, entry.key_id, entry.end_user, entry.session_id) == ("desk", "key_1", "ada", "sess_u")
    assert entry.at == AT
    [listed] = Call.objects.all()
    assert (listed.began_at, listed.agent, listed.key_id, listed.end_user) == (AT, "desk", "key_1", "ada")


def test_a_call_begins_with_its_earliest_entry_whatever_comes_first(alpha: World) -> None:
    store_uses([use("resp_2", at=AT + timedelta(seconds=9))])
    store_uses([use("resp_1")])
    store_uses([use("resp_3", at=AT + timedelta(seconds=20))])
    assert Call.objects.get(pk="sess_u").began_at == AT


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE usage_entry SET quantity = 1",
        "UPDATE usage_entry SET end_user = 'eve'",
        "UPDATE usage_entry SET end_user = '', quantity = 0",
        "DELETE FROM usage_entry",
        "TRUNCATE usage_entry CASCADE",
    ],
)
def test_the_database_refuses_to_change_the_ledger(alpha: World, statement: str) -> None:
    store_uses([use(end_user="ada")])
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert Entry.objects.get().quantity == 7


def test_a_person_is_forgotten_and_their_use_stays(alpha: World) -> None:
    store_uses([use("resp_1", end_user="ada"), use("resp_2", end_user="bob", session_id="sess_b")])
    assert forget_end_user(end_user="ada") == 1
    assert list(Entry.objects.order_by("key").values_list("end_user", flat=True)) == ["bob", ""]
    assert set(Call.objects.values_list("end_user", flat=True)) == {"bob", ""}
    assert sums()[0] == {"llm_tokens_in": Decimal(14)}
    # Its event comes again: the entry is known, so the name does not come back.
    store_uses([use("resp_1", end_user="ada")])
    assert not Entry.objects.filter(end_user="ada").exists()
    assert forget_end_user(end_user="") == 0


def test_what_is_kept_is_counted_once_a_day(alpha: World) -> None:
    assert store_kept_bytes(at=AT, object_bytes=5) == 1
    assert store_kept_bytes(at=AT + timedelta(minutes=5), object_bytes=50) == 0
    assert store_kept_bytes(at=AT + timedelta(days=1)) == 1
    first, second = Entry.objects.order_by("at")
    assert first.meter == Meter.STORED_BYTE_DAYS
    assert first.quantity > 100_000
    assert 0 <= abs(second.quantity - first.quantity) < 10_000_000


def test_two_writers_at_once_count_the_same_event_once(committed: World, postgres_url: str) -> None:
    from threading import Barrier, Thread

    from django.db import connections

    session = f"sess_twice_{datetime.now(UTC).timestamp()}"
    uses = [use(f"resp_{number}", session_id=session) for number in range(40)]
    barrier, stored = Barrier(4), []

    def write(order: int) -> None:
        try:
            with tenant_context(committed.alpha.tenant):
                barrier.wait(10)
                for one in uses if order % 2 else reversed(uses):
                    with transaction.atomic():
                        stored.append(store_uses([one]))
        finally:
            connections.close_all()

    threads = [Thread(target=write, args=(order,)) for order in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(stored) == 40
    with tenant_context(committed.alpha.tenant):
        assert Entry.objects.filter(session_id=session).count() == 40
        entries, days = sums()
        assert entries == days


@pytest.mark.parametrize(
    ("samples", "hz", "ms"), [(0, 24_000, 0), (24, 24_000, 1), (47, 24_000, 1), (16_000, 16_000, 1000)]
)
def test_audio_is_counted_in_whole_milliseconds(samples: int, hz: int, ms: int) -> None:
    assert to_ms(samples, hz) == ms


def test_a_leaked_error_message_quotes_no_row(alpha: World) -> None:
    with pytest.raises(ValueError, match="cannot count") as refusal:
        store_uses([use(end_user="ada", quantities={"llm_tokens_in": Decimal("-1")})])
    assert "ada" not in str(refusal.value)
    assert not isinstance(refusal.value, psycopg.Error)
