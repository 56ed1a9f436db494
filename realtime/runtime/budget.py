"""What a call may use: responses and tokens per minute, minutes of audio in a day; shared with every other gateway.

A response takes one request and a reserve of tokens before it begins, and is settled when it has ended: what it did
not need is given back to the moment at which it was taken. So any number of gateways together admit no more than the
limit. The reserve is what the call's last response took, and ``tokens_reserved`` on top.

Audio is counted as it flows, every few seconds and for all calls together. While Redis is away calls go on, and what
they used is counted when it is back, as far as it would still count.

Nobody waits for Redis longer than ``wait_s``: the caller's audio may be behind the question. Then the response goes on
as while Redis is away, and what a late answer took for it is corrected.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from realtime.protocol import events as ev
from realtime.runtime.metrics import FAULTS
from speech.engines import TTS_HZ
from speech.logs import kind_and_place
from tenants.limits.allowance import Party
from tenants.limits.counter import Counter
from tenants.limits.counters import Answer, Limiter, LimitsUnavailable, Standing
from tenants.limits.headers import tightest_of
from tenants.limits.names import MINUTE_S

AUDIO_EVERY_S = 5.0
RETRY_S = 1.0
WAITING_MAX = 10_000
"""Settlements that wait while Redis is away; the oldest go first."""
BATCH = 64
LATE_MAX = 8
"""Answers of Redis that may be late at once: half of the connections, so that calls can still be let in. Beyond that no
response asks, until Redis has caught up."""
CHARACTERS_PER_TOKEN = 4
REQUESTS, TOKENS, AUDIO = "requests_per_minute", "tokens_per_minute", "audio_minutes_per_day"

log = logging.getLogger(__name__)

Tell = Callable[[ev.RateLimited], None]


@dataclass(frozen=True, slots=True)
class Ticket:
    """A response was let in. ``tokens`` are its reserve at each counter, ``at_us`` when they were taken; a ticket
    without counters was given while nobody could count."""

    requests: tuple[Counter, ...] = ()
    tokens: tuple[Counter, ...] = ()
    at_us: int = 0


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A response was not let in; ``message`` says why, and when to try again."""

    message: str


class Budget(Protocol):
    """What the runner of one call needs."""

    async def take(self) -> Ticket | Exhausted:
        """Before a response. Never raises."""
        ...

    def settle(self, ticket: Ticket | None, tokens: int, tell: Tell) -> None:
        """After it; ``tell`` gets what is left. Neither blocks nor raises."""
        ...

    def give_back(self, ticket: Ticket) -> None:
        """There was no response after all."""
        ...

    def count_audio(self, total_ms: int) -> None:
        """How much audio the call has had since it began, in and out."""
        ...


