"""What is taken out of a call before it is kept: the words, and what a tenant says about them."""

import copy
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse
from django_tenants.utils import tenant_context
from hypothesis import given
from hypothesis import strategies as st

from agents.guard.detectors import KINDS, find
from agents.spec import Redaction
from agentvoicebox import admission
from realtime.privacy import redaction
from realtime.privacy.models import RedactionPolicy
from realtime.privacy.redaction import LEFT_OUT, MOST_CHARACTERS, Redactor, redact_item, redact_receipt, redact_text
from realtime.privacy.redaction_policy import PolicyInvalid, change_redaction, read_redaction
from realtime.protocol import effects as do
from realtime.recordings.operations import delete_recording
from realtime.recordings.storing import Storer
from realtime.runtime.door import read_visit
from realtime.runtime.recorder import CallSheet, Spool
from tenants.audit.models import Entry
from tenants.keys.queries import credential_of, find_key
from tests.record.test_recordings import HZ, Gateway, die, listen, places, stereo, storer
from tests.record.world import Api, House, World
from tests.runtime.tape import Stage, tone

__all__ = ["places", "storer"]

ALL = frozenset(KINDS)
CARD = "4111 1111 1111 1111"


def said(number: int, text: str | None, role: str = "user") -> do.Store:
    sort = "input_audio" if role == "user" else "output_audio"
    item = {"id": f"item_{number}", "type": "message", "role": role, "content": [{"type": sort, "transcript": text}]}
    return do.Store(item=item, previous_item_id=None, audio_ms=900)


def kept(redactor: Redactor, *stores: do.Store) -> dict[str, str]:
    """What the archive holds in the end, by the item."""
    held = {}
    for store in stores:
        for one in redactor.take(store, {"stt": 1.0}):
            held[one.store.item["id"]] = one.store.item["content"][0]["transcript"]
    return held


# --- texts ---


def test_what_is_found_is_replaced_by_its_name_and_the_rest_stays() -> None:
    text = f"It's {CARD}, write to a dot b at example dot com — thanks!"
    assert redact_text(text, ALL) == "It's [card number], write to [email] — thanks!"
    assert redact_text(text, {"email"}) == f"It's {CARD}, write to [email] — thanks!"
    assert redact_text(text, ()) == text


@given(st.text(), st.sets(st.sampled_from(sorted(KINDS))))
def test_text_outside_of_spans_is_untouched(text: str, kinds: set[str]) -> None:
    at, rebuilt = 0, ""
    for span in find(text, kinds):
        rebuilt += text[at : span.start] + redaction.placeholder(span.kind)
        at = span.end
    assert redact_text(text, kinds) == rebuilt + text[at:]


@given(st.text(), st.sets(st.sampled_from(sorted(KINDS))))
def test_what_was_redacted_holds_nothing_that_was_found(text: str, kinds: set[str]) -> None:
    once = redact_text(text, kinds)
    assert all(
        text[span.start : span.end] not in once or len(text[span.start : span.end]) < 3 for span in find(text, kinds)
    )


def test_a_text_that_is_too_long_is_cut_and_no_number_is_cut_in_two() -> None:
    text = "x " * ((MOST_CHARACTERS - 10) // 2) + CARD + " and more"
    redacted = redact_text(text, ALL)
    assert redacted.endswith(f"x {LEFT_OUT}")
    assert "4111" not in redacted


# --- items and receipts ---


def test_a_tools_arguments_stay_json_and_names_of_fields_tell_what_they_hold() -> None:
    arguments = {
        "card": CARD,
        "cvv": "123",
        "card_number": 4111111111111111,
        "phone": "1234567",
        "n": 3,
        "ok": True,
        "none": None,
        "notes": ["born", {"date_of_birth": "1980-05-03"}],
        "order_id": "1234567",
        "when": "1980-05-03",
        f"of {CARD}": 1.5,
    }
    item = {"id": "item_1", "type": "mcp_call", "name": "pay", "arguments": json.dumps(arguments), "output": None}
    redacted = redact_item(item, ALL)
    assert json.loads(redacted["arguments"]) == {
        "card": "[card number]",
        "cvv": "[card security code]",
        "card_number": "[card number]",
        "phone": "[phone number]",
        "n": 3,
        "ok": True,
        "none": None,
        "notes": ["born", {"date_of_birth": "[date of birth]"}],
        "order_id": "1234567",
        "when": "1980-05-03",
        "of [card number]": 1.5,
    }
    assert (redacted["id"], redacted["name"], redacted["output"]) == ("item_1", "pay", None)


def test_text_that_only_looks_like_json_is_text() -> None:
    item = {"id": "i", "type": "function_call_output", "call_id": "c", "output": '{"card": "4111 1111 1111 1111'}
    assert redact_item(item, ALL)["output"] == '{"card": "[card number]'


def test_what_names_an_item_is_never_changed() -> None:
    item = {"id": "4111111111111111", "type": "message", "role": "user", "status": "completed", "content": []}
    assert redact_item(item, ALL) == item


def test_a_receipt_is_redacted_but_for_what_it_says_of_the_tool() -> None:
    receipt = {
        "tool": "pay", "kind": "http", "asked": f'{{"card": "{CARD}"}}', "began_at": 1800000000.123, "took_ms": 12.5,
        "sent": {"url": f"https://shop.example/pay?card={CARD.replace(' ', '')}", "id": CARD},
        "answered": {"status": 200, "body": f"charged {CARD}"}, "outcome": "completed", "agent": "desk",
    }  # fmt: skip
    redacted = redact_receipt(receipt, ALL)
    assert redacted is not None
    assert "4111" not in json.dumps(redacted)
    assert redacted | {"asked": 0, "sent": 0, "answered": 0} == receipt | {"asked": 0, "sent": 0, "answered": 0}
    assert redacted["sent"]["url"] == "https://shop.example/pay?card=[card number]"
    assert redacted["answered"]["status"] == 200
    assert redact_receipt(None, ALL) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    )
)
def test_json_without_anything_personal_stays_as_it_is(value: Any) -> None:
    before = copy.deepcopy(value)
    assert redaction.redact_json(value, frozenset()) == before
    assert value == before


