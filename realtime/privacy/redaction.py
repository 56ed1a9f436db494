"""Personal data taken out of what a call writes of itself, before it leaves the gateway. Pure.

1. What is found is replaced by what it was: ``[card number]``. All other words stay as they are.
2. People say a long number in several turns. So a turn is looked at together with those before it, and one that was
   written down already is written down once more.
3. Of an answer that was cut off in the middle of something personal the beginning of that is personal, too.
4. Agents read numbers back, in pieces. What repeats digits of something personal that the caller has said is personal,
   also where that turns out later.
5. What cannot be looked at is not kept.
"""

import json
import re
from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from agents.guard.detectors import Span, digits_of, find, find_echoes
from realtime.protocol import effects as do

TURNS = 6
TURN_CHARACTERS = 500
"""Of the caller's turns so many are looked at together, the latest, as long as they are no longer than this."""
MOST_CHARACTERS = 100_000
"""A text that is longer is cut there: looking through more would take a second."""
LEFT_OUT = "[left out: too long to be looked through]"
BETWEEN = ", "
ANSWERS = 16
"""So many answers back it is known what one said before it was cut, and what it repeated."""
LOOKED_BACK = 3_000
"""So many characters of them, the latest, are looked at again when a number turns out to be personal: a millisecond."""
KNOWN = 32
"""So many personal numbers of the caller are remembered, the latest."""
MARGIN = 7_200
"""What is silent beside a caller's word, in samples: recognisers tell times of words to about 0.3 s."""
ALL_SAMPLES = 1 << 62
DEEPEST = 32
NUMBER_AT_END = re.compile(r"[\d\s\-./,()]*\Z")
KEPT_OF_ITEMS = frozenset(
    ["id", "object", "type", "role", "status", "name", "call_id", "server_label", "approval_request_id", "tools"]
)
KEPT_OF_PARTS = frozenset(["type", "detail", "bytes"])
KEPT_OF_RECEIPTS = frozenset(
    ["tool", "kind", "integration", "outcome", "began_at", "took_ms", "agent", "agent_version"]
)
"""Fields that say what something is, and hold nobody's words."""
VALUE_WEIGHT, JSON_WEIGHT = 20, 20
NAMED = "The field that is called {} holds: "


def placeholder(kind: str) -> str:
    return f"[{kind.replace('_', ' ')}]"


def redact_text(text: str, kinds: Collection[str]) -> str:
    if len(text) > MOST_CHARACTERS:
        cut = NUMBER_AT_END.sub("", text[:MOST_CHARACTERS])
        return replace_spans(cut, find(cut, kinds)) + " " + LEFT_OUT
    return replace_spans(text, find(text, kinds))


def replace_spans(text: str, spans: Collection[Span]) -> str:
    """``spans`` in order."""
    parts: list[str] = []
    at = 0
    for span in spans:
        parts += (text[at : span.start], placeholder(span.kind))
        at = span.end
    return "".join([*parts, text[at:]])


def redact_item(item: dict[str, Any], kinds: Collection[str]) -> dict[str, Any]:
    """As the archive keeps it."""
    redacted = _redact_fields({name: value for name, value in item.items() if name != "content"}, KEPT_OF_ITEMS, kinds)
    if "content" in item:
        redacted["content"] = [_redact_fields(part, KEPT_OF_PARTS, kinds) for part in item["content"]]
    return redacted


def redact_receipt(receipt: dict[str, Any] | None, kinds: Collection[str]) -> dict[str, Any] | None:
    return None if receipt is None else _redact_fields(receipt, KEPT_OF_RECEIPTS, kinds)


def _redact_fields(value: dict[str, Any], kept: Collection[str], kinds: Collection[str]) -> dict[str, Any]:
    return {name: entry if name in kept else redact_json(entry, kinds, name) for name, entry in value.items()}


def redact_json(value: Any, kinds: Collection[str], name: str = "", depth: int = 0) -> Any:
    """Each text and number in it, the names of fields telling what they hold. A text that is JSON stays JSON."""
    if depth > DEEPEST:
        return LEFT_OUT
    if isinstance(value, dict):
        return {
            redact_text(str(key), kinds): redact_json(entry, kinds, str(key), depth + 1) for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_json(entry, kinds, name, depth + 1) for entry in value]
    if isinstance(value, str):
        return _redact_json_text(value, kinds, name, depth)
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = _redact_named(str(value), kinds, name)
        return value if number == str(value) else number
    return value


def _redact_json_text(text: str, kinds: Collection[str], name: str, depth: int) -> str:
    if text.lstrip()[:1] in ("{", "[") and len(text) <= MOST_CHARACTERS:
        try:
            inner = json.loads(text)
        except (ValueError, RecursionError):
            pass  # it only looks like JSON, or was cut
        else:
            redacted = redact_json(inner, kinds, name, depth + 1)
            return text if redacted == inner else json.dumps(redacted, ensure_ascii=False)
    return _redact_named(text, kinds, name)


