"""The supervisor pattern of docs/routing.md: one agent speaks, consults two others, and lends the call to a third."""

from dataclasses import replace

from agents.spec import AgentSpec, Colleague
from realtime.archive.events import CallEnded, ItemStored
from tests.runtime.ports import AGENT, Directory, Speech, Table, Tools
from tests.runtime.test_agents import Script, archived, ask, calls, receipts, says, tool
from tests.runtime.virtual_time import on_virtual_time

SUPERVISOR = replace(
    AGENT,
    instructions="You are the front desk.",
    version=2,
    colleagues=(
        Colleague("billing", "consult", "bills"),
        Colleague("shipping", "consult", "parcels"),
        Colleague("complaints", "hand_off", "the caller is angry", returns=True),
    ),
)
BILLING = AgentSpec(slug="billing", name="Billing", instructions="You know bills.", version=4, tools=(tool("bills"),))
SHIPPING = AgentSpec(slug="shipping", name="Shipping", instructions="You know parcels.", version=5)
COMPLAINTS = AgentSpec(slug="complaints", name="Complaints", instructions="You soothe.", greeting="Oh!", version=6)
QUESTION = '{"question": "What about Ann?"}'


@on_virtual_time
async def test_a_supervisor_consults_two_specialists_and_gets_the_call_back_from_a_third() -> None:
    script = Script(
        calls("consult_billing", "consult_shipping", arguments=QUESTION),
        calls("bills"),
        says("It comes on Friday."),
        says("She owes twelve."),
        says("You owe twelve, and your parcel comes on Friday."),
        calls("hand_off_to_complaints"),
        says("I am sorry to hear that."),
        calls("hand_off_to_test"),
        says("I am back. Anything else?"),
    )
    speech, directory = Speech(), Directory(SUPERVISOR, BILLING, SHIPPING, COMPLAINTS)
    async with Table(
        script, speech, agent=SUPERVISOR, directory=directory, tools=Tools(bills="12"), end_user="ann"
    ) as table:
        await ask(table, "What do I owe, and where is my parcel?")
        told = [message.text for message in table.model.requests[4].messages if message.role == "tool"]
        assert told == ["She owes twelve.", "It comes on Friday."]
        assert {receipt["kind"] for receipt in receipts(table)} == {"consult"}

        await ask(table, "That is outrageous!")
        await table.until(lambda: "I am sorry to hear that." in speech.spoken)
        await table.until(lambda: table.wire.types.count("response.done") == 3)
        soothing = table.model.requests[6]
        assert soothing.messages[0].text.startswith("You soothe.")
        assert "Oh!" not in speech.spoken, "nobody greets in the middle of a call"

        await ask(table, "Fine. And now?")
        await table.until(lambda: table.wire.types.count("response.done") == 5)
        again = table.model.requests[8]
        assert again.messages[0].text.startswith("You are the front desk.")
        said = [message.text for message in again.messages if message.role in ("user", "assistant") and message.text]
        assert said == [
            "What do I owe, and where is my parcel?", "You owe twelve, and your parcel comes on Friday.",
            "That is outrageous!", "I am sorry to hear that.", "Fine. And now?",
        ]  # fmt: skip
    spoken = [event for event in archived(table, ItemStored) if event.item.get("role") == "assistant"]
    by = {event.item["content"][0]["transcript"]: (event.agent, event.agent_version) for event in spoken}
    assert by == {
        "You owe twelve, and your parcel comes on Friday.": ("test", 2),
        "I am sorry to hear that.": ("complaints", 6),
        "I am back. Anything else?": ("test", 2),
    }
    [ended] = archived(table, CallEnded)
    assert {outcome.agent for outcome in ended.outcomes} == {"test", "complaints"}, "who is consulted has no part in it"
