"""One call with scripted engines: effects are done, in order, and nothing outlives the call."""

import asyncio
import base64
from typing import Any

import pytest

from realtime.archive import events as archive
from realtime.runtime.runner import RunnerConfig
from speech.engines import Pcm, SpeechFailed, Transcript
from tests.runtime.ports import UNAVAILABLE, Budget, Model, Speech, Table


async def test_a_typed_question_is_answered_in_words_and_sound() -> None:
    async with Table(Model("One ", "two. ", "Three ", "four.")) as table:
        table.type_in("Count.")
        table.send("response.create")
        await table.until("response.done")
        done = table.done()
        assert done["status"] == "completed"
        assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": "One two. Three four."}]
        assert done["usage"]["input_tokens"] == 7
        assert "".join(table.speech.spoken) == "One two. Three four."
        sound = b"".join(
            base64.b64decode(e["delta"]) for e in table.wire.events if e["type"] == "response.output_audio.delta"
        )
        assert len(sound) == len(table.speech.spoken) * 2 * 2400


async def test_phrases_reach_the_client_in_the_order_of_the_text() -> None:
    words = [f"Sentence number {n} is here. " for n in range(8)]
    async with Table(Model(*words)) as table:
        table.send("response.create")
        await table.until("response.done")
        said = [e["delta"] for e in table.wire.events if e["type"] == "response.output_audio_transcript.delta"]
        assert "".join(said).split() == "".join(words).split()


async def test_a_spoken_turn_is_heard_answered_and_archived() -> None:
    async with Table(speech=Speech("What time is it?")) as table:
        table.speak(640)
        table.speak(640, level=0)
        await table.until("response.done")
        assert table.model.requests[0].messages[-1].text == "What time is it?"
        assert len(table.speech.transcribed_ms) == 1
    events = [event for _, event in table.archive.events]
    assert {tenant for tenant, _ in table.archive.events} == {"acme"}
    assert isinstance(events[0], archive.CallStarted)
    assert isinstance(events[-1], archive.CallEnded)
    assert events[-1].reason == "client_closed"
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    items = [event for event in events if isinstance(event, archive.ItemStored)]
    assert [item.item["role"] for item in items] == ["user", "user", "assistant"]
    assert items[1].item["content"][0]["transcript"] == "What time is it?"
    assert set(items[2].timings_ms) == {"transcript", "first_token", "first_audio"}


async def test_cancel_stops_model_and_voice_and_nothing_follows() -> None:
    async with Table(Model(*["word, and another. "] * 1000)) as table:
        table.send("response.create")
        await table.until("response.output_audio.delta")
        table.send("response.cancel")
        await table.until("response.done")
        await table.until(lambda: table.model.closed == 1)
        await table.until(lambda: table.speech.closed == len(table.speech.spoken))
        count = len(table.wire.events)
        await asyncio.sleep(0.05)
        assert len(table.wire.events) == count
        assert table.done()["status"] == "cancelled"


async def test_a_barge_in_ends_the_answer_and_the_next_one_comes() -> None:
    speech = Speech("Stop that.")
    async with Table(Model(*["word, and another. "] * 1000), speech) as table:
        table.send("response.create")
        await table.until("response.output_audio.delta")
        table.speak(640)
        await table.until("response.done")
        table.model.words = ("Sorry.",)
        table.speak(640, level=0)
        await table.until(lambda: table.wire.types.count("response.done") == 2)
        first, second = [e["response"] for e in table.wire.events if e["type"] == "response.done"]
        assert first["status_details"]["reason"] == "turn_detected"
        assert second["output"][0]["content"][0]["transcript"] == "Sorry."


async def test_without_a_voice_the_words_still_come() -> None:
    async with Table(speech=Speech(fails="tts")) as table:
        table.send("response.create")
        await table.until("response.done")
        assert table.done()["status"] == "completed"
        assert table.done()["output"][0]["content"][0]["transcript"] == "Hi there."
        assert "response.output_audio.delta" not in table.wire.types


def deltas(table: Table) -> list[str]:
    return [e["delta"] for e in table.wire.events if e["type"].endswith("input_audio_transcription.delta")]


