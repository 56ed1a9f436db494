"""What takes the API long goes on only so often at once in a process: until it is answered, a request holds a
connection to the database."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class TooBusy(Exception):
    """Others are at it: come again."""


class Places:
    """``limit()`` is asked each time."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._taken = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """One of them, for as long as the block runs. Raises TooBusy."""
        with self._lock:
            if self._taken >= self._limit():
                raise TooBusy
            self._taken += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken -= 1
