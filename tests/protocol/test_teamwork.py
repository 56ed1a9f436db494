"""Several agents on one call: hand-offs, consultations, routing, and what comes of each."""

from dataclasses import replace
from typing import Any

from agents.spec import AgentSpec, Colleague, Rule
from realtime.archive.events import Outcome
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Limits
from speech.engines import Transcript
from tests.protocol.call import AGENT, SILENCE, SPEECH, TestCall, tool

PAINT = {"type": "function", "name": "paint"}
BILL = {"type": "function", "name": "bill"}
BILLING = AgentSpec(
    slug="billing", name="Billing", instructions="You know bills.", voice="echo", greeting="Billing!", version=4,
    trial="trial_1", functions=(BILL,), tools=(tool("invoices"),), turn_detection={"type": "semantic_vad"},
)  # fmt: skip
FRONT = replace(
    AGENT,
    slug="front",
    name="Front desk",
    version=2,
    functions=(PAINT,),
    tools=(tool("hours"),),
    colleagues=(Colleague("billing", when="It is about a bill.", returns=True), Colleague("lawyer", mode="consult")),
)
TEXT = {"output_modalities": ["text"]}


def desk(**fields: Any) -> TestCall:
    return TestCall(agent=FRONT, **fields)


def functions(call: TestCall) -> list[str]:
    return [each["name"] for each in call.one(do.StartReply).request.tools]


def handed_over(call: TestCall, response_id: str, reason: str = "") -> list[str]:
    call.call_tools(response_id, "hand_off_to_billing", arguments=f'{{"reason":"{reason}"}}')
    return call.result(ev.HandedOff(run_id=call.one(do.HandOff).run_id, agent=BILLING))


def test_a_hand_off_ends_one_response_and_begins_another_with_the_new_agent() -> None:
    call = desk()
    call.type_in("My bill is wrong.")
    response_id = call.ask()
    assert functions(call) == ["paint", "hours", "hand_off_to_billing", "consult_lawyer"]
    types = handed_over(call, response_id, "A wrong bill.")
    assert types == [
        "response.mcp_call.completed", "conversation.item.done", "response.output_item.done", "response.done",
        "rate_limits.updated", "session.updated", "response.created",
    ]  # fmt: skip
    session = call.events[5]["session"]
    assert (session["instructions"], session["audio"]["output"]["voice"]) == ("You know bills.", "echo")
    assert session["tools"] == [BILL]
    assert session["audio"]["input"]["turn_detection"]["type"] == "semantic_vad"
    assert call.events[6]["response"]["audio"]["output"]["voice"] == "echo"
    start = call.one(do.StartReply)
    assert (start.voice, start.words) == ("echo", "")
    assert functions(call) == ["bill", "invoices", "hand_off_to_front"]
    told = start.request.messages
    assert told[0].text == "You know bills."
    assert [message.role for message in told] == ["system", "user", "system"]
    assert told[2].text == (
        "Front desk has handed this call over to Billing, who answers from here on. Front desk says: A wrong bill. "
        "Go on where the conversation stands; do not greet the caller again."
    )
    stored = next(each for each in call.all(do.Store) if each.item["type"] == "mcp_call")
    assert (stored.item["output"], stored.agent, stored.agent_version) == ("Billing goes on with the call.", "front", 2)
    call.answer(start.response_id, "I see.")
    assert (call.all(do.Store)[0].agent, call.all(do.Store)[0].agent_version) == ("billing", 4)


def test_the_voice_changes_although_the_assistant_has_spoken() -> None:
    call = desk()
    call.answer(call.ask(), "Hello.", audio_ms=200)
    handed_over(call, call.ask())
    assert call.one(do.StartReply).voice == "echo"
    call.client("session.update", session={"type": "realtime", "audio": {"output": {"voice": "alloy"}}})
    assert call.events[0]["error"]["code"] == "cannot_update_voice"


def test_what_the_client_set_itself_stays() -> None:
    call = desk()
    call.client(
        "session.update",
        session={
            "type": "realtime",
            "tools": [PAINT, {"type": "function", "name": "scroll"}],
            "audio": {"input": {"turn_detection": None}, "output": {"speed": 1.2}},
        },
    )
    handed_over(call, call.ask())
    wire = call.session.call.config.wire
    assert [each["name"] for each in wire["tools"]] == ["scroll", "bill"]
    assert wire["audio"]["input"]["turn_detection"] is None
    assert wire["audio"]["output"]["speed"] == 1.2


