"""Model downloads as a person follows them: one moving line on a terminal, one line per source elsewhere."""

import sys
import time
from collections.abc import Callable

from speech.models import Progress

REFRESH_S = 0.1
MEGABYTE = 1_000_000


class PullProgress:
    """Call it with each ``Progress``; ``close`` ends the moving line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._moving = sys.stderr.isatty()
        self._source = ""
        self._shown_at = 0.0
        self._notes: set[tuple[str, str]] = set()

    def __call__(self, progress: Progress) -> None:
        if progress.note:
            # The first part of a note names the file: the reason alone is said once per model.
            reason = progress.note.rsplit(": ", 1)[-1] if "cannot be reached" in progress.note else progress.note
            if (progress.model, reason) not in self._notes:
                self._notes.add((progress.model, reason))
                self._erase()
                self._say(f"{progress.model}: {progress.note}")
            return
        if progress.source != self._source:
            self._source = progress.source
            self._erase()
            size = f" ({progress.total_bytes / MEGABYTE:.0f} MB)" if progress.total_bytes else ""
            self._say(f"fetching {progress.model} from {progress.source}{size}")
        now = time.monotonic()
        if self._moving and (now - self._shown_at > REFRESH_S or progress.done_bytes == progress.total_bytes):
            self._shown_at = now
            share = progress.done_bytes / progress.total_bytes if progress.total_bytes else 0
            bar = "█" * round(share * 30)
            done = f"{progress.done_bytes / MEGABYTE:7.1f} / {progress.total_bytes / MEGABYTE:.1f} MB"
            print(f"\r\033[K  {bar:<30} {done}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._erase()

    def _erase(self) -> None:
        if self._moving:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
