"""Personal data in sentences: whatever is generated is found, written or spoken, and ordinary words are left alone."""

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import phonenumbers
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn, numdb

from agents.guard.detectors import IBAN_LENGTHS, KINDS, MOST_DIGITS, PLAIN, TRUNK, Span, find
from agents.guard.spoken import DIGITS, KNOWN, read

ALL = tuple(KINDS)
WORDS = {language: words.split() for language, words in DIGITS.items()}
BEFORE = [
    "",
    "My card is ",
    "Yes, I'd like to pay; it is: ",
    "Also, meine Nummer lautet ",
    "C'est le ",
    "So. ",
    "(",
    "“",
]
BEHIND = ["", ".", " please.", ", and that is all.", " vielen Dank!", ")", "? Yes.", " expires soon"]
sentences = st.tuples(st.sampled_from(BEFORE), st.sampled_from(BEHIND))


def spell(number: str, language: str = "en") -> str:
    return " ".join(WORDS[language][int(each)] if each.isdecimal() else each for each in number)


def double(number: str) -> str:
    """As people do in English: double four, triple one."""
    parts = [(WORDS["en"][int(run[0][0])], len(run[0])) for run in re.finditer(r"(\d)\1{0,2}", number)]
    return " ".join({1: "", 2: "double ", 3: "triple "}[times] + word for word, times in parts)


def group(number: str, size: int, sign: str) -> str:
    return sign.join(number[start : start + size] for start in range(0, len(number), size))


def covered(text: str, kind: str, part: str) -> bool:
    """Whether all of ``part`` is within one span, where only this kind is looked for and where all are."""
    start = text.index(part)
    return all(
        any(span.start <= start and start + len(part) <= span.end for span in find(text, kinds))
        for kinds in ((kind,), ALL)
    )


# --- cards ---


@st.composite
def cards(draw: st.DrawFn) -> str:
    length = draw(st.integers(13, 19))
    first = draw(st.sampled_from("23456"))
    body = first + draw(st.text("0123456789", min_size=length - 2, max_size=length - 2))
    return body + luhn.calc_check_digit(body)


CARD_FORMS: list[Callable[[str], str]] = [
    str,
    lambda number: group(number, 4, " "),
    lambda number: group(number, 4, "-"),
    lambda number: group(number, 4, ", "),
    lambda number: group(number, 1, " "),
    lambda number: group(number, 2, "."),
    lambda number: group(number, 4, " - "),
    spell,
    lambda number: spell(number).replace("zero", "oh"),
    lambda number: group(number, 4, ". ").title(),
    lambda number: ", ".join(spell(part) for part in group(number, 4, "|").split("|")),
    lambda number: spell(number[:4]) + " uh " + spell(number[4:]),
    lambda number: group(number[:8], 4, " ") + " " + spell(number[8:]),
    double,
    *(lambda number, language=language: spell(number, language) for language in WORDS),
]  # fmt: skip


@given(cards(), st.sampled_from(CARD_FORMS), sentences)
@settings(max_examples=400)
def test_card_numbers_are_found_however_they_are_said(
    number: str, form: Callable[[str], str], sentence: tuple[str, str]
) -> None:
    said = form(number)
    assert covered(said.join(sentence), "card_number", said)


@given(cards(), cards())
def test_two_cards_are_both_found(first: str, second: str) -> None:
    text = f"One is {group(first, 4, ' ')} and the other {spell(second)}, I think."
    assert covered(text, "card_number", group(first, 4, " "))
    assert covered(text, "card_number", spell(second))


@given(cards())
def test_what_stands_beside_a_card_number_does_not_hide_it(number: str) -> None:
    said = group(number, 4, " ")
    assert covered(f"{said}, 12/27, 123, room 7", "card_number", said)
    assert covered(f"room 7, {said} 3 times", "card_number", said)


def test_numbers_without_the_check_digit_are_no_cards() -> None:
    assert find("4111 1111 1111 1112", ["card_number"]) == []
    assert find("0000 0000 0000 0000", ["card_number"]) == []
    assert find("41111111111111112345678", ["card_number"]) == []


