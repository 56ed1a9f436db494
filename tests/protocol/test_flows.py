"""The documented flows, event by event, in their exact order."""

import base64

import numpy as np

from realtime.protocol import effects as do
from realtime.protocol import events as ev
from tests.protocol.call import SILENCE, SPEECH, TestCall, tone

TEXT_ANSWER = [
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]
SPOKEN_ANSWER = [
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]
COMMITTED = ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]


def test_a_call_opens_with_the_effective_session() -> None:
    call = TestCall()
    [event] = call.said
    assert event["type"] == "session.created"
    assert event["session"]["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 500
    assert event["session"]["instructions"] == "Be brief."
    assert call.one(do.OpenListening)


def test_a_typed_question_gets_a_written_answer() -> None:
    call = TestCall()
    item_id = call.type_in("Hello?")
    assert [event["type"] for event in call.events] == ["conversation.item.added", "conversation.item.done"]
    assert call.events[0]["previous_item_id"] is None
    response_id = call.ask(output_modalities=["text"], metadata={"topic": "test"})
    start = call.one(do.StartReply)
    assert [(m.role, m.text) for m in start.request.messages] == [("system", "Be brief."), ("user", "Hello?")]
    assert call.answer(response_id, "Hi.") == TEXT_ANSWER
    done = call.events[-2]["response"]
    assert done["status"] == "completed"
    assert done["metadata"] == {"topic": "test"}
    assert done["output"][0]["content"] == [{"type": "output_text", "text": "Hi."}]
    assert done["usage"]["output_token_details"] == {"text_tokens": 3, "audio_tokens": 0}
    added = next(e for e in call.said if e["type"] == "conversation.item.added" and e["item"]["role"] == "assistant")
    assert added["previous_item_id"] == item_id
    assert added["item"]["content"] == []


def test_a_spoken_answer_climbs_the_audio_ladder() -> None:
    call = TestCall()
    call.type_in("Hello?")
    response_id = call.ask()
    assert call.answer(response_id, "Hi.", audio_ms=100) == SPOKEN_ANSWER
    done = call.events[-2]["response"]
    assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": "Hi."}]
    assert done["usage"]["output_token_details"] == {"text_tokens": 3, "audio_tokens": 2}


def test_audio_deltas_are_at_most_200_ms_and_complete() -> None:
    call = TestCall()
    response_id = call.ask()
    call.answer(response_id, "Hi.", audio_ms=1234)
    deltas = [base64.b64decode(e["delta"]) for e in call.said if e["type"] == "response.output_audio.delta"]
    assert max(len(delta) for delta in deltas) == 200 * 48
    assert b"".join(deltas) == tone(1234).tobytes()


def test_speech_and_silence_make_a_turn_that_is_answered() -> None:
    call = TestCall()
    assert call.hear(640, SILENCE) == []
    assert call.hear(640, SPEECH) == ["input_audio_buffer.speech_started"]
    started = call.said[-1]
    assert started["audio_start_ms"] == 340
    types = call.hear(512, SILENCE)
    assert types == ["input_audio_buffer.speech_stopped", *COMMITTED, "response.created"]
    assert {event["item_id"] for event in call.said if "speech" in event["type"]} == {started["item_id"]}
    assert call.said[-2]["item"]["id"] == started["item_id"]
    assert call.all(do.StartReply) == []


def test_the_recogniser_starts_in_the_pause_and_its_words_wait_for_the_end_of_the_turn() -> None:
    call = TestCall()
    call.hear(640, SPEECH)
    call.hear(128, SILENCE)
    job = call.one(do.Transcribe)
    assert 640 + 64 <= len(job.pcm_24khz) / 24 <= 640 + 128
    assert call.recognise(job.job_id, "Go forward.") == []
    types = call.hear(512, SILENCE)
    assert types[-1] == "response.created"
    start = call.one(do.StartReply)
    assert start.request.messages[-1].text == "Go forward."
    assert call.all(do.Transcribe) == []


def test_speech_that_goes_on_throws_the_early_words_away() -> None:
    call = TestCall()
    call.hear(640, SPEECH)
    call.hear(128, SILENCE)
    early = call.one(do.Transcribe)
    call.hear(320, SPEECH)
    assert call.one(do.DropTranscription).job_id == early.job_id
    call.hear(512, SILENCE)
    late = call.one(do.Transcribe)
    assert len(late.pcm_24khz) > len(early.pcm_24khz)
    assert call.recognise(early.job_id, "half") == []
    call.recognise(late.job_id, "all of it")
    assert call.one(do.StartReply).request.messages[-1].text == "all of it"


def test_transcription_events_follow_when_the_session_asks_for_them() -> None:
    call = TestCall()
    call.client("session.update", session={"type": "realtime", "audio": {"input": {"transcription": {}}}})
    call.hear(640, SPEECH)
    call.hear(512, SILENCE)
    job = call.one(do.Transcribe)
    types = call.recognise(job.job_id, "Go forward.")
    prefix = "conversation.item.input_audio_transcription."
    assert types == [prefix + "delta", prefix + "completed"]
    assert call.events[1]["transcript"] == "Go forward."
    assert call.events[1]["usage"] == {"type": "duration", "seconds": 2}


def test_speech_during_an_answer_ends_it_and_gets_its_own() -> None:
    call = TestCall()
    call.type_in("Tell me a story.")
    response_id = call.ask()
    call.result(ev.ReplyBegan(response_id=response_id))
    call.result(ev.ReplyText(response_id=response_id, text="Once upon a time "))
    call.result(ev.ReplyAudio(response_id=response_id, pcm_24khz=tone(1000)))
    types = call.hear(640, SPEECH)
    assert types == [
        "input_audio_buffer.speech_started",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    assert call.one(do.CancelReply).response_id == response_id
    done = call.said[-2]["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert done["output"][0]["status"] == "incomplete"
    assert call.result(ev.ReplyText(response_id=response_id, text="there was")) == []
    item_id = done["output"][0]["id"]
    assert call.client("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=600) == [
        "conversation.item.truncated"
    ]
    call.hear(512, SILENCE)
    job = call.one(do.Transcribe)
    call.recognise(job.job_id, "Stop.")
    said = [(m.role, m.text) for m in call.one(do.StartReply).request.messages]
    assert said[-2:] == [("assistant", "Once upon"), ("user", "Stop.")]


def test_speech_leaves_an_answer_alone_when_the_session_says_so_and_is_answered_after_it() -> None:
    call = TestCall()
    vad = {"type": "server_vad", "interrupt_response": False}
    call.client("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": vad}}})
    response_id = call.ask()
    assert call.hear(640, SPEECH) == ["input_audio_buffer.speech_started"]
    assert call.hear(512, SILENCE) == ["input_audio_buffer.speech_stopped", *COMMITTED]
    types = call.answer(response_id, "Done.", audio_ms=40)
    assert types[-3:] == ["response.done", "rate_limits.updated", "response.created"]


