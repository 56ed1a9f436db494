"""What one call uses, told to the ledger as it happens. Nothing here waits.

Tokens and recognised seconds are what the client was told. Audio in is told as soon as there is ``AUDIO_IN_EVERY_S`` of
it that was not, whatever else happens in the call, so that a gateway that dies takes no more of it along.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from realtime.protocol.events import JsonObject
from speech.engines import TTS_HZ
from tenants.usage.meters import Meter, to_ms

AUDIO_IN_EVERY_S = 60
PHONE_CHANNELS = frozenset({"twilio", "sip"})


@dataclass
class Metering:
    """``put(source, quantities, provider, model)`` writes an event. ``provider`` and ``model`` are those that answer
    where a response names none."""

    put: Callable[[str, dict[str, Decimal], str, str], None]
    provider: str
    model: str
    _models: dict[str, str] = field(default_factory=dict)
    _spoken: Counter[str] = field(default_factory=Counter)
    _told_in_ms: int = 0
    _tellings: int = 0

    def reply_started(self, response_id: str, model: str) -> None:
        self._models[response_id] = model or self.model

    def response_done(self, response: JsonObject) -> None:
        """``response`` as ``response.done`` shows it."""
        model = self._models.pop(response["id"], self.model)
        usage = response["usage"]
        cached = usage["input_token_details"]["cached_tokens"]
        quantities = {
            Meter.LLM_TOKENS_IN: usage["input_tokens"] - cached,
            Meter.LLM_TOKENS_CACHED: cached,
            Meter.LLM_TOKENS_OUT: usage["output_token_details"]["text_tokens"],
        }
        self._tell(response["id"], quantities, self.provider, model)

    def speak(self, response_id: str, samples_24khz: int) -> None:
        """Audio of an answer goes out; what comes after its end does not."""
        if response_id in self._models:
            self._spoken[response_id] += samples_24khz

    def replied(self, response_id: str, characters: Mapping[tuple[str, str], int]) -> None:
        """Nothing more of this answer comes, whatever ended it. ``characters`` by engine and model that spoke them."""
        for (engine, model), count in characters.items():
            self._tell(response_id, {Meter.TTS_CHARACTERS: count}, engine, model)
        self._tell(response_id, {Meter.AUDIO_SECONDS_OUT: _seconds(to_ms(self._spoken.pop(response_id, 0), TTS_HZ))})

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

    def _tell(self, source: str, quantities: dict[Meter, int | Decimal], provider: str = "", model: str = "") -> None:
        used = {meter.value: Decimal(quantity) for meter, quantity in quantities.items() if quantity}
        if used:
            self.put(source, used, provider, model)


def _seconds(ms: int) -> Decimal:
    return Decimal(ms) / 1000
