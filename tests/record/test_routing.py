"""Which rule takes a call: the matcher by itself, without a database."""

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.routing.matching import (
    DAYS,
    Conditions,
    ConditionsInvalid,
    StoredRule,
    choose,
    judge,
    possible,
    read_conditions,
    write_conditions,
)
from agents.spec import Rule

NOW = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
"""A Friday."""
BERLIN = ZoneInfo("Europe/Berlin")


def rule(name: str, **conditions: object) -> StoredRule:
    return StoredRule(name, f"{name}-agent", read_conditions(conditions))


def door(*rules: StoredRule, channel: str = "websocket", now: datetime = NOW, **attributes: str):
    named = {f"caller.{name}": value for name, value in attributes.items()}
    return choose(rules, channel=channel, attributes=named, now=now)


def holds(conditions: dict, now: datetime) -> bool:
    return door(rule("it", hours=conditions), now=now).agent == "it-agent"


def test_without_rules_nobody_is_chosen() -> None:
    assert door() == choose([], channel="", attributes={}, now=NOW)
    assert (door().agent, door().rules) == (None, ())


def test_the_first_that_holds_wins() -> None:
    choice = door(rule("phone", channels=["phone"]), rule("first"), rule("second"))
    assert (choice.agent, choice.rule, choice.rules) == ("first-agent", "first", ())


def test_all_conditions_of_a_rule_must_hold() -> None:
    both = rule("both", channels=["websocket"], attributes={"caller.tier": ["gold"], "caller.land": ["at", "de"]})
    assert door(both, tier="gold", land="de").agent == "both-agent"
    assert door(both, tier="gold").agent is None
    assert door(both, tier="silver", land="de").agent is None
    assert door(both, channel="phone", tier="gold", land="de").agent is None


@pytest.mark.parametrize(
    ("wanted", "value", "expected"),
    [("gold", "gold", True), ("gold", "Gold", False), ("gold", "golden", False), ("+49*", "+4930123", True),
     ("+49*", "+431", False), ("*", "", True), ("*", "anything", True)],
)  # fmt: skip
def test_an_attribute_is_compared_as_it_is_or_by_its_beginning(wanted: str, value: str, expected: bool) -> None:
    assert (door(rule("it", attributes={"caller.tier": [wanted]}), tier=value).agent is not None) is expected


def test_rules_that_want_words_wait_and_only_those_before_the_one_that_holds() -> None:
    choice = door(
        rule("german", languages=["de"], channels=["websocket"]),
        rule("elsewhere", languages=["fr"], channels=["phone"]),
        rule("booking", intent="a reservation"),
        rule("rest"),
        rule("late", intent="never asked"),
    )
    assert choice.agent == "rest-agent"
    assert choice.rules == (
        Rule("german", "german-agent", ("de",)),
        Rule("booking", "booking-agent", (), "a reservation"),
    )


def test_a_rule_whose_agent_is_gone_does_not_hold() -> None:
    gone = StoredRule("gone", "gone-agent", Conditions(), "The agent 'gone' takes no calls.")
    assert door(gone, rule("next")).agent == "next-agent"
    verdicts = judge([gone, rule("next"), rule("last")], channel="", attributes={}, now=NOW)
    assert [verdict.outcome for verdict in verdicts] == ["does_not_hold", "holds", "not_reached"]
    assert verdicts[0].reason == "The agent 'gone' takes no calls."


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"channels": ["phone"]}, "'websocket', not 'phone'"),
        ({"attributes": {"caller.tier": ["gold"]}}, "has no caller.tier"),
        ({"hours": {"time_zone": "Asia/Tokyo", "to": "12:00"}}, "fri 17:00 in Asia/Tokyo"),
        ({"languages": ["de", "fr"], "intent": "a refund"}, "'de' or 'fr' and the caller wants 'a refund'"),
    ],
)
def test_a_verdict_says_why(conditions: dict, words: str) -> None:
    (verdict,) = judge([rule("it", **conditions)], channel="websocket", attributes={}, now=NOW)
    assert words in verdict.reason


# --- hours ---


def test_hours_are_those_of_the_place_and_end_before_their_end() -> None:
    hours = {"time_zone": "Europe/Berlin", "days": ["fri"], "from": "09:00", "to": "17:30"}
    for clock, expected in [("08:59", False), ("09:00", True), ("17:29", True), ("17:30", False)]:
        at = datetime.fromisoformat(f"2027-01-15T{clock}:00").replace(tzinfo=BERLIN)
        assert holds(hours, at) is expected, clock
        assert holds(hours, at.astimezone(ZoneInfo("Pacific/Auckland"))) is expected
        assert not holds(hours, at + timedelta(days=1))


