"""Finding personal data in what was said or written. Pure, and quick enough for each item of a call.

What is looked for is written in the usual ways, or as speech writes it (``agents.guard.spoken``). Numbers are taken for
what they say of themselves: a check digit, a country code. Who hears a number may mishear a digit, so a number that is
named by a word near it needs no check digit. In doubt more is found than less.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from ipaddress import ip_address
from typing import Any

import phonenumbers
from stdnum import iban, numdb

from agents.guard.spoken import Reading, read

KINDS: dict[str, str] = {
    "card_number": "Numbers of credit and debit cards",
    "card_security_code": "The three or four digits of a card that are asked for beside its number",
    "iban": "Numbers of bank accounts (IBAN)",
    "national_id": "Tax, social security and identity numbers of people",
    "email": "E-mail addresses",
    "ip_address": "IP addresses",
    "phone_number": "Telephone numbers",
    "date_of_birth": "Dates that are said to be somebody's birthday",
}
"""What can be found, in words for people. Of two kinds in one place the first counts."""

LETTERED = ("iban", "national_id", "email")
MOST_DIGITS = 400
"""Of digits in a row no more are looked at one by one: what is longer is found as it is, whatever it may be."""
ECHO_DIGITS = 4
"""So many digits of a number that is known are taken for a part of it."""
NEAR = 60
"""How many characters before or behind a number a word may be that says what it is."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """``text[start:end]`` is of this kind."""

    start: int
    end: int
    kind: str


def find(text: str, kinds: Collection[str]) -> list[Span]:
    """What of ``kinds`` is in ``text``, in order; spans do not overlap. Raises ValueError for an unknown kind."""
    if unknown := set(kinds) - KINDS.keys():
        raise ValueError(f"There is no kind {min(unknown)!r}; there are {', '.join(KINDS)}.")
    if not kinds or not text:
        return []
    spoken = read(text)
    found: list[Span] = []
    for reading in (spoken, Reading(text)) if spoken.pieces else (spoken,):
        runs = _digit_runs(reading)
        for kind in KINDS:
            # What has letters of its own may have a word among them that reads as a number or a sign.
            if kind in kinds and (reading is spoken or kind in LETTERED):
                found += [_span(text, kind, *reading.source(*where)) for where in DETECTORS[kind](reading, runs)]
    return _merge(found)


def find_echoes(text: str, known: Mapping[str, str]) -> list[Span]:
    """Where ``text`` repeats digits of what is known: ``known`` maps the digits of something personal to its kind. Of
    what is said in groups each group counts that has ``ECHO_DIGITS`` in a row."""
    if not known or not text:
        return []
    reading = read(text)
    found = []
    for run in _digit_runs(reading):
        whole = _echo(run, 0, len(run.digits), known)
        groups = zip(run.firsts, run.ends, strict=True)
        parts = [whole] if whole else [_echo(run, first, end, known) for first, end in (*run.chunks, *groups)]
        found += [_span(text, kind, *reading.source(*run.span(*where))) for where, kind in filter(None, parts)]
    return _merge(found)


def digits_of(text: str) -> str:
    """All digits of it, as speech writes them too."""
    return "".join(run.digits for run in _digit_runs(read(text)))


def _echo(run: "Run", first: int, end: int, known: Mapping[str, str]) -> tuple[tuple[int, int], str] | None:
    digits = run.digits[first:end]
    if len(digits) < ECHO_DIGITS or run.is_too_long:
        return None
    kind = next((kind for whole, kind in known.items() if digits in whole), None)
    return None if kind is None else ((first, end), kind)


def _span(text: str, kind: str, start: int, end: int) -> Span:
    """Without the spaces at its ends, which a sign may have taken with it."""
    said = text[start:end]
    return Span(end - len(said.lstrip()), start + len(said.rstrip()), kind)


def _merge(found: list[Span]) -> list[Span]:
    order = list(KINDS)
    merged: list[Span] = []
    for span in sorted(found):
        last = merged[-1] if merged else None
        if last is None or span.start >= last.end:
            merged.append(span)
            continue
        kind = min(last.kind, span.kind, key=order.index)
        merged[-1] = Span(last.start, max(last.end, span.end), kind)
    return merged


# --- digits ---

RUN = re.compile(r"\d(?:[\s\-./,()]{0,3}\d)*")
LIST = re.compile(r"[,\n]|\s{2}|[.,/-]\s")
"""Between numbers rather than within one."""


@dataclass(frozen=True, slots=True)
class Run:
    """Digits in a row: ``places`` of each in the reading, ``digits`` themselves. ``firsts`` and ``ends`` say by index
    where groups begin and end; ``chunks`` are the numbers that a reader would see, as (first, end) by index."""

    digits: str
    places: tuple[int, ...]
    firsts: tuple[int, ...]
    ends: tuple[int, ...]
    chunks: tuple[tuple[int, int], ...]

    def span(self, first: int, end: int) -> tuple[int, int]:
        return self.places[first], self.places[end - 1] + 1

    @property
    def is_too_long(self) -> bool:
        return len(self.digits) > MOST_DIGITS


def _digit_runs(reading: Reading) -> list[Run]:
    return [_digit_run(reading, match) for match in RUN.finditer(reading.text)]


def _digit_run(reading: Reading, match: re.Match[str]) -> Run:
    start, said = match.start(), match[0]
    places = tuple(start + place for place, character in enumerate(said) if character.isdecimal())
    digits = "".join(str(int(reading.text[place])) for place in places)
    firsts, borders = [0], [0]
    for index in range(1, len(places)):
        before, here = places[index - 1], places[index]
        if here == before + 1:
            continue
        firsts.append(index)
        if LIST.search(reading.text, before + 1, here) or reading.is_said(before) is not reading.is_said(here):
            borders.append(index)
    ends = (*firsts[1:], len(places))
    chunks = [*zip(borders, [*borders[1:], len(places)], strict=True)]
    if len(chunks) > 1:
        chunks.append((0, len(places)))
    return Run(digits, places, tuple(firsts), tuple(ends), tuple(chunks))


Found = Iterator[tuple[int, int]]


def _whole(runs: list[Run]) -> Found:
    for run in runs:
        if run.is_too_long:
            yield run.span(0, len(run.digits))


CARD_WORDS = re.compile(
    r"\b(?:cards?|visa|master ?card|amex|american express|maestro|expir\w+|valid (?:thru|until)"
    r"|(?:kredit|giro|bank)?karten?\w*|ablaufdatum|gültig|carte|tarjeta|carta|cartão|(?:credit|bank)(?:card|kaart)\w*)\b",
    re.IGNORECASE,
)
CARD_DIGITS = range(12, 21)


def _card_numbers(reading: Reading, runs: list[Run]) -> Found:
    yield from _whole(runs)
    yield from _named(reading.text, runs, CARD_WORDS, CARD_DIGITS)
    for run in runs:
        if not 13 <= len(run.digits) <= MOST_DIGITS:
            continue
        sums = _luhn_sums(run.digits)
        ends = set(run.ends)
        for first in run.firsts:
            if run.digits[first] not in "234568":
                continue
            for end in range(first + 13, min(first + 19, len(run.digits)) + 1):
                parity = (end - 1) % 2
                if end in ends and (sums[parity][end] - sums[parity][first]) % 10 == 0:
                    yield run.span(first, end)


def _named(text: str, runs: list[Run], words: re.Pattern[str], lengths: range) -> Found:
    """Numbers of these lengths with one of the words near them; the whole of a run rather than a part."""
    for run in runs:
        if run.is_too_long:
            continue
        for first, end in reversed(run.chunks):
            start, reach = run.span(first, end)
            if end - first in lengths and words.search(text, max(0, start - NEAR), reach + NEAR):
                yield start, reach
                if end - first == len(run.digits):
                    break


def _luhn_sums(digits: str) -> tuple[list[int], list[int]]:
    """Sums of the first n digits, where those at odd places count double, or those at even ones, as Luhn doubles."""
    kept: tuple[list[int], list[int]] = ([0], [0])
    for place, digit in enumerate(digits):
        once = int(digit)
        twice = 2 * once - 9 * (once > 4)
        kept[0].append(kept[0][-1] + (twice if place % 2 else once))
        kept[1].append(kept[1][-1] + (once if place % 2 else twice))
    return kept


SECURITY_CODE = re.compile(
    r"\b(?:cvv2?|cvc2?|cid|csc|(?<!social )security (?:code|number)|verification (?:code|value)"
    r"|prüf(?:ziffer|nummer|zahl)|sicherheitscode|code de sécurité|cryptogramme|código de seguridad"
    r"|codice di sicurezza|beveiligingscode)\b",
    re.IGNORECASE,
)
CODE = re.compile(r"(?<!\d)\d(?: ?\d){2,3}(?! ?\d)")


def _security_codes(reading: Reading, _: list[Run]) -> Found:
    for named in SECURITY_CODE.finditer(reading.text):
        if code := CODE.search(reading.text, named.end(), named.end() + NEAR):
            yield code.span()


# --- accounts ---

IBAN_BEGINS = re.compile(r"(?:(?<![^\W_])([A-Za-z])[\s\-.]?([A-Za-z])|@)[\s\-.]?[0-9][\s\-.]?[0-9]")
"""An Austrian one, whose letters by themselves read as a sign, begins with that."""
IBAN_PART = re.compile(r"[\s\-.,]{0,2}([A-Za-z0-9])")
IBAN_FIELD = re.compile(r"(\d+)!")


def _iban_lengths() -> dict[str, int]:
    """By country, as the library's register has them."""
    register, letters = numdb.get("iban"), "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    fields = {a + b: register.info(a + b)[0][1].get("bban", "") for a in letters for b in letters}
    return {country: 4 + sum(map(int, IBAN_FIELD.findall(field))) for country, field in fields.items() if field}


