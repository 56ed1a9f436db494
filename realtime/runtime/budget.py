"""Tokens per minute of one API key in this process: what ``rate_limits.updated`` tells."""

from collections import deque
from collections.abc import Callable

WINDOW_S = 60.0


class TokenBudget:
    """A sliding minute. ``clock`` gives seconds."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self.limit = limit
        self._clock = clock
        self._spent: deque[tuple[float, int]] = deque()

    def spend(self, tokens: int) -> tuple[int, float]:
        """Returns what remains (0 at least) and the seconds until all of it is back."""
        now = self._clock()
        while self._spent and now - self._spent[0][0] >= WINDOW_S:
            self._spent.popleft()
        if tokens:
            self._spent.append((now, tokens))
        spent = sum(amount for _, amount in self._spent)
        reset_s = self._spent[-1][0] + WINDOW_S - now if self._spent else 0.0
        return max(0, self.limit - spent), reset_s


class TokenBudgets:
    """The budgets of the keys that have calls in this process."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._budgets: dict[str, TokenBudget] = {}
        self._calls: dict[str, int] = {}

    def enter(self, key_id: str) -> TokenBudget:
        """A call with this key begins; ``leave`` when it ends."""
        self._calls[key_id] = self._calls.get(key_id, 0) + 1
        return self._budgets.setdefault(key_id, TokenBudget(self._limit, self._clock))

    def leave(self, key_id: str) -> None:
        self._calls[key_id] -= 1
        if not self._calls[key_id]:
            del self._calls[key_id], self._budgets[key_id]
