"""The frozen agent that a live call runs: all that the record world hands over at the door."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """One agent version as a call needs it.

    ``turn_detection`` has the shape of OpenAI's ``audio.input.turn_detection`` (None: manual); ``language`` is ISO 639
    or None to detect; ``model`` is the provider's model name, empty for the platform's default; ``record``: whether its
    calls are recorded.
    """

    slug: str
    name: str
    instructions: str
    voice: str = "alloy"
    speed: float = 1.0
    language: str | None = None
    greeting: str = ""
    model: str = ""
    temperature: float = 0.7
    turn_detection: dict[str, Any] | None = field(
        default_factory=lambda: {"type": "server_vad", "silence_duration_ms": 500}
    )
    record: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the door: the tenant's schema name, the key's id, and the agent they asked for.

    ``end_user`` is what the tenant calls the person at the other end, ``limits`` what was lowered for them.
    """

    tenant: str
    key_id: str
    agent: AgentSpec
    end_user: str = ""
    limits: dict[str, int] = field(default_factory=dict)
