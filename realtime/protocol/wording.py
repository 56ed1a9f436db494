"""How the audio of a turn becomes words, stretch by stretch, and what of them may be told when.

1. What was told of an item is the beginning of its transcript, whatever the recogniser thinks later.
2. Words are told in the order in which they were said.
3. While a stretch is still being said, a word is told once two guesses, one after the other, agree on it and on all
   words before it (local agreement).
"""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from realtime.protocol.effects import Place
from realtime.protocol.item import Item
from speech.engines import TTS_HZ, Segment, Transcript, Word

# Languages that put no space between sentences.
UNSPACED = ("zh", "yue", "ja", "th", "lo", "km", "my")
NEARBY = 40
"""How many words apart two transcripts are searched for their like: all against all takes too long."""
PUNCTUATION = string.punctuation + "¿¡。，、！？：；「」『』…–—’‘“”"


def plain(word: Word) -> str:
    """What two guesses must agree on: case and punctuation come and go with the words around."""
    return word.text.strip().strip(PUNCTUATION).casefold()


def words_of(transcript: Transcript) -> tuple[Word, ...]:
    """Also of an engine that gives no words of its own."""
    return transcript.words or tuple(Word(word, 0.0, 0.0, 1.0) for word in transcript.text.split())


def ends_of(text: str, words: Sequence[Word]) -> list[int]:
    """Where each word ends in ``text``; one that is not found ends where the one before it does."""
    ends, at = [], 0
    for word in words:
        found = text.find(word.text.strip(), at)
        at = at if found < 0 else found + len(word.text.strip())
        ends.append(at)
    return ends


def agreed_words(before: Sequence[Word], now: Sequence[Word]) -> int:
    """How many words both guesses begin with."""
    count = 0
    for one, other in zip(before, now, strict=False):
        if plain(one) != plain(other):
            break
        count += 1
    return count


def place_after(told: Sequence[Word], words: Sequence[Word]) -> int:
    """Index of the first of ``words`` that comes after what was told, though they may not begin with it."""
    if agreed_words(told, words) == len(told):
        return len(told)
    tail = max(len(told) - NEARBY, 0)
    first = max(tail - NEARBY, 0)
    heard, now = [plain(word) for word in told[tail:]], [plain(word) for word in words[first : len(told) + NEARBY]]
    blocks = SequenceMatcher(None, heard, now, autojunk=False).get_matching_blocks()
    ends = [(tail + block.a + block.size, first + block.b + block.size) for block in blocks if block.size]
    matched_told, matched = ends[-1] if ends else (0, 0)
    # What was told behind the last word that both have was heard otherwise now.
    return min(matched + len(told) - matched_told, len(words))


@dataclass
class Stretch:
    """A part of a turn that is recognised at once. It begins at sample ``start`` of the call.

    ``parts`` is what may be told, and only grows. ``job_id`` is its transcription, once that was asked for, up to
    sample ``end``; ``closed``: no more audio belongs to it, so the transcription stands.
    """

    start: int
    end: int = 0
    job_id: str | None = None
    closed: bool = False
    done: bool = False
    parts: list[Segment] = field(default_factory=list)
    heard: list[Segment] = field(default_factory=list)
    transcript: Transcript | None = None
    failure: tuple[str, str] | None = None
    _guessed: list[Word] = field(default_factory=list)
    _guess: tuple[Word, ...] | None = None

    def reopen(self) -> None:
        """The caller goes on: what was recognised of it lacks what comes now. What was told of it stays told."""
        self.job_id = self.transcript = self.failure = None
        self.heard = []
        if self.parts and not self._guessed:
            text = "".join(part.text for part in self.parts)
            words = tuple(word for part in self.parts for word in part.words)
            self._guessed = list(words_of(Transcript(text, "", 0.0, words)))

    def guess(self, transcript: Transcript) -> None:
        """It sounds like this so far, and there is more to come."""
        words, before, told = words_of(transcript), self._guess, len(self._guessed)
        self._guess = words
        if before is None or agreed_words(self._guessed, words) < told:
            return
        agreed = agreed_words(before, words)
        if agreed <= told:
            return
        ends = [0, *ends_of(transcript.text, words)]
        self._guessed += words[told:agreed]
        self._add(transcript.text[ends[told] : ends[agreed]], transcript.words[told:agreed])

    def advance(self) -> None:
        """Once it is closed, what was recognised may be told."""
        if not self.closed or self.done:
            return
        if not self._guessed:
            for segment in self.heard:
                self._add(segment.text, segment.words)
            self.heard = []
        if self.transcript is not None:
            self._add_rest(self.transcript)
            self.done = True

    def _add(self, text: str, words: tuple[Word, ...]) -> None:
        if not self.parts:
            text = text.lstrip()
        if text:
            self.parts.append(Segment(text, words))

    def _add_rest(self, transcript: Transcript) -> None:
        """What the transcript says beyond the parts."""
        words, told = words_of(transcript), "".join(part.text for part in self.parts)
        ends = ends_of(transcript.text, words)
        if transcript.text.startswith(told):
            first, at = sum(1 for end in ends if end <= len(told)), len(told)
        else:
            first = place_after(self._guessed or [Word(word, 0.0, 0.0, 1.0) for word in told.split()], words)
            at = ends[first - 1] if first else len(transcript.text)
        self._add(transcript.text[at:].rstrip(), transcript.words[first:])


def joint(language: str) -> str:
    return "" if language in UNSPACED else " "


@dataclass
class Wording:
    """All words of one item: its stretches in order, at least one. ``told`` counts the parts that deltas have said."""

    item_id: str
    stretches: list[Stretch]
    item: Item | None = None
    told: int = 0

    def __post_init__(self) -> None:
        self.start = self.stretches[0].start

    @property
    def last(self) -> Stretch:
        return self.stretches[-1]

    @property
    def done(self) -> bool:
        return all(stretch.done for stretch in self.stretches)

    @property
    def failure(self) -> tuple[str, str] | None:
        return next((stretch.failure for stretch in self.stretches if stretch.failure is not None), None)

    @property
    def recognised_by(self) -> tuple[str, str]:
        """Engine and model; those of the last stretch, where workers differ."""
        known = [stretch.transcript for stretch in self.stretches if stretch.transcript is not None]
        return (known[-1].engine, known[-1].model) if known else ("", "")

    @property
    def text(self) -> str:
        return "".join(part.text for _, part in self.parts())

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for _, part in self.parts() for word in part.words)

    def places(self) -> tuple[Place, ...]:
        """Where each word is in the text and in the call, of the words whose time the recogniser tells."""
        timed = [(stretch, word) for stretch, part in self.parts() for word in part.words]
        found, before = [], 0
        for (stretch, word), end in zip(timed, ends_of(self.text, [word for _, word in timed]), strict=True):
            if end > before and word.end_s > word.start_s:
                first, last = (stretch.start + int(second * TTS_HZ) for second in (word.start_s, word.end_s))
                found.append(Place(end - len(word.text.strip()), end, first, last))
            before = end
        return tuple(found)

    def advance(self) -> None:
        for stretch in self.stretches:
            stretch.advance()

    def parts(self) -> Iterator[tuple[Stretch, Segment]]:
        """What may be told, in order, with a space between stretches; nothing behind a stretch that is not done."""
        language: str | None = None
        for stretch in self.stretches:
            for index, part in enumerate(stretch.parts):
                if index == 0 and language is not None:
                    part = Segment(joint(language) + part.text, part.words)
                yield stretch, part
            if not stretch.done or stretch.transcript is None:
                return
            if stretch.parts:  # of this stretch, for the next may not know its own yet
                language = stretch.transcript.language