@pytest.mark.parametrize(
    "text",
    ["The CVV is 123.", "security code: 1234", "CVC one two three", "Prüfziffer ist vier fünf sechs", "cvc2 is 9 8 7"],
)
def test_the_code_beside_a_card_number_is_found_where_it_is_named(text: str) -> None:
    (span,) = find(text, ALL)
    assert span.kind == "card_security_code"
    assert len(text[span.start : span.end].split()) in (1, 3)


# --- accounts ---


@st.composite
def ibans(draw: st.DrawFn) -> str:
    country = draw(st.sampled_from(sorted(IBAN_LENGTHS)))
    register = numdb.get("iban").info(country)[0][1]["bban"]
    signs = {"n": "0123456789", "a": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "c": "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"}
    body = "".join(
        draw(st.text(signs[sort], min_size=int(size), max_size=int(size)))
        for size, sort in re.findall(r"(\d+)!([nac])", register)
    )
    return country + iban.calc_check_digits(f"{country}00{body}") + body


IBAN_FORMS: list[Callable[[str], str]] = [
    str,
    str.lower,
    lambda number: group(number, 4, " "),
    lambda number: group(number, 4, "-"),
    lambda number: group(number, 1, " "),
    spell,
    lambda number: spell(number, "de"),
    lambda number: number[:2] + " " + spell(number[2:]),
]


@given(ibans(), st.sampled_from(IBAN_FORMS), sentences)
@settings(max_examples=300)
def test_ibans_are_found(number: str, form: Callable[[str], str], sentence: tuple[str, str]) -> None:
    said = form(number)
    assert covered(said.join(sentence), "iban", said)


# --- addresses ---

names = st.from_regex(r"[a-z]{2,8}([._-][a-z0-9]{2,6})?", fullmatch=True)
hosts = st.from_regex(r"[a-z]{2,10}(-[a-z]{2,5})?(\.[a-z]{2,6})?\.(com|de|org|co\.uk|museum)", fullmatch=True)
SAID = {".": " dot ", "-": " dash ", "_": " underscore ", "@": " at "}
GESAGT = {".": " Punkt ", "-": " minus ", "_": " Unterstrich ", "@": " ät "}


@given(names, hosts, st.sampled_from([{}, SAID, GESAGT, {"@": " at "}, {"@": " @ "}]), sentences)
@settings(max_examples=300)
def test_emails_are_found(name: str, host: str, table: dict[str, str], sentence: tuple[str, str]) -> None:
    # A name that is itself a sign's word, such as at@example.com, is two signs when it is said.
    assume("xn--" not in host and KNOWN.isdisjoint(re.split(r"[.@_-]", f"{name}@{host}")))
    said = "".join(table.get(sign, sign) for sign in f"{name}@{host}")
    assert covered(said.join(sentence), "email", said)


@pytest.mark.parametrize(
    "said",
    ["j o h n dot smith at g m x dot de", "J, O, H, N at example dot com", "john underscore 7 at example dot co dot uk",
     "JOHN at EXAMPLE dot COM", "o'hara+news@example.com", "jürgen@müller.example"],
)  # fmt: skip
def test_emails_are_found_letter_by_letter(said: str) -> None:
    assert covered(f"Write to {said} please.", "email", said)


@given(st.ip_addresses(), sentences)
def test_ip_addresses_are_found(address: IPv4Address | IPv6Address, sentence: tuple[str, str]) -> None:
    assume(not address.is_unspecified)
    assert covered(str(address).join(sentence), "ip_address", str(address))


@given(st.ip_addresses(v=4))
def test_ip_addresses_are_found_in_words(address: IPv4Address) -> None:
    said = spell(str(address).replace(".", "|")).replace("|", "dot")
    assert covered(f"The server is at {said} today.", "ip_address", said)


# --- telephones ---

EXAMPLES = [
    phonenumbers.example_number_for_type(region, kind)
    for region in phonenumbers.SUPPORTED_REGIONS
    for kind in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE)
]
NUMBERS = [number for number in EXAMPLES if number is not None]
AS = phonenumbers.PhoneNumberFormat


@pytest.mark.parametrize("form", [AS.INTERNATIONAL, AS.E164])
def test_international_numbers_of_every_country_are_found(form: int) -> None:
    assert len(NUMBERS) > 400
    for number in NUMBERS:
        said = phonenumbers.format_number(number, form)
        if len(re.findall(r"\d", said)) >= 7:
            assert covered(f"Reach me at {said}, please.", "phone_number", said), said


