"""Which rule takes a call. Pure, and free of Django: the door of a call asks it, and so does whoever tries rules out.

1. All conditions of a rule must hold; one without conditions always holds.
2. Rules are read in their order, and the first that holds wins.
3. Languages and intents need the caller's first words. A rule that holds at the door but for those waits; it is asked
   before whatever comes behind it, so the rule that wins at the door wins only if no waiting one does.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from agents.spec import Rule

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIDNIGHT = 24 * 60
MAX_VALUES = 100
"""Channels, languages, attributes of a rule, values of an attribute: of each at most."""
VALUE_CHARACTERS = 200
INTENT_CHARACTERS = 500
CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
LANGUAGE = re.compile(r"[a-z]{2,3}")
CHANNEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


class ConditionsInvalid(ValueError):
    """``path`` is the condition at fault, such as ``hours.time_zone``."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


@dataclass(frozen=True, slots=True)
class Hours:
    """On ``days`` (0 is Monday) from ``begin`` until before ``end``, in minutes of the day as the clocks on the wall
    show them: an hour that a change of the clocks repeats counts twice, one that it leaves out never comes.

    Where ``end`` is not after ``begin`` it is on the next day, and ``days`` name the day on which the hours begin.
    """

    zone: ZoneInfo
    days: frozenset[int] = frozenset(range(7))
    begin: int = 0
    end: int = MIDNIGHT

    def hold(self, now: datetime) -> bool:
        """``now`` knows its time zone."""
        there = now.astimezone(self.zone)
        minute = there.hour * 60 + there.minute
        if self.begin < self.end:
            return there.weekday() in self.days and self.begin <= minute < self.end
        if minute >= self.begin:
            return there.weekday() in self.days
        return minute < self.end and (there.date() - timedelta(days=1)).weekday() in self.days


@dataclass(frozen=True, slots=True)
class Conditions:
    """Empty or None: whatever it is. Of the values of one condition any will do."""

    channels: tuple[str, ...] = ()
    hours: Hours | None = None
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    intent: str = ""

    @property
    def need_words(self) -> bool:
        return bool(self.languages or self.intent)

    def miss(self, *, channel: str, attributes: Mapping[str, str], now: datetime) -> str:
        """What does not hold at the door, in words for people; empty when all of it does."""
        if self.channels and channel not in self.channels:
            return f"The channel is {channel!r}, not {_either(self.channels)}."
        if self.hours is not None and not self.hours.hold(now):
            there = now.astimezone(self.hours.zone)
            return f"It is {DAYS[there.weekday()]} {there:%H:%M} in {self.hours.zone.key}, outside of the hours."
        for name, wanted in self.attributes.items():
            value = attributes.get(name)
            if value is None:
                return f"The call has no {name}."
            if not any(_fits(value, each) for each in wanted):
                return f"{name} is not {_either(wanted)}."
        return ""


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule as it stands in the tenant's list. ``fault``, in words for people: why it can never hold as it is."""

    name: str
    agent: str
    conditions: Conditions
    fault: str = ""

    def waiting(self) -> Rule:
        """What is left of it behind the door."""
        return Rule(self.name, self.agent, self.conditions.languages, self.conditions.intent)


@dataclass(frozen=True, slots=True)
class Choice:
    """``agent`` takes the call, None for the one that takes calls without a rule; ``rules`` wait for the caller's first
    words and may still choose another. ``rule`` is the name of the rule that chose."""

    agent: str | None = None
    rules: tuple[Rule, ...] = ()
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one rule, and why."""

    outcome: Literal["holds", "waits", "does_not_hold", "not_reached"]
    reason: str


def judge(
    rules: Iterable[StoredRule], *, channel: str, attributes: Mapping[str, str], now: datetime
) -> tuple[Verdict, ...]:
    """What the door finds of each rule, in their order. ``attributes`` are the call's variables (``caller.tier``)."""
    verdicts: list[Verdict] = []
    decided = ""
    for rule in rules:
        if decided:
            verdicts.append(Verdict("not_reached", f"The rule {decided!r} comes before it."))
        elif miss := rule.fault or rule.conditions.miss(channel=channel, attributes=attributes, now=now):
            verdicts.append(Verdict("does_not_hold", miss))
        elif rule.conditions.need_words:
            verdicts.append(Verdict("waits", f"It waits for the caller's first words: {describe(rule.waiting())}."))
        else:
            decided = rule.name
            verdicts.append(Verdict("holds", "All its conditions hold."))
    return tuple(verdicts)


def choose(rules: Iterable[StoredRule], *, channel: str, attributes: Mapping[str, str], now: datetime) -> Choice:
    """The door's decision: the first rule that holds, and those before it that wait."""
    rules = tuple(rules)
    waiting: list[Rule] = []
    for rule, verdict in zip(rules, judge(rules, channel=channel, attributes=attributes, now=now), strict=True):
        if verdict.outcome == "waits":
            waiting.append(rule.waiting())
        elif verdict.outcome == "holds":
            return Choice(rule.agent, tuple(waiting), rule.name)
    return Choice(None, tuple(waiting))


def speaks(rule: Rule, language: str) -> bool:
    """Whether the words' language (``de``, ``de-AT``) is one that the rule wants."""
    return not rule.languages or re.split("[-_]", language.lower())[0] in rule.languages


