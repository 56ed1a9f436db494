"""A tenant's redaction during a call: what leaves for the archive, and where the recording is silent."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.guard.detectors import KINDS
from agents.spec import AgentSpec, Redaction
from realtime.archive.events import ItemDeleted, ItemStored, encode_event
from realtime.privacy import redaction_queue
from realtime.privacy.redaction import ALL_SAMPLES, MARGIN, weight
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.recordings.journal import Journal, has_writer, read_journal, read_sheet
from realtime.runtime import hearing
from realtime.runtime.recorder import WORDS_S, CallSheet, Spool, Tape
from speech.engines import Pcm, SpokenChunk, Transcript, Word
from tests.runtime.ports import Model, Speech, Table
from tests.runtime.tape import AGENT, CONFIG, HZ, SHEET, Stage, tone

ALL = Redaction(frozenset(KINDS))
CARD = "4111 1111 1111 1111"


class Dictating(Speech):
    """Hears these texts, one a turn; each word of ``timed`` texts takes 100 ms."""

    def __init__(self, *texts: str, timed: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.texts = list(texts)
        self.timed = timed

    async def transcribe(self, pcm: Pcm, **options: Any) -> Transcript:
        self.heard = self.texts[0]
        found = await super().transcribe(pcm, **options)
        if len(self.texts) > 1:
            self.texts.pop(0)
        words = tuple(
            Word(word, place / 10, (place + 1) / 10, 0.9) for place, word in enumerate(found.text.split()) if self.timed
        )
        return Transcript(found.text, "en", found.audio_s, words, "ears", "ears-1")

    async def synthesise(self, text: str, **options: Any) -> AsyncGenerator[SpokenChunk, None]:
        """Each phrase in a voice of its own."""
        self.spoken.append(text)
        yield SpokenChunk(np.full(2_400, len(self.spoken), np.int16), "scripted", model="voice-1")


class Recorded(Table):
    """A call that is recorded."""

    def __init__(self, spool: Spool, *, agent: AgentSpec = AGENT, **around: Any) -> None:
        super().__init__(agent=agent, recorder=self, redaction=around.pop("redaction", ALL), **around)
        self._spool = spool

    def open(self, sheet: CallSheet, clock: Callable[[], float]) -> Tape:
        self.tape = self._spool.open(sheet, clock)
        return self.tape

    async def turn(self, ms: int = 1_280) -> None:
        """The caller speaks, and is answered."""
        before = self.wire.types.count("response.done")
        self.speak(ms)
        self.speak(640, level=0)
        await self.until(lambda: self.wire.types.count("response.done") > before)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path, max_bytes=1 << 30, memory_bytes=1 << 24)
    spool.start()
    yield spool
    spool.stop()


def texts(table: Table) -> dict[str, str]:
    """What the archive holds in the end of each item's words."""
    held = {}
    for _, event in table.archive.events:
        if isinstance(event, ItemStored):
            for part in event.item.get("content", ()):
                held[event.item["id"]] = part.get("transcript") or part.get("text") or ""
        elif isinstance(event, ItemDeleted):
            held.pop(event.item_id, None)
    return held


def sent(table: Table) -> str:
    return "".join(encode_event(event).decode() for _, event in table.archive.events)


async def written(directory: Path) -> Journal:
    async with asyncio.timeout(5):
        while not (directory / "call.json").exists() or has_writer(directory):  # noqa: ASYNC110 - a test polls
            await asyncio.sleep(0.01)
    return read_journal(directory)


async def tracks(spool_at: Path) -> tuple[Pcm, Pcm]:
    journal = await written(spool_at / "acme" / "sess_1")
    rendered = journal.render(0, journal.length)
    return rendered[:, 0], rendered[:, 1]


# --- the archive ---


async def test_a_whole_call_leaves_no_card_number_in_the_archive_and_the_client_sees_what_was_said() -> None:
    model = Model(f"I have noted {CARD}. ", "Anything else?")
    async with Table(model=model, speech=Dictating(f"It's {CARD}."), redaction=ALL) as table:
        table.speak(640)
        table.speak(640, level=0)
        await table.until("response.done")
        table.type_in("and by mail: a@example.com")
        await table.until(lambda: any("[email]" in text for text in texts(table).values()))
        asked = model.requests[0].messages[-1].text
    assert "It's [card number]." in texts(table).values()
    assert "I have noted [card number]. Anything else?" in texts(table).values()
    assert CARD[:9] not in sent(table)
    assert "a@example.com" not in sent(table)
    assert CARD in asked, "the model reads what was said"
    assert CARD in json.dumps(table.wire.events), "the client is told what was said"