def _redact_named(text: str, kinds: Collection[str], name: str) -> str:
    if not name or name in ("text", "transcript", "output") or len(text) > MOST_CHARACTERS:
        return redact_text(text, kinds)
    lead = NAMED.format(re.sub(r"[\W_]+", " ", name))
    spans = [Span(max(span.start - len(lead), 0), span.end - len(lead), span.kind) for span in find(lead + text, kinds)]
    return replace_spans(text, [span for span in spans if span.end > 0])


@dataclass(frozen=True, slots=True)
class Kept:
    """An item as it may leave. ``spans`` are those of its words, None where nobody knows the words."""

    store: do.Store
    timings_ms: dict[str, float]
    spans: tuple[Span, ...] | None


@dataclass(slots=True)
class _Turn:
    store: do.Store
    timings_ms: dict[str, float]
    text: str
    spans: tuple[Span, ...] = ()


@dataclass(slots=True)
class _Answer:
    """``turn`` as it is now; ``whole`` and its spans as it was before it was cut."""

    turn: _Turn
    whole: str
    spans: tuple[Span, ...]


class Redactor:
    """One call's. ``kinds`` of ``agents.guard.detectors``."""

    def __init__(self, kinds: Collection[str]) -> None:
        self._kinds = frozenset(kinds)
        self._turns: deque[_Turn] = deque(maxlen=TURNS)
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._known: OrderedDict[str, str] = OrderedDict()
        self._learned = False

    def take(self, store: do.Store, timings_ms: dict[str, float]) -> list[Kept]:
        """The item as it may leave, and earlier ones of which more turns out to be personal."""
        words = words_of(store.item)
        if words is None:
            return [self._keep(store, timings_ms, None, None)]
        if store.item.get("role") != "user":
            return [self._keep(store, timings_ms, words, self._look_at_answer(_Turn(store, timings_ms, words)))]
        known = next((turn for turn in self._turns if turn.store.item["id"] == store.item["id"]), None)
        if known is None:
            known = _Turn(store, timings_ms, words)
            self._turns.append(known)
        known.store, known.timings_ms, known.text, known.spans = store, timings_ms, words, ()
        return [*self._look_together(known), *self._look_back()]

    def forget(self, item_id: str) -> None:
        """It is deleted: nothing of it leaves any more."""
        self._answers.pop(item_id, None)
        self._turns = deque((turn for turn in self._turns if turn.store.item["id"] != item_id), TURNS)

    def _look_at_answer(self, turn: _Turn) -> tuple[Span, ...]:
        words = turn.text
        spans = find(words[:MOST_CHARACTERS], self._kinds)
        turn.spans = merge(spans, find_echoes(words[:MOST_CHARACTERS], self._known))
        answer = self._answers.get(turn.store.item["id"])
        if answer is not None and answer.whole.startswith(words):
            cut = [replace(span, end=min(span.end, len(words))) for span in answer.spans if span.start < len(words)]
            turn.spans = merge(turn.spans, cut)
            answer.turn = turn
        else:
            self._answers[turn.store.item["id"]] = _Answer(turn, words, turn.spans)
            if len(self._answers) > ANSWERS:
                self._answers.popitem(last=False)
        return turn.spans

    def _look_back(self) -> list[Kept]:
        """Answers that have repeated what is known to be personal only now."""
        kept: list[Kept] = []
        if not self._learned:
            return kept
        self._learned = False
        left = LOOKED_BACK
        for answer in reversed(self._answers.values()):
            turn = answer.turn
            left -= len(answer.whole)
            if left < 0:
                break
            spans = merge(turn.spans, find_echoes(turn.text, self._known))
            if spans != turn.spans:
                turn.spans = spans
                answer.spans = merge(answer.spans, find_echoes(answer.whole, self._known))
                kept.append(self._keep(turn.store, turn.timings_ms, turn.text, spans))
        return kept

    def _learn(self, text: str, spans: Collection[Span]) -> None:
        """What agents may repeat of it."""
        for span in spans:
            if digits := digits_of(text[span.start : span.end]):
                self._learned = self._learned or digits not in self._known
                self._known[digits] = span.kind
                self._known.move_to_end(digits)
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)

    def _look_together(self, newest: _Turn) -> list[Kept]:
        own = find(newest.text[:MOST_CHARACTERS], self._kinds)
        newest.spans = tuple(own)
        self._learn(newest.text, own)
        changed = {newest.store.item["id"]}
        together: list[_Turn] = []
        for turn in reversed(self._turns):
            if sum(len(each.text) for each in together) + len(turn.text) > TURN_CHARACTERS:
                break
            together.insert(0, turn)
        if len(together) > 1:
            for turn, spans in zip(together, self._find_across(together), strict=True):
                merged = merge(turn.spans, spans)
                if merged != turn.spans:
                    turn.spans = merged
                    changed.add(turn.store.item["id"])
        return [
            self._keep(turn.store, turn.timings_ms, turn.text, turn.spans)
            for turn in self._turns
            if turn.store.item["id"] in changed
        ]

    def _find_across(self, turns: list[_Turn]) -> list[list[Span]]:
        """What is found in all of them, by the turn; of each what lies in it."""
        text = BETWEEN.join(turn.text for turn in turns)
        found, at = find(text, self._kinds), 0
        self._learn(text, found)
        by_turn: list[list[Span]] = []
        for turn in turns:
            end = at + len(turn.text)
            by_turn.append([
                Span(max(span.start, at) - at, min(span.end, end) - at, span.kind)
                for span in found
                if span.start < end and span.end > at
            ])  # fmt: skip
            at = end + len(BETWEEN)
        return by_turn

    def _keep(
        self, store: do.Store, timings_ms: dict[str, float], words: str | None, spans: tuple[Span, ...] | None
    ) -> Kept:
        if words is None or len(words) > MOST_CHARACTERS:
            item = redact_item(store.item, self._kinds)
        else:  # they were looked through already
            item = redact_item(with_words(store.item, ""), self._kinds)
            item = with_words(item, replace_spans(words, spans or ()))
        receipt = redact_receipt(store.receipt, self._kinds)
        return Kept(replace(store, item=item, receipt=receipt), timings_ms, spans)


