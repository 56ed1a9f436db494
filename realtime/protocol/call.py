"""What the parts of a session share: its configuration, its conversation, and the list of effects under way."""

from collections.abc import Callable
from dataclasses import dataclass, field

from agents.spec import AgentSpec
from realtime.protocol import effects as do
from realtime.protocol.config import SessionConfig
from realtime.protocol.conversation import Conversation, Item
from realtime.protocol.events import ServerEvent
from realtime.protocol.input_audio import HZ


@dataclass(frozen=True)
class Limits:
    """Bounds of one call. Audio in seconds; ``pause_ms`` of silence start the recogniser ahead of the end of a turn;
    ``context_tokens`` is what the language model takes in, the answer included."""

    input_audio_s: int = 600
    kept_audio_s: int = 600
    items: int = 10_000
    pause_ms: int = 96
    context_tokens: int = 32_000


@dataclass
class Call:
    """``new_id(prefix)`` gives unique ids."""

    config: SessionConfig
    agent: AgentSpec
    new_id: Callable[[str], str]
    limits: Limits
    effects: list[do.Effect] = field(default_factory=list)
    heard_samples: int = 0
    """The call's clock: input samples at 24 kHz since it began."""
    quiet_from: int | None = None
    """Where on that clock the last answer will have been played; None while anyone speaks or is about to."""

    def __post_init__(self) -> None:
        self.conversation = Conversation(self.new_id("conv"), self.limits.kept_audio_s * HZ)

    @property
    def wants_transcript(self) -> bool:
        """A language model reads what was said; a transcription session only when a client asks for it."""
        return not self.config.is_transcription or self.config.input_transcription is not None

    def say(self, event: ServerEvent) -> None:
        event.event_id = self.new_id("event")
        self.effects.append(do.Send(event))

    def do(self, effect: do.Effect) -> None:
        self.effects.append(effect)

    def store(self, item: Item, response_id: str | None = None) -> None:
        previous = self.conversation.previous_id(item.id)
        self.effects.append(do.Store(item.wire(), previous, response_id, item.audio_ms))