async def test_without_redaction_all_is_kept_as_it_was_said() -> None:
    async with Table(speech=Dictating(f"It's {CARD}.")) as table:
        table.speak(640)
        table.speak(640, level=0)
        await table.until("response.done")
    assert f"It's {CARD}." in texts(table).values()
    assert table.runner._log.redaction is None


async def test_a_number_in_several_turns_leaves_none_of_them_behind(spool: Spool) -> None:
    speech = Dictating("Sure, 4111 1111", "one one one one", "1111. Done.", timed=False)
    async with Recorded(spool, speech=speech) as table:
        for _ in range(3):
            await table.turn()
    held = [text for text in texts(table).values() if "card" in text]
    assert held == ["Sure, [card number]", "[card number]", "[card number]. Done."]
    left, _ = await tracks(spool._root)
    assert not left.any()


async def test_a_long_item_is_looked_through_in_a_thread_and_the_order_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    to_thread = asyncio.to_thread

    async def watched(*arguments: Any) -> Any:
        order.append("thread")
        return await to_thread(*arguments)

    monkeypatch.setattr(redaction_queue.asyncio, "to_thread", watched)
    async with Table(redaction=ALL) as table:
        table.type_in("word " * redaction_queue.AT_ONCE_CHARACTERS + CARD)
        table.type_in("a short one")
        await table.until(lambda: table.wire.types.count("conversation.item.done") == 2)
        long, short = [e["item"]["id"] for e in table.wire.events if e["type"] == "conversation.item.done"]
        table.send("conversation.item.delete", item_id=long)
        await table.until("conversation.item.deleted")
    assert order == ["thread"] * 2
    said = [event for _, event in table.archive.events if isinstance(event, ItemStored | ItemDeleted)]
    assert [getattr(event, "item_id", None) or event.item["id"] for event in said] == [long, short, long]
    assert [event.seq for event in said] == sorted(event.seq for event in said)
    assert list(texts(table).values()) == ["a short one"]
    assert CARD[:9] not in sent(table)
    assert type(table.archive.events[-1][1]).__name__ == "CallEnded"


async def test_who_brings_more_than_may_wait_has_to_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction_queue, "MOST_WAITING", 5_000)
    may_look, waited = threading.Event(), []
    async with Table(redaction=ALL) as table:
        queue = table.runner._log.redaction
        assert queue is not None
        take = queue._redactor.take

        def look(*item: Any) -> Any:
            may_look.wait(10)
            waited.append(queue._waiting_characters)
            return take(*item)

        monkeypatch.setattr(queue._redactor, "take", look)
        for number in range(20):
            table.type_in(f"item{number}: {CARD} " + "word " * 400)
        await asyncio.sleep(0.2)
        assert table.wire.types.count("conversation.item.done") == 3, "the others are not read yet"
        may_look.set()
        await table.until(lambda: len(texts(table)) == 20)
    assert max(waited) < 5_000 + 2_500
    assert queue._waiting_characters == 0
    assert [text.split()[0] for text in texts(table).values()] == [f"item{number}:" for number in range(20)]
    assert CARD[:9] not in sent(table)


@pytest.mark.parametrize(
    "what",
    [
        {"output": json.dumps({"phone_number": [1] * 200})},
        {"arguments": "[" * 60 + "]" * 60},
        {"sent": {f"k{number}": "1" for number in range(60)}},
        {"answered": {"k" * 500: 1}},
    ],
)
def test_what_takes_long_to_look_through_is_not_looked_through_at_once(what: dict[str, Any]) -> None:
    assert weight(what) > redaction_queue.AT_ONCE_CHARACTERS


async def test_a_nest_without_end_is_weighed_all_the_same() -> None:
    nest: Any = "x"
    for _ in range(5_000):
        nest = [nest]
    assert weight({"answered": nest}) > redaction_queue.AT_ONCE_CHARACTERS
    said = {"id": "item_1", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]}
    assert weight(said) <= redaction_queue.AT_ONCE_CHARACTERS


async def test_what_cannot_be_redacted_is_not_kept_and_the_call_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    async with Table(redaction=ALL, speech=Dictating("hello")) as table:
        monkeypatch.setattr(table.runner._log.redaction._redactor, "take", broken)  # type: ignore[union-attr]
        table.speak(640)
        table.speak(640, level=0)
        await table.until("response.done")
        assert table.done()["status"] == "completed"
    assert texts(table) == {}