IBAN_LENGTHS = _iban_lengths()
IBAN_REST = re.compile(r"(?:[\s\-.,]{0,2}[0-9])+")
IBAN_WORDS = re.compile(
    r"\b(?:iban|account\w*|bank\w*|konto\w*|compte|cuenta|conto|conta|rekening\w*)\b", re.IGNORECASE
)
MISSED = 3
"""So many of its digits may go unheard."""


def _ibans(reading: Reading, _: list[Run]) -> Found:
    text = reading.text
    for begins in IBAN_BEGINS.finditer(text):
        country = (begins[1] + begins[2]).upper() if begins[1] else "AT"
        compact, end = country, begins.end(2) if begins[1] else begins.start() + 1
        while len(compact) < IBAN_LENGTHS.get(country, 0) and (part := IBAN_PART.match(text, end)):
            compact, end = compact + part[1], part.end()
        if country not in IBAN_LENGTHS:
            continue
        is_valid = not text[end : end + 1].isalnum() and iban.is_valid(compact, check_country=False)
        found = end if is_valid else _end_of_misheard(text, begins, IBAN_LENGTHS[country])
        if found is not None:
            yield begins.start(), found


def _end_of_misheard(text: str, begins: re.Match[str], length: int) -> int | None:
    """Of what is not valid, but named or written as an account would be, and about as long."""
    digits = IBAN_REST.match(text, begins.end(2) if begins[1] else begins.start() + 1)
    count = sum(map(str.isdecimal, digits[0])) if digits else 0
    if digits is None or not length - 2 - MISSED <= count <= length - 1:
        return None
    is_written = begins[0][:2].isupper() and begins[0][2].isdecimal()
    named = IBAN_WORDS.search(text, max(0, begins.start() - NEAR), digits.end() + NEAR)
    return digits.end() if is_written or named else None


