"""How text that was spoken would be written: ``four double one`` as ``4 11``, ``a dot b at example dot com`` as
``a.b@example.com``; and where in the text each part of that stands."""

import re
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass

WORD = re.compile(r"(?<!\w)[^\W\d_]+(?!\w)")
FIGURE = re.compile(r"[\s,.-]{1,3}\d")
DIGITS = {
    "en": "zero one two three four five six seven eight nine",
    "de": "null eins zwei drei vier fünf sechs sieben acht neun",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "it": "zero uno due tre quattro cinque sei sette otto nove",
    "pt": "zero um dois três quatro cinco seis sete oito nove",
    "nl": "nul een twee drie vier vijf zes zeven acht negen",
}
OTHER_DIGITS = {"oh": "0", "nought": "0", "zwo": "2", "ein": "1", "fuenf": "5", "duas": "2", "meia": "6", "één": "1"}
TEENS = {
    "en": "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
    "de": "zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn",
}
TENS = {
    "en": "twenty thirty forty fifty sixty seventy eighty ninety",
    "de": "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
}
GERMAN_ONES = "ein zwei drei vier fünf sechs sieben acht neun"
TIMES = {"double": 2, "doppel": 2, "doble": 2, "dubbel": 2, "triple": 3, "treble": 3}
SIGNS = {
    ".": "dot period punkt point punto ponto punt",
    "@": "at ät arroba arobase chiocciola apenstaartje klammeraffe",
    "-": "dash hyphen minus bindestrich strich tiret guion guión trattino streepje hífen",
    "_": "underscore unterstrich",
    "+": "plus más mais più",
    "/": "slash schrägstrich",
}
FILLERS = frozenset(["um", "uh", "äh", "ähm", "euh", "eh", "then", "space", "leerzeichen"])


def _numbers() -> dict[str, str]:
    table = dict(OTHER_DIGITS)
    for words in DIGITS.values():
        table |= {word: str(digit) for digit, word in enumerate(words.split())}
    for words in TEENS.values():
        table |= {word: str(number) for number, word in enumerate(words.split(), 10)}
    for words in TENS.values():
        table |= {word: str(number * 10) for number, word in enumerate(words.split(), 2)}
    for ten, tens in enumerate(TENS["de"].split(), 2):
        table |= {f"{one}und{tens}": f"{ten}{number}" for number, one in enumerate(GERMAN_ONES.split(), 1)}
    return table


NUMBERS = _numbers()
ENGLISH_TENS = frozenset(TENS["en"].split())
ONES = frozenset(DIGITS["en"].split()[1:])
SIGN_WORDS = {word: sign for sign, words in SIGNS.items() for word in words.split()}
PORTUGUESE = frozenset(DIGITS["pt"].split()[2:])
"""In their company ``um`` is a number and no hesitation."""
KNOWN = NUMBERS.keys() | TIMES.keys() | SIGN_WORDS.keys() | FILLERS


@dataclass(frozen=True, slots=True)
class Reading:
    """``text`` as it would be written. ``pieces`` are what differs from what was said: where each begins and ends in
    ``text``, and where what it stands for began and ended."""

    text: str
    pieces: tuple[tuple[int, int, int, int], ...] = ()
    begins: tuple[int, ...] = ()

    def source(self, start: int, end: int) -> tuple[int, int]:
        """Where ``text[start:end]`` was said; what is half within stands there as a whole."""
        return self._place(start, end=False), self._place(end - 1, end=True)

    def _place(self, index: int, *, end: bool) -> int:
        found = bisect_right(self.begins, index) - 1
        if found < 0:
            return index + end
        _, piece_end, said, said_end = self.pieces[found]
        if index < piece_end:
            return said_end if end else said
        return said_end + index - piece_end + end

    def is_said(self, index: int) -> bool:
        """Whether this stands for other words."""
        found = bisect_right(self.begins, index) - 1
        return found >= 0 and index < self.pieces[found][1]


def read(text: str) -> Reading:
    words = [match for match in WORD.finditer(text) if match[0].lower() in KNOWN]
    if not words:
        return Reading(text)
    fillers = FILLERS
    if any(match[0].lower() in PORTUGUESE for match in words):
        fillers = FILLERS - {"um"}
    written: list[str] = []
    pieces: list[tuple[int, int, int, int]] = []
    begins: list[int] = []
    taken = length = place = 0
    while place < len(words):
        start, end, piece, used = _piece(text, words, place, fillers)
        place += used
        if start < taken:  # the spaces before it went with the word before
            start = taken
        plain = text[taken:start]
        length += len(plain)
        written += (plain, piece)
        pieces.append((length, length + len(piece), start, end))
        begins.append(length)
        length += len(piece)
        taken = end
    written.append(text[taken:])
    return Reading("".join(written), tuple(pieces), tuple(begins))


def _piece(text: str, words: list[re.Match[str]], place: int, fillers: Collection[str]) -> tuple[int, int, str, int]:
    """What the word at ``place``, and the next where both are one number, would be written like: where that was said,
    and how many words it takes."""
    match = words[place]
    word, (start, end) = match[0].lower(), match.span()
    following = words[place + 1] if place + 1 < len(words) else None
    if sign := SIGN_WORDS.get(word):
        # As in an address: no space around it. A plus stands before a number.
        while sign != "+" and start and text[start - 1].isspace():
            start -= 1
        while end < len(text) and text[end].isspace():
            end += 1
        return start, end, sign, 1
    if word in fillers and _leads_to_number(text, end, following):
        return start, end, " ", 1
    if word not in NUMBERS and word not in TIMES:
        return start, end, match[0], 1
    adjoins = following is not None and text[end : following.start()] in (" ", "-")
    if times := TIMES.get(word):
        if adjoins and following is not None and len(digit := NUMBERS.get(following[0].lower(), "")) == 1:
            return start, following.end(), digit * times, 2
        if (digit := text[end + 1 : end + 2]).isdecimal() and not text[end + 2 : end + 3].isdecimal():
            return start, end + 2, digit * times, 1
        return start, end, match[0], 1
    number = NUMBERS[word]
    if adjoins and following is not None and word in ENGLISH_TENS and following[0].lower() in ONES:
        return start, following.end(), number[0] + NUMBERS[following[0].lower()], 2
    return start, end, number, 1


def _leads_to_number(text: str, end: int, following: re.Match[str] | None) -> bool:
    """Whether a number comes next: elsewhere a filler is a word like any other."""
    if FIGURE.match(text, end):
        return True
    if following is None or text[end : following.start()].strip(" ,.-"):
        return False
    return following[0].lower() in NUMBERS or following[0].lower() in TIMES