def test_an_answer_that_is_cut_within_a_number_keeps_no_beginning_of_it() -> None:
    kept: list[do.Store] = []
    queue = redaction_queue.RedactionQueue(ALL, put=lambda store, _: kept.append(store), forget=lambda _: None)
    for said in (f"So that is {CARD}, right?", "So that is 4111 1111"):
        content = [{"type": "output_audio", "transcript": said}]
        item = {"id": "item_1", "type": "message", "role": "assistant", "content": content}
        queue.store(do.Store(item=item, previous_item_id=None), {})
    assert [store.item["content"][0]["transcript"] for store in kept] == [
        "So that is [card number], right?", "So that is [card number]",
    ]  # fmt: skip


def test_a_turn_that_was_deleted_does_not_come_back() -> None:
    kept: list[str] = []
    queue = redaction_queue.RedactionQueue(ALL, put=lambda store, _: kept.append(store.item["id"]), forget=kept.append)
    for number, said in enumerate(("4111 1111", "1111 1111")):
        content = [{"type": "input_audio", "transcript": said}]
        item = {"id": f"item_{number}", "type": "message", "role": "user", "content": content}
        queue.store(do.Store(item=item, previous_item_id=None), {})
        if not number:
            queue.remove("item_0")
    assert kept == ["item_0", "item_0", "item_1"]


# --- the recording ---


async def test_the_recording_is_silent_where_the_number_was_said(spool: Spool) -> None:
    words = f"{'well ' * 10}it is {CARD} {'okay ' * 14}".strip()
    async with Recorded(spool, speech=Dictating(words)) as table:
        await table.turn(3_200)
    left, right = await tracks(spool._root)
    item = next(event.item for _, event in table.archive.events if isinstance(event, ItemStored))
    begun = next(e["audio_start_ms"] for e in table.wire.events if e["type"] == "input_audio_buffer.speech_started")
    assert item["role"] == "user"
    # Twelve words, the number in four, then others: each takes 100 ms.
    first, last = begun * 24 + 12 * 2_400, begun * 24 + 16 * 2_400
    assert not left[first - MARGIN + 10 : last + MARGIN - 10].any()
    assert left[first - MARGIN - 2_400 : first - MARGIN - 10].all()
    assert left[last + MARGIN + 10 : last + MARGIN + 2_400].all()
    assert right.any(), "the agent said nothing that would have to be silent"


async def test_without_times_of_words_the_whole_turn_is_silent(spool: Spool) -> None:
    async with Recorded(spool, speech=Dictating("hello", f"it is {CARD}", timed=False)) as table:
        await table.turn()
        await table.turn()
    left, _ = await tracks(spool._root)
    half = (1_280 + 640) * 24
    assert np.count_nonzero(left[:half]) == 1_280 * 24
    stopped = [e["audio_end_ms"] for e in table.wire.events if e["type"] == "input_audio_buffer.speech_stopped"]
    assert not left[half : stopped[1] * 24].any()


async def test_the_agents_phrase_is_silent_too_and_no_other(spool: Spool) -> None:
    model = Model("Thank you so much. ", f"I have your card {CARD}. ", "Anything else for you?")
    async with Recorded(spool, model=model, speech=Dictating("hello")) as table:
        await table.turn()
        await asyncio.sleep(0.5)  # until it was played
    assert any("[card number]" in text for text in texts(table).values())
    _, right = await tracks(spool._root)
    begins = int(np.flatnonzero(right)[0])
    expected = np.repeat(np.array([1, 0, 3], np.int16), 2_400)
    assert np.array_equal(right[begins : begins + len(expected)], expected)


async def test_a_tenant_may_keep_its_recordings_whole(spool: Spool) -> None:
    redaction = Redaction(frozenset({"card_number"}), silence=False)
    async with Recorded(spool, speech=Dictating(f"it is {CARD}"), redaction=redaction) as table:
        await table.turn()
    left, _ = await tracks(spool._root)
    assert np.count_nonzero(left) == 1_280 * 24
    assert read_sheet(spool._root / "acme" / "sess_1").hold_s == 0
    assert CARD[:9] not in sent(table)


