"""An answer's words on their way out, past the agent's guard rails."""

import re

from agents.guard.rails import find_rail, longest_match
from agents.spec import AgentSpec, GuardRail

WORD_AT_END = re.compile(r"\w+$")
WORD_AT_START = re.compile(r"^\w+")
SLACK_CHARACTERS = 8
"""Beside the longest match: signs and spaces around it."""


class Gate:
    """Words of one reply. A phrase that is spoken is seen whole; written words are held back for as long as they may
    be the beginning of something that a rail forbids."""

    def __init__(self, agent: AgentSpec) -> None:
        self._rails = tuple(rail for rail in agent.guard_rails if rail.on == "output")
        self._hold = longest_match(self._rails, "output") + SLACK_CHARACTERS
        self._passed = ""
        self._held = ""

    def phrase(self, text: str) -> GuardRail | None:
        """A phrase that is about to be spoken; a match may have begun in the ones before it."""
        if not self._rails:
            return None
        found = find_rail(self._rails, "output", self._passed + text)
        self._pass(text)
        return found

    def write(self, text: str) -> tuple[str, GuardRail | None]:
        """More written words: what may be told of them now, and the rail that forbids the rest."""
        if not self._rails:
            return text, None
        self._held += text
        return self._look(keep=self._hold)

    def end(self) -> tuple[str, GuardRail | None]:
        """There are no more words: what was still held back."""
        return self._look(keep=0) if self._held else ("", None)

    def _look(self, keep: int) -> tuple[str, GuardRail | None]:
        cut = len(self._held) - keep
        if cut <= 0:
            return "", None
        seen = self._passed + self._held
        # The last word may not be whole yet.
        found = find_rail(self._rails, "output", WORD_AT_END.sub("", seen) if keep else seen)
        if found is not None:
            self._held = ""
            return "", found
        if keep:  # words are told whole, where there are spaces between them
            space = self._held.rfind(" ", 0, cut + 1)
            cut = space if space >= 0 or cut < keep else cut
            if cut <= 0:
                return "", None
        told, self._held = self._held[:cut], self._held[cut:]
        self._pass(told)
        return told, None

    def _pass(self, text: str) -> None:
        """A word that was cut in two is none."""
        passed = self._passed + text
        self._passed = passed if len(passed) <= self._hold else WORD_AT_START.sub("", passed[-self._hold :])
