"""When a turn begins and ends, and what happens when nobody says anything."""

import math
from typing import Any

import pytest

from agents.dialogue.context import TokenMeasure
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Limits
from realtime.protocol.turns import Began, Ended, Paused, Resumed, TurnDetector, TurnTaking, Waiting
from speech.engines import Transcript, Word
from tests.protocol.call import SILENCE, SPEECH, TestCall, tone

STOPPED = "input_audio_buffer.speech_stopped"
COMMITTED = ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]


def run(detector: TurnDetector, *stretches: tuple[int, float]) -> list[str]:
    """Names of the turn events that stretches of (ms, probability) cause."""
    names, at_ms = [], 0
    for ms, probability in stretches:
        for _ in range(ms // 32):
            at_ms += 32
            names += [type(turn).__name__ for turn in detector.step(at_ms, probability)]
    return names


@pytest.mark.parametrize(
    ("stretches", "expected"),
    [
        ([(3200, 0.1)], []),
        ([(32, 0.9), (3200, 0.1)], []),
        ([(640, 0.9)], [Began]),
        ([(640, 0.9), (96, 0.1)], [Began, Paused]),
        ([(640, 0.9), (160, 0.1), (96, 0.9)], [Began, Paused, Resumed]),
        ([(640, 0.9), (512, 0.1)], [Began, Paused, Ended]),
        ([(640, 0.9), (512, 0.4)], [Began]),
        ([(640, 0.9), (128, 0.1), (512, 0.4)], [Began, Paused, Ended]),
        ([(640, 0.9), (512, 0.1), (640, 0.9), (512, 0.1)], [Began, Paused, Ended] * 2),
    ],
)
def test_windows_make_turns(stretches: list[tuple[int, float]], expected: list[type]) -> None:
    detector = TurnDetector(TurnTaking(silence_duration_ms=500))
    assert run(detector, *stretches) == [kind.__name__ for kind in expected]


def test_a_long_pause_is_told_again_and_again() -> None:
    detector = TurnDetector(TurnTaking(silence_duration_ms=4000, complete=0.5))
    names = run(detector, (640, 0.9), (4100, 0.1))
    assert names == ["Began", "Paused", *[Waiting.__name__] * 4, "Ended"]


def listen(call: TestCall, **detection: Any) -> None:
    call.client("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": detection}}})
    assert call.events[0]["type"] == "session.updated", call.events


def test_a_caller_who_has_finished_is_answered_at_once() -> None:
    call = TestCall()
    listen(call, type="semantic_vad")
    call.hear(640, SPEECH)
    call.hear(128, SILENCE)
    judged = call.one(do.JudgeTurn)
    job = call.one(do.Transcribe)
    assert call.recognise(job.job_id, "Go forward ten meters.") == []
    types = call.result(ev.TurnJudged(judgement_id=judged.judgement_id, probability=0.9))
    assert types == [STOPPED, *COMMITTED, "response.created"]
    assert call.one(do.StartReply)


def test_a_caller_who_has_not_finished_is_waited_for_but_not_for_ever() -> None:
    call = TestCall()
    listen(call, type="semantic_vad", eagerness="high")
    call.hear(640, SPEECH)
    assert call.hear(1600, SILENCE) == []
    judgements = call.all(do.JudgeTurn)
    assert len(judgements) == 2
    for judged in judgements:
        assert call.result(ev.TurnJudged(judgement_id=judged.judgement_id, probability=0.1)) == []
    assert call.hear(480, SILENCE)[0] == STOPPED


def test_a_judgement_on_words_that_went_on_ends_nothing() -> None:
    call = TestCall()
    listen(call, type="semantic_vad")
    call.hear(640, SPEECH)
    call.hear(128, SILENCE)
    judged = call.one(do.JudgeTurn)
    call.hear(320, SPEECH)
    assert call.result(ev.TurnJudged(judgement_id=judged.judgement_id, probability=0.9)) == []


@pytest.mark.parametrize(
    ("eagerness", "probability", "ends"), [("low", 0.6, False), ("auto", 0.6, True), ("high", 0.4, True)]
)
def test_eagerness_is_how_sure_the_judge_must_be(eagerness: str, probability: float, ends: bool) -> None:
    call = TestCall()
    listen(call, type="semantic_vad", eagerness=eagerness)
    call.hear(640, SPEECH)
    call.hear(128, SILENCE)
    judged = call.one(do.JudgeTurn)
    types = call.result(ev.TurnJudged(judgement_id=judged.judgement_id, probability=probability))
    assert (STOPPED in types) is ends


def test_a_silent_caller_is_asked_again_after_the_answer_has_been_played() -> None:
    call = TestCall()
    listen(call, type="server_vad", idle_timeout_ms=5000)
    call.hear(320, SILENCE)
    call.answer(call.ask(), "Are you there?", audio_ms=2000)
    assert call.hear(6400, SILENCE) == []
    types = call.hear(1000, SILENCE)
    assert types == ["input_audio_buffer.timeout_triggered", *COMMITTED, "response.created"]
    triggered = next(event for event in call.said if event["type"].endswith("timeout_triggered"))
    assert 5000 <= triggered["audio_end_ms"] - triggered["audio_start_ms"] <= 5040
    assert triggered["audio_start_ms"] == 320 + 2000
    assert call.one(do.StartReply).request.messages[-1].text == "[the caller is silent]"
    assert call.all(do.Transcribe) == []