# --- turns of a call ---


def test_a_number_that_is_said_in_one_turn_is_redacted_there() -> None:
    redactor = Redactor(ALL)
    assert kept(redactor, said(1, "hello"), said(2, f"My card is {CARD}.")) == {
        "item_1": "hello", "item_2": "My card is [card number].",
    }  # fmt: skip


def test_a_number_that_is_said_in_several_turns_is_redacted_in_all_of_them() -> None:
    redactor = Redactor({"card_number"})
    held = kept(
        redactor,
        said(1, "Sure. It's 4111"),
        said(2, "Go on.", "assistant"),
        said(3, "1111 1111"),
        said(4, "one one one"),
    )
    assert held["item_3"] == "1111 1111"
    held = kept(redactor, said(5, "one. That's it."))
    assert held == {
        "item_1": "Sure. It's [card number]", "item_3": "[card number]", "item_4": "[card number]",
        "item_5": "[card number]. That's it.",
    }  # fmt: skip


def typed(number: int, text: str, role: str = "user") -> do.Store:
    sort = "input_text" if role == "user" else "output_text"
    item = {"id": f"item_{number}", "type": "message", "role": role, "content": [{"type": sort, "text": text}]}
    return do.Store(item=item, previous_item_id=None)


def held_of(redactor: Redactor, *stores: do.Store) -> list[str]:
    """What the archive holds in the end, in order."""
    held = {}
    for store in stores:
        for one in redactor.take(store, {}):
            [part] = one.store.item["content"]
            held[one.store.item["id"]] = part.get("transcript", part.get("text"))
    return list(held.values())


def test_what_is_typed_in_several_turns_is_looked_at_together() -> None:
    redactor = Redactor({"card_number"})
    turns = [typed(1, "my card number is 4111 1111"), typed(2, "Go on.", "assistant"), typed(3, "1111 1111")]
    assert held_of(redactor, *turns) == ["my card number is [card number]", "Go on.", "[card number]"]


@pytest.mark.parametrize(
    ("answers", "kept_of_them"),
    [
        (["You said: 4111 1111.", "And 1-1-1-1, one one one one."], ["You said: [card number].", "And [card number]."]),
        (["Table 12 at 1930.", "That is 111 crowns."], ["Table 12 at 1930.", "That is 111 crowns."]),
    ],
)
def test_what_an_agent_reads_back_of_a_number_is_redacted_too(answers: list[str], kept_of_them: list[str]) -> None:
    """Also what it repeated before the number was complete."""
    for say in (said, typed):
        turns = [
            say(1, "4111 1111"),
            say(2, answers[0], "assistant"),
            say(3, "1111 1111"),
            say(4, answers[1], "assistant"),
        ]
        held = held_of(Redactor({"card_number"}), *turns)
        assert held == ["[card number]", kept_of_them[0], "[card number]", kept_of_them[1]]


def test_an_answer_that_is_cut_after_it_was_looked_at_again_stays_redacted() -> None:
    redactor = Redactor({"card_number"})
    held_of(redactor, said(1, "4111 1111"), said(2, "You said 4111 1111, right?", "assistant"), said(3, "1111 1111"))
    (cut,) = redactor.take(said(2, "You said 4111", "assistant"), {})
    assert cut.store.item["content"][0]["transcript"] == "You said [card number]"


