"""What is past its time goes, and what is held stays."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connection, transaction
from django_tenants.utils import tenant_context

from celery_workers import privacy as worker
from realtime.archive.models import Conversation, Item
from realtime.archive.operations import apply_events
from realtime.privacy import holds, retention
from realtime.privacy.retention import Removed, expire_batch, retention_days
from realtime.recordings import operations as recordings
from realtime.recordings.models import Recording
from realtime.recordings.storage import StorageUnavailable, storage
from realtime.runtime.recorder import CallSheet
from tenants.audit.models import Entry
from tests.record.world import BEEP, BEGUN, World, call

NOW = datetime.fromtimestamp(BEGUN, UTC) + timedelta(days=1_000)
DAY_S = 86_400


@pytest.fixture(autouse=True)
def place(settings, tmp_path: Path, valkey_url: str) -> None:
    settings.RECORDING_DIR = tmp_path / "recordings"


@pytest.fixture
def aged(world: World) -> Iterator[World]:
    """Of alpha: sess_N began N days before NOW; sess_89.. sess_91 around the border."""
    with tenant_context(world.alpha.tenant):
        Recording.objects.all().delete()
        Conversation.objects.all().delete()
        for days in (1, 89, 90, 91, 200):
            begun = (NOW - timedelta(days=days)).timestamp()
            apply_events(call(f"sess_{days}", "desk", ["a", "b"], begun=begun, end_user=f"caller-{days}"))
            sheet = CallSheet(tenant="alpha", session_id=f"sess_{days}", started_at=begun)
            recordings.store_part(sheet=sheet, index=0, pcm=BEEP[: 1000 + days], part_samples=len(BEEP))
        yield world


def left() -> set[str]:
    return set(Conversation.objects.values_list("pk", flat=True))


def test_the_border_is_to_the_second(aged: World) -> None:
    assert expire_batch(days=90, now=NOW) == Removed(2, 4, 2)
    assert left() == {"sess_1", "sess_89", "sess_90"}
    assert not expire_batch(days=90, now=NOW)
    assert expire_batch(days=90, now=NOW + timedelta(seconds=1)).conversations == 1
    assert left() == {"sess_1", "sess_89"}
    assert set(Recording.objects.values_list("pk", flat=True)) == left()
    assert set(Item.objects.values_list("conversation", flat=True)) == left()
    assert sum(1 for _ in storage().keys("alpha/")) == 2


def test_it_goes_in_batches_oldest_first_with_counts_in_the_audit(aged: World, settings) -> None:
    settings.RETENTION_BATCH_ROWS = 2
    assert expire_batch(days=1, now=NOW) == Removed(2, 4, 2)
    assert left() == {"sess_90", "sess_89", "sess_1"}
    assert expire_batch(days=1, now=NOW) == Removed(2, 4, 2)
    assert not expire_batch(days=1, now=NOW)
    entries = Entry.objects.filter(action="conversations.expired")
    assert [(entry.target, entry.after["conversations"], entry.after["items"]) for entry in entries] == [
        ("1 days", 2, 4), ("1 days", 2, 4),
    ]  # fmt: skip
    assert entries[0].after["before"] == (NOW - timedelta(days=1)).isoformat()


def test_a_batch_is_bounded_by_items_too(aged: World, monkeypatch) -> None:
    monkeypatch.setattr(retention, "BATCH_ITEMS", 3)
    assert expire_batch(days=1, now=NOW).conversations == 1
    monkeypatch.setattr(retention, "BATCH_ITEMS", 1)
    assert expire_batch(days=1, now=NOW).conversations == 1, "one that is larger than a batch goes alone"


def test_what_is_held_stays_until_it_is_released(aged: World) -> None:
    holds.hold_conversation(session_id="sess_200", reason="court")
    hold = holds.hold_end_user(end_user="caller-91", reason="dispute")
    assert not expire_batch(days=90, now=NOW)
    assert {"sess_200", "sess_91"} <= left()
    holds.release_conversation(session_id="sess_200")
    assert expire_batch(days=90, now=NOW) == Removed(1, 2, 1)
    holds.release_hold(hold_id=hold.pk)
    assert expire_batch(days=90, now=NOW) == Removed(1, 2, 1)
    actions = list(Entry.objects.filter(action__startswith="legal_hold").values_list("action", flat=True))
    assert sorted(actions) == ["legal_hold.placed"] * 2 + ["legal_hold.released"] * 2
    assert "caller-91" not in str(list(Entry.objects.values_list("target", "before", "after"))), "the audit is for ever"


def test_recordings_without_a_conversation_go_as_well_unless_held(aged: World) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM archive_item")
        cursor.execute("DELETE FROM archive_conversation WHERE id IN ('sess_91', 'sess_200')")
    holds.LegalHold.objects.create(session_id="sess_91", reason="court")
    assert expire_batch(days=90, now=NOW) == Removed(recordings=1)
    assert not expire_batch(days=90, now=NOW)
    assert Recording.objects.filter(pk="sess_91").exists()


def test_a_storage_that_is_away_loses_nothing(aged: World, monkeypatch) -> None:
    def refuse(self, key):
        raise StorageUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr("realtime.recordings.storage.FileStorage.delete", refuse)
        with pytest.raises(StorageUnavailable), transaction.atomic():
            expire_batch(days=90, now=NOW)
    assert len(left()) == 5
    assert expire_batch(days=90, now=NOW).conversations == 2


def test_each_tenant_has_its_own_time(world: World, settings) -> None:
    assert retention_days(world.alpha.tenant) == 90
    settings.RETENTION_DAYS = 30
    assert retention_days(world.alpha.tenant) == 30
    world.alpha.tenant.retention_days = 7
    assert retention_days(world.alpha.tenant) == 7


def test_the_task_works_on_one_tenant_and_leaves_the_other(committed: World, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(worker, "submit", lambda *message: asked.append(message))
    now = time.time()
    for house in (committed.alpha, committed.beta):
        with tenant_context(house.tenant), transaction.atomic():
            Recording.objects.all().delete()
            Conversation.objects.all().delete()
            for number in range(3):
                apply_events(call(f"sess_{number}", "desk", ["a"], begun=now - (89 + number) * DAY_S - 60))
    worker.retain_all()
    assert {message[2]["tenant"] for message in asked} == {"alpha", "beta"}
    worker.retain(tenant="alpha")
    for house, expected in ((committed.alpha, {"sess_0"}), (committed.beta, {"sess_0", "sess_1", "sess_2"})):
        with tenant_context(house.tenant):
            assert left() == expected
    asked.clear()
    monkeypatch.setattr(worker, "ROUND_S", 0.0)
    worker.retain(tenant="beta")
    assert asked == [("celery_workers.privacy.retain", "default", {"tenant": "beta"})], "the rest is for another round"
    worker.retain(tenant="nobody")


def test_a_hold_that_is_placed_meanwhile_counts(committed: World) -> None:
    """Whoever comes second waits: a conversation is either held or gone."""
    with tenant_context(committed.alpha.tenant), transaction.atomic():
        Recording.objects.all().delete()
        holds.hold_conversation(session_id="sess_alpha", reason="court")
        removed: list[Removed] = []

        def expire() -> None:
            try:
                with tenant_context(committed.alpha.tenant):
                    removed.append(expire_batch(days=1, now=NOW))
            finally:
                connection.close()

        thread = threading.Thread(target=expire)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join(10)
    assert removed == [Removed()]