# --- addresses ---

AT = re.compile(r"\s?@\s?")
EMAIL_REACH = 254
LOCAL = re.compile(r"(?:(?<!\w)\w[ ,-]{1,2}){0,64}(?<![\w.+%'-])[\w.+%'-]{1,64}\Z")
DOMAIN = re.compile(r"(?:\w[ ,-]{1,2}){0,63}\w[\w-]{0,62}(?:\.\w[\w-]{0,62})*\.[^\W\d_]{2,24}(?!\w)")


def _emails(reading: Reading, _: list[Run]) -> Found:
    text = reading.text
    for at in AT.finditer(text):
        domain = DOMAIN.match(text, at.end(), at.end() + EMAIL_REACH)
        if domain is None:
            continue
        left = max(0, at.start() - EMAIL_REACH)
        local = LOCAL.search(text[left : at.start()])
        if local is not None:
            yield left + local.start(), domain.end()


IPV4 = re.compile(r"(?<![\d.])\d(?: ?\d){0,2}(?:\.\d(?: ?\d){0,2}){3}(?!\d|\.\d)")
IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,8}(?:[0-9A-Fa-f]{1,4}|(?:\d{1,3}\.){3}\d{1,3})?(?![\w:])")


def _ip_addresses(reading: Reading, _: list[Run]) -> Found:
    for shape in (IPV4, IPV6):
        for match in shape.finditer(reading.text):
            try:
                ip_address(match[0].replace(" ", ""))
            except ValueError:
                continue
            if any(character.isalnum() for character in match[0]):
                yield match.span()