def test_earlier_turns_keep_all_else_that_was_known_of_them() -> None:
    redactor = Redactor({"card_number"})
    first = replace(said(1, "4111 1111"), previous_item_id="item_0", agent="desk", agent_version=3)
    redactor.take(first, {"stt": 80.0})
    again, newest = redactor.take(said(2, "1111 1111"), {"stt": 90.0})
    assert again.store == replace(first, item=again.store.item)
    assert (again.timings_ms, newest.timings_ms) == ({"stt": 80.0}, {"stt": 90.0})
    assert [(span.start, span.end) for span in again.spans or ()] == [(0, 9)]


def test_a_turn_whose_words_come_later_is_looked_at_then() -> None:
    redactor = Redactor(ALL)
    (waiting,) = redactor.take(said(1, None), {})
    assert waiting.spans is None
    (known,) = redactor.take(said(1, CARD), {})
    assert known.store.item["content"][0]["transcript"] == "[card number]"
    (noise,) = redactor.take(said(2, ""), {})
    assert noise.spans == ()


def test_only_so_many_turns_are_looked_at_together() -> None:
    redactor = Redactor({"card_number"})
    others = [said(number, "well") for number in range(2, 2 + redaction.TURNS - 1)]
    assert kept(redactor, said(1, "4111 1111"), *others, said(9, "1111 1111"))["item_9"] == "1111 1111"
    long = said(10, "word " * (redaction.TURN_CHARACTERS // 5))
    assert kept(redactor, said(11, "4111 1111"), long, said(12, "1111 1111"))["item_12"] == "1111 1111"


def test_each_part_of_an_item_is_looked_through() -> None:
    parts = [{"type": "input_audio", "transcript": text} for text in (None, f"one {CARD}", f"two {CARD}")]
    item = {
        "id": "item_1",
        "type": "message",
        "role": "user",
        "content": [*parts, {"type": "input_text", "text": CARD}],
    }
    (one,) = Redactor(ALL).take(do.Store(item=item, previous_item_id=None), {})
    said = [part.get("transcript", part.get("text")) for part in one.store.item["content"]]
    assert said == [None, "one [card number]", "two [card number]", "[card number]"]
    assert item["content"][1]["transcript"] == f"one {CARD}", "the call goes on with what was said"


def test_what_the_agent_says_is_redacted_too() -> None:
    (one,) = Redactor(ALL).take(said(1, f"So that was {CARD}?", "assistant"), {})
    assert one.store.item["content"][0]["transcript"] == "So that was [card number]?"
    assert [span.start for span in one.spans or ()] == [12]


# --- the tenant's policy ---


def test_without_a_policy_nothing_is_redacted(world: World, alpha_api: Api) -> None:
    status, answer = alpha_api("GET", "redaction-policy/")
    assert (status, answer["data"]["kinds"]) == (200, [])
    assert answer["data"]["detectable"][0] == {"kind": "card_number", "title": KINDS["card_number"]}
    with tenant_context(world.alpha.tenant):
        assert read_redaction() == Redaction()
        assert not RedactionPolicy.objects.exists()


def test_a_policy_is_set_for_one_tenant_and_is_in_its_audit_log(world: World, alpha_api: Api, beta_api: Api) -> None:
    asked = {"kinds": ["email", "card_number"], "silence_recordings": False}
    status, answer = alpha_api("PATCH", "redaction-policy/", asked)
    assert (status, answer["data"]["kinds"], answer["data"]["silence_recordings"]) == (
        200,
        ["card_number", "email"],
        False,
    )
    assert beta_api("GET", "redaction-policy/")[1]["data"]["kinds"] == []
    with tenant_context(world.alpha.tenant):
        assert read_redaction() == Redaction(frozenset({"card_number", "email"}), silence=False)
        entry = Entry.objects.get(action="redaction_policy.changed")
        assert (entry.before, entry.after) == (
            {"kinds": [], "silence_recordings": True}, {"kinds": ["card_number", "email"], "silence_recordings": False},
        )  # fmt: skip
    alpha_api("PATCH", "redaction-policy/", {"silence_recordings": False})
    with tenant_context(world.alpha.tenant):
        assert Entry.objects.filter(action="redaction_policy.changed").count() == 1
    assert alpha_api("PATCH", "redaction-policy/", {"kinds": []})[1]["data"]["silence_recordings"] is False
    with tenant_context(world.beta.tenant):
        assert read_redaction() == Redaction()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"kinds": ["shoe_size"]}, "kinds.0"),
        ({"kinds": "email"}, "kinds"),
        ({"silence_recordings": "perhaps"}, "silence_recordings"),
        ({"kind": ["email"]}, "kind"),
        ({"detectable": []}, "detectable"),
    ],
)
def test_a_wrong_policy_is_refused_by_name(alpha_api: Api, body: dict, param: str) -> None:
    status, answer = alpha_api("PATCH", "redaction-policy/", body)
    assert (status, answer["error"]["param"]) == (400, param)


