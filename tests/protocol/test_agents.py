"""What an agent brings to a call: its greeting, what bridges a wait, guard rails, limits, voices, and its end."""

from dataclasses import replace
from typing import Any

import pytest

from agents.guard.rails import find_rail
from agents.spec import AgentLimits, AgentSpec, Filler, GuardRail
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Limits
from realtime.protocol.guarding import Gate
from speech.engines import Transcript
from tests.protocol.call import AGENT, SILENCE, SPEECH, TestCall, tone, tool

POLITE = replace(AGENT, greeting=" Good morning! ")
TEXT = {"output_modalities": ["text"]}


def remind(call: TestCall, kind: str) -> list[str]:
    [reminder] = [effect for effect in call.all(do.Remind) if effect.reminder_id.startswith(kind)]
    return call.result(ev.Reminded(reminder_id=reminder.reminder_id))


def update(call: TestCall, **fields: Any) -> list[str]:
    return call.client("session.update", session={"type": "realtime", **fields})


# ---- greeting ----


def test_the_agent_greets_once_a_client_had_time_to_set_the_session_up() -> None:
    call = TestCall(agent=POLITE)
    assert [event["type"] for event in call.said] == ["session.created"]
    assert call.one(do.Remind).after_ms == 300
    assert remind(call, "greeting") == ["response.created"]
    start = call.one(do.StartReply)
    assert (start.request, start.words, start.modality, start.voice) == (None, "Good morning!", "audio", "alloy")
    types = call.answer(start.response_id, "Good morning!", audio_ms=500)
    assert types[-2:] == ["response.done", "rate_limits.updated"]
    assert call.all(do.Store)[0].item["content"][0]["transcript"] == "Good morning!"
    call.type_in("Hello.")
    call.ask()
    assert [message.role for message in call.one(do.StartReply).request.messages] == ["system", "assistant", "user"]


def test_a_session_update_brings_the_greeting_as_it_asks_for_it() -> None:
    call = TestCall(agent=POLITE)
    reminder = call.one(do.Remind)
    assert update(call, **TEXT) == ["session.updated", "response.created"]
    assert call.one(do.StartReply).modality == "text"
    assert call.result(ev.Reminded(reminder_id=reminder.reminder_id)) == []
    assert update(call, instructions="x") == ["session.updated"]


def test_without_a_wait_the_greeting_is_the_first_thing_said() -> None:
    call = TestCall(agent=POLITE, limits=Limits(greeting_ms=0))
    assert [event["type"] for event in call.said] == ["session.created", "response.created"]


def test_a_caller_or_a_client_who_is_quicker_gets_an_answer_instead() -> None:
    for first in ("speech", "ask"):
        call = TestCall(agent=POLITE)
        reminder = call.one(do.Remind)
        if first == "speech":
            call.hear(160, SPEECH)
        else:
            call.answer(call.ask(), "Hi.")
        assert call.result(ev.Reminded(reminder_id=reminder.reminder_id)) == []


def test_a_greeting_can_be_interrupted() -> None:
    call = TestCall(agent=POLITE, limits=Limits(greeting_ms=0))
    call.result(ev.ReplyText(response_id=call.one(do.StartReply).response_id, text="Good morning!"))
    call.hear(160, SPEECH)
    assert call.done()["status_details"]["reason"] == "turn_detected"


def test_a_client_that_asks_first_is_answered_and_hears_no_error() -> None:
    call = TestCall(agent=POLITE, limits=Limits(greeting_ms=0))
    types = call.client("response.create")
    assert types == ["response.done", "rate_limits.updated", "response.created"]
    assert call.one(do.StartReply).request is not None


def test_nobody_is_greeted_in_a_transcription() -> None:
    assert TestCall(agent=POLITE, transcription=True).all(do.Remind) == []


# ---- bridging a wait ----

PATIENT = replace(AGENT, tools=(tool("lookup"),), filler=Filler(after_ms=1_000, phrases=("One moment.", "Still here.")))


def test_a_caller_who_waits_is_told_so_once_a_round() -> None:
    call = TestCall(agent=PATIENT)
    response_id = call.ask()
    call.result(ev.ReplyText(response_id=response_id, text="Let me see."))
    call.result(ev.ReplyAudio(response_id=response_id, pcm_24khz=tone(700)))
    call.call_tools(response_id, "lookup")
    run_id = call.one(do.RunTool).run_id
    assert call.one(do.Remind).after_ms == 1_700  # from when the last word was heard
    reminder = call.one(do.Remind)
    call.result(ev.Reminded(reminder_id=reminder.reminder_id))
    start = call.one(do.StartReply)
    assert (start.response_id, start.words, start.request) == (response_id, "One moment.", None)
    call.result(ev.ReplyText(response_id=response_id, text="One moment."))
    call.tool_answers(run_id, "x")
    assert call.all(do.StartReply) == []  # it is being said
    call.result(ev.ReplyFinished(response_id=response_id, reason="stop"))
    request = call.one(do.StartReply).request
    assert "One moment." not in [message.text for message in request.messages]
    assert call.result(ev.Reminded(reminder_id=reminder.reminder_id)) == []
    call.call_tools(response_id, "lookup")
    remind(call, "filler")
    assert call.one(do.StartReply).words == "Still here."


