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
    """Bounds of one call.

    ``input_audio_s``: what may wait for its commit; ``turn_s``: after that a turn is taken to be over; ``ahead_s``:
    the longest turn that is recognised ahead of its end; ``pause_ms``: the silence that starts this;
    ``guess_ms``: how often a transcription that streams is brought up to date while the caller speaks, 0 for never;
    ``kept_audio_s``: audio of items that is kept for retrieval; ``items``, ``content_bytes``: a conversation's items,
    and all their text and images; ``text_bytes``: the text of one item; ``session_bytes``: one session.update;
    ``transcriptions``, ``responses``: how many may be under way at once; ``context_tokens``: what the language model
    takes in, its answer included.
    """

    input_audio_s: int = 120
    turn_s: int = 60
    ahead_s: int = 15
    pause_ms: int = 96
    guess_ms: int = 1_000
    kept_audio_s: int = 300
    items: int = 10_000
    content_bytes: int = 16 * 1024 * 1024
    text_bytes: int = 1024 * 1024
    session_bytes: int = 1024 * 1024
    transcriptions: int = 16
    responses: int = 8
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
    played_until: int = 0
    """Where on that clock all audio that was sent will have been played, if it is played."""

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
        self.effects.append(do.Store(item.record(), previous, response_id, item.audio_ms))