def test_noise_gets_no_answer() -> None:
    call = TestCall()
    call.hear(640, SPEECH)
    call.hear(512, SILENCE)
    types = call.recognise(call.one(do.Transcribe).job_id, "")
    assert types == ["response.done", "rate_limits.updated"]
    assert call.said[-2]["response"]["output"] == []
    assert call.all(do.StartReply) == []


def test_noise_that_interrupted_an_answer_owes_one() -> None:
    call = TestCall()
    response_id = call.ask()
    call.result(ev.ReplyText(response_id=response_id, text="Once upon a time "))
    call.hear(640, SPEECH)
    call.hear(512, SILENCE)
    call.recognise(call.one(do.Transcribe).job_id, "")
    assert call.one(do.StartReply).request.messages[-1].text == "[inaudible]"


def test_noise_that_interrupted_an_answer_before_its_first_word_has_the_question_answered() -> None:
    call = TestCall()
    call.type_in("When are you open?")
    call.ask()
    call.hear(640, SPEECH)
    call.hear(512, SILENCE)
    call.recognise(call.one(do.Transcribe).job_id, "")
    assert call.one(do.StartReply).request.messages[-1].text == "When are you open?"


def test_lost_words_still_get_an_answer() -> None:
    call = TestCall()
    call.client("session.update", session={"type": "realtime", "audio": {"input": {"transcription": {}}}})
    call.hear(640, SPEECH)
    call.hear(512, SILENCE)
    job = call.one(do.Transcribe)
    types = call.result(ev.TranscriptFailed(job_id=job.job_id, code="stt_timeout", message="Too late."))
    assert types == ["conversation.item.input_audio_transcription.failed"]
    assert call.events[0]["error"]["code"] == "stt_timeout"
    assert call.one(do.StartReply).request.messages[-1].text == "[inaudible]"


