"""Text to phrases for speech: cut a growing text where a speaker would breathe, and spell it as it is said.

The first phrase is short, because its audio is what the caller waits for (Kokoro, two cores: five words 0.24 s, ten
0.5 s, seventeen 1.0 s); the second is bounded so that it is ready before the first has been heard; later ones are
sentences.
Lengths are counted in Latin characters; a wide character (Chinese, Japanese, Korean) counts three.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lengths:
    """When to cut. A clause mark cuts from ``clause`` on, an English joining word from ``joint`` on, any space from
    ``space`` on; at ``limit`` the text is cut wherever it is. None: never."""

    clause: int | None
    joint: int | None
    space: int | None
    limit: int


FIRST = Lengths(clause=10, joint=22, space=60, limit=120)
SECOND = Lengths(clause=45, joint=90, space=130, limit=180)
LATER = Lengths(clause=110, joint=170, space=200, limit=240)

SENTENCE_MARKS = frozenset(".!?…")
WIDE_SENTENCE_MARKS = frozenset("。！？｡।॥؟۔")
CLAUSE_MARKS = frozenset(",;:—–")
WIDE_CLAUSE_MARKS = frozenset("、，；：،؛")
CLOSERS = frozenset("\"'”’)]}»」』）】*_`")
ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr prof sr jr st vs etc inc ltd co corp approx dept est fig gen gov hon no nr tel vol cf al
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun ave blvd rd apt
    z.b d.h usw bzw ca mme mlle
    """.split()  # noqa: SIM905
)
JOINTS = frozenset(
    """
    and but or because so which who whose when while where whereas if unless until although though since after before
    with without for from into through between during that than then
    """.split()  # noqa: SIM905
)
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")


