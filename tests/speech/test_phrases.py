"""Where text is cut for speech, and how it is spelled there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.phrases import FIRST, LATER, SECOND, PhraseSplitter, speakable

PROSE = st.text(st.sampled_from("aAbcä .,!?;:\n\"')*-1。，你好👍é\u0301"), max_size=600)


def split(text: str) -> list[str]:
    splitter = PhraseSplitter()
    return splitter.push(text) + splitter.flush()


@given(PROSE | st.text(max_size=300))
def test_phrases_joined_are_the_text(text: str) -> None:
    phrases = split(text)
    assert "".join(phrases) == text.rstrip()
    assert all(phrase.strip() for phrase in phrases)


@given(PROSE, st.lists(st.integers(0, 600), max_size=8))
def test_cuts_do_not_depend_on_how_the_text_arrives(text: str, places: list[int]) -> None:
    splitter, phrases, start = PhraseSplitter(), [], 0
    for place in [*sorted(places), len(text)]:
        phrases += splitter.push(text[start:place])
        start = max(start, place)
    assert phrases + splitter.flush() == split(text)


@given(st.text(st.characters(categories=["Ll", "Lu"], max_codepoint=0x24F), min_size=1, max_size=2000))
def test_no_phrase_is_longer_than_its_limit(text: str) -> None:
    for phrase, lengths in zip(split(text), [FIRST, SECOND, *[LATER] * 20], strict=False):
        assert len(phrase) <= lengths.limit + 1


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("Yes. I can do that!", ["Yes.", " I can do that!"]),
        (
            "Of course, I can look that up for you now.",
            ["Of course,", " I can look that up for you now."],
        ),
        (
            "The opening hours of our office are from nine until five on weekdays.",
            ["The opening hours of our office are", " from nine until five on weekdays."],
        ),
        ("Dr. Smith pays 3.50 at 10:30 a.m. to J. Doe.", ["Dr. Smith pays 3.50 at 10:30 a.m. to J. Doe."]),
        ("See https://example.com/a.b?c=1,2 now. Bye.", ["See https://example.com/a.b?c=1,2 now.", " Bye."]),
        ("1. Open it.\n2. Close it.", ["1. Open it.", "\n2. Close it."]),
        ('"Stop!" he said. (Really.) Go.', ['"Stop!"', " he said.", " (Really.)", " Go."]),
        ("**Done.** Next?", ["**Done.**", " Next?"]),
        ("你好！请问您的订单号是多少？", ["你好！", "请问您的订单号是多少？"]),
        ("「はい。」次です。", ["「はい。」", "次です。"]),
        ("क्या हाल है? मैं ठीक हूँ।", ["क्या हाल है?", " मैं ठीक हूँ।"]),
        ("   ", []),
        ("", []),
    ],
)
def test_cuts(text: str, phrases: list[str]) -> None:
    assert split(text) == phrases


def test_a_phrase_is_certain_with_the_first_character_behind_it() -> None:
    splitter = PhraseSplitter()
    assert splitter.push("Hello there.") == []
    assert splitter.push(" ") == ["Hello there."]
    assert splitter.push("How") == []
    assert splitter.flush() == [" How"]


def test_after_a_flush_the_next_text_begins_with_a_short_phrase_again() -> None:
    splitter = PhraseSplitter()
    text = "Well then, let me see what we have got here today. "
    assert splitter.push(text)[0] == "Well then,"
    splitter.flush()
    assert splitter.push(text)[0] == "Well then,"


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("**Bold**, _soft_ and `code`", "Bold, soft and code"),
        ("# Title\n- one\n- two", "Title one two"),
        ("[our page](https://example.com)", "our page"),
        ("See https://www.example.com/help/me?x=1.", "See example dot com slash help slash me."),
        ("Mail jane.doe@example.com now", "Mail jane dot doe at example dot com now"),
        ("Great 👍🏽 👩‍👩‍👧 ❤️!", "Great !"),
        ("3 * 4 is 12, snake_case", "3 times 4 is 12, snake case"),
        ("It's 21 °C – 50 % off for €5!", "It's 21 °C – 50 % off for €5!"),
        ("```python\nprint(1)\n```", "print(1)"),
        ("你好，世界", "你好，世界"),
        ("😀", ""),
        ("---", ""),
        ("...", ""),
    ],
)
def test_text_is_spelled_as_it_is_said(text: str, spoken: str) -> None:
    assert speakable(text) == spoken


@given(st.text())
def test_spelling_is_stable(text: str) -> None:
    assert speakable(text) == "" or any(character.isalnum() for character in speakable(text))