def test_a_manual_commit_makes_an_item_and_no_answer() -> None:
    call = TestCall()
    call.client("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
    assert call.one(do.CloseListening)
    assert call.append(tone(500)) == []
    assert call.client("input_audio_buffer.commit") == COMMITTED
    job = call.one(do.Transcribe)
    assert np.array_equal(job.pcm_24khz, tone(500))
    response_id = call.ask()
    assert call.all(do.StartReply) == []
    call.recognise(job.job_id, "Hello.")
    assert call.one(do.StartReply).response_id == response_id


def test_cancel_ends_an_answer_with_what_was_said() -> None:
    call = TestCall()
    response_id = call.ask(output_modalities=["text"])
    call.result(ev.ReplyText(response_id=response_id, text="Well"))
    assert call.client("response.cancel") == [*TEXT_ANSWER[4:]]
    assert call.events[-2]["response"]["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert call.events[0]["text"] == "Well"


def test_function_calls_stream_their_arguments_and_take_their_output() -> None:
    call = TestCall()
    tools = [{"type": "function", "name": "add", "parameters": {"type": "object"}}]
    call.client("session.update", session={"type": "realtime", "tools": tools})
    call.type_in("Add.")
    response_id = call.ask()
    assert call.one(do.StartReply).request.tools[0]["name"] == "add"
    types = []
    for piece in (
        ev.ReplyToolCall(response_id=response_id, index=0, call_id="call_a", name="add", arguments='{"a"'),
        ev.ReplyToolCall(response_id=response_id, index=0, arguments=":1}"),
        ev.ReplyToolCall(response_id=response_id, index=1, call_id="call_b", name="add", arguments="{}"),
        ev.ReplyFinished(response_id=response_id, reason="tool_calls"),
    ):
        types += call.result(piece)
    one = ["response.output_item.added", "conversation.item.added", "response.function_call_arguments.delta"]
    end = ["response.function_call_arguments.done", "conversation.item.done", "response.output_item.done"]
    assert types == [*one, one[2], *end, *one, *end, "response.done", "rate_limits.updated"]
    done = next(e for e in call.said if e["type"] == "response.function_call_arguments.done")
    assert (done["name"], done["arguments"]) == ("add", '{"a":1}')
    ids = [e["call_id"] for e in call.said if e["type"] == "response.function_call_arguments.done"]
    for call_id in ids:
        output = {"type": "function_call_output", "call_id": call_id, "output": "3"}
        assert call.client("conversation.item.create", item=output) == [
            "conversation.item.added",
            "conversation.item.done",
        ]
    call.ask()
    messages = call.one(do.StartReply).request.messages
    assert [len(m.tool_calls) for m in messages] == [0, 0, 2, 0, 0]
    assert [m.tool_call_id for m in messages[-2:]] == ids


def test_out_of_band_answers_run_beside_and_leave_no_trace() -> None:
    call = TestCall()
    call.type_in("Hello?")
    main = call.ask(output_modalities=["text"])
    aside = call.ask(conversation="none", output_modalities=["text"], input=[], metadata={"n": "1"})
    assert call.events[0]["response"]["conversation_id"] is None
    types = call.answer(aside, "Aside.")
    assert not [name for name in types if name.startswith("conversation.")]
    assert call.answer(main, "Main.")[-2] == "response.done"
    call.ask()
    assert "Aside." not in [m.text for m in call.one(do.StartReply).request.messages]


def test_a_failed_model_fails_the_response_and_the_next_one_works() -> None:
    call = TestCall()
    response_id = call.ask()
    call.result(ev.ReplyFailed(response_id=response_id, code="llm_unavailable", message="No model."))
    details = call.events[-2]["response"]["status_details"]
    assert details["error"] == {"type": "server_error", "code": "llm_unavailable", "message": "No model."}
    assert call.answer(call.ask(), "Hi.", audio_ms=20) == SPOKEN_ANSWER


def test_a_token_cap_leaves_the_response_incomplete() -> None:
    call = TestCall()
    response_id = call.ask(max_output_tokens=1)
    assert call.one(do.StartReply).request.max_tokens == 1
    call.result(ev.ReplyText(response_id=response_id, text="We"))
    call.result(ev.ReplyFinished(response_id=response_id, reason="length"))
    done = call.events[-2]["response"]
    assert done["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    assert done["output"][0]["status"] == "incomplete"


def test_a_transcription_session_has_items_and_no_responses() -> None:
    call = TestCall(transcription=True)
    assert call.said[0]["session"]["type"] == "transcription"
    audio = {"input": {"transcription": {"model": "gpt-4o-transcribe", "language": "en"}}}
    call.client("session.update", session={"type": "transcription", "audio": audio})
    call.hear(640, SPEECH)
    types = call.hear(512, SILENCE)
    assert types == ["input_audio_buffer.speech_stopped", *COMMITTED]
    job = call.one(do.Transcribe)
    assert job.language == "en"
    assert call.recognise(job.job_id, "Hello.")[-1].endswith("completed")
    assert call.client("response.create") == ["error"]


def test_items_are_stored_when_they_are_complete_and_again_when_their_words_come() -> None:
    call = TestCall()
    call.hear(640, SPEECH)
    call.hear(512, SILENCE)
    stored = call.one(do.Store)
    assert stored.item["content"] == [{"type": "input_audio", "transcript": None}]
    assert stored.audio_ms > 1000
    response_id = call.said[-1]["response"]["id"]
    call.recognise(call.one(do.Transcribe).job_id, "Hello.")
    assert call.one(do.Store).item["content"][0]["transcript"] == "Hello."
    call.answer(response_id, "Hi.", audio_ms=100)
    assert call.one(do.Store).response_id == response_id
    assert call.one(do.Store).audio_ms == 100


def test_phone_formats_go_both_ways() -> None:
    call = TestCall()
    pcmu = {"format": {"type": "audio/pcmu"}}
    audio = {"input": {**pcmu, "turn_detection": None}, "output": pcmu}
    call.client("session.update", session={"type": "realtime", "audio": audio})
    call.result(ev.InputAudioAppend(audio=b"\xff" * 4000))
    call.client("input_audio_buffer.commit")
    heard = call.one(do.Transcribe)
    assert 11_500 <= len(heard.pcm_24khz) <= 12_000
    call.recognise(heard.job_id, "Hello?")
    call.answer(call.ask(), "Hi.", audio_ms=1000)
    sound = b"".join(base64.b64decode(e["delta"]) for e in call.said if e["type"] == "response.output_audio.delta")
    assert len(sound) == 8000