@dataclass
class Spending:
    """What one call has out of its budget: a ticket for each response under way, and one for what the client has asked
    for and not got yet."""

    budget: Budget
    _asked: Ticket | None = None
    _tickets: dict[str, Ticket] = field(default_factory=dict)
    _read_tokens: dict[str, int] = field(default_factory=dict)
    _spoken_samples: int = 0

    async def ask(self) -> Exhausted | None:
        """For the response that the client asks for; says why where it cannot be had."""
        answer = await self.budget.take()
        if isinstance(answer, Exhausted):
            return answer
        self._asked = answer
        return None

    def begin(self, response_id: str) -> None:
        """This is the response that was asked for."""
        if self._asked is not None:
            self._tickets[response_id], self._asked = self._asked, None

    def give_back(self) -> None:
        """The session refused what was asked for: it began no response."""
        if self._asked is not None:
            self.budget.give_back(self._asked)
            self._asked = None

    async def afford(self, response_id: str) -> Exhausted | None:
        """A turn is answered without being asked for: what it may cost is asked before the model is."""
        if response_id not in self._tickets:
            answer = await self.budget.take()
            if isinstance(answer, Exhausted):
                return answer
            self._tickets[response_id] = answer
        return None

    def read(self, response_id: str, characters: int) -> None:
        """A model that is cut off does not say what it used; what it was asked, it has read."""
        self._read_tokens[response_id] = characters // CHARACTERS_PER_TOKEN

    def told(self, response_id: str) -> None:
        """The model itself has said what it used, or has failed."""
        self._read_tokens.pop(response_id, None)

    def settle(self, response_id: str, tokens: int, tell: Tell) -> None:
        tokens += self._read_tokens.pop(response_id, 0)
        self.budget.settle(self._tickets.pop(response_id, None), tokens, tell)

    def charge(self, tokens: int) -> None:
        """What was used beside any response."""
        self.budget.settle(None, tokens, lambda _: None)

    def speak(self, samples_24khz: int) -> None:
        self._spoken_samples += samples_24khz

    def count_audio(self, heard_samples: int) -> None:
        self.budget.count_audio((heard_samples + self._spoken_samples) * 1000 // TTS_HZ)


@dataclass(slots=True)
class _Settlement:
    counters: list[Counter]
    budget: "CallBudget"
    tell: Tell | None
    since: float


class Budgets:
    """The budgets of one process's calls; what is settled goes to Redis in batches, off everybody's path."""

    def __init__(
        self,
        limiter: Limiter,
        *,
        tokens_reserved: int,
        wait_s: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limiter = limiter
        self.tokens_reserved = tokens_reserved
        self.wait_s = wait_s
        self.clock = clock
        self._waiting: deque[_Settlement] = deque(maxlen=WAITING_MAX)
        self._wake = asyncio.Event()
        self._live: set[CallBudget] = set()
        self._late: set[asyncio.Task[Answer]] = set()
        self._settling = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def enter(self, party: Party) -> "CallBudget":
        """A call begins; ``leave`` when it ends."""
        budget = CallBudget(self, party)
        self._live.add(budget)
        return budget

    def leave(self, budget: "CallBudget") -> None:
        self._live.discard(budget)
        budget.charge_audio()

    def charge_audio(self, party: Party, ms: int) -> None:
        """Audio of something that is no call."""
        budget = CallBudget(self, party)
        budget.count_audio(ms)
        budget.charge_audio()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="budgets")

    async def stop(self) -> None:
        """What is left to settle is settled, if Redis takes it."""
        if self._task is not None:
            # What is under way may be counted by now: cut off and sent again, it would count twice.
            async with self._settling:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*self._late, return_exceptions=True)
        try:
            while self._waiting:
                await self._settle_batch()
        except LimitsUnavailable as error:
            log.warning("what the last responses used was not counted: %s", error)

    async def ask(self, counters: list[Counter], late: Callable[[Answer], None]) -> Answer:
        """For at most ``wait_s``; an answer that comes later is for ``late``. Raises LimitsUnavailable."""
        if len(self._late) >= LATE_MAX:
            raise LimitsUnavailable("Redis is slow")
        asked, in_time = asyncio.create_task(self.limiter.ask(counters)), False
        try:
            in_time = bool((await asyncio.wait([asked], timeout=self.wait_s))[0])
        finally:
            # Also when the call has ended meanwhile: what was taken for it is given back.
            if not in_time:
                self._late.add(asked)
                asked.add_done_callback(partial(self._hear_late, late))
        if not in_time:
            raise LimitsUnavailable("Redis is slow")
        return asked.result()

    def _hear_late(self, late: Callable[[Answer], None], asked: "asyncio.Task[Answer]") -> None:
        self._late.discard(asked)
        if not asked.cancelled() and asked.exception() is None:
            late(asked.result())

    def put(self, settlement: _Settlement) -> None:
        self._waiting.append(settlement)
        self._wake.set()

    async def _run(self) -> None:
        audio_at = self.clock() + AUDIO_EVERY_S
        while True:
            if self.clock() >= audio_at:
                for budget in list(self._live):
                    budget.charge_audio()
                audio_at = self.clock() + AUDIO_EVERY_S
            try:
                while self._waiting:
                    await self._settle_batch()
            except LimitsUnavailable as error:
                log.warning("what responses use is not counted for the moment: %s", error)
                self._answer_from_memory()
                await asyncio.sleep(RETRY_S)
                continue
            except Exception as error:
                FAULTS.labels("budget").inc()
                log.error("settling failed: %s", kind_and_place(error))
                await asyncio.sleep(RETRY_S)
            try:
                async with asyncio.timeout(max(0.0, audio_at - self.clock())):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def _settle_batch(self) -> None:
        """Raises LimitsUnavailable; then all of it waits."""
        async with self._settling:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            counters = [counter for settlement in batch for counter in settlement.counters]
            try:
                answer = await self.limiter.ask(counters)
            except BaseException:
                self._waiting.extendleft(reversed(batch))
                raise
        standings = iter(answer.standings)
        for settlement in batch:
            own = [next(standings) for _ in settlement.counters]
            settlement.budget.learn(own)
            if settlement.tell is not None:
                settlement.tell(settlement.budget.report())

    def _answer_from_memory(self) -> None:
        """Clients hear what was known last; what no longer counts in any window is dropped."""
        oldest = self.clock() - MINUTE_S
        for settlement in self._waiting:
            if settlement.tell is not None:
                settlement.tell(settlement.budget.report())
                settlement.tell = None
        while self._waiting and self._waiting[0].since < oldest:
            self._waiting.popleft()


