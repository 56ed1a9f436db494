"""From the spool to the storage and back: parts, addresses, seals, deletion, and what kills and faults leave behind."""

import os
import shutil
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from django.conf import settings
from django.db import connection
from django_tenants.utils import tenant_context

from realtime.archive.models import Conversation
from realtime.recordings import flac, operations, queries, storage, storing
from realtime.recordings.erasing import Recordings
from realtime.recordings.journal import Stereo
from realtime.recordings.models import Part, Policy, Recording
from realtime.recordings.playback import Playback, RecordingDamaged
from realtime.recordings.storage import FileStorage, ObjectMissing, StorageUnavailable
from realtime.recordings.storing import Storer
from realtime.runtime.recorder import CallSheet, Spool
from speech.audio import read_wav, resample
from tenants.audit.models import Entry
from tenants.encryption.sealing import unseal_stream
from tests.record.world import BEEP, House, World
from tests.runtime.tape import Stage, tone

HZ = 24_000


class Gateway:
    """Records calls into the spool of the settings, on a clock of the test's."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def begin(self, house: House, session_id: str, *, started_at: float | None = None) -> Stage:
        stage = Stage(self.root)
        stage.spool = Spool(self.root, max_bytes=1 << 30, memory_bytes=1 << 26)
        sheet = CallSheet(
            tenant=house.tenant.schema_name, session_id=session_id, started_at=started_at or time.time() - 600
        )
        stage.tape = stage.spool.open(sheet, stage.clock)
        return stage

    def record(self, house: House, session_id: str, pcm: Stereo) -> None:
        """A finished call: the left side is heard, the right one said at its beginning."""
        stage = self.begin(house, session_id)
        stage.speak(pcm[:, 1])
        for start in range(0, len(pcm), HZ):
            stage.hear(pcm[start : start + HZ, 0])
            stage.spool._round()
        stage.finish()


def die(stage: Stage) -> None:
    """As a kill leaves it: what was in memory is lost, the lock is gone, the sheet says nothing of an end."""
    for page in stage.spool._pages:
        page.close()
    stage.spool._pages = []


@pytest.fixture
def places(settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    monkeypatch.setattr(storing, "LOOK_S", 0.0)
    settings.RECORDING_SPOOL_DIR = tmp_path / "spool"
    settings.RECORDING_DIR = tmp_path / "recordings"
    settings.RECORDING_PART_BYTES = 10 * HZ * 4
    return Gateway(tmp_path / "spool")


@pytest.fixture
def storer(places: Gateway) -> Storer:
    return Storer(places.root)


def objects() -> list[str]:
    return sorted(storage.storage().keys(""))


def playback(house: House, session_id: str) -> Playback:
    with tenant_context(house.tenant):
        return Playback.of(queries.find_recording(session_id))


def listen(house: House, session_id: str) -> Stereo:
    with tenant_context(house.tenant):
        played = Playback.of(queries.find_recording(session_id))
        return np.concatenate([played.decode_part(part.index) for part in played.parts])


def stereo(seconds: int, level: int = 1000) -> Stereo:
    """No two seconds are alike."""
    left = tone(seconds * 1000, level) + np.repeat(np.arange(seconds), HZ).astype(np.int16)
    return np.stack([left, -left], axis=1)


# ---- FLAC ----


def test_flac_gives_back_every_sample_and_says_its_length() -> None:
    said, hz = read_wav("tests/clips/jfk.wav")
    left = resample(said, hz, HZ)
    pcm = np.stack([left, np.roll(left, 9999)], axis=1)
    file = flac.encode(pcm, HZ)
    assert file[:4] == b"fLaC"
    assert len(file) < pcm.nbytes * 0.7
    assert int.from_bytes(file[21:26], "big") & (1 << 36) - 1 == len(pcm)
    assert np.array_equal(flac.decode(file), pcm)
    assert flac.encode(pcm, HZ) == file, "the same audio is the same file: that is what deduplication rests on"


def test_a_stream_of_pieces_is_one_file() -> None:
    pcm = stereo(7)
    pieces = [pcm[start : start + 50_001] for start in range(0, len(pcm), 50_001)]
    assert np.array_equal(flac.decode(b"".join(flac.encode_stream(iter(pieces), HZ))), pcm)


def test_what_is_no_flac_is_refused() -> None:
    with pytest.raises(flac.FlacDamaged):
        flac.decode(b"RIFF" + bytes(1000))


# ---- a call is stored ----


def test_a_call_is_stored_sealed_and_comes_back_sample_by_sample(world: World, places: Gateway, storer: Storer) -> None:
    pcm = stereo(6)
    places.record(world.alpha, "sess_1", pcm)
    assert storer.round() == 1
    assert np.array_equal(listen(world.alpha, "sess_1"), pcm)
    with tenant_context(world.alpha.tenant):
        recording = Recording.objects.get(pk="sess_1")
        part = recording.parts.get()
        assert (recording.state, recording.duration_ms, recording.sample_rate_hz, recording.channels) == (
            "complete", 6000, 24_000, 2,
        )  # fmt: skip
        sealed = storage.storage().get(part.object_key)
        assert sealed[:4] == b"AVBs"
        assert b"fLaC" not in sealed
        file = b"".join(unseal_stream("alpha", [sealed], purpose="recording"))
    assert sha256(file).hexdigest() == part.sha256
    assert part.sha256 not in part.object_key, "who does not have the tenant's key cannot tell the audio by its name"
    assert len(file) == part.bytes == recording.bytes
    assert not os.listdir(places.root / "alpha"), "the spool keeps nothing that is stored"


def test_a_long_call_is_stored_in_parts_of_equal_length(world: World, places: Gateway, storer: Storer) -> None:
    pcm = stereo(34)
    places.record(world.alpha, "sess_1", pcm)
    assert storer.round() == 4
    with tenant_context(world.alpha.tenant):
        assert list(Part.objects.filter(recording="sess_1").values_list("index", "samples")) == [
            (0, 10 * HZ), (1, 10 * HZ), (2, 10 * HZ), (3, 4 * HZ),
        ]  # fmt: skip
    assert np.array_equal(listen(world.alpha, "sess_1"), pcm)


def test_a_call_that_goes_on_is_stored_as_it_goes_and_leaves_the_spool(
    world: World, places: Gateway, storer: Storer
) -> None:
    said = stereo(120)[:, 0]
    stage = places.begin(world.alpha, "sess_1")
    most = 0
    for start in range(0, len(said), HZ):
        stage.hear(said[start : start + HZ])
        stage.spool._round()
        storer.round()
        most = max(most, sum(file.stat().st_size for file in stage_directory(stage).glob("*.pcm")))
    with tenant_context(world.alpha.tenant):
        recording = Recording.objects.get(pk="sess_1")
        assert (recording.state, recording.parts.count()) == ("recording", 11)
    assert most < 5 * 1024 * 1024, "two pages and what is not settled yet"
    stage.finish()
    storer.round()
    with tenant_context(world.alpha.tenant):
        assert Recording.objects.get(pk="sess_1").state == "complete"
    assert np.array_equal(listen(world.alpha, "sess_1")[:, 0], said)


def stage_directory(stage: Stage) -> Path:
    return stage.root / stage.tape.sheet.tenant / stage.tape.sheet.session_id


def test_a_call_of_which_nothing_is_due_is_not_read_again_and_again(
    world: World, places: Gateway, storer: Storer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(storing, "LOOK_S", 5.0)
    journal = storing.read_journal
    monkeypatch.setattr(storing, "read_journal", lambda path: (read.append(path), journal(path))[1])
    stage = places.begin(world.alpha, "sess_1", started_at=time.time() - 19)
    stage.hear(tone(19_000, 1000))
    stage.spool._round()
    assert storer.round() == 0
    assert not read, "before its first part has settled"
    later = time.time() + 2
    monkeypatch.setattr(storing.time, "time", lambda: later)
    assert [storer.round() for _ in range(5)] == [0] * 5
    assert len(read) == 1
    die(stage)
    assert storer.round() == 2, "its end is noticed at once all the same"


def test_a_late_truncation_still_counts_in_a_call_that_goes_on(world: World, places: Gateway, storer: Storer) -> None:
    """9 s after the answer began, which is less than what a part waits for."""
    stage = places.begin(world.alpha, "sess_1")
    stage.hear(np.zeros(9 * HZ, np.int16))
    stage.speak(tone(8000, 1000))
    stage.hear(np.zeros(9 * HZ, np.int16))
    stage.spool._round()
    assert storer.round() == 0
    stage.truncate(1500)
    stage.hear(np.zeros(9 * HZ, np.int16))
    stage.spool._round()
    assert storer.round() == 1
    stage.finish()
    storer.round()
    right = listen(world.alpha, "sess_1")[:, 1]
    assert np.array_equal(right[9 * HZ :][:36_000], tone(8000, 1000)[:36_000])
    assert not right[9 * HZ + 36_000 :].any()


def test_two_calls_at_once_keep_apart(world: World, places: Gateway, storer: Storer) -> None:
    one, other = places.begin(world.alpha, "sess_1"), places.begin(world.beta, "sess_2")
    for _ in range(3):
        one.hear(tone(1000, 1000))
        other.hear(tone(1000, 5000))
        one.spool._round()
        other.spool._round()
    one.finish()
    other.finish()
    assert storer.round() == 2
    assert np.array_equal(listen(world.alpha, "sess_1")[:, 0], np.tile(tone(1000, 1000), 3))
    assert np.array_equal(listen(world.beta, "sess_2")[:, 0], np.tile(tone(1000, 5000), 3))


def test_a_call_without_a_sample_leaves_no_row(world: World, places: Gateway, storer: Storer) -> None:
    places.begin(world.alpha, "sess_1").finish()
    assert storer.round() == 0
    with tenant_context(world.alpha.tenant):
        assert not Recording.objects.filter(pk="sess_1").exists()
    assert not os.listdir(places.root / "alpha")


# ---- content addresses ----


def test_the_same_audio_is_one_object_within_a_tenant_and_never_across(
    world: World, places: Gateway, storer: Storer
) -> None:
    pcm = stereo(3)
    for session_id in ("sess_1", "sess_2"):
        places.record(world.alpha, session_id, pcm)
    places.record(world.beta, "sess_3", pcm)
    storer.round()
    assert len(objects()) == 2
    assert {key.partition("/")[0] for key in objects()} == {"alpha", "beta"}
    assert len({key.rpartition("/")[2] for key in objects()}) == 2
    sealed = [storage.storage().get(key) for key in objects()]
    assert sealed[0] != sealed[1]
    assert np.array_equal(listen(world.alpha, "sess_2"), pcm)
    assert np.array_equal(listen(world.beta, "sess_3"), pcm)


def test_anothers_object_does_not_open(world: World, places: Gateway, storer: Storer) -> None:
    pcm = stereo(3)
    places.record(world.alpha, "sess_1", pcm)
    places.record(world.beta, "sess_2", pcm)
    storer.round()
    alphas, betas = objects()
    storage.storage().put(alphas, storage.storage().get(betas))
    with pytest.raises(RecordingDamaged, match="its object was changed"):
        listen(world.alpha, "sess_1")


def test_deleting_one_of_two_keeps_what_they_share(world: World, places: Gateway, storer: Storer) -> None:
    for session_id in ("sess_1", "sess_2"):
        places.record(world.alpha, session_id, stereo(3))
    storer.round()
    with tenant_context(world.alpha.tenant):
        assert operations.delete_recordings(session_ids=["sess_1"]) == operations.Deleted(1, 0)
        assert np.array_equal(listen(world.alpha, "sess_2"), stereo(3))
        assert operations.delete_recordings(session_ids=["sess_2", "sess_none"]) == operations.Deleted(1, 1)
        assert operations.delete_recordings(session_ids=["sess_2"]) == operations.Deleted()
    assert objects() == []


def test_an_object_that_vanished_is_put_again_when_its_audio_comes_again(
    world: World, places: Gateway, storer: Storer
) -> None:
    places.record(world.alpha, "sess_1", stereo(3))
    storer.round()
    storage.storage().delete(objects()[0])
    places.record(world.alpha, "sess_2", stereo(3))
    storer.round()
    assert np.array_equal(listen(world.alpha, "sess_1"), stereo(3))


# ---- kills and faults ----


def test_a_gateway_killed_in_mid_call_loses_nothing_that_was_written(
    world: World, places: Gateway, storer: Storer
) -> None:
    stage = places.begin(world.alpha, "sess_1")
    stage.hear(tone(5000, 1000))
    stage.speak(tone(3000, 5000))
    stage.hear(tone(500, 1000))
    stage.spool._round()
    assert storer.round() == 0, "its writer is there"
    die(stage)
    assert storer.round() == 1
    heard = listen(world.alpha, "sess_1")
    assert np.array_equal(heard[:, 0], np.concatenate([tone(5000, 1000), tone(500, 1000)]))
    assert np.array_equal(heard[5 * HZ :, 1], tone(3000, 5000)[:12_000]), "of the agent only what can have been heard"
    with tenant_context(world.alpha.tenant):
        assert Recording.objects.get(pk="sess_1").state == "interrupted"
    assert not os.listdir(places.root / "alpha")


def test_a_recording_that_ended_early_says_why(world: World, places: Gateway, storer: Storer) -> None:
    stage = places.begin(world.alpha, "sess_1")
    stage.hear(tone(2000, 1000))
    stage.spool._round()
    stage.tape.state = "disk_full"
    stage.spool._round()
    storer.round()
    with tenant_context(world.alpha.tenant):
        recording = Recording.objects.get(pk="sess_1")
        assert (recording.state, recording.duration_ms) == ("disk_full", 2000)


class Faulty(FileStorage):
    """Fails at the object with this number, before or after putting it."""

    def __init__(self, root: Path, fails_at: int, *, after: bool) -> None:
        super().__init__(root)
        self.left, self.after = fails_at, after

    def put(self, key: str, sealed: bytes, *, cold: bool = False) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise StorageUnavailable("the network")
        super().put(key, sealed, cold=cold)
        if self.left == 0:
            raise StorageUnavailable("the network")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("fails_at", [1, 2, 4])
def test_what_fails_half_way_is_taken_up_again(
    world: World, places: Gateway, storer: Storer, monkeypatch: pytest.MonkeyPatch, fails_at: int, after: bool
) -> None:
    pcm = stereo(34)
    places.record(world.alpha, "sess_1", pcm)
    faulty = Faulty(settings.RECORDING_DIR, fails_at, after=after)
    monkeypatch.setattr(operations, "storage", lambda: faulty)
    assert storer.round() == 0
    assert storer.round() == 0, "not at once"
    assert Storer(places.root).round() == 4 - (fails_at - 1)
    assert len(objects()) == 4
    assert np.array_equal(listen(world.alpha, "sess_1"), pcm)


def test_one_calls_trouble_is_no_others(world: World, places: Gateway, storer: Storer) -> None:
    places.record(world.alpha, "sess_1", stereo(2))
    places.record(world.alpha, "sess_2", stereo(2, 5000))
    sheet = places.root / "alpha" / "sess_1" / "000000.pcm"
    sheet.unlink()
    sheet.mkdir()
    assert storer.round() == 1
    assert np.array_equal(listen(world.alpha, "sess_2"), stereo(2, 5000))
    assert (places.root / "alpha" / "sess_1").is_dir()


def test_two_storers_never_store_the_same_call_at_once(world: World, places: Gateway, storer: Storer) -> None:
    places.record(world.alpha, "sess_1", stereo(2))
    with storing._held(places.root / "alpha" / "sess_1") as is_held:
        assert is_held
        assert storer.round() == 0
    assert storer.round() == 1


def test_rubbish_is_removed_after_five_minutes(world: World, places: Gateway, storer: Storer) -> None:
    rubbish = places.root / "alpha" / "sess_torn"
    rubbish.mkdir(parents=True)
    (rubbish / "call.json.new").write_text("{")
    storer.round()
    assert rubbish.is_dir()
    os.utime(rubbish, (time.time() - 301, time.time() - 301))
    storer.round()
    assert not rubbish.exists()


def test_the_spool_of_a_tenant_that_is_gone_is_emptied(world: World, places: Gateway, storer: Storer) -> None:
    places.record(world.alpha, "sess_1", stereo(2))
    shutil.move(places.root / "alpha", places.root / "gone")
    sheet = places.root / "gone" / "sess_1" / "call.json"
    sheet.write_text(sheet.read_text().replace('"alpha"', '"gone"'))
    assert storer.round() == 0
    assert not os.listdir(places.root / "gone")


def test_a_recording_deleted_during_its_call_does_not_come_back(world: World, places: Gateway, storer: Storer) -> None:
    stage = places.begin(world.alpha, "sess_1")
    for _ in range(25):
        stage.hear(tone(1000, 1000))
        stage.spool._round()
    assert storer.round() == 1
    with tenant_context(world.alpha.tenant):
        operations.delete_recordings(session_ids=["sess_1"])
    stage.hear(tone(20_000, 1000))
    stage.finish()
    storer.round()
    with tenant_context(world.alpha.tenant):
        assert not Recording.objects.filter(pk="sess_1").exists()
    assert objects() == []
    assert not os.listdir(places.root / "alpha")


# ---- integrity ----


def damage(house: House, session_id: str, change: str) -> None:
    with tenant_context(house.tenant):
        part = Part.objects.get(recording=session_id)
    file = settings.RECORDING_DIR / part.object_key
    sealed = bytearray(file.read_bytes())
    if change == "missing":
        file.unlink()
        return
    if change == "flipped":
        sealed[len(sealed) // 2] ^= 1
    elif change == "cut":
        del sealed[-1000:]
    file.write_bytes(sealed)


@pytest.mark.parametrize(
    ("change", "words"),
    [("flipped", "was changed"), ("cut", "was changed"), ("missing", "is missing")],
)
def test_what_was_tampered_with_is_refused_and_alerted(
    world: World, places: Gateway, storer: Storer, caplog: pytest.LogCaptureFixture, change: str, words: str
) -> None:
    places.record(world.alpha, "sess_1", stereo(5))
    storer.round()
    damage(world.alpha, "sess_1", change)
    with pytest.raises(RecordingDamaged, match=words):
        listen(world.alpha, "sess_1")
    assert [record.levelname for record in caplog.records if "damaged" in record.message] == ["CRITICAL"]


def test_a_row_that_was_changed_is_noticed_too(world: World, places: Gateway, storer: Storer) -> None:
    places.record(world.alpha, "sess_1", stereo(5))
    storer.round()
    with tenant_context(world.alpha.tenant):
        Part.objects.filter(recording="sess_1").update(sha256="0" * 64)
    with pytest.raises(RecordingDamaged, match="SHA-256"):
        listen(world.alpha, "sess_1")


# ---- files ----


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    files = FileStorage(tmp_path)
    files.put("t/aa/x", b"one")
    files.put("t/aa/x", b"two")
    assert files.get("t/aa/x") == b"two"
    assert (tmp_path / "t/aa/x").stat().st_mode & 0o777 == 0o600
    assert files.has("t/aa/x")
    assert not files.has("t/aa/y")
    with pytest.raises(ObjectMissing):
        files.get("t/aa/y")
    files.delete("t/aa/y")
    (tmp_path / "t/aa/bb").mkdir()
    with pytest.raises(StorageUnavailable):
        files.put("t/aa/bb", b"a directory is in the way")
    assert list(files.keys("t/")) == ["t/aa/x"], "nothing half-written is left"
    assert files.delete_all("t/") == 1
    assert files.delete_all("t/") == 0


# ---- whose ----


@pytest.mark.parametrize(
    ("policy", "agent", "recorded"),
    [(None, False, False), (None, True, True), ("all", False, True), ("none", True, False), ("agent", True, True)],
)
def test_which_calls_are_recorded(world: World, policy: str | None, agent: bool, recorded: bool) -> None:
    with tenant_context(world.alpha.tenant):
        if policy is not None:
            operations.change_policy(record_calls=policy)
        assert queries.records_call(agent) is recorded
        assert list(Entry.objects.filter(action="recording_policy.changed").values_list("after", flat=True)) == (
            [{"record": policy}] if policy not in (None, "agent") else []
        )
    with tenant_context(world.beta.tenant):
        assert queries.records_call(agent) is agent, "the other tenant's policy is its own"


def test_an_unknown_policy_is_refused(world: World) -> None:
    with tenant_context(world.alpha.tenant), pytest.raises(operations.PolicyInvalid, match="one of agent, all, none"):
        operations.change_policy(record_calls="some")


def test_the_address_key_is_sealed(world: World) -> None:
    with tenant_context(world.alpha.tenant):
        policy = operations.ensure_policy()
        with connection.cursor() as cursor:
            cursor.execute("SELECT address_key FROM recordings_policy")
            (sealed,) = cursor.fetchone()
        assert bytes(sealed)[:4] == b"AVBv"
        assert len(Policy.objects.get(pk=policy.pk).address_key) == 64


# ---- for retention, erasure and the end of a tenant ----


def test_the_recordings_of_an_end_user(world: World, places: Gateway, storer: Storer) -> None:
    for number, end_user in enumerate(["ann", "bob", "ann"]):
        session_id = f"sess_{number}"
        places.record(world.alpha, session_id, stereo(1, 1000 * number))
        with tenant_context(world.alpha.tenant):
            Conversation.objects.create(pk=session_id, end_user=end_user, started_at="2027-01-01T00:00:00Z")
    storer.round()
    with tenant_context(world.alpha.tenant):
        found = queries.list_of_end_user("ann")
        assert sorted(recording.pk for recording in found) == ["sess_0", "sess_2"]
        deleted = operations.delete_recordings(session_ids=[recording.pk for recording in found])
        assert deleted == operations.Deleted(2, 2)
        assert queries.list_of_end_user("ann").count() == 0
        assert queries.list_of_end_user("bob").count() == 1
        audited = Entry.objects.filter(action="recording.deleted").order_by("seq")
        assert [entry.target for entry in audited] == ["sess_0", "sess_2"]
    assert len(objects()) == 1


def test_when_the_storage_is_away_a_deletion_takes_no_row(
    world: World, places: Gateway, storer: Storer, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.record(world.alpha, "sess_1", stereo(1))
    storer.round()

    def refuse(self: FileStorage, key: str) -> None:
        raise StorageUnavailable("away")

    monkeypatch.setattr(FileStorage, "delete", refuse)
    with tenant_context(world.alpha.tenant):
        with pytest.raises(StorageUnavailable):
            operations.delete_recordings(session_ids=["sess_1"])
        assert Recording.objects.filter(pk="sess_1").exists()


def test_the_end_of_a_tenant_leaves_no_object_and_no_spool(world: World, places: Gateway, storer: Storer) -> None:
    places.record(world.alpha, "sess_1", stereo(1))
    places.record(world.beta, "sess_2", stereo(1))
    storer.round()
    places.record(world.alpha, "sess_3", stereo(1, 5000))
    eraser = Recordings()
    assert eraser.count(world.alpha.tenant) == {"objects": 1, "spooled_calls": 1}
    eraser.erase(world.alpha.tenant)
    assert eraser.count(world.alpha.tenant) == {"objects": 0, "spooled_calls": 0}
    eraser.erase(world.alpha.tenant)
    assert eraser.count(world.beta.tenant) == {"objects": 1, "spooled_calls": 0}
    assert "realtime.recordings.erasing.Recordings" in settings.TENANT_ERASERS


def test_the_worlds_own_recordings_share_nothing(world: World) -> None:
    keys = []
    for house in (world.alpha, world.beta):
        assert np.array_equal(listen(house, house.session_id), BEEP)
        with tenant_context(house.tenant):
            keys.append(Part.objects.get(recording=house.session_id).object_key.rpartition("/")[2])
    assert keys[0] != keys[1]