# --- telephones ---

PHONE_WORDS = re.compile(
    r"\b(?:tele?phon\w*|phone\w*|call me|ring me|reach me|text me|mobile|cell\w*|whatsapp|fax|tel|number is"
    r"|handy\w*|rufnummer|nummer|rückruf\w*|zurückrufen|anrufen|erreich\w+|durchwahl"
    r"|téléphone|portable|numéro|rappel\w*|joindre|teléfono|móvil|celular|número|llam\w+|telefono|cellulare|numero|chiam\w+"
    r"|telefone|telemóvel|ligar|telefoon\w*|mobiel|bellen)\b",
    re.IGNORECASE,
)
NANP = re.compile(r"\(?\d{3}\)?[\s.-]{1,2}\d{3}[\s.-]\d{4}\Z")
TRUNK = (
    "DE",
    "GB",
    "FR",
    "AT",
    "CH",
    "NL",
    "BE",
    "SE",
    "IE",
    "FI",
    "RO",
    "HU",
    "TR",
    "AU",
    "ZA",
    "IN",
    "JP",
    "IT",
    "BR",
)
PLAIN = ("US", "ES", "PL", "PT", "DK", "NO", "CZ", "GR", "MX")
LETTERS = 12
"""So few beside a number, and it is all that was said."""
AMOUNT = re.compile(r"\d,\d")


def _phone_numbers(reading: Reading, runs: list[Run]) -> Found:
    yield from _whole(runs)
    text = reading.text
    for run in runs:
        if run.is_too_long:
            continue
        for first, end in reversed(run.chunks):
            start, found = run.places[first], False
            if plus := re.search(r"\+[\s(]{0,2}\Z", text[max(0, start - 4) : start]):
                begin = max(0, start - 4) + plus.start()
                if (reach := _international(text, begin, run, first)) is not None:
                    found = True
                    yield begin, reach
            elif run.digits.startswith("00", first) and (reach := _international(text, start, run, first)) is not None:
                found = True
                yield start, reach
            elif 7 <= end - first <= 15 and _is_national(text, runs, run, first, end):
                found = True
                bracket = text[max(0, start - 1) : start] == "("
                yield start - bracket, run.places[end - 1] + 1
            if found and end - first == len(run.digits):
                break  # its parts are no numbers of their own


def _international(text: str, begin: int, run: Run, first: int) -> int | None:
    """Where the number that begins there ends: the longest that is valid, or else that is possible."""
    lead = 0 if text[begin] == "+" else 2
    possible = None
    for end in sorted((end for end in run.ends if 7 <= end - first - lead <= 16), reverse=True):
        reach = run.places[end - 1] + 1
        written = text[begin:reach] if not lead else "+" + run.digits[first + 2 : end]
        try:
            number = phonenumbers.parse(written)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return reach
        if possible is None and phonenumbers.is_possible_number(number):
            possible = reach
    return possible


def _is_national(text: str, runs: list[Run], run: Run, first: int, end: int) -> bool:
    """By how it is written, by a word near it, or because nothing else is said."""
    start, reach = run.span(first, end)
    digits = run.digits[first:end]
    if AMOUNT.search(text, start, reach):
        return False
    near = text[max(0, start - NEAR) : start] + " " + text[reach : reach + NEAR]
    if PHONE_WORDS.search(near):
        return True
    if 9 <= len(digits) <= 12 and digits[0] == "0":
        return _is_valid_in(digits, TRUNK)
    written = text[start - (text[start - 1 : start] == "(") : reach]
    if len(digits) == 10 and NANP.fullmatch(written) and _is_valid_in(digits, ("US",)):
        return True
    around = text[max(0, start - 2 * NEAR) : start] + text[reach : reach + 2 * NEAR]
    if len(runs) == 1 and sum(map(str.isalpha, around)) <= LETTERS:
        return 8 <= len(digits) <= 12 and _is_valid_in(digits, (*PLAIN, *TRUNK))
    return False


