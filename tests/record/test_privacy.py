"""Exports and erasures of end users, as the workers run them."""

import io
import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zipfile import ZipFile

import msgspec
import pytest
import redis
from django.db import connection, transaction
from django.utils import timezone
from django_tenants.utils import tenant_context

from celery_workers import privacy as worker
from realtime.archive.draining import dead_letter_key, drain
from realtime.archive.events import TENANTS_KEY, UsageMetered, encode_event, stream_key
from realtime.archive.models import Conversation, Item
from realtime.archive.operations import apply_events
from realtime.privacy import erasure as erasing
from realtime.privacy import export as exporting
from realtime.privacy import forgetting, holds, jobs
from realtime.privacy.models import ErasedCall, Erasure, Export, JobState, SubjectKey
from realtime.privacy.queue import TASK_ERASE, request_job
from realtime.privacy.subjects import subject_of
from realtime.recordings import flac
from realtime.recordings import operations as recordings
from realtime.recordings.journal import Stereo
from realtime.recordings.models import Recording
from realtime.recordings.storage import StorageUnavailable, storage
from realtime.recordings.storing import Storer
from realtime.runtime import register
from realtime.runtime.recorder import CallSheet
from realtime.runtime.secrets import ClientSecret, live_key, secret_key
from tenants.audit.models import Entry
from tenants.limits.models import EndUserLimits
from tenants.limits.operations import limit_end_user
from tenants.usage.models import Call as UsageCall
from tenants.usage.models import Entry as UsageEntry
from tenants.usage.operations import Use, store_uses
from tests.record.test_drain import worker as worker_process
from tests.record.test_recordings import Gateway
from tests.record.world import BEEP, House, World, call

__all__ = ["worker_process"]

ADA, BOB = "ada@example.com", "bobby@example.com"