def test_hours_over_midnight_belong_to_the_day_on_which_they_begin() -> None:
    hours = {"time_zone": "Europe/Berlin", "days": ["fri"], "from": "22:00", "to": "06:00"}
    friday = datetime(2027, 1, 15, tzinfo=BERLIN)
    expected = {
        friday.replace(hour=3): False,  # still Thursday's night
        friday.replace(hour=21, minute=59): False,
        friday.replace(hour=22): True,
        friday.replace(hour=23, minute=59): True,
        friday + timedelta(days=1, hours=5, minutes=59): True,
        friday + timedelta(days=1, hours=6): False,
        friday + timedelta(days=1, hours=22): False,
    }
    assert {at: holds(hours, at) for at in expected} == expected


def test_an_hour_that_the_clocks_repeat_counts_twice() -> None:
    hours = {"time_zone": "Europe/Berlin", "from": "02:00", "to": "03:00"}
    back = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)  # 02:00 summer time; an hour later it is 02:00 again
    found = [holds(hours, back + timedelta(minutes=minute)) for minute in (-1, 0, 59, 60, 119, 120)]
    assert found == [False, True, True, True, True, False]


def test_an_hour_that_the_clocks_leave_out_never_comes() -> None:
    hours = {"time_zone": "Europe/Berlin", "from": "02:00", "to": "03:00"}
    forth = datetime(2027, 3, 28, 0, 0, tzinfo=UTC)  # 01:00 winter time; an hour later it is 03:00
    assert not any(holds(hours, forth + timedelta(minutes=minute)) for minute in range(0, 180, 5))
    through = {"time_zone": "Europe/Berlin", "from": "01:30", "to": "03:30"}
    found = [holds(through, forth + timedelta(minutes=minute)) for minute in (29, 30, 59, 60, 89, 90)]
    assert found == [False, True, True, True, True, False]


clocks = st.integers(0, 24 * 60 - 1)
zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"])
times = st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@given(clocks, clocks, st.sets(st.sampled_from(DAYS), min_size=1), zones, times)
def test_a_time_is_within_hours_or_within_those_that_are_left(
    begin: int, end: int, days: set[str], zone: str, now: datetime
) -> None:
    if begin == end:
        return
    place = {"time_zone": zone, "days": sorted(days)}
    inside = holds({**place, "from": clock(begin), "to": clock(end)}, now)
    outside = holds({**place, "from": clock(end), "to": clock(begin)}, now)
    here = now.astimezone(ZoneInfo(zone))
    if len(days) == 7:
        assert inside is not outside
    assert inside is any(
        begun_on in days and (begin <= minute < end if begin < end else begin <= minute < end + 24 * 60)
        for begun_on, minute in (
            (DAYS[here.weekday()], here.hour * 60 + here.minute),
            (DAYS[here.weekday() - 1], here.hour * 60 + here.minute + 24 * 60),
        )
    )


# --- words ---

GERMAN, BOOKING = Rule("german", "a", ("de",)), Rule("booking", "b", (), "a reservation")
GERMAN_BOOKING = Rule("both", "c", ("de", "at"), "a reservation")


def test_words_of_another_language_rule_out_what_wants_theirs() -> None:
    assert possible([GERMAN, BOOKING, GERMAN_BOOKING], "fr") == (BOOKING,)
    assert possible([GERMAN_BOOKING, GERMAN, BOOKING], "de-AT") == (GERMAN_BOOKING, GERMAN)
    assert possible([GERMAN_BOOKING, GERMAN, BOOKING], "de_CH") == (GERMAN_BOOKING, GERMAN)
    assert possible([GERMAN, BOOKING], "") == (GERMAN, BOOKING)


RULES = st.builds(
    Rule,
    name=st.text("abc", min_size=1),
    agent=st.just("a"),
    languages=st.sampled_from([(), ("de",), ("de", "fr")]),
    intent=st.sampled_from(["", "a reservation"]),
).filter(lambda each: each.languages or each.intent)


@given(st.lists(RULES), st.sampled_from(["", "de", "fr-CA", "es"]))
def test_what_words_may_choose_keeps_its_order_and_ends_with_what_is_certain(rules: list[Rule], language: str) -> None:
    found = possible(rules, language)
    left = iter(rules)
    assert all(any(each is other for other in left) for each in found)
    assert all(each.intent or not language for each in found[:-1])
    assert all(not language or not each.languages or language[:2] in each.languages for each in found)