async def test_segments_of_the_callers_words_are_deltas() -> None:
    speech = Speech("One. Two. Three.")
    speech.segments = ["One.", " Two."]
    async with Table(speech=speech) as table:
        table.send("session.update", session={"type": "realtime", "audio": {"input": {"transcription": {}}}})
        table.speak(640)
        table.speak(640, level=0)
        await table.until("response.done")
        assert deltas(table) == ["One.", " Two.", " Three."]


async def test_words_of_a_caller_who_still_speaks_are_told() -> None:
    async with Table(speech=Speech("Still speaking.")) as table:
        audio = {"input": {"transcription": {"model": "gpt-live-transcribe"}}}
        table.send("session.update", session={"type": "realtime", "audio": audio})
        for _ in range(8):
            table.speak(640)
            await asyncio.sleep(0.01)
        await table.until(lambda: bool(deltas(table)))
        assert "input_audio_buffer.speech_stopped" not in table.wire.types
        assert table.speech.guesses >= 2
        table.speak(640, level=0)
        await table.until("response.done")
        assert deltas(table) == ["Still speaking."]


async def test_a_guess_under_way_does_not_hold_up_the_end_of_a_call() -> None:
    speech = Speech("Never mind.")
    async with Table(speech=speech) as table:
        audio = {"input": {"transcription": {"model": "gpt-live-transcribe"}, "turn_detection": None}}
        table.send("session.update", session={"type": "realtime", "audio": audio})
        speech.gate.clear()
        table.speak(1_200)
        await table.until(lambda: speech.guesses == 1)
        assert await table.hang_up() == "client_closed"


async def test_a_long_append_under_noise_reduction_lets_others_have_their_turn() -> None:
    async with Table() as table:
        audio = {"input": {"noise_reduction": {"type": "near_field"}, "turn_detection": None}}
        table.send("session.update", session={"type": "realtime", "audio": audio})
        await table.until("session.updated")
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        table.speak(20_000)
        table.send("input_audio_buffer.commit")
        await table.until("input_audio_buffer.committed")
        counting.cancel()
        assert turns >= 20_000 / 400
        assert table.runner.session.ear.input.end == 20_000 * 24


async def test_a_recogniser_that_fails_is_told_and_answered() -> None:
    async with Table(speech=Speech(fails="stt")) as table:
        table.send("session.update", session={"type": "realtime", "audio": {"input": {"transcription": {}}}})
        table.speak(640)
        table.speak(640, level=0)
        await table.until("response.done")
        assert "conversation.item.input_audio_transcription.failed" in table.wire.types


async def test_a_model_that_fails_fails_the_response_and_not_the_call() -> None:
    async with Table(Model("Well, this is it. ", UNAVAILABLE)) as table:
        table.send("response.create")
        await table.until("response.done")
        assert table.done()["status_details"]["error"]["code"] == "llm_unavailable"
        table.model.words = ("Better.",)
        table.send("response.create")
        await table.until(lambda: table.wire.types.count("response.done") == 2)
        assert table.done()["status"] == "completed"


async def test_an_unexpected_fault_of_a_model_does_not_end_the_call() -> None:
    async with Table(Model(RuntimeError("a bug"))) as table:
        table.send("response.create")
        await table.until("response.done")
        assert table.done()["status_details"]["error"]["code"] == "server_error"
        assert not table.running.done()


async def test_hanging_up_ends_everything() -> None:
    speech = Speech()
    speech.gate.clear()
    async with Table(Model(*["word, and another. "] * 1000), speech) as table:
        table.send("response.create")
        await table.until(lambda: bool(speech.spoken))
        assert await table.hang_up() == "client_closed"
        assert table.listening.open_streams == 0
        assert speech.closed == len(speech.spoken)
        assert table.model.closed == 1


async def test_a_reader_that_does_not_read_is_hung_up_on() -> None:
    async with Table(Model(*["word, and another. "] * 2000), config=RunnerConfig(outbox_bytes=50_000)) as table:
        table.wire.reads = False
        table.send("response.create")
        assert await asyncio.wait_for(table.running, 5) == "overloaded"
        assert table.wire.closed is not None
        assert table.wire.closed[0] == 1008
        assert table.wire.closed[1].startswith("outbox_overflow")


async def test_the_longest_call_ends_with_its_code() -> None:
    async with Table(config=RunnerConfig(session_s=0.05)) as table:
        assert await asyncio.wait_for(table.running, 5) == "expired"
        assert table.wire.closed == (1001, "Your session hit the maximum duration of 60 minutes.")