class PhraseSplitter:
    """Cuts text that arrives piece by piece.

    Joined, the phrases are the text without its trailing whitespace; whitespace between phrases leads the later one.
    Where the text is cut depends on the text alone, never on how it was divided into pieces.
    """

    def __init__(self, *lengths: Lengths) -> None:
        """``lengths`` hold for the first phrase, the second, and so on; the last one for all further ones."""
        self._lengths = lengths or (FIRST, SECOND, LATER)
        self._phrases = 0
        self._begin_phrase("")

    @staticmethod
    def whole(text: str, limit: int) -> list[str]:
        """A finished text in sentences of at most ``limit``."""
        splitter = PhraseSplitter(Lengths(clause=None, joint=None, space=limit * 4 // 5, limit=limit))
        return splitter.push(text) + splitter.flush()

    def push(self, text: str) -> list[str]:
        """More text; gives the phrases that are now certain."""
        return [phrase for character in text for phrase in self._feed(character)]

    def flush(self) -> list[str]:
        """The text is at its end; gives the rest. The next text begins anew."""
        rest = self._text.rstrip()
        self._phrases = 0
        self._begin_phrase("")
        return [rest] if rest else []

    def _begin_phrase(self, text: str) -> None:
        self._text = text
        self._length = sum(map(_width, text))
        self._word_start = 0
        self._word_start_length = 0

    def _feed(self, character: str) -> Iterator[str]:
        if self._text and not self._text.isspace():
            lengths = self._lengths[min(self._phrases, len(self._lengths) - 1)]
            cut = self._cut_before(character, lengths)
            if cut:
                yield self._text[:cut]
                self._phrases += 1
                self._begin_phrase(self._text[cut:])
        if not self._text or (self._text[-1].isspace() and not character.isspace()):
            self._word_start, self._word_start_length = len(self._text), self._length
        self._text += character
        self._length += _width(character)

    def _cut_before(self, character: str, lengths: Lengths) -> int:
        """Where to cut now that ``character`` follows the text: the length of the finished phrase, or 0."""
        end = len(self._text)
        if self._text[-1].isspace():
            return 0
        closed = self._text.rstrip("".join(CLOSERS))
        mark = closed[-1:]
        if character.isspace():
            if character == "\n" or (mark in SENTENCE_MARKS and self._ends_sentence(closed)):
                return end
            if mark in CLAUSE_MARKS and _reached(self._length, lengths.clause):
                return end
            if _reached(self._length, lengths.space):
                return end
            # The phrase ends before the joining word, whose leading space goes with it.
            word = self._text[self._word_start :].lower()
            before = len(self._text[: self._word_start].rstrip())
            if before and word in JOINTS and _reached(self._word_start_length, lengths.joint):
                return before
        elif character not in CLOSERS and mark not in SENTENCE_MARKS | CLAUSE_MARKS:
            more = character in WIDE_SENTENCE_MARKS or character in WIDE_CLAUSE_MARKS
            if mark in WIDE_SENTENCE_MARKS and not more:
                return end
            if mark in WIDE_CLAUSE_MARKS and not more and _reached(self._length, lengths.clause):
                return end
        if self._length >= lengths.limit and not _joins(self._text[-1], character):
            return end
        return 0

    def _ends_sentence(self, closed: str) -> bool:
        if closed[-1] != ".":
            return True
        word = closed[self._word_start :].lstrip("\"'“‘([{«*_`")[:-1]
        if word.lower() in ABBREVIATIONS or _INITIALS.fullmatch(word):
            return False
        # "1. Open the lid": the number of a list's point, not a sentence.
        return not (word.isdigit() and closed[:-1].strip() == word)


def _reached(length: int, least: int | None) -> bool:
    return least is not None and length >= least


def _width(character: str) -> int:
    return 3 if unicodedata.east_asian_width(character) in "WF" else 1


def _joins(last: str, character: str) -> bool:
    """Whether the two belong to one visible character: an accent, a variation, a joined emoji."""
    joiners = "\u200d\ufe0e\ufe0f"
    return character in joiners or last == "\u200d" or unicodedata.combining(character) != 0


_FENCE = re.compile(r"```[^\n`]*")
_IMAGE_OR_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"'”’)\]}*]+[^\s<>\"'”’)\]}*.,;:!?…]")
_EMAIL = re.compile(r"\b([\w.+-]+)@([\w-]+(?:\.[\w-]+)+)\b")
_LINE_MARKUP = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]?|[-+*•][ \t]+)", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*(?:[-*_=][ \t]*){3,}$", re.MULTILINE)
_TIMES = re.compile(r"(?<=\d)\s*[*×]\s*(?=\d)")
_TABLE_BAR = re.compile(r"\s*\|\s*")
_WORD_UNDERSCORE = re.compile(r"(?<=\w)_(?=\w)")
_EMPHASIS = re.compile(r"[*_`~]+")
_EMOJI = re.compile(
    "[\U0001f000-\U0001faff\U00002600-\U000027bf\U0001f1e6-\U0001f1ff\U000e0020-\U000e007f"
    "\u2190-\u21ff\u2b00-\u2bff\u200d\ufe0e\ufe0f\u20e3]+"
)


def speakable(text: str) -> str:
    """The text as it is said: no markup, no emoji, addresses in words. For synthesis only; a transcript keeps the text.

    Empty when nothing of it can be said.
    """
    text = _FENCE.sub(" ", text)
    text = _IMAGE_OR_LINK.sub(r"\1", text)
    text = _URL.sub(lambda found: _spell_url(found.group()), text)
    text = _EMAIL.sub(lambda found: f"{found[1].replace('.', ' dot ')} at {found[2].replace('.', ' dot ')}", text)
    text = _RULE.sub(" ", text)
    text = _LINE_MARKUP.sub("", text)
    text = _TIMES.sub(" times ", text)
    text = _TABLE_BAR.sub(", ", text) if "|" in text else text
    text = _WORD_UNDERSCORE.sub(" ", text)
    text = _EMPHASIS.sub("", text)
    text = _EMOJI.sub(" ", text)
    text = " ".join(text.split())
    return text if any(character.isalnum() for character in text) else ""


def _spell_url(url: str) -> str:
    """``https://www.example.com/help?x=1`` is said as "example dot com slash help"."""
    address = re.sub(r"^(?:https?://)?(?:www\.)?", "", url)
    address = re.split(r"[?#]", address, maxsplit=1)[0].rstrip("/")
    spoken = address.replace(".", " dot ").replace("/", " slash ").replace("_", " ")
    return " ".join(re.sub(r"[-~:%&=+]", " ", spoken).split())