def test_the_call_can_come_back_and_the_first_agent_is_who_it_was() -> None:
    call = desk()
    handed_over(call, call.ask())
    response_id = call.one(do.StartReply).response_id
    call.call_tools(response_id, "hand_off_to_front")
    effect = call.one(do.HandOff)
    assert effect.agent == "front"
    newer = replace(FRONT, version=3, instructions="Newer.")
    call.result(ev.HandedOff(run_id=effect.run_id, agent=newer))
    assert call.session.call.agent is FRONT
    assert "hand_off_to_billing" in functions(call)
    assert "hand_off_to_front" not in functions(call)


def test_a_hand_off_that_fails_leaves_the_agent_in_place() -> None:
    call = desk()
    response_id = call.ask()
    call.call_tools(response_id, "hand_off_to_billing")
    types = call.result(ev.HandOffFailed(run_id=call.one(do.HandOff).run_id, message="Nobody is there."))
    assert types[0] == "response.mcp_call.failed"
    start = call.one(do.StartReply)
    assert start.response_id == response_id
    assert start.request.messages[-1].text == "Error: Nobody is there."
    assert call.session.call.agent is FRONT


def test_only_one_hand_off_at_a_time_and_the_other_tools_are_awaited() -> None:
    call = desk()
    response_id = call.ask()
    call.call_tools(response_id, "hours", "hand_off_to_billing", "hand_off_to_billing")
    assert len(call.all(do.HandOff)) == 1
    assert "response.done" not in call.result(ev.HandedOff(run_id=call.one(do.HandOff).run_id, agent=BILLING))
    run_id = next(iter(call.session.call.conversation)).id
    types = call.tool_answers(run_id, "9 to 5")
    assert types[-2:] == ["session.updated", "response.created"]


def test_a_hand_off_beside_a_clients_function_waits_for_the_client() -> None:
    call = desk()
    response_id = call.ask()
    call.call_tools(response_id, "paint", "hand_off_to_billing")
    types = call.result(ev.HandedOff(run_id=call.one(do.HandOff).run_id, agent=BILLING))
    assert types[-1] == "session.updated"
    call.ask()
    assert call.one(do.StartReply).request.messages[0].text == "You know bills."


def test_a_caller_who_interrupts_keeps_the_agent() -> None:
    call = desk()
    call.call_tools(call.ask(), "hand_off_to_billing")
    run_id = call.one(do.HandOff).run_id
    call.hear(160, SPEECH)
    assert call.one(do.CancelTool).run_id == run_id
    assert call.result(ev.HandedOff(run_id=run_id, agent=BILLING)) == []
    assert call.session.call.agent is FRONT


def test_agents_cannot_pass_a_caller_round_for_ever() -> None:
    call = desk(limits=Limits(hand_offs=2))
    call.type_in("Hello?")
    response_id = call.ask()
    for slug, agent in (("billing", BILLING), ("front", FRONT)):
        call.call_tools(response_id, f"hand_off_to_{slug}")
        call.result(ev.HandedOff(run_id=call.one(do.HandOff).run_id, agent=agent))
        response_id = call.one(do.StartReply).response_id
    types = call.call_tools(response_id, "hand_off_to_billing")
    assert call.all(do.HandOff) == []
    assert "response.mcp_call.failed" in types
    call.answer(response_id, "Then I will help.")
    call.type_in("Thanks. And my bill?")
    call.call_tools(call.ask(), "hand_off_to_billing")
    assert call.one(do.HandOff).agent == "billing"


def test_a_consultation_is_a_tool_like_any_other() -> None:
    call = desk()
    response_id = call.ask()
    call.call_tools(response_id, "consult_lawyer", arguments='{"question":"May we?"}')
    run = call.one(do.RunTool)
    assert (run.tool.kind, run.tool.config) == ("consult", "lawyer")
    assert run.tool.parameters["required"] == ["question"]
    call.tool_answers(run.run_id, "You may.")
    assert call.one(do.StartReply).response_id == response_id


def test_hand_offs_have_no_place_beside_the_conversation() -> None:
    call = desk()
    call.ask(conversation="none")
    assert functions(call) == ["paint", "hours", "consult_lawyer"]


