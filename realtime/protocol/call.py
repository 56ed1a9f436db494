"""What the parts of a session share: its configuration, its conversation, and the list of effects under way."""

from collections.abc import Callable
from dataclasses import dataclass, field

from agents.spec import AgentSpec, Rule
from realtime.protocol import effects as do
from realtime.protocol.config import SessionConfig
from realtime.protocol.conversation import Conversation
from realtime.protocol.events import ServerEvent
from realtime.protocol.input_audio import HZ, SAMPLES_PER_MS
from realtime.protocol.item import Item
from realtime.protocol.outcomes import Tally

CLOSE_ENDED = 1000


@dataclass(frozen=True)
class Limits:
    """Bounds of one call.

    ``input_audio_s``: what may wait for its commit; ``turn_s``: after that a turn is taken to be over; ``ahead_s``:
    the longest turn that is recognised ahead of its end; ``pause_ms``: the silence that starts this;
    ``guess_ms``: how often a transcription that streams is brought up to date while the caller speaks, 0 for never;
    ``kept_audio_s``: audio of items that is kept for retrieval; ``items``, ``content_bytes``: a conversation's items,
    and all their text and images; ``text_bytes``: the text of one item; ``session_bytes``: one session.update;
    ``transcriptions``, ``responses``: how many may be under way at once; ``context_tokens``: what the language model
    takes in, its answer included; ``greeting_ms``: what a client has to set its session up before the agent greets;
    ``tools_wait_ms``: the longest that an answer waits for MCP servers to name their tools; ``mcp_servers``: how many a
    client may name at once; ``hand_offs``: how often a call may change hands before the caller says something.
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
    greeting_ms: int = 300
    tools_wait_ms: int = 3_000
    mcp_servers: int = 8
    hand_offs: int = 3


@dataclass
class Call:
    """``new_id(prefix)`` gives unique ids; ``agent`` answers at the moment; ``rules`` may choose another by the
    caller's first words; ``abilities``: the built-in tools that the transport can do."""

    config: SessionConfig
    agent: AgentSpec
    new_id: Callable[[str], str]
    limits: Limits
    rules: tuple[Rule, ...] = ()
    abilities: frozenset[str] = frozenset()
    effects: list[do.Effect] = field(default_factory=list)
    heard_samples: int = 0
    """The call's clock: input samples at 24 kHz since it began."""
    quiet_from: int | None = None
    """Where on that clock the last answer will have been played; None while anyone speaks or is about to."""
    played_until: int = 0
    """Where on that clock all audio that was sent will have been played, if it is played."""
    language: str = ""
    """What the caller spoke last, ISO 639-1; empty until they spoke."""
    closing: bool = False
    """The agent has ended the call: what was said is still played, and nothing is answered."""

    def __post_init__(self) -> None:
        self.conversation = Conversation(self.new_id("conv"), self.limits.kept_audio_s * HZ)
        self.tally = Tally(self.agent)

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
        """The agent of the first time is the one who made it, or was there."""
        if item.agent is None:
            item.agent = (self.agent.slug, self.agent.version)
        previous = self.conversation.previous_id(item.id)
        heard = None if item.awaiting_transcript else item.heard
        made_by = (*item.agent, item.receipt)
        self.do(do.Store(item.record(), previous, response_id, item.audio_ms, *made_by, heard, item.places))

    @property
    def unplayed_ms(self) -> int:
        """What is still to be heard of what was sent."""
        return max(0, self.played_until - self.heard_samples) // SAMPLES_PER_MS

    def close(self, reason: str) -> None:
        """The agent ends the call, once what it said was heard."""
        if not self.closing:
            self.closing = True
            self.do(do.Close(CLOSE_ENDED, reason, self.unplayed_ms))