async def test_a_turn_that_could_not_be_redacted_is_silent(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    async with Recorded(spool, speech=Dictating(f"it is {CARD}")) as table:
        monkeypatch.setattr(table.runner._log.redaction._redactor, "take", broken)  # type: ignore[union-attr]
        await table.turn()
    left, right = await tracks(spool._root)
    assert not left.any()
    assert not right.any()


async def test_a_call_that_is_cut_off_before_all_is_redacted_is_no_complete_recording(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_look = threading.Event()
    async with Recorded(spool, speech=Dictating(f"it is {CARD} {'well ' * 200}", timed=False)) as table:
        queue = table.runner._log.redaction
        assert queue is not None
        take = queue._redactor.take

        def look(store: do.Store, timings_ms: dict[str, float]) -> Any:
            if weight(store.item) > redaction_queue.AT_ONCE_CHARACTERS:
                may_look.wait(10)
            return take(store, timings_ms)

        monkeypatch.setattr(queue._redactor, "take", look)
        await table.turn()
        table.wire.incoming.put_nowait(None)
        await asyncio.sleep(0.1)
        table.running.cancel()
        await asyncio.wait([table.running])
        may_look.set()
        await queue.settle()
    sheet = read_sheet(spool._root / "acme" / "sess_1")
    while sheet.state == "recording":
        await asyncio.sleep(0.02)
        sheet = read_sheet(spool._root / "acme" / "sess_1")
    assert (sheet.state, sheet.hold_s > 0) == ("fault", True), "storing it leaves its end silent"


async def test_a_turn_whose_words_were_lost_is_silent(spool: Spool) -> None:
    async with Recorded(spool, speech=Dictating("x", fails="stt")) as table:
        table.speak(1_280)
        table.speak(640, level=0)
        await table.until("input_audio_buffer.committed")
        await table.until(lambda: any(isinstance(e, ItemStored) for _, e in table.archive.events))
        await asyncio.sleep(0.1)
    left, _ = await tracks(spool._root)
    assert not left.any()


async def test_last_words_that_come_after_the_call_are_silent_too(spool: Spool) -> None:
    speech = Dictating(f"it is {CARD}", timed=False)
    speech.gate.clear()
    async with Recorded(spool, speech=speech) as table:
        table.speak(1_280)
        table.speak(640, level=0)
        await table.until("input_audio_buffer.committed")
        table.wire.incoming.put_nowait(None)
        await asyncio.sleep(0.1)
        assert table.tape.state == "recording", "what is to be silent is not known yet"
        speech.gate.set()
        await table.running
    left, _ = await tracks(spool._root)
    assert not left.any()
    assert "it is [card number]" in texts(table).values()
    sheet = read_sheet(spool._root / "acme" / "sess_1")
    assert (sheet.state, sheet.hold_s) == ("complete", table.limits.input_audio_s + WORDS_S)


async def test_words_that_never_come_leave_a_silence(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "LAST_WORDS_S", 0.05)
    speech = Dictating("x")
    async with Recorded(spool, speech=speech) as table:
        await table.turn()
        speech.gate.clear()
        table.speak(1_280)
        table.speak(640, level=0)
        await table.until(lambda: table.wire.types.count("input_audio_buffer.committed") == 2)
    left, _ = await tracks(spool._root)
    assert np.count_nonzero(left) == 1_280 * 24, "of two turns the first"


def test_where_samples_of_the_call_lie_in_the_recording_is_known_across_pauses(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.hear(tone(500, 1000))
    stage.clock.sleep(4_000)
    stage.hear(tone(500, 5000))
    stage.tape.silence("item_a", [(400 * 24, 600 * 24)], True)
    left, _ = stage.tracks()
    expected = np.concatenate([tone(500, 1000), np.zeros(4_000 * 24, np.int16), tone(500, 5000)])
    expected[400 * 24 : 500 * 24] = 0
    expected[4_500 * 24 : 4_600 * 24] = 0
    assert np.array_equal(left, expected)


def test_audio_that_the_session_refuses_moves_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.hear(tone(100, 1000))
    refusal = do.Send(ev.Error(event_id="e", error=ev.ErrorBody(type="t", code="c", message="full")))
    stage.tape.take(ev.InputAudioAppend(audio=b"\0\0" * 2_400), [refusal], CONFIG)
    stage.hear(tone(100, 3000))
    stage.tape.silence("item_a", [(2_400, 4_800)], True)
    left, _ = stage.tracks()
    assert np.array_equal(left[:2_400], tone(100, 1000))
    assert not left[2_400:].any()


def test_an_item_is_silent_from_a_sample_of_it_to_another(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.hear(np.zeros(HZ, np.int16))
    stage.speak(tone(200, 1000))
    stage.speak(tone(200, 5000))
    stage.tape.silence("item_a", [(4_000, 5_000)], False)
    stage.tape.silence("item_gone", [(0, ALL_SAMPLES)], False)
    stage.hear(np.zeros(HZ, np.int16))
    _, right = stage.tracks()
    expected = np.concatenate([tone(200, 1000), tone(200, 5000)])
    expected[4_000:5_000] = 0
    assert np.array_equal(right[HZ : HZ + len(expected)], expected)
    assert SHEET.hold_s == 0