class CallBudget:
    """Of one call."""

    def __init__(self, budgets: Budgets, party: Party) -> None:
        self._budgets = budgets
        self._party = party
        self._last_tokens = 0
        self._known: dict[str, Standing] = {}
        self._audio_ms = 0
        self._charged_ms = 0

    async def take(self) -> Ticket | Exhausted:
        requests = self._party.counters(REQUESTS, 1)
        tokens = self._party.counters(TOKENS, self._last_tokens + self._budgets.tokens_reserved)

        def give_back_late(answer: Answer) -> None:
            """The response goes on without a ticket, and all of its tokens are counted when it has ended."""
            if answer.refused is None:
                self.give_back(Ticket((), tuple(tokens), answer.at_us))

        try:
            answer = await self._budgets.ask([*requests, *tokens, *self._party.counters(AUDIO, 1)], give_back_late)
        except LimitsUnavailable as error:
            log.warning("a response goes uncounted: %s", error)
            return Ticket()
        self.learn(answer.standings)
        if answer.refused is None:
            return Ticket(tuple(requests), tuple(tokens), answer.at_us)
        refused = answer.refused
        whose = {"tenant": "", "key": " of this API key", "end_user": " of this end user"}[refused.level]
        wait_s = answer.retry_after_s if answer.retry_after_s is not None else refused.window_s
        return Exhausted(
            f"Rate limit reached for {refused.name}{whose}: Limit {refused.limit}. Please try again in {wait_s:.3g}s."
        )

    def settle(self, ticket: Ticket | None, tokens: int, tell: Tell) -> None:
        if ticket is not None:  # what was used beside any response says nothing of the next one
            self._last_tokens = tokens or self._last_tokens
        counters = [*self._party.counters(REQUESTS, 0, refuses=False)]
        if ticket is None or not ticket.tokens:
            counters += self._party.counters(TOKENS, tokens, refuses=False)
        else:
            counters += [_correction(counter, tokens - counter.cost, ticket.at_us) for counter in ticket.tokens]
        self._budgets.put(_Settlement(counters, self, tell, self._budgets.clock()))

    def give_back(self, ticket: Ticket) -> None:
        counters = [_correction(counter, -counter.cost, ticket.at_us) for counter in ticket.requests + ticket.tokens]
        if counters:
            self._budgets.put(_Settlement(counters, self, None, self._budgets.clock()))

    def count_audio(self, total_ms: int) -> None:
        self._audio_ms = total_ms

    def charge_audio(self) -> None:
        fresh_ms, self._charged_ms = self._audio_ms - self._charged_ms, self._audio_ms
        if fresh_ms > 0:
            counters = self._party.counters(AUDIO, fresh_ms, refuses=False)
            self._budgets.put(_Settlement(counters, self, None, self._budgets.clock()))

    def learn(self, standings: list[Standing]) -> None:
        for name in (REQUESTS, TOKENS):
            if (tightest := tightest_of(standings, name)) is not None:
                self._known[name] = tightest

    def report(self) -> ev.RateLimited:
        """What ``rate_limits.updated`` tells: of several counters the one with the least left."""
        requests, tokens = (self._standing(name) for name in (REQUESTS, TOKENS))
        return ev.RateLimited(
            limit=tokens.counter.limit,
            remaining=tokens.remaining,
            reset_s=tokens.reset_s,
            requests_limit=requests.counter.limit,
            requests_remaining=requests.remaining,
            requests_reset_s=requests.reset_s,
        )

    def _standing(self, name: str) -> Standing:
        if name in self._known:
            return self._known[name]
        counters = self._party.counters(name, 0, refuses=False)
        return Standing(min(counters, key=lambda counter: counter.limit), 0, 0.0)


def _correction(counter: Counter, delta: int, at_us: int) -> Counter:
    return Counter(
        name=counter.name,
        level=counter.level,
        key=counter.key,
        limit=counter.limit,
        window_s=counter.window_s,
        cost=delta,
        kind="settle",
        member=counter.slot_at(at_us),
    )