async def test_large_frames_are_parsed_aside_and_in_order() -> None:
    async with Table() as table:
        table.speak(20_000, level=0)
        table.send("input_audio_buffer.clear", event_id="after")
        await table.until("input_audio_buffer.cleared")
        assert table.runner.session.ear.input.end == 20_000 * 24


async def test_a_fault_of_ours_ends_one_call_with_an_error_and_touches_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Table() as broken, Table() as healthy:
        words = "secret words"

        def receive(entering: object) -> None:
            raise KeyError(words)

        monkeypatch.setattr(broken.runner.session, "receive", receive)
        broken.type_in("Hello")
        assert await asyncio.wait_for(broken.running, 5) == "broken"
        assert broken.wire.events[-1]["error"]["code"] == "server_error"
        assert broken.wire.closed == (1011, "server_error")
        assert broken.listening.open_streams == 0
        healthy.send("response.create")
        await healthy.until("response.done")
    assert "KeyError" in caplog.text
    assert "secret words" not in caplog.text


async def test_a_client_that_vanishes_is_no_fault() -> None:
    async with Table() as table:
        table.wire.broken = True
        table.send("response.create")
        assert await asyncio.wait_for(table.running, 5) == "client_closed"


async def test_answers_that_are_cancelled_at_once_leave_nothing_behind() -> None:
    async with Table() as table:
        for _ in range(20):
            table.send("response.create")
            table.send("response.cancel")
        await table.until(lambda: table.wire.types.count("response.done") == 20)
        assert table.runner._timings._responses == {}
        assert table.runner._work.tasks == {}


async def test_hanging_up_keeps_the_last_words_of_both_sides() -> None:
    speech = Speech("Cancel my order.")
    async with Table(Model("Well, let me see. ", *["and this, and that. "] * 1000), speech) as table:
        table.send("response.create")
        await table.until("response.output_audio.delta")
        speech.gate.clear()
        table.speak(640)
        await table.until("input_audio_buffer.speech_started")
        table.wire.incoming.put_nowait(None)
        await asyncio.sleep(0.05)
        assert not table.running.done()
        speech.gate.set()
        assert await asyncio.wait_for(table.running, 5) == "client_closed"
    stored = {e.item["role"]: e.item for _, e in table.archive.events if isinstance(e, archive.ItemStored)}
    assert stored["user"]["content"][0]["transcript"] == "Cancel my order."
    assert stored["assistant"]["status"] == "incomplete"
    assert stored["assistant"]["content"][0]["transcript"].startswith("Well, let me see.")
    assert isinstance(table.archive.events[-1][1], archive.CallEnded)


class FailsOnce(Speech):
    async def transcribe(self, pcm: Pcm, **asked: Any) -> Transcript:
        first = not self.transcribed_ms
        transcript = await super().transcribe(pcm, **asked)
        if first:
            raise SpeechFailed("stt_failed", "No.")
        await asyncio.sleep(0.02)
        return transcript


async def test_a_call_that_is_over_also_waits_for_what_is_recognised_again() -> None:
    speech = FailsOnce("All of it.")
    speech.gate.clear()
    async with Table(speech=speech) as table:
        detection = {"type": "server_vad", "silence_duration_ms": 2_000}
        table.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": detection}}})
        table.speak(9_600)
        table.speak(640, level=0)
        table.speak(640)
        await table.until(lambda: table.runner.session.ear.input.end == 10_880 * 24)
        table.wire.incoming.put_nowait(None)
        await table.until(lambda: len(speech.transcribed_ms) == 2)
        speech.gate.set()
        assert await asyncio.wait_for(table.running, 5) == "client_closed"
    stored = [e.item for _, e in table.archive.events if isinstance(e, archive.ItemStored)]
    assert stored[-1]["content"][0]["transcript"] == "All of it."
    assert len(speech.transcribed_ms) == 3


async def test_hanging_up_in_the_middle_of_an_answer_keeps_what_was_said_of_it() -> None:
    async with Table(Model("Well, let me see. ", *["and this, and that. "] * 1000)) as table:
        table.send("response.create")
        await table.until("response.output_audio.delta")
        await table.hang_up()
    items = [e.item for _, e in table.archive.events if isinstance(e, archive.ItemStored)]
    assert items[-1]["content"][0]["transcript"].startswith("Well, let me see.")


