"""The audit log: whole under threads and odd values, without secrets, and any meddling is seen and named."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from threading import Barrier, Thread
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django_tenants.utils import schema_context, tenant_context
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.models import Agent
from agents.operations import create_agent, delete_agent, update_agent
from celery_workers import audit as worker
from tenants.audit import chain, verification
from tenants.audit.masking import MASK, is_secret
from tenants.audit.models import Entry
from tenants.audit.operations import record
from tenants.audit.verification import Break, Head, anchor, verify, verify_and_anchor
from tenants.principal import Principal, acting_as
from tests.record.world import World

ADA = Principal("person", "7", "Ada", "alpha", frozenset(), "203.0.113.7")


@pytest.fixture
def alpha(world: World) -> str:
    return world.alpha.tenant.schema_name


def fill(schema: str, count: int) -> None:
    for number in range(count):
        record(action="thing.done", target=f"t{number}", after={"number": number}, tenant=schema)


# ---- what is written ----

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(before=st.dictionaries(st.text(st.characters()), json_values, max_size=4), target=st.text(st.characters()))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_recorded_comes_back_from_the_database_with_its_hash(
    alpha: str, before: dict[str, Any], target: str
) -> None:
    with transaction.atomic():
        entry = record(action="thing.done", target=target, before=before, tenant=alpha, actor=ADA)
        with schema_context(alpha):
            stored = Entry.objects.get(pk=entry.pk)
        assert stored.hash == chain.digest(stored) == entry.hash
        assert verify(alpha).broken is None
        transaction.set_rollback(True)


@pytest.mark.parametrize(
    "value",
    [
        1e22,
        1e16,
        1e308,
        5e-324,
        -0.0,
        0.1 + 0.2,
        1.0,
        float("nan"),
        float("inf"),
        10**400,
        "\0",
        "\ud800",
        "é",
        "e\u0301",
    ],
)
def test_numbers_and_texts_that_jsonb_writes_in_another_way(alpha: str, value: Any) -> None:
    record(action="thing.done", after={"value": value}, tenant=alpha)
    assert verify(alpha).broken is None


class Colour(Enum):
    RED = "red"


def test_values_of_python_become_json(alpha: str) -> None:
    east = timezone(timedelta(hours=5))
    entry = record(
        action="thing.done",
        tenant=alpha,
        after={
            "at": datetime(2026, 1, 1, 5, 0, 0, 1, tzinfo=east), "day": date(2026, 1, 2), "amount": Decimal("1.10"),
            "id": UUID(int=1), "colour": Colour.RED, "names": {"b", "a"}, "pair": (1, 2), 3: "three",
        },
    )  # fmt: skip
    assert entry.after == {
        "at": "2026-01-01T00:00:00.000001+00:00", "day": "2026-01-02", "amount": "1.10",
        "id": "00000000-0000-0000-0000-000000000001", "colour": "red", "names": ["a", "b"], "pair": [1, 2],
        "3": "three",
    }  # fmt: skip
    with pytest.raises(TypeError, match="cannot hold a object"):
        record(action="thing.done", after={"x": object()}, tenant=alpha)
    deep: Any = {}
    for _ in range(40):
        deep = {"in": deep}
    with pytest.raises(ValueError, match="32 deep"):
        record(action="thing.done", after=deep, tenant=alpha)


def test_the_time_of_an_entry_does_not_depend_on_where_it_is_read(alpha: str) -> None:
    entry = record(action="thing.done", tenant=alpha)
    with schema_context(alpha):
        stored = Entry.objects.get(pk=entry.pk)
    stored.at = stored.at.astimezone(timezone(timedelta(hours=-7)))
    assert chain.digest(stored) == entry.hash
    stored.at += timedelta(microseconds=1)
    assert chain.digest(stored) != entry.hash


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("password", True),
        ("secret_hash", True),
        ("clientSecret", True),
        ("token", True),
        ("access_token", True),
        ("Authorization", True),
        ("apiKey", True),
        ("private_key", True),
        ("recovery_codes", True),
        ("tokens_per_minute", False),
        ("max_output_tokens", False),
        ("key_id", False),
        ("public_key", False),
        ("secretary", False),
        ("name", False),
    ],
)
def test_which_names_are_those_of_secrets(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


def test_secrets_that_slip_in_are_masked_at_any_depth(alpha: str) -> None:
    live = "avb_live_" + "aB3" * 13 + "x"
    entry = record(
        action="thing.done",
        tenant=alpha,
        before={"name": "a", "password": "hunter2", "token": None},
        after={
            "config": [{"client_secret": {"deep": "s3cret"}}], "note": f"they sent {live} by mail",
            "tokens_per_minute": 5, "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJl",
        },
    )  # fmt: skip
    assert entry.before == {"name": "a", "password": MASK, "token": None}
    assert entry.after == {
        "config": [{"client_secret": MASK}], "note": f"they sent {MASK} by mail", "tokens_per_minute": 5, "jwt": MASK,
    }  # fmt: skip
    with schema_context(alpha), connection.cursor() as cursor:
        cursor.execute("SELECT before::text || after::text FROM audit_entry WHERE seq = %s", [entry.seq])
        stored = cursor.fetchone()[0]
    assert not any(secret in stored for secret in ("hunter2", "s3cret", live))


def test_agents_leave_what_changed_and_nothing_else(world: World) -> None:
    with acting_as(ADA), tenant_context(world.alpha.tenant):
        agent = create_agent(slug="desk", name="Desk", instructions="Be kind.")
        update_agent(agent=agent, speed=1.25, name="Desk")
        update_agent(agent=agent, speed=1.25)
        agent.voice = "ballad"  # as the admin does: the object is changed before the operation sees it
        update_agent(agent=agent, voice="ballad", is_default=True)
        Agent.objects.filter(pk=agent.pk).update(is_default=False)  # the default one stays
        delete_agent(agent=agent)
        acts = list(Entry.objects.filter(action__startswith="agent.", actor_id="7").order_by("seq"))
    assert [(act.action, act.target) for act in acts] == [
        ("agent.created", "desk"), ("agent.updated", "desk"), ("agent.updated", "alpha-desk"),
        ("agent.updated", "desk"), ("agent.deleted", "desk"),
    ]  # fmt: skip
    assert (acts[1].before, acts[1].after) == ({"speed": 1}, {"speed": 1.25})
    assert (acts[2].before, acts[2].after) == ({"is_default": True}, {"is_default": False})
    assert (acts[3].before["voice"], acts[3].after) == ("alloy", {"voice": "ballad", "is_default": True})
    assert acts[4].before["instructions"] == "Be kind."
    assert {act.address for act in acts} == {"203.0.113.7"}
    with tenant_context(world.beta.tenant):
        assert not Entry.objects.filter(actor_id="7").exists()


# ---- who writes at once ----


def race(schema: str, workers: int, body: Any) -> list[Exception]:
    barrier, faults = Barrier(workers), []

    def run(number: int) -> None:
        try:
            barrier.wait(10)
            body(number)
        except Exception as error:
            faults.append(error)
        finally:
            connections.close_all()

    threads = [Thread(target=run, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return faults


def test_many_transactions_at_once_keep_the_chain_whole(committed: World) -> None:
    alpha, beta = committed.alpha.tenant.schema_name, committed.beta.tenant.schema_name
    before = verify(alpha)
    assert before.broken is None

    def write(number: int) -> None:
        for turn in range(8):
            with transaction.atomic():
                record(action="race.won", target=f"{number}/{turn}", tenant=alpha)
                if turn % 2:
                    record(action="race.won", target=f"{number}/{turn}")
            with transaction.atomic():
                record(action="race.won", target="undone", tenant=(alpha, beta)[number % 2])
                transaction.set_rollback(True)

    assert race(alpha, 8, write) == []
    after = verify(alpha)
    assert (after.broken, after.entries) == (None, before.entries + 64)
    assert verify("public").broken is None
    assert verify(beta).broken is None
    with schema_context(alpha):
        assert Entry.objects.filter(action="race.won").count() >= 64
        assert not Entry.objects.filter(target="undone").exists()


# ---- meddling ----


def meddle(schema: str, statement: str, *values: Any) -> None:
    """As somebody would who owns the database: triggers do not hold them."""
    with schema_context(schema), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_entry DISABLE TRIGGER USER")
        cursor.execute(statement, values)
        cursor.execute("ALTER TABLE audit_entry ENABLE TRIGGER USER")


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_entry SET action = 'x'", "DELETE FROM audit_entry", "TRUNCATE audit_entry"]
)
def test_the_database_refuses_to_change_the_log(alpha: str, statement: str) -> None:
    fill(alpha, 1)
    with (
        schema_context(alpha),
        pytest.raises(DatabaseError, match="never changed"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


@pytest.fixture
def log_of_ten(alpha: str) -> tuple[str, int]:
    """A log, and the number of the entry before the ten that are meddled with."""
    with schema_context(alpha):
        last = Entry.objects.order_by("-seq").values_list("seq", flat=True).first() or 0
    fill(alpha, 10)
    verdict = verify_and_anchor(alpha)
    assert (verdict.broken, verdict.head.seq) == (None, last + 10)
    return alpha, last


@pytest.mark.parametrize(
    "change",
    [
        "action = 'thing.undone'",
        "target = 'other'",
        "actor_name = 'Eve'",
        "actor_id = '8'",
        "actor_kind = 'key'",
        "address = '198.51.100.1'",
        "at = at + interval '1 microsecond'",
        "after = '{\"number\": 99}'",
        "before = '{}'",
        "after = NULL",
        "hash = repeat('a', 64)",
        "previous_hash = repeat('a', 64)",
    ],
)
def test_a_changed_entry_is_named(log_of_ten: tuple[str, int], change: str) -> None:
    schema, last = log_of_ten
    meddle(schema, f"UPDATE audit_entry SET {change} WHERE seq = %s", last + 4)  # noqa: S608
    assert verify(schema).broken == Break(last + 4, "changed")


def test_a_removed_entry_is_named(log_of_ten: tuple[str, int]) -> None:
    schema, last = log_of_ten
    meddle(schema, "DELETE FROM audit_entry WHERE seq = %s", last + 4)
    assert verify(schema).broken == Break(last + 4, "removed")


def test_entries_that_close_ranks_are_seen(log_of_ten: tuple[str, int]) -> None:
    schema, last = log_of_ten
    meddle(schema, "DELETE FROM audit_entry WHERE seq = %s", last + 4)
    for seq in range(last + 5, last + 11):
        meddle(schema, "UPDATE audit_entry SET seq = seq - 1 WHERE seq = %s", seq)
    assert verify(schema).broken == Break(last + 4, "changed")


def rewrite(schema: str, first: int) -> None:
    """Every hash from an entry on computed anew, as somebody would who knows how."""
    with schema_context(schema):
        entries = list(Entry.objects.filter(seq__gte=first - 1).order_by("seq"))
    previous = entries[0].hash
    for entry in entries[1:]:
        entry.previous_hash = previous
        entry.hash = previous = chain.digest(entry)
        meddle(
            schema, "UPDATE audit_entry SET previous_hash = %s, hash = %s WHERE seq = %s",
            entry.previous_hash, entry.hash, entry.seq,
        )  # fmt: skip


def test_one_entry_that_was_hashed_anew_is_seen_by_the_next(log_of_ten: tuple[str, int]) -> None:
    schema, last = log_of_ten
    meddle(schema, "UPDATE audit_entry SET actor_name = 'Eve' WHERE seq = %s", last + 4)
    with schema_context(schema):
        entry = Entry.objects.get(seq=last + 4)
    meddle(schema, "UPDATE audit_entry SET hash = %s WHERE seq = %s", chain.digest(entry), entry.seq)
    assert verify(schema).broken == Break(last + 5, "replaced")


def test_a_log_that_was_written_anew_is_seen_by_its_anchor(log_of_ten: tuple[str, int]) -> None:
    schema, last = log_of_ten
    meddle(schema, "UPDATE audit_entry SET actor_name = 'Eve' WHERE seq = %s", last + 4)
    rewrite(schema, last + 4)
    assert verify(schema).broken == Break(last + 10, "replaced")


def test_an_inserted_entry_is_named(log_of_ten: tuple[str, int]) -> None:
    schema, last = log_of_ten
    copy = (
        "INSERT INTO audit_entry SELECT %s, at, action, target, actor_kind, actor_id, actor_name, address, before,"
        " after, previous_hash, hash FROM audit_entry WHERE seq = %s"
    )
    meddle(schema, copy, -3, last + 4)
    assert verify(schema).broken == Break(-3, "inserted")
    meddle(schema, "DELETE FROM audit_entry WHERE seq = -3")
    meddle(schema, copy, last + 11, last + 10)
    assert verify(schema).broken == Break(last + 11, "changed")


def test_a_tail_that_was_cut_off_is_seen(log_of_ten: tuple[str, int]) -> None:
    schema, last = log_of_ten
    meddle(schema, "DELETE FROM audit_entry WHERE seq > %s", last + 7)
    assert verify(schema).broken == Break(last + 8, "cut")
    verdict = verify_and_anchor(schema)
    assert (verdict.broken, verdict.head.seq) == (Break(last + 8, "cut"), last + 7)
    # And when the log has grown over it again.
    fill(schema, 5)
    assert verify(schema).broken == Break(last + 10, "replaced")


def test_a_log_that_was_emptied_is_seen(log_of_ten: tuple[str, int]) -> None:
    schema, _ = log_of_ten
    meddle(schema, "DELETE FROM audit_entry")
    assert verify(schema).broken == Break(1, "cut")


def test_the_platforms_own_tail_is_seen_by_a_head_that_was_kept_elsewhere(world: World) -> None:
    fill("", 3)
    head = verify("public").head
    assert verify("public", known_heads={"public": head}).broken is None
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_entry DISABLE TRIGGER USER")
        cursor.execute("DELETE FROM audit_entry WHERE seq >= %s", [head.seq])
    assert verify("public").broken is None
    assert verify("public", known_heads={"public": head}).broken == Break(head.seq, "cut")
    fill("", 1)
    assert verify("public", known_heads={"public": head}).broken == Break(head.seq, "replaced")


# ---- anchors ----


def test_a_head_is_anchored_once(alpha: str) -> None:
    fill(alpha, 2)
    head = anchor(alpha)
    assert isinstance(head, Head)
    assert anchor(alpha) is None
    fill(alpha, 1)
    assert anchor(alpha, every=timedelta(hours=1)) is None
    assert Entry.objects.filter(action=verification.ANCHORED, target=alpha).count() == 1
    assert anchor(alpha).seq == head.seq + 1
    assert anchor("public") is None


def test_the_worker_anchors_every_log_once_a_day(committed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(worker, "submit", lambda *message: asked.append(message))
    worker.anchor_all()
    assert [(task, queue) for task, queue, _ in asked] == [(worker.TASK_ANCHOR, "default")] * 2
    assert {kwargs["tenant"] for _, _, kwargs in asked} == {"alpha", "beta"}
    for _ in range(2):
        record(action="thing.done", tenant="alpha")
        worker.anchor_one(tenant="alpha")
    worker.anchor_one(tenant="ghost")
    assert list(Entry.objects.filter(action=verification.ANCHORED).values_list("target", flat=True)) == ["alpha"]


def test_memory_holds_one_page_of_a_long_log(alpha: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(alpha, 25)
    monkeypatch.setattr(verification, "READ_ENTRIES", 10)
    with connection.execute_wrapper(lambda run, sql, *rest: asked.append(sql) or run(sql, *rest)):
        asked: list[str] = []
        verdict = verify(alpha)
    assert verdict.broken is None
    assert verdict.entries >= 25
    reads = [sql for sql in asked if "audit_entry" in sql and "LIMIT 10" in sql]
    assert len(reads) == verdict.entries // 10 + 1


def test_what_the_export_shows_is_enough_to_check_a_hash_elsewhere(alpha: str) -> None:
    """The recipe of docs/audit.md, without this project's code."""
    import hashlib

    entry = record(action="thing.done", target="t", after={"é": [1.5, None, True]}, tenant=alpha, actor=ADA)
    shown = {
        "seq": entry.seq, "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"), "action": "thing.done",
        "target": "t", "actor": ["person", "7", "Ada"], "address": "203.0.113.7", "before": None,
        "after": {"é": [1.5, None, True]}, "previous_hash": entry.previous_hash,
    }  # fmt: skip
    text = json.dumps(shown, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == entry.hash