# --- any rules ---

stored = st.builds(
    lambda name, conditions: StoredRule(name, name, read_conditions(conditions)),
    st.text("abcdef", min_size=1, max_size=6),
    st.fixed_dictionaries(
        {},
        optional={
            "channels": st.lists(st.sampled_from(["websocket", "phone"])),
            "attributes": st.dictionaries(st.just("caller.tier"), st.just(["gold"])),
            "languages": st.lists(st.just("de"), max_size=1),
            "intent": st.sampled_from(["", "a refund"]),
        },
    ),
)


@given(st.lists(stored, max_size=6), st.sampled_from(["websocket", "phone"]), st.sampled_from(["gold", "silver"]))
def test_the_door_chooses_the_first_that_needs_no_words(rules: list[StoredRule], channel: str, tier: str) -> None:
    attributes = {"caller.tier": tier}
    fitting = [each for each in rules if not each.conditions.miss(channel=channel, attributes=attributes, now=NOW)]
    before = list(itertools.takewhile(lambda each: each.conditions.need_words, fitting))
    behind = fitting[len(before) :]
    choice = choose(rules, channel=channel, attributes=attributes, now=NOW)
    assert [each.name for each in choice.rules] == [each.name for each in before]
    assert choice.agent == (behind[0].agent if behind else None)


# --- reading ---


def test_what_is_written_is_read_again() -> None:
    full = {
        "channels": ["websocket"],
        "hours": {"time_zone": "Europe/Berlin", "days": ["mon", "sun"], "from": "22:00", "to": "24:00"},
        "attributes": {"caller.tier": ["gold*"]},
        "languages": ["de"],
        "intent": "a reservation",
    }
    assert write_conditions(read_conditions(full)) == full
    empty = write_conditions(read_conditions({}))
    assert empty == {"channels": [], "hours": None, "attributes": {}, "languages": [], "intent": ""}
    assert write_conditions(read_conditions(empty)) == empty


@pytest.mark.parametrize(
    ("conditions", "path"),
    [
        ([], "conditions"),
        ({"channel": "x"}, "conditions"),
        ({"channels": "websocket"}, "channels"),
        ({"channels": ["Web Socket"]}, "channels"),
        ({"channels": ["a"] * 101}, "channels"),
        ({"languages": ["deutsch"]}, "languages"),
        ({"languages": ["DE"]}, "languages"),
        ({"attributes": []}, "attributes"),
        ({"attributes": {"tier": ["gold"]}}, "attributes"),
        ({"attributes": {"caller.tier": "gold"}}, "attributes.caller.tier"),
        ({"attributes": {"caller.tier": []}}, "attributes.caller.tier"),
        ({"attributes": {"caller.tier": ["x" * 201]}}, "attributes.caller.tier"),
        ({"attributes": {f"caller.a{number}": ["x"] for number in range(101)}}, "attributes"),
        ({"intent": 7}, "intent"),
        ({"intent": "x" * 501}, "intent"),
        ({"hours": "always"}, "hours"),
        ({"hours": {}}, "hours.time_zone"),
        ({"hours": {"time_zone": "Berlin"}}, "hours.time_zone"),
        ({"hours": {"time_zone": "../etc/passwd"}}, "hours.time_zone"),
        ({"hours": {"time_zone": "UTC", "days": []}}, "hours.days"),
        ({"hours": {"time_zone": "UTC", "days": ["monday"]}}, "hours.days"),
        ({"hours": {"time_zone": "UTC", "days": [["mon"]]}}, "hours.days"),
        ({"hours": {"time_zone": "UTC", "from": "9:00"}}, "hours.from"),
        ({"hours": {"time_zone": "UTC", "from": "24:00", "to": "08:00"}}, "hours.from"),
        ({"hours": {"time_zone": "UTC", "to": "25:00"}}, "hours.to"),
        ({"hours": {"time_zone": "UTC", "from": "08:00", "to": "08:00"}}, "hours.to"),
        ({"hours": {"time_zone": "UTC", "until": "08:00"}}, "hours"),
    ],
)
def test_wrong_conditions_are_refused_by_name(conditions: object, path: str) -> None:
    with pytest.raises(ConditionsInvalid) as refused:
        read_conditions(conditions)
    assert refused.value.path == path