def test_international_numbers_are_found_in_words() -> None:
    for number in NUMBERS[::7]:
        digits = phonenumbers.format_number(number, AS.E164)[1:]
        if len(digits) >= 7:
            said = "plus " + spell(digits)
            assert covered(f"It is {said}.", "phone_number", said), said


@pytest.mark.parametrize("region", [*TRUNK, *PLAIN])
@pytest.mark.parametrize("sentence", [("My phone number is ", "."), ("", ""), ("Ja: ", ".")])
def test_national_numbers_are_found_where_they_are_said_to_be_or_are_all_that_is_said(
    region: str, sentence: tuple[str, str]
) -> None:
    number = phonenumbers.example_number(region)
    written = phonenumbers.format_number(number, AS.NATIONAL)
    spoken = spell(re.sub(r"\D", "", written))
    for said in (written, spoken):
        digits = re.search(r"[\d(].*", said) if said is written else None
        part = digits[0] if digits else said
        assert covered(said.join(sentence), "phone_number", part.lstrip("(")), said


def test_a_number_that_begins_like_a_telephones_needs_no_word() -> None:
    text = "Please, if anything changes until tomorrow, then use 0170 1234567 and ask for the manager of the shop."
    assert [text[span.start : span.end] for span in find(text, ALL)] == ["0170 1234567"]


# --- birthdays ---

DATES = [
    "3.5.1980", "03/05/80", "1980-05-03", "3rd of May 1980", "May 3, 1980", "May 3rd", "3 May 1980", "3. Mai 1980",
    "3 mai 1980", "3 de mayo de 1980", "3 maggio 1980", "the third of May nineteen eighty", "03 05 1980",
    "dritter Mai neunzehnhundertachtzig", "twenty first of June two thousand and one", "May the third, nineteen eighty",
]  # fmt: skip


@pytest.mark.parametrize("date", DATES)
@pytest.mark.parametrize(
    "sentence", ["I was born on {}.", "Date of birth: {}", "{} is my birthday", "geboren am {}", "née le {}"]
)
def test_birthdays_are_found_where_they_are_said_to_be(date: str, sentence: str) -> None:
    said = date.removeprefix("the ")
    assert covered(sentence.format(date), "date_of_birth", said)


@pytest.mark.parametrize("date", DATES)
def test_other_dates_are_left(date: str) -> None:
    assert "date_of_birth" not in {span.kind for span in find(f"We arrive on {date}, for two nights.", ALL)}


# --- people's numbers ---

CHINESE = "110001198001010015"
"""Of a province, and of a county there that the library's register does not have."""


@pytest.mark.parametrize(
    "number",
    [
        "36574261809", "85.07.30-033 28", "390.533.447-05", "17291716060", "44051401458", "15108695088",
        "2 95 10 99 126 111 93", "756.9217.0769.85", "1630615123457", "7503305044089", "360426199101010071",
        "RSSMRA85T10A562S", "r s s m r a 8 5 t 1 0 a 5 6 2 s", "BOXW310820HNERXN09", "54362315K", "x 2482300w",
        "131052-308T", "078-05-1120", "QQ 12 34 56 C".replace("QQ", "AB"), "11010519491231002X", CHINESE,
        "three six five seven four two six one eight zero nine",
    ],
)  # fmt: skip
def test_peoples_numbers_are_found_by_themselves(number: str) -> None:
    assert covered(f"Mine is {number}, as it says here.", "national_id", number)


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("social security number", "536904399"), ("SSN", "five three six nine zero four three nine nine"),
        ("BSN", "111222333"), ("NHS number", "943 476 5870"), ("Aadhaar", "2341 2341 2346"), ("CPR", "211062-5629"),
        ("personnummer", "880320-0016"), ("Sozialversicherungsnummer", "1237 010180"), ("OIB", "33392005961"),
        ("social insurance number", "123 456 782"),
    ],
)  # fmt: skip
def test_peoples_numbers_are_found_where_they_are_named(words: str, number: str) -> None:
    assert covered(f"My {words} is {number}.", "national_id", number)
    assert find(f"My order is {number} of many things that I had asked for long ago.", ["national_id"]) == []


# --- as a recogniser hears it ---


