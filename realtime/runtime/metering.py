"""What one call uses, told to the ledger as it happens. Nothing here waits.

Tokens and recognised seconds are what the client was told, by the provider that really answered. Audio in is told as
soon as there is ``AUDIO_IN_EVERY_S`` of it that was not, whatever else happens in the call, so that a gateway that dies
takes no more of it along.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from agents.llm.types import Finished
from realtime.protocol.events import ReplyFinished
from speech.engines import TTS_HZ
from tenants.usage.meters import Meter, to_ms

AUDIO_IN_EVERY_S = 60
PHONE_CHANNELS = frozenset({"twilio", "sip"})


@dataclass
class Metering:
    """``put(source, quantities, provider, model)`` writes an event. ``provider`` and ``model`` are those that answer
    where a reply names none.

    A response may have several replies, each by another model: the first is told under the response's id, the others
    under ``{id}/2`` and so on, for the ledger counts each meter of a source once.
    """

    put: Callable[[str, dict[str, Decimal], str, str], None]
    provider: str
    model: str
    _replies: Counter[str] = field(default_factory=Counter)
    _spoken: Counter[str] = field(default_factory=Counter)
    _told_in_ms: int = 0
    _tellings: int = 0

    def reply_started(self, response_id: str) -> str:
        """The source of what this reply uses."""
        self._replies[response_id] += 1
        return self._source(response_id)

    def reply_finished(self, result: ReplyFinished) -> None:
        """A model has said what it used; not of a response that is over, whose client was told without it."""
        if result.response_id not in self._replies:
            return
        self.think(self._source(result.response_id), result)

    def think(self, source: str, used: ReplyFinished | Finished) -> None:
        """Tokens of a language model; those that were read hold those that were cached."""
        provider, model = (used.provider, used.model) if used.provider else (self.provider, self.model)
        quantities: dict[Meter, int | Decimal] = {
            Meter.LLM_TOKENS_IN: used.input_tokens - used.cached_tokens,
            Meter.LLM_TOKENS_CACHED: used.cached_tokens,
            Meter.LLM_TOKENS_OUT: used.output_tokens,
        }
        self._tell(source, quantities, provider, model)

    def response_done(self, response_id: str) -> None:
        self._replies.pop(response_id, None)

    def speak(self, response_id: str, samples_24khz: int) -> None:
        """Audio of an answer goes out; what comes after its end does not."""
        if response_id in self._replies:
            self._spoken[response_id] += samples_24khz

    def replied(self, response_id: str, source: str, characters: Mapping[tuple[str, str], int]) -> None:
        """Nothing more of this reply comes, whatever ended it. ``characters`` by engine and model that spoke them."""
        for (engine, model), count in characters.items():
            self._tell(source, {Meter.TTS_CHARACTERS: count}, engine, model)
        self._tell(source, {Meter.AUDIO_SECONDS_OUT: _seconds(to_ms(self._spoken.pop(response_id, 0), TTS_HZ))})

    def heard(self, item_id: str, audio_ms: int, engine: str, model: str) -> None:
        """An item's words were recognised: whole seconds, as ``usage`` of its transcription."""
        self._tell(item_id, {Meter.STT_SECONDS: math.ceil(audio_ms / 1000)}, engine, model)

    def listened(self, samples_24khz: int, *, over: bool = False) -> None:
        """How much the caller has sent since the call began; asked after every input."""
        ms = to_ms(samples_24khz, TTS_HZ)
        fresh_ms = ms - self._told_in_ms
        if fresh_ms > 0 and (over or fresh_ms >= AUDIO_IN_EVERY_S * 1000):
            self._tellings += 1
            self._told_in_ms = ms
            self._tell(f"in/{self._tellings}", {Meter.AUDIO_SECONDS_IN: _seconds(fresh_ms)})

    def hung_up(self, channel: str, duration_s: float) -> None:
        if channel in PHONE_CHANNELS:
            self._tell("line", {Meter.TELEPHONY_SECONDS: math.ceil(duration_s)})

    def _source(self, response_id: str) -> str:
        number = self._replies[response_id]
        return response_id if number == 1 else f"{response_id}/{number}"

    def _tell(self, source: str, quantities: dict[Meter, int | Decimal], provider: str = "", model: str = "") -> None:
        used = {meter.value: Decimal(quantity) for meter, quantity in quantities.items() if quantity}
        if used:
            self.put(source, used, provider, model)


def _seconds(ms: int) -> Decimal:
    return Decimal(ms) / 1000
