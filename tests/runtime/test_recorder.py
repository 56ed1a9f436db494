"""What is recorded of a call: both sides on one clock, no more of the agent than was heard."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agents.spec import AgentSpec
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.recordings.journal import Journal, has_writer, read_journal, read_sheet
from realtime.runtime import recorder
from realtime.runtime.recorder import CallSheet, Spool, Tape
from speech.audio import encode_ulaw, read_wav, resample, to_bytes
from tests.runtime.ports import Model, Table
from tests.runtime.tape import AGENT, CONFIG, FRAME_MS, HZ, SHEET, Stage, tone


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


# ---- the timeline ----


def test_a_microphone_is_recorded_sample_by_sample(stage: Stage) -> None:
    said, hz = read_wav("tests/clips/goforward.wav")
    said = resample(said, hz, HZ)
    stage.hear(said)
    left, right = stage.tracks()
    assert np.array_equal(left[: len(said)], said)
    assert not right.any()


def test_an_answer_lies_where_it_was_sent_and_runs_on_without_gap(stage: Stage) -> None:
    stage.hear(np.zeros(HZ, np.int16))
    stage.speak(tone(300, 1000))
    stage.speak(tone(200, 3000))  # sent at once, played behind the first
    stage.hear(np.zeros(HZ, np.int16))
    left, right = stage.tracks()
    assert len(left) == len(right) == 2 * HZ
    assert not right[:HZ].any()
    assert np.array_equal(right[HZ : HZ + 7200], tone(300, 1000))
    assert np.array_equal(right[HZ + 7200 : HZ + 12000], tone(200, 3000))
    assert not right[HZ + 12000 :].any()


def test_what_a_codec_holds_back_is_recorded_when_it_goes_out(stage: Stage) -> None:
    stage.clock.sleep(1000)
    said = tone(200, 1)
    stage.tape.take(ev.ReplyAudio(response_id="resp_a", pcm_24khz=said[:2400]), [], CONFIG)
    stage.speak(said[2400:])
    stage.tape.take(ev.ReplyAudio(response_id="resp_gone", pcm_24khz=said), [], CONFIG)
    stage.clock.sleep(1000)
    _, right = stage.tracks()
    assert np.array_equal(right[24_000 : 24_000 + len(said)], said)
    assert not right[24_000 + len(said) :].any()


def test_a_barge_in_cuts_at_its_sample(stage: Stage) -> None:
    stage.hear(np.zeros(HZ, np.int16))
    stage.speak(tone(2000, 1000))
    stage.hear(np.zeros(HZ // 2, np.int16))
    stage.barge_in()
    stage.hear(np.zeros(HZ, np.int16))
    stage.speak(tone(100, 5000), item="item_b", response="resp_b")
    stage.hear(np.zeros(HZ // 2, np.int16))
    _, right = stage.tracks()
    assert np.array_equal(right[HZ : HZ + HZ // 2], tone(2000, 1000)[: HZ // 2])
    assert not right[HZ + HZ // 2 : 2 * HZ + HZ // 2].any()
    assert np.array_equal(right[2 * HZ + HZ // 2 :][:2400], tone(100, 5000))


@pytest.mark.parametrize("heard_ms", [0, 1, 137, 500, 900])
def test_a_truncation_says_how_much_was_heard_whatever_the_barge_in_left(stage: Stage, heard_ms: int) -> None:
    stage.hear(np.zeros(HZ, np.int16))
    stage.speak(tone(600, 1000))
    stage.speak(tone(600, 9000))
    stage.hear(np.zeros(HZ // 2, np.int16))
    stage.barge_in()
    stage.truncate(heard_ms)
    stage.hear(np.zeros(HZ, np.int16))
    _, right = stage.tracks()
    whole = np.concatenate([tone(600, 1000), tone(600, 9000)])
    assert np.array_equal(right[HZ : HZ + heard_ms * 24], whole[: heard_ms * 24])
    assert not right[HZ + heard_ms * 24 :].any()


def test_speech_interrupts_nothing_where_the_session_says_so(stage: Stage) -> None:
    patient = CONFIG.updated(
        {
            "type": "realtime",
            "audio": {"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}},
        },
        assistant_has_spoken=False,
    )
    stage.hear(np.zeros(HZ, np.int16))
    stage.speak(tone(1000, 1000))
    stage.tape.take(ev.InputAudioClear(), [do.Send(ev.SpeechStarted(audio_start_ms=0, item_id="u"))], patient)
    stage.hear(np.zeros(2 * HZ, np.int16))
    _, right = stage.tracks()
    assert np.array_equal(right[HZ : 2 * HZ], tone(1000, 1000))


def test_a_cancelled_response_falls_silent_and_no_other(stage: Stage) -> None:
    stage.hear(np.zeros(HZ, np.int16))
    stage.speak(tone(1000, 1000), item="item_a", response="resp_a")
    stage.speak(tone(1000, 5000), item="item_b", response="resp_b")
    stage.hear(np.zeros(HZ // 2, np.int16))
    stage.effects(do.CancelReply("resp_b"))
    stage.hear(np.zeros(2 * HZ, np.int16))
    _, right = stage.tracks()
    assert np.array_equal(right[HZ : 2 * HZ], tone(1000, 1000))
    assert not right[2 * HZ :].any()


def test_what_was_never_played_before_the_call_ended_is_not_in_it(stage: Stage) -> None:
    stage.hear(np.zeros(HZ, np.int16))
    stage.speak(tone(5000, 1000))
    stage.hear(np.zeros(HZ // 5, np.int16))
    left, right = stage.tracks()
    assert len(right) == len(left) == HZ + HZ // 5
    assert np.array_equal(right[HZ:], tone(5000, 1000)[: HZ // 5])


def test_a_pause_of_the_microphone_is_a_pause_in_the_recording(stage: Stage) -> None:
    stage.hear(tone(500, 1000))
    stage.clock.sleep(4000)
    stage.hear(tone(500, 5000))
    left, _ = stage.tracks()
    assert np.array_equal(left[: 500 * 24], tone(500, 1000))
    assert not left[500 * 24 : 4500 * 24].any()
    assert np.array_equal(left[4500 * 24 :], tone(500, 5000))


def test_a_network_that_stalls_makes_no_pause(stage: Stage) -> None:
    stage.hear(tone(500, 1000))
    stage.clock.sleep(2000)
    for start in range(0, 2000, FRAME_MS):  # all that was held comes at once
        stage.append(tone(2000, 5000)[start * 24 : (start + FRAME_MS) * 24])
    stage.hear(tone(500, 9000))
    left, _ = stage.tracks()
    assert np.array_equal(left, np.concatenate([tone(500, 1000), tone(2000, 5000), tone(500, 9000)]))


def test_jitter_leaves_the_audio_in_one_piece(stage: Stage) -> None:
    said = tone(3000, 1000)
    stage.hear(said[: 100 * 24])
    for start in range(100, 3000, 100):
        stage.clock.sleep(160 if start % 200 else 40)
        stage.append(said[start * 24 : (start + 100) * 24])
    left, _ = stage.tracks()
    began = np.flatnonzero(left)[0]
    assert began <= recorder.GAP
    assert np.array_equal(left[began : began + len(said)], said)


def test_a_client_faster_than_time_sets_the_clock(stage: Stage) -> None:
    """As in the protocol: what it sent is what has passed, and the answer comes behind it."""
    stage.hear(tone(1000, 1000))
    for _ in range(10):
        stage.append(tone(1000, 3000))
    stage.speak(tone(100, 5000))
    stage.clock.sleep(200)
    left, right = stage.tracks()
    assert np.array_equal(left[HZ : 11 * HZ], np.tile(tone(1000, 3000), 10))
    assert np.flatnonzero(right)[0] == 11 * HZ


def test_a_telephones_audio_is_recorded_at_the_same_rate(tmp_path: Path) -> None:
    phone = CONFIG.updated(
        {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}, assistant_has_spoken=False
    )
    stage = Stage(tmp_path)
    said = (np.sin(np.arange(8000 * 2) * 0.3) * 9000).astype(np.int16)
    for start in range(0, len(said), 160):
        stage.clock.sleep(20)
        stage.tape.take(ev.InputAudioAppend(audio=encode_ulaw(said[start : start + 160])), [], phone)
    left, _ = stage.tracks()
    assert abs(len(left) - 2 * HZ) < 24 * 10
    heard = resample(left, HZ, 8000)[4000:12000].astype(float)
    assert max(np.corrcoef(heard, said[4000 + lag : 12000 + lag])[0, 1] for lag in range(-40, 40)) > 0.99


def test_an_item_of_long_ago_cannot_be_truncated_and_no_memory_is_kept_of_it(stage: Stage) -> None:
    stage.hear(np.zeros(2400, np.int16))
    for number in range(200):
        stage.speak(tone(20, 1000), item=f"item_{number}", response=f"resp_{number}")
    assert len(stage.tape._items) == len(stage.tape._latest) == recorder.ITEMS
    stage.truncate(0, item="item_0")
    stage.clock.sleep(5000)
    _, right = stage.tracks()
    assert np.count_nonzero(right) == 200 * 20 * 24


# ---- the spool ----


def test_the_sheet_names_the_call_and_its_end(stage: Stage) -> None:
    stage.hear(tone(100, 1))
    stage.spool._round()
    assert read_sheet(stage.directory) == SHEET
    assert has_writer(stage.directory)
    stage.finish()
    assert read_sheet(stage.directory).state == "complete"
    assert not has_writer(stage.directory)
    assert stage.directory.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in stage.directory.iterdir()} == {0o600}


def test_a_long_call_turns_pages(stage: Stage) -> None:
    said = tone(60_000, 1)
    for start in range(0, len(said), HZ):
        stage.hear(said[start : start + HZ])
        stage.spool._round()
    left, _ = stage.tracks()
    assert np.array_equal(left, said)
    sizes = [file.stat().st_size for file in sorted(stage.directory.glob("*.pcm"))]
    assert len(sizes) == 2
    assert max(sizes) <= recorder.ROTATE_BYTES


def test_a_torn_record_is_where_the_journal_ends(stage: Stage) -> None:
    stage.hear(tone(1000, 1))
    stage.finish()
    file = stage.directory / "000000.pcm"
    os.truncate(file, file.stat().st_size - recorder.RECORD.size - 500)
    journal = read_journal(stage.directory)
    assert journal.end is None
    assert 900 * 24 <= journal.length <= 1000 * 24
    whole = journal.render(0, journal.length)[:, 0]
    assert np.array_equal(whole[: 900 * 24], tone(1000, 1)[: 900 * 24])


def metric(state: str) -> float:
    return recorder.RECORDINGS.labels(state)._value.get()


def test_a_full_spool_ends_the_recording_with_a_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = metric("spool_full")
    stage = Stage(tmp_path, max_bytes=200_000)
    for _ in range(10):
        stage.hear(tone(1000, 1))
        stage.spool._round()
    assert stage.tape.state == "spool_full"
    assert read_sheet(stage.directory).state == "spool_full"
    assert metric("spool_full") == before + 1
    assert "spool_full (" in caplog.text
    assert 100_000 < recorder.used_bytes(tmp_path) <= 200_000
    left, _ = stage.tracks()
    assert np.array_equal(left[:HZ], tone(1000, 1))


def test_a_full_disk_ends_the_recording_with_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second page is a device that is always full. The state can still be written: its page was there before."""
    monkeypatch.setattr(recorder, "ROTATE_BYTES", 60_000)
    stage = Stage(tmp_path)
    stage.directory.mkdir(parents=True)
    full = stage.directory / "000001.pcm"
    full.symlink_to("/dev/full")
    for _ in range(3):
        stage.hear(tone(1000, 1))
        stage.spool._round()
    full.unlink()
    assert stage.tape.state == "disk_full"
    assert read_sheet(stage.directory).state == "disk_full"
    left, _ = stage.tracks()
    assert np.array_equal(left, tone(1000, 1))