def _is_valid_in(digits: str, regions: tuple[str, ...]) -> bool:
    for region in regions:
        try:
            if phonenumbers.is_valid_number(phonenumbers.parse(digits, region)):
                return True
        except phonenumbers.NumberParseException:
            continue
    return False


# --- birthdays ---

MONTHS = (
    "january|february|march|april|may|june|july|august|september|october|november|december"
    "|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|januar|jänner|februar|märz|mai|juni|juli|oktober|dezember"
    "|janvier|février|mars|avril|juin|juillet|août|septembre|octobre|novembre|décembre"
    "|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre"
    "|gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre"
    "|janeiro|fevereiro|março|maio|junho|julho|setembro|outubro|novembro|dezembro"
    "|januari|februari|maart|mei|augustus"
)
ORDINALS = (
    "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth|fourteenth|fifteenth"
    "|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|thirtieth"
    r"|(?:erste|zweite|dritte|vierte|fünfte|sechste|siebte|achte|neunte|zehnte|elfte|zwölfte|\w+zehnte|\w+zigste)[nrs]?"
)
DAY = rf"(?:\d{{1,2}}(?:st|nd|rd|th|er|º|ª)?\.?|(?:[23]0[\s-])?(?:{ORDINALS}))"
YEAR = r"(?:\d{4}|\d{2}\s\d{1,2}|['’]?\d{2}|neunzehnhundert\w*|zweitausend\w*|2\s?thousand(?:\sand)?(?:\s\d{1,2})?)"
DATE = re.compile(
    rf"(?<![\w.])(?:{DAY}\s?(?:of |de |di |den |do )?(?:{MONTHS})\.?,?(?:\s(?:of |de |del |do )?{YEAR})?"
    rf"|(?:{MONTHS})[.,]?\s(?:the )?{DAY}(?:,?\s{YEAR})?"
    r"|\d{1,2}\s?[./-]\s?\d{1,2}\s?[./-]\s?(?:\d{4}|\d{2})|\d{4}-\d{1,2}-\d{1,2}"
    r"|\d{1,2}\s\d{1,2}\s(?:\d{4}|\d{2}(?:\s\d{2})?))(?!\w)",
    re.IGNORECASE,
)
BORN = re.compile(
    r"\b(?:born|birthday|birth ?date|date of birth|d\.?o\.?b|geboren\w*|geburts\w+|geb"
    r"|née? le|naissance|anniversaire|nacid[oa]|nací|nacimiento|cumpleaños|nat[oa] il|nascita|compleanno"
    r"|nascid[oa]|nasci|nascimento|aniversário|geboortedatum|verjaardag|jarig)\b",
    re.IGNORECASE,
)


def _birthdays(reading: Reading, _: list[Run]) -> Found:
    text = reading.text
    if not BORN.search(text):
        return
    for date in DATE.finditer(text):
        if BORN.search(text, max(0, date.start() - NEAR), date.end() + NEAR):
            yield date.span()


# --- people's numbers ---


@dataclass(frozen=True, slots=True)
class Scheme:
    """A country's number for people, as the library checks it: how it is written or how many digits it has, and the
    words that must be near where its check alone says too little."""

    country: str
    shape: re.Pattern[str] | int
    words: re.Pattern[str] | None
    check: Callable[[str], Any]

    def is_valid(self, number: str) -> bool:
        try:
            return bool(self.check(number))
        except KeyError:
            # The library looks up the place in a Chinese number last, and breaks where its register has no county.
            return True


def _scheme(name: str, shape: str | int, words: str = "") -> Scheme:
    """In a ``shape`` A stands for a letter, 9 for a digit, X for either; each may stand by itself."""
    near = re.compile(rf"\b(?:{words})\b", re.IGNORECASE) if words else None
    written: re.Pattern[str] | int
    if isinstance(shape, int):
        written = shape
    else:
        signs = {"A": "[A-Za-z]", "9": "[0-9]", "X": "[A-Za-z0-9]"}
        parts = [signs.get(sign) or f"[{re.escape(sign)}+A-FU-Ya-fu-y]" for sign in shape]
        written = re.compile(rf"(?<!\w){'[ ]?'.join(parts)}(?!\w)")
    return Scheme(name, written, near, import_module(f"stdnum.{name}").is_valid)