def merge(spans: Collection[Span], others: Collection[Span]) -> tuple[Span, ...]:
    """Both, in order and without an overlap; where two overlap the one that begins first names the kind."""
    merged: list[Span] = []
    for span in sorted([*spans, *others]):
        if merged and span.start < merged[-1].end:
            merged[-1] = replace(merged[-1], end=max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return tuple(merged)


def silent_stretches(kept: Kept) -> list[tuple[int, int]]:
    """What of its audio is not kept: of a caller's as samples of the call, of an agent's as samples of the item. All of
    it where nobody knows its words, or when some of them were said."""
    store = kept.store
    by_caller = store.item.get("role") == "user"
    if not (whole := whole_of(store)):
        return []
    [everything] = whole
    if kept.spans is None:
        return whole if by_caller else []
    found = []
    for span in kept.spans:
        places = [place for place in store.places if place.start < span.end and span.start < place.end]
        if not places or places[0].start > span.start or places[-1].end < span.end:
            return [everything]
        margin = MARGIN if by_caller else 0
        first = max(everything[0], min(place.first_sample for place in places) - margin)
        found.append((first, min(everything[1], max(place.last_sample for place in places) + margin)))
    return found


def whole_of(store: do.Store) -> list[tuple[int, int]]:
    """All of an item's audio, as ``silent_stretches`` has it; nothing where it has none."""
    by_caller = store.item.get("role") == "user"
    if (store.heard is None) if by_caller else (store.item.get("role") != "assistant"):
        return []
    return [store.heard or (0, ALL_SAMPLES)]


def words_of(item: dict[str, Any]) -> str | None:
    """What was said or written in an item; None where nothing was, or nobody knows."""
    return next((part[name] for part in item.get("content", ()) if (name := _words_in(part))), None)


def _words_in(part: dict[str, Any]) -> str:
    """The field that has the words; empty where none has."""
    return next((name for name in ("transcript", "text") if isinstance(part.get(name), str)), "")


def weight(value: Any, depth: int = 0) -> int:
    """About how many characters it is as long to look through: each text and number begins anew, and JSON in a text is
    many of them."""
    if isinstance(value, str):
        return VALUE_WEIGHT + len(value) * (JSON_WEIGHT if value.lstrip()[:1] in ("{", "[") else 1)
    if depth > DEEPEST:
        return MOST_CHARACTERS
    if isinstance(value, dict):
        return sum(len(str(key)) + weight(entry, depth + 1) for key, entry in value.items())
    if isinstance(value, list | tuple):
        return sum(weight(entry, depth + 1) for entry in value)
    return VALUE_WEIGHT


def with_words(item: dict[str, Any], words: str) -> dict[str, Any]:
    """The item with these in the place of what ``words_of`` tells of it."""
    content = list(item["content"])
    place = next(place for place, part in enumerate(content) if _words_in(part))
    content[place] = {**content[place], _words_in(content[place]): words}
    return {**item, "content": content}