def test_a_spool_that_cannot_be_made_hurts_nobody(tmp_path: Path) -> None:
    (tmp_path / "acme").write_text("in the way")
    stage = Stage(tmp_path)
    stage.hear(tone(100, 1))
    stage.spool._round()
    assert stage.tape.state == "fault"
    stage.hear(tone(100, 1))
    stage.tape.close()


def test_a_slow_disk_ends_the_recording_and_memory_stays_bounded(tmp_path: Path) -> None:
    stage = Stage(tmp_path, memory_bytes=100_000)
    for _ in range(100):
        stage.hear(tone(100, 1))
        assert stage.tape.waiting_bytes <= 100_000
    assert stage.tape.state == "disk_slow"
    stage.spool._round()
    stage.spool._round()
    assert read_sheet(stage.directory).state == "disk_slow"
    left = read_journal(stage.directory)
    assert left.length >= HZ


def test_a_burst_counts_as_memory_too(tmp_path: Path) -> None:
    stage = Stage(tmp_path, memory_bytes=100_000)
    for _ in range(100):
        stage.append(tone(100, 1))  # all at the same instant
        assert stage.tape.waiting_bytes + 2 * stage.tape._burst_samples <= 200_000
    assert stage.tape.state == "disk_slow"


def test_a_fault_of_ours_ends_the_recording_and_not_the_call(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.tape, "_hear", lambda *_: 1 / 0)
    stage.append(tone(100, 1))
    assert stage.tape.state == "fault"


