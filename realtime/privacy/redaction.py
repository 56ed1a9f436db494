"""Personal data taken out of what a call writes of itself, before it leaves the gateway. Pure.

1. What is found is replaced by what it was: ``[card number]``. All other words stay as they are.
2. People say a long number in several turns. So a turn is looked at together with those before it, and one that was
   written down already is written down once more.
3. Of an answer that was cut off in the middle of something personal the beginning of that is personal, too.
4. What cannot be looked at is not kept.
"""

import json
import re
from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from agents.guard.detectors import Span, find
from realtime.protocol import effects as do

TURNS = 6
TURN_CHARACTERS = 500
"""Of the caller's turns so many are looked at together, the latest, as long as they are no longer than this."""
MOST_CHARACTERS = 100_000
"""A text that is longer is cut there: looking through more would take a second."""
LEFT_OUT = "[left out: too long to be looked through]"
BETWEEN = ", "
ANSWERS = 16
"""So many answers back it is known what one said before it was cut."""
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


class Redactor:
    """One call's. ``kinds`` of ``agents.guard.detectors``."""

    def __init__(self, kinds: Collection[str]) -> None:
        self._kinds = frozenset(kinds)
        self._turns: deque[_Turn] = deque(maxlen=TURNS)
        self._answers: OrderedDict[str, tuple[str, tuple[Span, ...]]] = OrderedDict()

    def take(self, store: do.Store, timings_ms: dict[str, float]) -> list[Kept]:
        """The item as it may leave, and earlier ones of which more turns out to be personal."""
        words = words_of(store.item)
        if words is None:
            return [self._keep(store, timings_ms, None, None)]
        if store.item.get("role") != "user":
            return [self._keep(store, timings_ms, words, self._look_at_answer(store.item["id"], words))]
        known = next((turn for turn in self._turns if turn.store.item["id"] == store.item["id"]), None)
        if known is None:
            known = _Turn(store, timings_ms, words)
            self._turns.append(known)
        known.store, known.timings_ms, known.text, known.spans = store, timings_ms, words, ()
        return self._look_together(known)

    def forget(self, item_id: str) -> None:
        """It is deleted: nothing of it leaves any more."""
        self._answers.pop(item_id, None)
        self._turns = deque((turn for turn in self._turns if turn.store.item["id"] != item_id), TURNS)

    def _look_at_answer(self, item_id: str, words: str) -> tuple[Span, ...]:
        spans = tuple(find(words[:MOST_CHARACTERS], self._kinds))
        whole, known = self._answers.get(item_id, ("", ()))
        if whole.startswith(words):
            cut = [replace(span, end=min(span.end, len(words))) for span in known if span.start < len(words)]
            return merge(spans, cut)
        self._answers[item_id] = (words, spans)
        if len(self._answers) > ANSWERS:
            self._answers.popitem(last=False)
        return spans

    def _look_together(self, newest: _Turn) -> list[Kept]:
        own = find(newest.text[:MOST_CHARACTERS], self._kinds)
        newest.spans = tuple(own)
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
    if (store.heard is None) if by_caller else (store.item.get("role") != "assistant"):
        return []
    everything = store.heard or (0, ALL_SAMPLES)
    if kept.spans is None:
        return [everything] if by_caller else []
    found = []
    for span in kept.spans:
        places = [place for place in store.places if place.start < span.end and span.start < place.end]
        if not places or places[0].start > span.start or places[-1].end < span.end:
            return [everything]
        margin = MARGIN if by_caller else 0
        first = max(everything[0], min(place.first_sample for place in places) - margin)
        found.append((first, min(everything[1], max(place.last_sample for place in places) + margin)))
    return found


def words_of(item: dict[str, Any]) -> str | None:
    """What was said in an item; None where nothing was, or nobody knows."""
    parts = item.get("content", ())
    return next((part["transcript"] for part in parts if isinstance(part.get("transcript"), str)), None)


def weight(value: Any) -> int:
    """About how many characters would be looked through."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(weight(entry) for entry in value.values())
    return sum(map(weight, value)) if isinstance(value, list | tuple) else 1


def with_words(item: dict[str, Any], words: str) -> dict[str, Any]:
    """The item with these in the place of what ``words_of`` tells of it."""
    content = list(item["content"])
    place = next(place for place, part in enumerate(content) if isinstance(part.get("transcript"), str))
    content[place] = {**content[place], "transcript": words}
    return {**item, "content": content}