def test_tools_that_are_quick_are_bridged_by_nothing() -> None:
    call = TestCall(agent=PATIENT)
    response_id = call.ask()
    call.call_tools(response_id, "lookup")
    reminder = call.one(do.Remind)
    call.tool_answers(call.one(do.RunTool).run_id, "x")
    assert call.result(ev.Reminded(reminder_id=reminder.reminder_id)) == []
    assert call.all(do.StartReply) == []


def test_who_reads_is_not_told_to_wait() -> None:
    call = TestCall(agent=PATIENT)
    call.call_tools(call.ask(**TEXT), "lookup")
    assert call.all(do.Remind) == []


def test_a_bridge_that_fails_is_silence() -> None:
    call = TestCall(agent=PATIENT)
    response_id = call.ask()
    call.call_tools(response_id, "lookup")
    run_id = call.one(do.RunTool).run_id
    remind(call, "filler")
    assert call.result(ev.ReplyFailed(response_id=response_id, code="tts", message="No.")) == []
    call.tool_answers(run_id, "x")
    assert call.one(do.StartReply).request is not None


# ---- guard rails ----

CAREFUL = replace(
    AGENT,
    guard_rails=(
        GuardRail("law", "input", "I give no legal advice.", ("legal advice", "sue", "起诉")),
        GuardRail("rivals", "output", "I speak for us alone.", ("Acme Corp",)),
        GuardRail("abuse", "input", "Goodbye.", ("idiot",), then="end_call"),
    ),
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Can I SUE them?", "law"),
        ("I need legal\n advice", "law"),
        ("Sue's issue is pursued.", "law"),
        ("the issue", None),
        ("", None),
        ("idiotic", None),
        ("acme corp", None),
        ("我要起诉他们。", "law"),
    ],
)
def test_phrases_are_whole_words_in_any_case(text: str, found: str | None) -> None:
    rail = find_rail(CAREFUL.guard_rails, "input", text)
    assert (rail and rail.name) == found


def test_a_model_is_not_asked_what_it_must_not_be_asked() -> None:
    call = TestCall(agent=CAREFUL)
    call.type_in("May I sue?")
    response_id = call.ask()
    start = call.one(do.StartReply)
    assert (start.request, start.words) == (None, "I give no legal advice.")
    call.answer(response_id, "I give no legal advice.")
    assert call.done()["status"] == "completed"
    call.type_in("Then what are your hours?")
    call.ask()
    assert call.one(do.StartReply).request is not None


def test_history_that_a_client_brings_is_not_asked_again() -> None:
    call = TestCall(agent=CAREFUL)
    call.type_in("May I sue?")
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "No."}]}
    call.client("conversation.item.create", item=said)
    call.type_in("What are your hours?")
    call.ask()
    assert call.one(do.StartReply).request is not None
    assert call.session.outcomes()[0].turns == 1


def test_spoken_words_are_seen_too_and_may_end_the_call() -> None:
    call = TestCall(agent=CAREFUL)
    call.hear(640, SPEECH)
    call.hear(512, SILENCE)
    call.recognise(call.one(do.Transcribe).job_id, "You idiot!")
    start = call.one(do.StartReply)
    assert start.words == "Goodbye."
    call.answer(start.response_id, "Goodbye.", audio_ms=900)
    close = call.one(do.Close)
    assert (close.code, close.reason, close.after_ms) == (1000, "agent_ended", 900)


def test_a_phrase_that_must_not_be_said_is_not_and_other_words_follow() -> None:
    call = TestCall(agent=CAREFUL)
    response_id = call.ask()
    call.result(ev.ReplyText(response_id=response_id, text="You could "))
    call.result(ev.ReplyAudio(response_id=response_id, pcm_24khz=tone(100)))
    types = call.result(ev.ReplyText(response_id=response_id, text="ask Acme Corp."))
    assert types[-3:] == ["response.done", "rate_limits.updated", "response.created"]
    done = call.done()
    assert (done["status"], done["status_details"]) == (
        "incomplete",
        {"type": "incomplete", "reason": "content_filter"},
    )
    assert done["output"][0]["content"][0]["transcript"] == "You could "
    assert call.one(do.CancelReply).response_id == response_id
    start = call.one(do.StartReply)
    assert start.words == "I speak for us alone."
    assert call.result(ev.ReplyAudio(response_id=response_id, pcm_24khz=tone(100))) == []