def test_a_kind_that_nobody_knows_is_refused_or_passed_over(world: World) -> None:
    with tenant_context(world.alpha.tenant):
        with pytest.raises(PolicyInvalid, match="shoe_size"):
            change_redaction(kinds=["shoe_size"])
        RedactionPolicy.objects.create(pk=1, kinds=["shoe_size", "email"])
        assert read_redaction().kinds == {"email"}


def test_an_owner_sets_it_in_the_admin(world: World) -> None:
    client = Client(headers={"Host": world.alpha.host})
    client.force_login(world.alpha.owner)
    add = reverse("admin:privacy_redactionpolicy_add")
    assert "Numbers of credit and debit cards" in client.get(add).content.decode()
    assert client.post(add, {"kinds": ["iban", "card_number"], "silence_recordings": "on"}).status_code == 302
    with tenant_context(world.alpha.tenant):
        assert read_redaction() == Redaction(frozenset({"iban", "card_number"}), silence=True)
    assert client.get(add).status_code == 403
    change = reverse("admin:privacy_redactionpolicy_change", args=[1])
    assert client.post(change, {"kinds": ["email"]}).status_code == 302
    with tenant_context(world.alpha.tenant):
        assert read_redaction() == Redaction(frozenset({"email"}), silence=False)
        assert Entry.objects.filter(action="redaction_policy.changed").last().actor_kind == "person"
    page = client.get(reverse("admin:privacy_redactionpolicy_history", args=[1])).content.decode()
    assert "email" not in page


# --- the door ---


def test_a_call_learns_of_its_tenants_policy_at_the_door(world: World) -> None:
    with tenant_context(world.alpha.tenant):
        change_redaction(kinds=["iban"], silence_recordings=False)
    for house, expected in ((world.alpha, Redaction(frozenset({"iban"}), silence=False)), (world.beta, Redaction())):
        visit = read_visit({"authorization": f"Bearer {house.key}"}, [], "model=gpt-realtime")
        caller, *_ = admission._read(credential_of(find_key(house.key)), visit, "sess_x", None, None)
        assert caller.redaction == expected


# --- recordings on their way into the storage ---


def begin(places: Gateway, house: House, *, hold_s: float) -> Stage:
    stage = places.begin(house, "sess_1")
    sheet = CallSheet(tenant=house.tenant.schema_name, session_id="sess_1", started_at=time.time() - 600, hold_s=hold_s)
    stage.spool = Spool(places.root, max_bytes=1 << 30, memory_bytes=1 << 26)
    stage.tape = stage.spool.open(sheet, stage.clock)
    return stage


def test_a_part_waits_for_what_may_have_to_be_silent_in_it(world: World, places: Gateway, storer: Storer) -> None:
    """Parts of 10 s: the first one would be stored after 20 s, and with 5 s to wait for words after 25."""
    said = stereo(31)[:, 0]
    stage = begin(places, world.alpha, hold_s=5.0)
    stage.hear(said[: 24 * HZ])
    stage.spool._round()
    assert storer.round() == 0
    stage.tape.silence("item_a", [(2 * HZ, 3 * HZ)], True)
    stage.hear(said[24 * HZ :])
    stage.spool._round()
    assert storer.round() == 1
    stage.finish()
    storer.round()
    expected = said.copy()
    expected[2 * HZ : 3 * HZ] = 0
    assert np.array_equal(listen(world.alpha, "sess_1")[:, 0], expected)


def test_of_a_call_that_was_killed_nothing_is_kept_that_nobody_has_looked_at(
    world: World, places: Gateway, storer: Storer
) -> None:
    said = stereo(12)[:, 0]
    stage = begin(places, world.alpha, hold_s=4.0)
    stage.hear(said[: 6 * HZ])
    stage.speak(tone(6_000, 5_000))
    stage.hear(said[6 * HZ :])
    stage.spool._round()
    die(stage)
    storer.round()
    heard = listen(world.alpha, "sess_1")
    assert np.array_equal(heard[: 8 * HZ, 0], said[: 8 * HZ])
    assert np.array_equal(heard[6 * HZ : 8 * HZ, 1], tone(6_000, 5_000)[: 2 * HZ])
    assert not heard[8 * HZ :].any()


def test_a_broken_call_says_so_where_words_may_be_silent(world: World, places: Gateway, storer: Storer) -> None:
    for hold_s, state in ((4.0, "fault"), (0.0, "complete")):
        stage = begin(places, world.alpha, hold_s=hold_s)
        stage.hear(stereo(6)[:, 0])
        stage.tape.close(broken=True)
        assert stage.tape.state == state
        stage.finish()
        storer.round()
        assert listen(world.alpha, "sess_1")[3 * HZ :].any() == (state == "complete")
        with tenant_context(world.alpha.tenant):
            delete_recording(session_id="sess_1")