# ---- in a call ----


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path, max_bytes=1 << 30, memory_bytes=1 << 22)
    spool.start()
    yield spool
    spool.stop()


class Recorded(Table):
    """A call whose agent is recorded; ``tapes`` are those that it opened."""

    def __init__(self, spool: Spool, *, agent: AgentSpec = AGENT, **around: object) -> None:
        super().__init__(agent=agent, **around)  # type: ignore[arg-type]
        self.tapes: list[Tape] = []
        self.recorder = self
        self._spool = spool

    def open(self, sheet: CallSheet, clock: Callable[[], float]) -> Tape:
        self.tapes.append(self._spool.open(sheet, clock))
        return self.tapes[-1]


async def written(directory: Path) -> Journal:
    async with asyncio.timeout(5):
        while not (directory / "call.json").exists() or has_writer(directory):  # noqa: ASYNC110 - a test polls
            await asyncio.sleep(0.01)
    return read_journal(directory)


async def test_a_call_is_recorded_from_its_own_inputs(spool: Spool, tmp_path: Path) -> None:
    async with Recorded(spool) as table:
        table.speak(640)
        table.speak(640, level=0)
        await table.until("response.done")
        await asyncio.sleep(0.3)
    journal = await written(tmp_path / "acme" / "sess_1")
    rendered = journal.render(0, journal.length)
    assert np.count_nonzero(rendered[:, 0]) == 640 * 24
    spoken = rendered[:, 1][np.flatnonzero(rendered[:, 1])[0] :]
    assert np.array_equal(spoken[:2400], np.full(2400, 1, np.int16))  # what the scripted voice says
    assert np.flatnonzero(rendered[:, 1])[0] >= 1280 * 24


