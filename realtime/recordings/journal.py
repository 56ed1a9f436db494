"""From a spooled journal to what was heard: one stereo timeline. The records are ``realtime.runtime.recorder``'s."""

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from realtime.runtime.recorder import (
    ALL_ITEMS,
    RECORD,
    SHEET,
    SUFFIX,
    CallSheet,
    Kind,
    decode_sheet,
)
from speech.engines import Pcm

Stereo = NDArray[np.int16]
"""Shape (samples, 2): the caller, the agent."""


class SheetUnreadable(Exception):
    """The directory says of no call."""


def read_sheet(directory: Path) -> CallSheet:
    """Raises SheetUnreadable."""
    try:
        return decode_sheet((directory / SHEET).read_bytes().rstrip())
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SheetUnreadable(f"{directory}: {type(error).__name__}") from error


def has_writer(directory: Path) -> bool:
    """Whether the process that records this call is there, and still at it."""
    with (directory / SHEET).open("rb") as sheet:
        try:
            fcntl.flock(sheet, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@dataclass(slots=True)
class _Spoken:
    """A stretch of agent audio. ``heard`` samples of it were played; ``offset`` is where it begins in its item."""

    item: int
    start: int
    offset: int
    pcm: Pcm
    heard: int


@dataclass(slots=True)
class Page:
    """One file of a journal: ``until`` is the end of the latest thing in it, on the call's clock."""

    file: Path
    until: int = 0


@dataclass
class Journal:
    """A call as far as it is in the spool. ``clock`` is the latest time that any record was written at."""

    pages: list[Page] = field(default_factory=list)
    clock: int = 0
    end: int | None = None
    _heard: list[tuple[int, Pcm]] = field(default_factory=list)
    _spoken: list[_Spoken] = field(default_factory=list)
    _silent: list[tuple[int, int]] = field(default_factory=list)
    _silent_items: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Samples: to the call's end or, where nobody wrote that, to the last thing that is known of it."""
        if self.end is not None:
            return self.end
        return max([self.clock, *(start + len(pcm) for start, pcm in self._heard)])

    def render(self, start: int, end: int) -> Stereo:
        """What was heard from ``start`` to ``end``; silence where nothing was."""
        left, right = np.zeros(end - start, np.int16), np.zeros(end - start, np.int16)
        for place, pcm in self._heard:
            _lay(left, place - start, pcm)
        for first, last in self._silent:
            left[max(first - start, 0) : max(last - start, 0)] = 0
        for spoken in self._spoken:
            _lay(right, spoken.start - start, self._audible(spoken)[: spoken.heard])
        return np.stack([left, right], axis=1)

    def _audible(self, spoken: _Spoken) -> Pcm:
        pcm = spoken.pcm
        for item, first, last in self._silent_items:
            if item == spoken.item:
                pcm = pcm.copy()
                pcm[max(first - spoken.offset, 0) : max(last - spoken.offset, 0)] = 0
        return pcm

    def silence_from(self, start: int) -> None:
        """Nobody knows any more what of this was to be silent."""
        self._silent.append((start, self.length))
        for spoken in self._spoken:
            spoken.heard = min(spoken.heard, max(0, start - spoken.start))


def _lay(track: Pcm, place: int, pcm: Pcm) -> None:
    """Add it at this place; what lies outside is left out, and what is too loud is clipped."""
    low, high = max(place, 0), min(place + len(pcm), len(track))
    if low < high:
        sum_ = track[low:high].astype(np.int32) + pcm[low - place : high - place]
        track[low:high] = sum_.clip(-32768, 32767)


def read_journal(directory: Path) -> Journal:
    """All that is there. A record that a killed writer left half-written is where the journal ends."""
    journal = Journal()
    for file in sorted(directory.glob("*" + SUFFIX)):
        page = Page(file)
        journal.pages.append(page)
        _read_page(journal, page, file.read_bytes())
    return journal


def _read_page(journal: Journal, page: Page, content: bytes) -> None:
    at = 0
    while at + RECORD.size <= len(content):
        kind, item, samples, clock, start, offset = RECORD.unpack_from(content, at)
        at += RECORD.size
        if at + 2 * samples > len(content):
            return
        pcm = np.frombuffer(content, "<i2", samples, at)
        at += 2 * samples
        journal.clock = max(journal.clock, clock)
        page.until = max(page.until, clock, start + samples)
        match kind:
            case Kind.CALLER:
                journal._heard.append((start, pcm))
            case Kind.AGENT:
                journal._spoken.append(_Spoken(item, start, offset, pcm, samples))
            case Kind.CUT:
                for spoken in journal._spoken:
                    if item in (ALL_ITEMS, spoken.item):
                        spoken.heard = min(spoken.heard, max(0, start - spoken.start))
            case Kind.TRUNCATED:
                # The client knows what it played; where it played more than a barge-in left, that counts.
                for spoken in journal._spoken:
                    if spoken.item == item:
                        spoken.heard = min(len(spoken.pcm), max(0, offset - spoken.offset))
            case Kind.SILENT:
                journal._silent.append((start, offset))
            case Kind.SILENT_ITEM:
                journal._silent_items.append((item, start, offset))
            case Kind.END:
                journal.end = start


def drop_pages(journal: Journal, before: int) -> None:
    """Remove the files that hold nothing from ``before`` on; the one that is written to stays."""
    for page in journal.pages[:-1]:
        if page.until > before:
            return
        os.unlink(page.file)
