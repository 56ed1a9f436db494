"""Finding what a guard rail forbids. Pure, and quick enough for each phrase of a call."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from agents.guard.detectors import find
from agents.spec import GuardRail

SPACE = re.compile(r"\s+")
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese letters."""
SEARCHED_CHARACTERS, DETECTED_CHARACTERS = 20_000, 2_000
"""For phrases and for personal data: a few milliseconds of work."""
DETECTABLE_CHARACTERS = 80
"""What a model writes of personal data is hardly longer."""


def find_rail(rails: Sequence[GuardRail], on: Literal["input", "output"], text: str) -> GuardRail | None:
    """The first of ``rails`` that forbids something in ``text``, of which only the end counts where it is very long.
    Phrases are found as whole words in any case, however many spaces are between them."""
    text = text[-SEARCHED_CHARACTERS:]
    if not text.strip():
        return None
    for rail in rails:
        if rail.on != on:
            continue
        if rail.phrases and _pattern(rail.phrases).search(text):
            return rail
        if rail.detects and find(text[-DETECTED_CHARACTERS:], rail.detects):
            return rail
    return None


@lru_cache(maxsize=1_024)
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    written = [_bounded(phrase.split()) for phrase in phrases if phrase.strip()]
    return re.compile("|".join(written) if written else r"(?!)", re.IGNORECASE)


def _bounded(words: list[str]) -> str:
    """No letter or digit on either side, but where the script puts no spaces between words."""
    before = "" if UNSPACED.match(words[0][0]) else r"(?<!\w)"
    after = "" if UNSPACED.match(words[-1][-1]) else r"(?!\w)"
    return before + r"\s+".join(re.escape(word) for word in words) + after


def longest_match(rails: Sequence[GuardRail], on: Literal["input", "output"]) -> int:
    """The most characters that a match of these has, with single spaces between words."""
    lengths = [0]
    for rail in rails:
        if rail.on == on:
            lengths += [len(SPACE.sub(" ", phrase.strip())) for phrase in rail.phrases]
            lengths += [DETECTABLE_CHARACTERS] if rail.detects else []
    return max(lengths)