# ---- routing ----

RULES = (Rule("bills", "billing", intent="A bill."),)


def test_the_first_words_choose_who_answers() -> None:
    call = desk(rules=RULES)
    call.type_in("It is about a bill.")
    response_id = call.ask()
    assert call.one(do.Route).text == "It is about a bill."
    assert call.all(do.StartReply) == []
    assert call.result(ev.Routed(agent=BILLING)) == ["session.updated"]
    start = call.one(do.StartReply)
    assert (start.response_id, start.voice) == (response_id, "echo")
    assert start.request.messages[0].text == "You know bills."
    call.answer(response_id, "Yes?", audio_ms=100)
    assert call.done()["audio"]["output"]["voice"] == "echo"
    assert call.session.outcomes() == (
        Outcome(agent="front", agent_version=2),
        Outcome(agent="billing", agent_version=4, trial="trial_1", turns=1, answers=1),
    )
    call.type_in("Another bill.")
    call.ask()
    assert call.all(do.Route) == []


def test_spoken_words_are_routed_with_their_language() -> None:
    call = desk(rules=RULES)
    call.hear(640, SPEECH)
    call.hear(512, SILENCE)
    job_id = call.one(do.Transcribe).job_id
    transcript = Transcript(text="Meine Rechnung.", language="de", audio_s=1.0)
    call.result(ev.TranscriptReady(job_id=job_id, transcript=transcript))
    assert call.one(do.Route) == do.Route("Meine Rechnung.", "de")
    assert call.result(ev.Routed(agent=None)) == []
    assert call.one(do.StartReply).request.messages[0].text == FRONT.instructions


def test_no_words_choose_nobody_and_a_cancelled_answer_leaves_the_choice() -> None:
    call = desk(rules=RULES)
    call.answer(call.ask(), "Are you there?")
    assert not call.session.call.agent.greeting
    call.type_in("It is about a bill.")
    call.ask()
    assert call.one(do.Route)
    call.client("response.cancel")
    second = call.ask()
    assert call.all(do.StartReply) == []
    call.result(ev.Routed(agent=BILLING))
    assert call.one(do.StartReply).response_id == second
    assert call.session.call.agent is BILLING
    assert call.result(ev.Routed(agent=FRONT)) == []


# ---- outcomes ----


def test_outcomes_are_counted_for_each_version() -> None:
    call = desk()
    call.type_in("Hello?")
    call.answer(call.ask(), "Hi.")
    call.type_in("My bill.")
    handed_over(call, call.ask())
    response_id = call.one(do.StartReply).response_id
    call.result(ev.ReplyFailed(response_id=response_id, code="llm_timeout", message="No."))
    call.type_in("And now?")
    call.ask()
    call._note(call.session.hang_up())
    assert call.session.outcomes() == (
        Outcome(agent="front", agent_version=2, turns=2, answers=1),
        Outcome(agent="billing", agent_version=4, trial="trial_1", turns=1, answers=0, failed=True, hung_up=True),
    )


def test_a_degraded_answer_is_a_failure_that_was_answered() -> None:
    call = TestCall()
    call.type_in("Hello?")
    response_id = call.ask()
    call.result(ev.ReplyText(response_id=response_id, text="I cannot help right now."))
    call.result(ev.ReplyFinished(response_id=response_id, reason="stop", degraded=True))
    call.session.hang_up()
    assert call.session.outcomes() == (Outcome(agent="test", agent_version=0, turns=1, answers=1, failed=True),)


def test_who_hangs_up_before_the_first_answer_was_complete() -> None:
    def outcome(call: TestCall, *, by_caller: bool = True) -> bool:
        call.session.hang_up(by_caller=by_caller)
        return call.session.outcomes()[0].hung_up

    nobody = TestCall()
    assert not outcome(nobody)
    waiting = TestCall()
    waiting.type_in("Hello?")
    waiting.ask()
    assert outcome(waiting)
    served = TestCall()
    served.type_in("Hello?")
    served.answer(served.ask(), "Hi.")
    assert not outcome(served)
    drained = TestCall()
    drained.ask()
    assert not outcome(drained, by_caller=False)
    cancelled = TestCall()
    cancelled.type_in("Hello?")
    cancelled.ask()
    cancelled.client("response.cancel")
    assert outcome(cancelled)