def possible(rules: Iterable[Rule], language: str) -> tuple[Rule, ...]:
    """Of waiting rules those that the words may still choose, up to the first that they choose for sure. ``language``
    of the words, empty where nobody knows it."""
    found: list[Rule] = []
    for rule in rules:
        if language and not speaks(rule, language):
            continue
        found.append(rule)
        if not rule.intent and (language or not rule.languages):
            break
    return tuple(found)


def describe(rule: Rule) -> str:
    """What a waiting rule wants, in words."""
    wanted = []
    if rule.languages:
        wanted.append(f"the language is {_either(rule.languages)}")
    if rule.intent:
        wanted.append(f"the caller wants {rule.intent!r}")
    return " and ".join(wanted)


def read_conditions(raw: Any) -> Conditions:
    """From the JSON of a rule. Raises ConditionsInvalid, which names what is wrong and what would be right."""
    given = _object(raw, "conditions", ("channels", "hours", "attributes", "languages", "intent"))
    attributes = _object(given.get("attributes", {}), "attributes", None)
    if len(attributes) > MAX_VALUES:
        raise ConditionsInvalid("attributes", f"A rule may ask for at most {MAX_VALUES} attributes.")
    for name in attributes:
        if not ATTRIBUTE.fullmatch(name) or len(name) > VALUE_CHARACTERS:
            raise ConditionsInvalid("attributes", f"An attribute is named like 'caller.tier'; got {name[:64]!r}.")
    intent = given.get("intent", "")
    if not isinstance(intent, str) or len(intent) > INTENT_CHARACTERS:
        raise ConditionsInvalid("intent", f"An intent is a text of at most {INTENT_CHARACTERS} characters.")
    return Conditions(
        channels=_texts(given.get("channels", []), "channels", CHANNEL, "A channel is named like 'websocket'"),
        hours=None if given.get("hours") is None else _hours(given["hours"]),
        attributes={name: _values(values, f"attributes.{name}") for name, values in attributes.items()},
        languages=_texts(given.get("languages", []), "languages", LANGUAGE, "A language is an ISO 639 code like 'de'"),
        intent=" ".join(intent.split()),
    )


def write_conditions(conditions: Conditions) -> dict[str, Any]:
    """As they are stored and shown: every condition is there."""
    hours = conditions.hours
    return {
        "channels": list(conditions.channels),
        "hours": hours
        and {
            "time_zone": hours.zone.key,
            "days": [name for place, name in enumerate(DAYS) if place in hours.days],
            "from": _clock(hours.begin),
            "to": _clock(hours.end),
        },
        "attributes": {name: list(values) for name, values in conditions.attributes.items()},
        "languages": list(conditions.languages),
        "intent": conditions.intent,
    }


def _hours(raw: Any) -> Hours:
    given = _object(raw, "hours", ("time_zone", "days", "from", "to"))
    zone = given.get("time_zone")
    if not isinstance(zone, str) or zone not in _zones():
        raise ConditionsInvalid("hours.time_zone", f"Use a name such as 'Europe/Berlin'; got {str(zone)[:64]!r}.")
    days = given.get("days", list(DAYS))
    if not isinstance(days, list) or not days or any(day not in DAYS for day in days):
        raise ConditionsInvalid("hours.days", f"Use some of {', '.join(DAYS)}.")
    begin, end = _minute(given.get("from", "00:00"), "from"), _minute(given.get("to", "24:00"), "to")
    if begin == MIDNIGHT:
        raise ConditionsInvalid("hours.from", "The day begins at 00:00; 24:00 is for 'to'.")
    if begin == end:
        raise ConditionsInvalid("hours.to", "'from' and 'to' are the same; leave both out for the whole day.")
    return Hours(ZoneInfo(zone), frozenset(DAYS.index(day) for day in days), begin, end)


def _minute(value: Any, name: str) -> int:
    if not isinstance(value, str) or not CLOCK.fullmatch(value):
        raise ConditionsInvalid(f"hours.{name}", f"Use a time from 00:00 to 24:00; got {str(value)[:64]!r}.")
    hour, minute = value.split(":")
    return int(hour) * 60 + int(minute)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _object(value: Any, path: str, known: tuple[str, ...] | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConditionsInvalid(path, f"It is an object; got {type(value).__name__}.")
    for name in value:
        if known is not None and name not in known:
            raise ConditionsInvalid(path, f"There is no {str(name)[:64]!r}; there are {', '.join(known)}.")
    return value


def _texts(value: Any, path: str, shape: re.Pattern[str], words: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_VALUES:
        raise ConditionsInvalid(path, f"It is a list of at most {MAX_VALUES}.")
    for each in value:
        if not isinstance(each, str) or not shape.fullmatch(each):
            raise ConditionsInvalid(path, f"{words}; got {str(each)[:64]!r}.")
    return tuple(dict.fromkeys(value))


def _values(value: Any, path: str) -> tuple[str, ...]:
    good = isinstance(value, list) and 1 <= len(value) <= MAX_VALUES
    if not good or any(not isinstance(each, str) or not 1 <= len(each) <= VALUE_CHARACTERS for each in value):
        raise ConditionsInvalid(
            path, f"It is a list of 1 to {MAX_VALUES} texts of 1 to {VALUE_CHARACTERS} characters; * ends a beginning."
        )
    return tuple(dict.fromkeys(value))


def _fits(value: str, wanted: str) -> bool:
    return value.startswith(wanted[:-1]) if wanted.endswith("*") else value == wanted


def _either(values: Iterable[str]) -> str:
    return " or ".join(repr(value) for value in values)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