@pytest.mark.parametrize(
    ("kind", "text", "part"),
    [
        ("card_number", "My card number is 4-11-11. 1-11-11-11-11-11.", "4-11-11. 1-11-11-11-11-11"),
        ("card_number", "It is 5425-234-30109903. It expires in May.", "5425-234-30109903"),
        ("email", "You can write to Ann Dot Smith at example.com.", "Ann Dot Smith at example.com"),
        ("email", "My email is JOHN at gmail.com. Thanks.", "JOHN at gmail.com"),
        ("phone_number", "My phone number is 0170. 123-4567.", "0170. 123-4567"),
        ("phone_number", "Please call me at plus 4.9 170-1234-567.", "plus 4.9 170-1234-567"),
        ("date_of_birth", "My date of birth is May, the third 1980.", "May, the third 1980"),
        ("national_id", "My Social Security number is 536-90-4399.", "536-90-4399"),
        ("national_id", "My passport is C 01 X 00 1234567.", "1234567"),
        ("iban", "The account is DE8-937040440532013000.", "DE8-937040440532013000"),
    ],
)
def test_what_was_misheard_is_found_where_it_is_named(kind: str, text: str, part: str) -> None:
    assert covered(text, kind, part)
    assert find(text, ALL)[-1].kind == kind


# --- what is left alone ---

ORDINARY = [
    "I would like a table for two at seven, one of the small ones.",
    "The order 12345678 of 12.03.2024 has 3 items for 1,234.56 euros, at 15:30.",
    "Room 204, floor 2, from 9 to 5, 24/7, 100 percent.",
    "Meet me at noon. At least one of us is there; dot your i's.",
    "Version 3.11.7 and 2.0; 1/2 cup; 3-4 days; 10,000 steps; the years 2019, 2020, 2021 and 2022.",
    "Flight LH 400 leaves gate B 22 at 10 45, seat 12 A.",
    "Ich hätte gern zwei Zimmer für drei Nächte, vom dritten bis zum sechsten Mai.",
    "J'ai deux enfants et un chien, nous arrivons à huit heures dix.",
    "One two three, testing. Four five six.",
    "You are born to run; birthday cake for 12 people.",
    "SELECT 1; x = 3 * 4; #42; 50 %",
    "",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_words_are_left_alone(text: str) -> None:
    assert find(text, ALL) == []


@given(st.text(), st.sets(st.sampled_from(ALL)))
@example("４１１１ 1111 1111 1111", {"card_number"})
@example("İ @ ß.com ﬃ 12", set(ALL))
def test_spans_are_in_order_within_the_text_and_of_what_was_asked_for(text: str, kinds: set[str]) -> None:
    found = find(text, kinds)
    end = 0
    for span in found:
        assert end <= span.start < span.end <= len(text)
        assert span.kind in kinds
        end = span.end


PARTS = [
    "one", "double", "dot", "at", "plus", "+", "4111", "DE89", "AT", "born", "phone", ".", ",", "a", "@", "::", "(",
    "um", "-", "dash",
]  # fmt: skip
MIXTURE = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3), cards()), max_size=30).map(" ".join)


@given(MIXTURE)
@settings(max_examples=300)
def test_more_kinds_find_no_less(text: str) -> None:
    def places(kinds: tuple[str, ...]) -> set[int]:
        return {place for span in find(text, kinds) for place in range(span.start, span.end)}

    everything = places(ALL)
    assert all(places((kind,)) <= everything for kind in ALL)


@given(MIXTURE)
def test_every_place_of_a_reading_is_known(text: str) -> None:
    reading = read(text)
    last = 0
    for index in range(len(reading.text)):
        start, end = reading.source(index, index + 1)
        assert last <= start < end <= len(text)
        if not reading.is_said(index):
            assert text[start:end] == reading.text[index]
        last = start


def test_more_digits_than_anybody_says_are_found_as_they_are() -> None:
    text = "It is " + "1 2 " * (MOST_DIGITS // 2 + 1) + "indeed."
    assert find(text, ["national_id"]) == [Span(6, len(text) - 8, "national_id")]
    assert find("1" * MOST_DIGITS, ["national_id"]) == []


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'shoe_size'; there are card_number"):
        find("42", ["shoe_size"])
    assert find("4111 1111 1111 1111", []) == []


def test_every_kind_is_described() -> None:
    assert all(words[0].isupper() and not words.endswith(".") for words in KINDS.values())