SCHEMES = (
    _scheme("de.idnr", 11), _scheme("be.nn", 11), _scheme("br.cpf", 11), _scheme("tr.tckimlik", 11),
    _scheme("pl.pesel", 11), _scheme("no.fodselsnummer", 11), _scheme("fr.nir", 15), _scheme("ch.ssn", 13),
    _scheme("ro.cnp", 13), _scheme("za.idnr", 13), _scheme("cn.ric", 18),
    _scheme("us.ssn", 9, "social|ssn"),
    _scheme("ca.sin", 9, "social insurance|sin"),
    _scheme("nl.bsn", 9, "bsn|burgerservicenummer|sofinummer"),
    _scheme("gb.nhs", 10, "nhs|health service"),
    _scheme("in_.aadhaar", 12, "aadhaa?r|uid"),
    _scheme("dk.cpr", 10, r"cpr\w*|personnummer"),
    _scheme("se.personnummer", 10, r"personnummer|personal (?:identity )?number"),
    _scheme("se.personnummer", 12, r"personnummer|personal (?:identity )?number"),
    _scheme("at.vnr", 10, r"sozialversicherung\w*|versicherungsnummer|svnr"),
    _scheme("hr.oib", 11, "oib"),
    _scheme("it.codicefiscale", "AAAAAAXXAXXAXXXA"), _scheme("mx.curp", "AAAA999999AAAAAAX9"),
    _scheme("cn.ric", "99999999999999999A"), _scheme("es.dni", "99999999A"), _scheme("es.nie", "A9999999A"),
    _scheme("fi.hetu", "999999-999X"),
)  # fmt: skip
SHAPED = (
    # A social security number of the United States by its hyphens, a national insurance number by its letters: neither
    # has a check digit.
    re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])"),
    re.compile(r"(?<!\w)[A-CEGHJ-PR-TW-Z] ?[A-CEGHJ-NPR-TW-Z](?: ?\d){6} ?[A-D](?!\w)", re.IGNORECASE),
)


ID_WORDS = re.compile(
    r"\b(?:tax(?:payer)? (?:id\w*|number)|steuer\w*|identifikationsnummer|social security|ssn"
    r"|national (?:id\w*|insurance)|(?:id|identity) (?:card|number)|personal (?:id|number)"
    r"|\w*ausweis\w*|passport|reisepass|passeport|pasaporte"
    r"|sozialversicherung\w*|codice fiscale|sécurité sociale|bsn|pesel|cpf|nhs|aadhaa?r|personnummer"
    r"|driving licen[cs]e)\b",
    re.IGNORECASE,
)
ID_DIGITS = range(7, 19)


def _national_ids(reading: Reading, runs: list[Run]) -> Found:
    yield from _whole(runs)
    text = reading.text
    yield from _named(text, runs, ID_WORDS, ID_DIGITS)
    for shape in SHAPED:
        yield from (match.span() for match in shape.finditer(text))
    for scheme in SCHEMES:
        for number, start, end in _candidates(scheme, text, runs):
            near = scheme.words is None or scheme.words.search(text, max(0, start - NEAR), end + NEAR)
            if near and scheme.is_valid(number):
                yield start, end


def _candidates(scheme: Scheme, text: str, runs: list[Run]) -> Iterator[tuple[str, int, int]]:
    if isinstance(scheme.shape, int):
        for run in runs:
            for first, end in () if run.is_too_long else run.chunks:
                if end - first == scheme.shape:
                    yield run.digits[first:end], *run.span(first, end)
        return
    for match in scheme.shape.finditer(text):
        yield match[0].replace(" ", "").upper(), *match.span()


DETECTORS: dict[str, Callable[[Reading, list[Run]], Found]] = {
    "card_number": _card_numbers,
    "card_security_code": _security_codes,
    "iban": _ibans,
    "national_id": _national_ids,
    "email": _emails,
    "ip_address": _ip_addresses,
    "phone_number": _phone_numbers,
    "date_of_birth": _birthdays,
}
for _region in (*PLAIN, *TRUNK):
    # The library reads a region's file when it is first asked for: not in the middle of a call.
    phonenumbers.PhoneMetadata.metadata_for_region(_region)