def test_written_words_are_held_back_no_longer_than_they_may_be_forbidden() -> None:
    call = TestCall(agent=CAREFUL)
    response_id = call.ask(**TEXT)
    for token in ("You could ", "of course ", "also ask ", "Ac", "me C", "orp", "."):
        call.result(ev.ReplyText(response_id=response_id, text=token))
    told = "".join(event["delta"] for event in call.said if event["type"] == "response.output_text.delta")
    assert told == "You could of course "[: len(told)]
    assert told
    assert call.done()["status"] == "incomplete"
    second = call.ask(conversation="none", **TEXT)
    for token in ("A long ", "story ", "with a ", "good ", "end."):
        call.result(ev.ReplyText(response_id=second, text=token))
    call.result(ev.ReplyFinished(response_id=second, reason="stop"))
    assert call.done()["output"][0]["content"][0]["text"] == "A long story with a good end."


def test_personal_data_is_found_in_what_is_said_and_written() -> None:
    rails = (GuardRail("cards", "output", "I cannot say that.", detects=("card_number",)),)
    call = TestCall(agent=replace(AGENT, guard_rails=rails))
    response_id = call.ask(**TEXT)
    for token in ("The number of your card is, ", "as I have it here before me, ", "4111", " 1111 11", "11 1111."):
        call.result(ev.ReplyText(response_id=response_id, text=token))
    call.result(ev.ReplyFinished(response_id=response_id, reason="stop"))
    said = "".join(event["delta"] for event in call.said if event["type"] == "response.output_text.delta")
    assert "1" not in said
    assert call.one(do.StartReply).words == "I cannot say that."


def test_a_gate_lets_every_other_word_through_whole() -> None:
    gate = Gate(CAREFUL)
    told = ""
    for letter in "Acme Corporate is fine, and so is acmecorp; acme  corp is not.":
        text, rail = gate.write(letter)
        told += text
        if rail is not None:
            break
    assert rail is not None
    assert "Acme Corporate is fine".startswith(told[:22])
    assert not told.endswith("acm")


def test_a_gate_holds_no_more_than_it_must_where_words_have_no_spaces() -> None:
    gate = Gate(CAREFUL)
    told = "".join(gate.write("我们的营业时间是早上九点到晚上六点")[0] for _ in range(5))
    assert len(told) > 40
    assert told + gate.end()[0] == "我们的营业时间是早上九点到晚上六点" * 5


def test_beside_the_conversation_forbidden_words_end_the_response() -> None:
    call = TestCall(agent=CAREFUL)
    response_id = call.ask(conversation="none")
    types = call.result(ev.ReplyText(response_id=response_id, text="Acme Corp."))
    assert types[-2:] == ["response.done", "rate_limits.updated"]
    assert call.all(do.StartReply) == []


# ---- the end of the call ----

ENDING = replace(AGENT, tools=(tool("end_call", kind="builtin", server_label="builtin"),))


def test_an_agent_ends_the_call_after_what_it_said_was_heard() -> None:
    call = TestCall(agent=ENDING)
    response_id = call.ask()
    call.result(ev.ReplyText(response_id=response_id, text="Goodbye!"))
    call.result(ev.ReplyAudio(response_id=response_id, pcm_24khz=tone(1200)))
    types = call.call_tools(response_id, "end_call")
    assert types[-2:] == ["response.done", "rate_limits.updated"]
    assert [item["type"] for item in call.done()["output"]] == ["message", "mcp_call"]
    assert call.one(do.Close) == do.Close(1000, "agent_ended", 1200)
    assert call.client("response.create") == ["error"]
    assert call.events[0]["error"]["code"] == "session_ending"
    call.hear(640, SPEECH)
    types = call.hear(512, SILENCE)
    assert "input_audio_buffer.committed" in types
    assert "response.created" not in types


def test_an_agent_that_ends_without_a_word_is_asked_for_one() -> None:
    call = TestCall(agent=ENDING)
    response_id = call.ask()
    call.call_tools(response_id, "end_call")
    assert call.all(do.Close) == []
    assert call.one(do.StartReply).request.tool_choice == "none"
    call.answer(response_id, "Bye.", audio_ms=300)
    assert call.one(do.Close).after_ms == 300