async def test_a_broken_call_waits_for_nobody_and_is_archived_as_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    speech = Speech()
    speech.gate.clear()
    async with Table(speech=speech) as table:
        table.speak(640)
        table.speak(640, level=0)
        await table.until(lambda: bool(speech.transcribed_ms))

        def receive(entering: object) -> None:
            raise KeyError

        monkeypatch.setattr(table.runner.session, "receive", receive)
        table.type_in("Hello")
        table.wire.incoming.put_nowait(None)
        assert await asyncio.wait_for(table.running, 3) == "broken"
        assert table.runner._hearing.jobs == {}
    assert table.archive.events[-1][1].reason == "broken"  # type: ignore[union-attr]


async def test_a_fault_in_hanging_up_ends_the_call_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Table() as table:

        def hang_up() -> None:
            raise KeyError

        monkeypatch.setattr(table.runner.session, "hang_up", hang_up)
        assert await table.hang_up() == "client_closed"
    assert isinstance(table.archive.events[-1][1], archive.CallEnded)


async def test_others_see_the_call_while_it_lasts() -> None:
    async with Table() as table:
        record = table.register.live["sess_1"]
        assert (record.tenant, record.agent, record.voice, record.output_modality) == ("acme", "test", "alloy", "audio")
        table.send("session.update", session={"type": "realtime", "audio": {"output": {"voice": "marin"}}})
        await table.until("session.updated")
        assert table.register.live["sess_1"].voice == "marin"
        await table.hang_up()
    assert table.register.told == ["created", "updated", "closed: client_closed"]


async def test_a_response_beyond_the_limit_is_refused_and_the_call_goes_on() -> None:
    async with Table(budget=Budget(tickets=1)) as table:
        table.send("response.create")
        await table.until("rate_limits.updated")
        table.send("response.create", event_id="mine")
        await table.until("error")
        error = next(event["error"] for event in table.wire.events if event["type"] == "error")
        assert (error["type"], error["code"], error["event_id"]) == ("rate_limit_error", "rate_limit_exceeded", "mine")
        assert "Please try again in" in error["message"]
        table.type_in("Still there?")
        await table.until("conversation.item.done")
        assert table.wire.types.count("response.created") == 1


async def test_a_turn_beyond_the_limit_gets_a_response_that_failed() -> None:
    async with Table(budget=Budget(tickets=0)) as table:
        table.speak(640)
        table.speak(640, level=0)
        await table.until("response.done")
        done = table.done()
        assert done["status"] == "failed"
        assert done["status_details"]["error"]["type"] == "rate_limit_error"
        assert done["status_details"]["error"]["code"] == "rate_limit_exceeded"
        assert not table.model.requests


async def test_what_the_session_refuses_costs_no_ticket() -> None:
    async with Table(budget=Budget(tickets=5)) as table:
        table.send("response.create", response={"input": [{"type": "item_reference", "id": "item_none"}]})
        await table.until("error")
        assert table.budget.tickets == 5


async def test_audio_of_both_sides_is_counted() -> None:
    async with Table() as table:
        table.speak(640)
        table.speak(640, level=0)
        await table.until("rate_limits.updated")
    assert table.budget.audio_ms == 640 + 640 + 100


async def test_who_loses_access_is_told_why_and_the_call_ends_at_once() -> None:
    async with Table(Model(*["word, and another. "] * 1000)) as table:
        table.send("response.create")
        await table.until("response.output_audio.delta")
        table.runner.end_access("api_key_revoked", "The API key was revoked.")
        assert await asyncio.wait_for(table.running, 5) == "access_ended"
        assert table.wire.closed == (3000, "invalid_request_error.api_key_revoked")
        last = [event for event in table.wire.events if event["type"] == "error"][-1]["error"]
        assert (last["type"], last["code"]) == ("invalid_request_error", "api_key_revoked")


async def test_a_response_that_is_cut_off_counts_what_its_model_was_asked() -> None:
    async with Table(Model(*["word, and another. "] * 1000)) as table:
        table.type_in("A question of some length. " * 40)
        table.send("response.create", response={"output_modalities": ["text"]})
        await table.until("response.output_text.delta")
        table.send("response.cancel")
        await table.until("rate_limits.updated")
        assert table.done()["status"] == "cancelled"
        assert table.budget.left <= 1_000 - 40 * len("A question of some length. ") // 4