async def test_an_agent_that_is_not_recorded_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    async with Recorded(spool, agent=AgentSpec(slug="t", name="T", instructions="")) as table:
        table.speak(100)
        await asyncio.sleep(0.2)
        assert not table.tapes
    assert os.listdir(tmp_path) == []


async def test_a_call_goes_on_when_its_recording_cannot(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=10_000, memory_bytes=20_000)
    spool.start()
    async with Recorded(spool, model=Model(*["word, and another. "] * 20)) as table:
        table.speak(640)
        table.speak(640, level=0)
        await table.until("response.done")
        assert table.tapes[0].state in ("spool_full", "disk_slow")
        assert table.done()["status"] == "completed"
    spool.stop()


async def test_what_is_in_memory_is_written_when_the_gateway_stops(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=1 << 30, memory_bytes=1 << 22)
    spool.start()
    tape = spool.open(SHEET, time.monotonic)
    tape.take(ev.InputAudioAppend(audio=to_bytes(tone(500, 1))), [], CONFIG)
    tape.close()
    await asyncio.to_thread(spool.stop)
    assert np.array_equal(read_journal(tmp_path / "acme" / "sess_1").render(0, 12000)[:, 0], tone(500, 1))


def test_the_lock_is_there_before_the_sheet_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(recorder.fcntl, "flock", lambda *_: order.append("locked"))
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: (order.append("named"), rename(self, to))[1])
    stage = Stage(tmp_path)
    stage.spool._round()
    assert order == ["locked", "named"]