def test_an_agent_that_has_no_last_word_ends_the_call_all_the_same() -> None:
    call = TestCall(agent=ENDING)
    response_id = call.ask()
    call.call_tools(response_id, "end_call")
    call.call_tools(response_id, "end_call")
    assert call.one(do.Close).after_ms == 0


def test_a_caller_who_interrupts_the_goodbye_is_heard() -> None:
    call = TestCall(agent=ENDING)
    response_id = call.ask()
    call.call_tools(response_id, "end_call")
    call.result(ev.ReplyText(response_id=response_id, text="Bye."))
    call.hear(160, SPEECH)
    assert call.all(do.Close) == []
    call.hear(512, SILENCE)
    [job_id] = call.session.ear.recognition.jobs
    call.recognise(job_id, "Wait!")
    assert call.one(do.StartReply).request is not None


def test_the_last_turn_ends_the_call() -> None:
    call = TestCall(agent=replace(AGENT, limits=AgentLimits(turns=2)))
    call.type_in("One.")
    call.answer(call.ask(), "1")
    assert call.all(do.Close) == []
    call.type_in("Two.")
    call.answer(call.ask(), "2")
    assert call.one(do.Close).code == 1000


def test_a_turn_beyond_the_last_is_not_answered() -> None:
    call = TestCall(agent=replace(AGENT, limits=AgentLimits(turns=1)))
    call.type_in("One.")
    call.ask()
    call.client("response.cancel")
    assert call.all(do.Close) == []
    call.type_in("Two.")
    call.client("response.create")
    assert call.all(do.StartReply) == []
    assert call.one(do.Close).code == 1000


# ---- what only some transports can do ----

LINE = replace(AGENT, tools=(tool("transfer_call", kind="builtin"), tool("send_dtmf", kind="builtin")))


def test_what_the_transport_cannot_do_is_the_clients_function() -> None:
    call = TestCall(agent=LINE, abilities=frozenset({"send_dtmf"}))
    response_id = call.ask()
    call.call_tools(response_id, "transfer_call", "send_dtmf")
    assert call.one(do.RunTool).tool.name == "send_dtmf"
    assert [item.type for item in call.session.call.conversation] == ["function_call", "mcp_call"]


# ---- voices and prompts ----


def test_the_voice_follows_the_callers_language() -> None:
    agent = replace(AGENT, voices={"de": "coral"})
    call = TestCall(agent=agent)

    def answer(language: str) -> str:
        call.hear(640, SPEECH)
        call.hear(512, SILENCE)
        transcript = Transcript(text="Hallo.", language=language, audio_s=1.0)
        [job_id] = call.session.ear.recognition.jobs
        call.result(ev.TranscriptReady(job_id=job_id, transcript=transcript))
        start = call.one(do.StartReply)
        call.answer(start.response_id, "Ja?", audio_ms=32)
        assert call.done()["audio"]["output"]["voice"] == start.voice
        return str(start.voice)

    assert [answer("de"), answer("en"), answer("de")] == ["coral", "alloy", "coral"]
    call.ask(audio={"output": {"voice": "ash"}})
    assert call.one(do.StartReply).voice == "ash"


def test_a_stored_prompt_is_in_the_place_of_instructions() -> None:
    call = TestCall()
    prompt = {"id": "billing", "version": "3", "variables": {"caller.name": "Ann"}}
    call.result(ev.SessionUpdate(session={"type": "realtime", "prompt": prompt}, instructions="Be Ann's."))
    shown = call.events[0]["session"]
    assert (shown["prompt"], shown["instructions"]) == (prompt, "Be Ann's.")
    own = {"type": "realtime", "prompt": prompt, "instructions": "Mine."}
    call.result(ev.SessionUpdate(session=own, instructions="Be Ann's."))
    assert call.events[0]["session"]["instructions"] == "Mine."
    call.result(ev.SessionUpdate(session={"type": "realtime", "prompt": None}))
    assert call.events[0]["session"]["instructions"] == "Be brief."
    call.result(ev.ResponseCreate(response={"prompt": prompt}, instructions="Once."))
    assert call.one(do.StartReply).request.messages[0].text == "Once."
    call.client("response.cancel")
    call.result(ev.ResponseCreate(response={"prompt": prompt, "instructions": "Mine."}, instructions="Once."))
    assert call.one(do.StartReply).request.messages[0].text == "Mine."


def test_an_agents_models_are_asked() -> None:
    from agents.llm.providers import ModelRef

    spec = AgentSpec(slug="a", name="A", instructions="", models=(ModelRef(None, "m"),))
    call = TestCall(agent=spec)
    call.ask()
    assert call.one(do.StartReply).request.models == spec.models
