"""What was said long ago leaves the database, and comes back when somebody reads it; nothing of it is lost, and nothing
stays when it has to go."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from django_tenants.utils import tenant_context

from celery_workers import privacy as worker
from realtime.archive.models import Conversation, Item
from realtime.archive.operations import apply_events
from realtime.privacy import cold, export, holds
from realtime.privacy.cold import FrozenItemsLost, freeze_batch, thaw
from realtime.privacy.models import FrozenItems
from realtime.privacy.retention import expire_batch
from realtime.recordings.models import Recording
from realtime.recordings.storage import FileStorage, StorageUnavailable, storage
from tenants.audit.models import Entry
from tenants.encryption import data_keys
from tenants.encryption import operations as encryption
from tests.record.world import BEGUN, Api, World, call

NOW = datetime.fromtimestamp(BEGUN, UTC) + timedelta(days=1_000)
WORDS = ["May I have the blue one?", "Of course.", "Thank you!"]


@pytest.fixture(autouse=True)
def place(settings, tmp_path: Path, valkey_url: str) -> Iterator[None]:
    settings.RECORDING_DIR = tmp_path / "recordings"
    yield
    data_keys.cache.clear()


@pytest.fixture
def aged(world: World) -> Iterator[World]:
    """Of alpha: sess_N began N days before NOW."""
    with tenant_context(world.alpha.tenant):
        Recording.objects.all().delete()
        Conversation.objects.all().delete()
        for days in (1, 89, 91, 200):
            begun = (NOW - timedelta(days=days)).timestamp()
            apply_events(call(f"sess_{days}", "desk", WORDS, begun=begun, end_user=f"caller-{days}"))
        yield world


def rows(session_id: str) -> list[dict[str, Any]]:
    return list(Item.objects.filter(conversation=session_id).order_by("pk").values())


def objects() -> list[str]:
    return [key for key in storage().keys("alpha/") if "/cold/" in key]


def test_old_items_leave_the_database_and_come_back_as_they_were(aged: World) -> None:
    before = {days: rows(f"sess_{days}") for days in (1, 89, 91, 200)}
    assert freeze_batch(days=90, now=NOW) == 2
    assert freeze_batch(days=90, now=NOW) == 0
    assert {days: rows(f"sess_{days}") for days in before} == before | {91: [], 200: []}
    assert len(objects()) == 2
    assert Entry.objects.get(action="conversations.frozen").after == {"conversations": 2}
    thaw(Conversation.objects.get(pk="sess_200"))
    assert rows("sess_200") == before[200]
    assert rows("sess_91") == []


def test_what_was_said_is_not_readable_in_the_storage(aged: World) -> None:
    freeze_batch(days=90, now=NOW)
    for key in objects():
        sealed = storage().get(key)
        assert b"blue" not in sealed
        assert "sess_" not in key


def test_reading_by_rest_brings_them_back(aged: World, alpha_api: Api) -> None:
    freeze_batch(days=90, now=NOW)
    status, body = alpha_api("GET", "conversations/sess_200/")
    assert status == 200
    assert [item["text"] for item in body["data"]["items"]] == WORDS
    status, body = alpha_api("GET", "conversations/sess_91/items/")
    assert [item["text"] for item in body["data"]["results"]] == WORDS
    with tenant_context(aged.alpha.tenant):
        assert not FrozenItems.objects.filter(thawed_at__isnull=True).exists()


def test_a_storage_that_is_away_is_told(aged: World, alpha_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze_batch(days=90, now=NOW)

    def away(self: FileStorage, key: str) -> bytes:
        raise StorageUnavailable("the network")

    monkeypatch.setattr(FileStorage, "get", away)
    status, body = alpha_api("GET", "conversations/sess_200/")
    assert (status, body["error"]["code"]) == (503, "storage_unavailable")
    assert alpha_api("GET", "conversations/sess_1/")[0] == 200


def test_what_was_read_stays_a_week_and_goes_again(aged: World) -> None:
    freeze_batch(days=90, now=NOW)
    before = Conversation.objects.get(pk="sess_200")
    thaw(before)
    thawed_at = FrozenItems.objects.get(pk="sess_200").thawed_at
    assert thawed_at is not None
    later = max(NOW, timezone.now() + timedelta(days=8))
    FrozenItems.objects.filter(pk="sess_200").update(thawed_at=later - timedelta(days=6))
    freeze_batch(days=90, now=later)
    assert len(rows("sess_200")) == 3
    FrozenItems.objects.filter(pk="sess_200").update(thawed_at=later - timedelta(days=8))
    freeze_batch(days=90, now=later)
    assert rows("sess_200") == []
    thaw(before)
    assert [row["text"] for row in rows("sess_200")] == WORDS


def test_a_fault_on_the_way_leaves_all_where_it_was(aged: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: FileStorage, key: str, sealed: bytes, *, cold: bool = False) -> None:
        raise StorageUnavailable("the network")

    with monkeypatch.context() as patch:
        patch.setattr(FileStorage, "put", away)
        with pytest.raises(StorageUnavailable):
            freeze_batch(days=90, now=NOW)
    assert Item.objects.count() == 12
    assert freeze_batch(days=90, now=NOW) == 2


def test_a_damaged_object_is_no_empty_conversation(aged: World, alpha_api: Api) -> None:
    freeze_batch(days=90, now=NOW)
    frozen = FrozenItems.objects.get(pk="sess_200")
    sealed = bytearray(storage().get(frozen.object_key))
    sealed[-1] ^= 1
    storage().put(frozen.object_key, bytes(sealed))
    with pytest.raises(FrozenItemsLost, match="Tampered"):
        thaw(Conversation.objects.get(pk="sess_200"))
    assert alpha_api("GET", "conversations/sess_200/")[0] == 503


def test_retention_takes_the_object_too(aged: World) -> None:
    freeze_batch(days=90, now=NOW)
    removed = expire_batch(days=150, now=NOW)
    assert (removed.conversations, removed.items) == (1, 3)
    assert len(objects()) == 1
    assert set(FrozenItems.objects.values_list("pk", flat=True)) == {"sess_91"}


def test_a_hold_keeps_cold_items(aged: World) -> None:
    freeze_batch(days=90, now=NOW)
    holds.hold_conversation(session_id="sess_200", reason="A court asks.")
    assert not expire_batch(days=150, now=NOW)
    assert len(objects()) == 2


def test_an_export_has_them(aged: World) -> None:
    freeze_batch(days=90, now=NOW)
    counts = {"conversations": 0, "items": 0, "recordings": 0}
    [(name, content)] = export._conversation_files("sess_200", counts)
    assert counts["items"] == 3
    assert b"blue one" in b"".join(content)
    assert name == "conversations/sess_200.json"


def test_a_new_data_key_seals_them_anew(aged: World) -> None:
    freeze_batch(days=90, now=NOW)
    encryption.rotate_data_key(tenant="alpha")
    data_keys.cache.clear()
    assert cold.reseal_next_frozen(after="") == ("sess_200", True)
    assert cold.reseal_next_frozen(after="sess_200") == ("sess_91", True)
    assert cold.reseal_next_frozen(after="sess_91") is None
    assert cold.reseal_next_frozen(after="") is None
    thaw(Conversation.objects.get(pk="sess_200"))
    assert [row["text"] for row in rows("sess_200")] == WORDS


def test_the_worker_freezes_what_retention_keeps(aged: World, settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.timezone, "now", lambda: NOW)
    assert worker._freeze("alpha") is False
    assert set(FrozenItems.objects.values_list("pk", flat=True)) == {"sess_91", "sess_200"}
    settings.COLD_AFTER_DAYS = 0
    with transaction.atomic():
        FrozenItems.objects.all().delete()
    assert worker._freeze("alpha") is False
    assert not FrozenItems.objects.exists()


def test_another_tenant_sees_none_of_it(aged: World, beta_api: Api) -> None:
    freeze_batch(days=90, now=NOW)
    assert beta_api("GET", "conversations/sess_200/")[0] == 404
    with tenant_context(aged.alpha.tenant):
        assert rows("sess_200") == []


def test_what_comes_while_a_conversation_is_frozen_stays(aged: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {days: rows(f"sess_{days}") for days in (91, 200)}
    put = FileStorage.put

    def put_late(self: FileStorage, key: str, data: bytes, **options: Any) -> None:
        put(self, key, data, **options)
        for days in before:
            Item.objects.get_or_create(conversation_id=f"sess_{days}", item_id="item_late")

    monkeypatch.setattr(FileStorage, "put", put_late)
    freeze_batch(days=90, now=NOW)
    assert "item_late" in [row["item_id"] for days in before for row in rows(f"sess_{days}")]
    for days in before:
        thaw(Conversation.objects.get(pk=f"sess_{days}"))
        assert {row["item_id"] for row in rows(f"sess_{days}")} == {
            *(row["item_id"] for row in before[days]), "item_late",
        }  # fmt: skip