@pytest.fixture(autouse=True)
def place(settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.RECORDING_DIR = tmp_path / "recordings"
    # The test's transaction is around what a worker does in several: its connection must stay.
    monkeypatch.setattr(worker, "close_old_connections", lambda: None)


@pytest.fixture
def client(valkey_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(valkey_url) as client:
        yield client


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list:
    """What the worker asks other workers for."""
    messages: list = []
    monkeypatch.setattr(worker, "submit", lambda *message: messages.append(message))
    return messages


def use(session_id: str, end_user: str, at: float) -> Use:
    return Use(
        at=datetime.fromtimestamp(at, UTC), session_id=session_id, source="resp_1", end_user=end_user,
        quantities={"llm_tokens_in": Decimal(10)},
    )  # fmt: skip


def sound(person: str, number: int) -> Stereo:
    return BEEP[: 2_000 + 10 * number + (len(person) if number else 0)]


def settle(house: House, person: str, calls: int) -> None:
    """What the house keeps of a person who has called."""
    begun = time.time() - 3_600
    for number in range(calls):
        session_id = f"sess_{person[:3]}_{number}"
        apply_events(call(session_id, "desk", [f"I am {person}", "hello"], begun=begun + number, end_user=person))
        sheet = CallSheet(tenant=house.tenant.schema_name, session_id=session_id, started_at=begun)
        # The first of everybody's sounds the same, so it is stored once.
        pcm = sound(person, number)
        recordings.store_part(sheet=sheet, index=0, pcm=pcm, part_samples=len(BEEP))
        store_uses([use(session_id, person, begun)])
    limit_end_user(end_user=person, limits={"sessions_per_end_user": 1})


@pytest.fixture
def people(world: World, client) -> World:
    for house in (world.alpha, world.beta):
        with tenant_context(house.tenant), transaction.atomic():
            settle(house, ADA, 3)
            settle(house, BOB, 2)
    return world


def kept(house: House, person: str) -> dict[str, int]:
    with tenant_context(house.tenant), transaction.atomic():
        sessions = [f"sess_{person[:3]}_{number}" for number in range(5)]
        return {
            "conversations": Conversation.objects.filter(end_user=person).count(),
            "items": Item.objects.filter(conversation__in=sessions).count(),
            "recordings": Recording.objects.filter(pk__in=sessions).count(),
            "usage": UsageEntry.objects.filter(end_user=person).count(),
            "usage_calls": UsageCall.objects.filter(end_user=person).count(),
            "limits": EndUserLimits.objects.filter(end_user=person).count(),
        }


def request_erasure(house: House, person: str = ADA) -> Erasure:
    with tenant_context(house.tenant), transaction.atomic():
        return erasing.request_erasure(end_user=person)


def run(house: House, job: Erasure | Export) -> Erasure | Export:
    task = worker.erase if isinstance(job, Erasure) else worker.export
    task(tenant=house.tenant.schema_name, job=str(job.pk))
    with tenant_context(house.tenant):
        return type(job).objects.get(pk=job.pk)


def audit(house: House) -> list[Entry]:
    with tenant_context(house.tenant):
        return list(Entry.objects.filter(action__startswith="end_user.").order_by("seq"))


FULL = {"conversations": 3, "items": 6, "recordings": 3, "usage": 3, "usage_calls": 3, "limits": 1}
NONE = dict.fromkeys(FULL, 0)
BOBS = {"conversations": 2, "items": 4, "recordings": 2, "usage": 2, "usage_calls": 2, "limits": 1}


# --- erasure ---


def test_an_erasure_takes_all_of_one_person_and_nothing_of_others(people: World, client, settings) -> None:
    settings.RETENTION_BATCH_ROWS = 2
    assert kept(people.alpha, ADA) == FULL
    with tenant_context(people.alpha.tenant):
        entries = UsageEntry.objects.count()
    done = run(people.alpha, request_erasure(people.alpha))
    assert (done.state, done.end_user) == (JobState.READY, "")
    assert done.counts == {"conversations": 3, "items": 6, "recordings": 3, "usage_entries": 3, "limits": 1}
    assert kept(people.alpha, ADA) == NONE
    assert kept(people.alpha, BOB) == BOBS
    assert (kept(people.beta, ADA), kept(people.beta, BOB)) == (FULL, BOBS)
    with tenant_context(people.alpha.tenant):
        assert UsageEntry.objects.count() == entries, "what was used stays counted"
        assert Conversation.objects.filter(pk="sess_alpha").exists()
    assert sum(1 for _ in storage().keys("alpha/")) == 2
    assert sum(1 for _ in storage().keys("beta/")) == 4


def test_nothing_names_the_person_afterwards(people: World, client) -> None:
    run(people.alpha, request_erasure(people.alpha))
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'alpha'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT count(*) FROM alpha."{table}" AS row WHERE row::text LIKE %s', [f"%{ADA}%"])  # noqa: S608
            assert cursor.fetchone()[0] == 0, table
    for key in client.scan_iter("*"):
        if client.type(key) == b"string":
            assert ADA.encode() not in client.get(key), key
    actions = [entry.action for entry in audit(people.alpha)]
    assert actions == ["end_user.erasure_requested", "end_user.erased"]
    last = audit(people.alpha)[-1]
    with tenant_context(people.alpha.tenant):
        assert last.target == subject_of(ADA)
    assert last.after["removed"]["conversations"] == 3


def test_a_subject_is_the_tenants_own_and_cannot_be_tried_out(people: World) -> None:
    subjects = []
    for house in (people.alpha, people.beta):
        with tenant_context(house.tenant):
            subjects.append(subject_of(ADA))
            assert subject_of(ADA) == subjects[-1] != subject_of(BOB)
            assert SubjectKey.objects.count() == 1
    assert subjects[0] != subjects[1]


def test_a_second_run_and_a_second_request_change_nothing(people: World, client) -> None:
    erasure = request_erasure(people.alpha)
    assert request_erasure(people.alpha).pk == erasure.pk
    done = run(people.alpha, erasure)
    assert run(people.alpha, erasure).counts == done.counts
    again = run(people.alpha, request_erasure(people.alpha))
    assert again.pk != erasure.pk
    assert (again.state, again.counts) == (JobState.READY, {})


def test_one_that_is_broken_off_goes_on(people: World, client, settings, monkeypatch) -> None:
    settings.RETENTION_BATCH_ROWS = 1
    erasure = request_erasure(people.alpha)
    delete = storage().delete
    tries = []

    def fail_once(self, key: str) -> None:
        tries.append(key)
        if len(tries) == 2:
            raise StorageUnavailable("away")
        delete(key)

    monkeypatch.setattr("realtime.recordings.storage.FileStorage.delete", fail_once)
    broken = run(people.alpha, erasure)
    assert (broken.state, broken.fault, broken.counts["conversations"]) == (JobState.RUNNING, "StorageUnavailable", 2)
    assert kept(people.alpha, ADA)["conversations"] == 1
    assert run(people.alpha, erasure).state == JobState.RUNNING, "its lease is not over"
    with tenant_context(people.alpha.tenant):
        Erasure.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    done = run(people.alpha, erasure)
    assert (done.state, done.counts["conversations"], done.counts["recordings"]) == (JobState.READY, 3, 3)


def test_two_workers_do_not_work_on_one(people: World, client) -> None:
    erasure = request_erasure(people.alpha)
    with tenant_context(people.alpha.tenant):
        taken = jobs.take_job(Erasure, erasure.pk)
        with pytest.raises(jobs.LeaseLost):
            jobs.take_job(Erasure, erasure.pk)
        Erasure.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        jobs.take_job(Erasure, erasure.pk)
        with pytest.raises(jobs.LeaseLost), transaction.atomic():
            jobs.renew_lease(taken)


def test_a_legal_hold_refuses_and_says_why(people: World, client) -> None:
    with tenant_context(people.alpha.tenant), transaction.atomic():
        holds.hold_conversation(session_id="sess_ada_1", reason="case 7")
    with pytest.raises(erasing.HeldBack, match="case 7"):
        request_erasure(people.alpha)
    with tenant_context(people.alpha.tenant), transaction.atomic():
        holds.release_conversation(session_id="sess_ada_1")
    erasure = request_erasure(people.alpha)
    with tenant_context(people.alpha.tenant), transaction.atomic():
        holds.hold_end_user(end_user=ADA, reason="case 8")
    refused = run(people.alpha, erasure)
    assert refused.state == JobState.REFUSED
    assert "case 8" in refused.refusal
    assert refused.end_user == ""
    assert kept(people.alpha, ADA) == FULL
    assert audit(people.alpha)[-1].action == "end_user.erasure_refused"
    # Nothing was promised, so nothing is dropped.
    with tenant_context(people.alpha.tenant), transaction.atomic():
        late = call("sess_ada_9", "desk", ["late"], begun=time.time() - 7_200, end_user=ADA)
        assert forgetting.drop_erased(late) == late


def push(client: "redis.Redis", events: list) -> None:
    for event in events:
        client.xadd(stream_key("alpha"), {b"event": encode_event(event)})
    client.sadd(TENANTS_KEY, "alpha")


def test_what_arrives_late_does_not_bring_the_person_back(people: World, client) -> None:
    began = time.time() - 60
    run(people.alpha, request_erasure(people.alpha))
    known = call("sess_ada_0", "desk", ["from a gateway's disk"], begun=began, end_user=ADA)
    unknown = call("sess_new", "desk", ["a call that nobody had told of"], begun=began, end_user=ADA)
    later = call("sess_later", "desk", ["called again"], begun=time.time() + 5, end_user=ADA)
    metered = UsageMetered(
        session_id="sess_new", seq=9, at=began, source="resp_9", quantities={"llm_tokens_in": Decimal(5)}, end_user=ADA
    )
    # The first item of the unknown call comes before the event that says whose it is.
    push(client, [*known, unknown[1]])
    drain(client, "alpha")
    push(client, [unknown[0], *unknown[2:], metered, *later])
    drain(client, "alpha")
    with tenant_context(people.alpha.tenant):
        assert set(Conversation.objects.filter(end_user=ADA).values_list("pk", flat=True)) == {"sess_later"}
        assert not Conversation.objects.filter(pk__in=("sess_ada_0", "sess_new")).exists()
        assert not Item.objects.filter(text__contains="nobody had told").exists()
        entry = UsageEntry.objects.get(session_id="sess_new")
        assert (entry.end_user, entry.quantity) == ("", 5)
        assert ErasedCall.objects.filter(pk="sess_new").exists()
        # A recording that a gateway's spool gives up later goes with the next round.
        sheet = CallSheet(tenant="alpha", session_id="sess_new", started_at=began)
        recordings.store_part(sheet=sheet, index=0, pcm=BEEP[:500], part_samples=len(BEEP))
        assert forgetting.is_erased("sess_new")
    worker.retain(tenant="alpha")
    with tenant_context(people.alpha.tenant):
        assert not Recording.objects.filter(pk="sess_new").exists()


def test_what_lies_in_a_gateways_spool_is_not_stored(people: World, client, settings, tmp_path: Path) -> None:
    settings.RECORDING_SPOOL_DIR = tmp_path / "spool"
    gateway = Gateway(tmp_path / "spool")
    gateway.record(people.alpha, "sess_ada_0", BEEP)
    gateway.record(people.alpha, "sess_other", BEEP)
    going_on = gateway.begin(people.alpha, "sess_ada_1")
    going_on.hear(BEEP[:, 0])
    going_on.spool._round()
    run(people.alpha, request_erasure(people.alpha))
    Storer(tmp_path / "spool").round()
    with tenant_context(people.alpha.tenant):
        assert not Recording.objects.filter(pk__in=("sess_ada_0", "sess_ada_1")).exists()
        assert Recording.objects.filter(pk="sess_other").exists()
    going_on.finish()
    Storer(tmp_path / "spool").round()
    assert list((tmp_path / "spool" / "alpha").iterdir()) == []


def test_a_call_in_progress_leaves_nothing_and_is_waited_for(people: World, client, asked) -> None:
    record = register.SessionRecord(
        id="sess_live", tenant="alpha", conversation_id="c", gateway="g", agent="desk", model="m", channel="websocket",
        key_id="key_1", end_user=ADA, started_at=time.time() - 30,
    )  # fmt: skip
    client.set(register.record_key("alpha", "sess_live"), register.encode(record))
    client.zadd(register.heartbeats_key("alpha"), {"sess_live": time.time() + 30})
    events = call("sess_live", "desk", ["before", "after"], begun=time.time() - 30, end_user=ADA)
    push(client, events[:2])
    drain(client, "alpha")
    erasure = run(people.alpha, request_erasure(people.alpha))
    assert erasure.state == JobState.CALLS
    assert erasure.counts["conversations"] == 4
    push(client, events[2:])
    drain(client, "alpha")
    with tenant_context(people.alpha.tenant):
        assert not Conversation.objects.filter(pk="sess_live").exists()
        Erasure.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    worker.sweep()
    assert asked == [("celery_workers.privacy.erase", "default", {"tenant": "alpha", "job": str(erasure.pk)})]
    assert run(people.alpha, erasure).state == JobState.CALLS
    client.zrem(register.heartbeats_key("alpha"), "sess_live")
    with tenant_context(people.alpha.tenant):
        Erasure.objects.update(lease_until=None)
    assert run(people.alpha, erasure).state == JobState.READY


def test_dead_letters_and_client_secrets_go_too(people: World, client) -> None:
    mine = call("sess_ada_0", "desk", ["mine"], begun=1.0, end_user=ADA)
    letters = [encode_event(mine[0]), encode_event(mine[1]), b'{"type":"odd","end_user":"%s"}' % ADA.encode(), b"odd"]
    letters.append(encode_event(call("sess_bob_0", "desk", ["bob's"], begun=1.0, end_user=BOB)[1]))
    for letter in letters:
        client.xadd(dead_letter_key("alpha"), {b"event": letter, b"reason": b"test"})
        client.xadd(dead_letter_key("beta"), {b"event": letter, b"reason": b"test"})
    for tenant in ("alpha", "beta"):
        for number, person in enumerate((ADA, BOB)):
            secret = ClientSecret(
                tenant=tenant, key_id="key_1", agent=None, session={"metadata": {"caller": person}}, expires_at=1
            )
            key = secret_key(f"{tenant}{number}")
            client.set(key, msgspec.json.encode(secret))
            client.zadd(live_key(tenant, "key_1"), {key.rpartition(":")[2]: time.time() + 600})
    done = run(people.alpha, request_erasure(people.alpha))
    assert (done.counts["dead_letters"], done.counts["client_secrets"]) == (3, 1)
    assert [fields[b"event"] for _, fields in client.xrange(dead_letter_key("alpha"))] == letters[3:]
    assert client.xlen(dead_letter_key("beta")) == 5
    assert [client.exists(secret_key(name)) for name in ("alpha0", "alpha1", "beta0", "beta1")] == [0, 1, 1, 1]
    assert client.zcard(live_key("alpha", "key_1")) == 1


def test_logs_do_not_name_the_person(people: World, client, caplog) -> None:
    caplog.set_level("DEBUG")
    run(people.alpha, request_erasure(people.alpha))
    run(people.alpha, request_export(people.alpha, BOB))
    assert "READY" in caplog.text.upper()
    assert ADA not in caplog.text
    assert BOB not in caplog.text


def test_a_real_worker_erases(committed: World, client, worker_process) -> None:
    with tenant_context(committed.alpha.tenant), transaction.atomic():
        settle(committed.alpha, ADA, 1)
        erasure = erasing.request_erasure(end_user=ADA)
        request_job(TASK_ERASE, erasure.pk)
    deadline = time.monotonic() + 20
    while True:
        with tenant_context(committed.alpha.tenant):
            erasure.refresh_from_db()
        if erasure.state == JobState.READY:
            break
        assert time.monotonic() < deadline, erasure.state
        time.sleep(0.1)
    assert erasure.counts["conversations"] == 1


# --- export ---


def request_export(house: House, person: str = ADA) -> Export:
    with tenant_context(house.tenant), transaction.atomic():
        return exporting.request_export(end_user=person)


def open_zip(house: House, export: Export) -> ZipFile:
    with tenant_context(house.tenant), transaction.atomic():
        return ZipFile(io.BytesIO(b"".join(exporting.open_export(export=export))))


def test_an_export_has_everything_of_one_person_and_nothing_else(people: World, client, monkeypatch) -> None:
    monkeypatch.setattr(exporting, "PART_BYTES", 70_000)
    export = run(people.alpha, request_export(people.alpha))
    assert (export.state, export.done, export.total) == (JobState.READY, 3, 3)
    assert export.counts == {"conversations": 3, "items": 6, "recordings": 3, "usage_entries": 3}
    file = open_zip(people.alpha, export)
    assert file.testzip() is None
    sessions = [f"sess_ada_{number}" for number in range(3)]
    assert set(file.namelist()) == {
        *(f"conversations/{session}.json" for session in sessions),
        *(f"recordings/{session}.flac" for session in sessions),
        "usage.json", "settings.json", "export.json",
    }  # fmt: skip
    for number, session in enumerate(sessions):
        conversation = json.loads(file.read(f"conversations/{session}.json"))
        assert conversation["end_user"] == ADA
        assert [item["text"] for item in conversation["items"]] == [f"I am {ADA}", "hello"]
        pcm = flac.decode(file.read(f"recordings/{session}.flac"))
        assert (pcm == sound(ADA, number)).all()
    usage = json.loads(file.read("usage.json"))
    assert [(entry["session_id"], Decimal(entry["quantity"])) for entry in usage] == [(name, 10) for name in sessions]
    assert json.loads(file.read("settings.json"))["limits"] == {"sessions_per_end_user": 1}
    assert json.loads(file.read("export.json"))["end_user"] == ADA
    everything = b"".join(file.read(name) for name in file.namelist() if name.endswith(".json"))
    assert b"bob" not in everything
    assert b"alpha-desk" not in everything
    actions = [entry.action for entry in audit(people.alpha)]
    assert actions == ["end_user.export_requested", "end_user.exported", "end_user.export_downloaded"]


def test_an_export_is_sealed_where_it_lies(people: World, client) -> None:
    export = run(people.alpha, request_export(people.alpha))
    keys = list(storage().keys(f"alpha/exports/{export.pk}/"))
    assert len(keys) == export.parts == 1
    at_rest = storage().get(keys[0])
    assert at_rest.startswith(b"AVBs")
    assert b"PK" not in at_rest[:100]
    assert ADA.encode() not in at_rest
    with tenant_context(people.beta.tenant):
        stolen = Export.objects.create(
            pk=export.pk, subject="eu_x", requested_at=timezone.now(), state=JobState.READY, parts=1,
            expires_at=timezone.now() + timedelta(hours=1),
        )  # fmt: skip
        storage().put(f"beta/exports/{export.pk}/000000", at_rest)
    with pytest.raises(Exception, match=r"was not sealed by|no data key"):
        open_zip(people.beta, stolen)


def test_an_export_has_an_end(people: World, client, settings) -> None:
    settings.EXPORT_HOURS = 1
    export = run(people.alpha, request_export(people.alpha))
    assert export.expires_at - export.ended_at == timedelta(hours=1)
    with tenant_context(people.alpha.tenant):
        Export.objects.update(expires_at=timezone.now())
        export.refresh_from_db()
    with pytest.raises(exporting.ExportGone):
        open_zip(people.alpha, export)
    worker.retain(tenant="alpha")
    assert list(storage().keys(f"alpha/exports/{export.pk}/")) == []
    with tenant_context(people.alpha.tenant):
        export.refresh_from_db()
    assert (export.state, export.end_user) == (JobState.EXPIRED, "")


def test_an_erasure_takes_exports_too(people: World, client) -> None:
    export = run(people.alpha, request_export(people.alpha))
    other = run(people.alpha, request_export(people.alpha, BOB))
    done = run(people.alpha, request_erasure(people.alpha))
    assert done.counts["exports"] == 1
    assert list(storage().keys(f"alpha/exports/{export.pk}/")) == []
    assert open_zip(people.alpha, other).testzip() is None


def test_an_export_that_fails_again_and_again_is_given_up(people: World, client, monkeypatch) -> None:
    def refuse(self, key, sealed):
        raise StorageUnavailable("away")

    monkeypatch.setattr("realtime.recordings.storage.FileStorage.put", refuse)
    export = request_export(people.alpha)
    for _ in range(exporting.ATTEMPTS):
        with tenant_context(people.alpha.tenant):
            Export.objects.update(lease_until=None)
        export = run(people.alpha, export)
    assert (export.state, export.fault, export.end_user) == (JobState.FAILED, "StorageUnavailable", "")
    assert request_export(people.alpha).pk != export.pk


def test_a_damaged_recording_does_not_keep_the_rest_back(people: World, client) -> None:
    with tenant_context(people.alpha.tenant):
        key = Recording.objects.get(pk="sess_ada_1").parts.get().object_key
    storage().delete(key)
    export = run(people.alpha, request_export(people.alpha))
    file = open_zip(people.alpha, export)
    assert file.read("recordings/sess_ada_1.flac") == b""
    assert len(file.read("recordings/sess_ada_2.flac")) > 100


def test_someone_who_never_called_gets_an_empty_export(people: World, client) -> None:
    file = open_zip(people.alpha, run(people.alpha, request_export(people.alpha, "nobody@example.com")))
    assert set(file.namelist()) == {"usage.json", "settings.json", "export.json"}
    assert json.loads(file.read("usage.json")) == []


def test_jobs_that_are_not_there_are_left(people: World, client, asked) -> None:
    worker.erase(tenant="alpha", job=str(uuid.uuid4()))
    worker.export(tenant="nobody", job=str(uuid.uuid4()))
    worker.sweep()
    assert asked == []