def test_speech_and_answers_put_the_idle_timeout_off() -> None:
    call = TestCall()
    listen(call, type="server_vad", idle_timeout_ms=5000)
    response_id = call.ask()
    assert call.hear(8000, SILENCE) == []
    call.answer(response_id, "Done.", audio_ms=100)
    call.hear(640, SPEECH)
    assert "input_audio_buffer.timeout_triggered" not in call.hear(8000, SILENCE)


def test_confidence_and_segments_come_when_they_are_asked_for() -> None:
    call = TestCall()
    transcription = {"model": "gpt-4o-transcribe-diarize"}
    include = ["item.input_audio_transcription.logprobs"]
    audio = {"input": {"transcription": transcription, "turn_detection": None}}
    call.client("session.update", session={"type": "realtime", "audio": audio, "include": include})
    call.append(tone(1000))
    call.client("input_audio_buffer.commit")
    job = call.one(do.Transcribe)
    transcript = Transcript("Go on.", "en", 1.0, (Word("Go", 0.1, 0.3, 0.5), Word("on.", 0.3, 0.6, 1.0)))
    types = call.result(ev.TranscriptReady(job_id=job.job_id, transcript=transcript))
    assert [name.rsplit(".")[-1] for name in types] == ["segment", "delta", "completed"]
    assert [call.events[0][name] for name in ("speaker", "start", "end")] == ["A", 0.1, 0.6]
    assert call.events[1]["logprobs"] == call.events[2]["logprobs"]
    logprobs = call.events[2]["logprobs"]
    assert logprobs[0] == {"token": "Go", "logprob": math.log(0.5), "bytes": [71, 111]}


def test_an_answer_that_was_asked_for_comes_even_to_noise() -> None:
    call = TestCall()
    listen_off = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
    call.client("session.update", session=listen_off)
    call.append(tone(300))
    call.client("input_audio_buffer.commit")
    job = call.one(do.Transcribe)
    response_id = call.ask()
    call.recognise(job.job_id, "")
    assert call.one(do.StartReply).response_id == response_id


def test_truncating_an_answer_that_still_comes_leaves_its_done_event_whole() -> None:
    call = TestCall()
    response_id = call.ask()
    call.result(ev.ReplyText(response_id=response_id, text="One two three four "))
    call.result(ev.ReplyAudio(response_id=response_id, pcm_24khz=tone(1000)))
    item_id = call.said[-1]["item_id"]
    call.client("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=500)
    call.result(ev.ReplyText(response_id=response_id, text="five."))
    call.result(ev.ReplyFinished(response_id=response_id, reason="stop"))
    done = next(event for event in call.events if event["type"] == "response.output_audio_transcript.done")
    assert done["transcript"] == "One two three four five."


def fill(call: TestCall, count: int) -> None:
    for number in range(count):
        call.type_in(f"{number} " + "word " * 80)


def context(call: TestCall) -> list[str]:
    return [message.text.split()[0] for message in call.one(do.StartReply).request.messages[1:]]


def test_the_oldest_words_go_when_the_model_can_take_no_more() -> None:
    call = TestCall(limits=Limits(context_tokens=1024 + 320))
    fill(call, 10)
    call.ask()
    assert context(call) == ["7", "8", "9"]


def test_a_cut_leaves_the_share_that_was_asked_for_and_stays() -> None:
    call = TestCall(limits=Limits(context_tokens=1024 + 650))
    ratio = {"type": "retention_ratio", "retention_ratio": 0.5}
    call.client("session.update", session={"type": "realtime", "truncation": ratio})
    fill(call, 10)
    response_id = call.ask()
    assert context(call) == ["7", "8", "9"]
    call.answer(response_id, "Fine.", audio_ms=20)
    call.type_in("10 more")
    call.ask()
    assert context(call) == ["7", "8", "9", "Fine.", "10"]


def test_a_conversation_that_may_not_be_cut_fails_when_it_is_too_long() -> None:
    call = TestCall(limits=Limits(context_tokens=1024 + 320))
    call.client("session.update", session={"type": "realtime", "truncation": "disabled"})
    fill(call, 10)
    types = call.client("response.create")
    assert types == ["response.created", "response.done", "rate_limits.updated"]
    assert call.events[1]["response"]["status_details"]["error"]["code"] == "context_length_exceeded"


def test_tokens_are_counted_as_the_provider_counts_them() -> None:
    measure = TokenMeasure()
    assert measure.count(400) == 100
    measure.learn(1000, 500)
    assert measure.count(400) == 200
    measure.learn(10, 100)
    assert measure.count(400) == 200
