"""The frozen agent that a live call runs: all that the record world hands over at the door."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agents.llm.providers import ModelRef
from agents.tools.types import McpServer, ToolSpec

DRAFT = 0
"""The number of what is no published version: a draft, or the plain assistant."""


@dataclass(frozen=True, slots=True)
class Colleague:
    """Another agent of the tenant. ``hand_off``: it takes the call over, and with ``returns`` may hand it back;
    ``consult``: it is asked, and the one who asked says the answer. ``when`` tells the model what for."""

    agent: str
    mode: Literal["hand_off", "consult"] = "hand_off"
    when: str = ""
    returns: bool = False


@dataclass(frozen=True, slots=True)
class Filler:
    """What is said while a tool keeps a caller waiting: one of ``phrases``, in turn, after ``after_ms`` of silence. No
    phrase: nothing."""

    after_ms: int = 1_500
    phrases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """Bounds of one call of the agent; None leaves the platform's. ``tool_rounds``: how often in one response the model
    may call tools that the server runs."""

    duration_s: int | None = None
    turns: int | None = None
    tool_rounds: int = 8


@dataclass(frozen=True, slots=True)
class GuardRail:
    """Words that must not be said (``on`` output), or that an agent must not be asked about (input): ``phrases`` as
    whole words in any case, or what ``detects`` names (``agents.guard.detectors``). Where one is found ``say`` is said
    in its place, and with ``then`` end_call the call ends."""

    name: str
    on: Literal["input", "output"]
    say: str
    phrases: tuple[str, ...] = ()
    detects: tuple[str, ...] = ()
    then: Literal["go_on", "end_call"] = "go_on"


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """One agent version as a call needs it: ``instructions`` and ``greeting`` with their variables filled in from
    ``values``.

    ``turn_detection`` has the shape of OpenAI's ``audio.input.turn_detection`` (None: manual); ``language`` is ISO 639
    or None to detect one of ``languages`` (empty: any); ``voices`` maps a language to the voice that speaks it, where
    it is not ``voice``; ``models`` is the chain of who is asked, empty for the platform's default; ``record``: whether
    its calls are recorded; ``trial`` is the id of the A/B trial that chose this version; ``functions`` are tools that
    the client runs, ``tools`` and ``mcp_servers`` what the server does.
    """

    slug: str
    name: str
    instructions: str
    voice: str = "alloy"
    speed: float = 1.0
    language: str | None = None
    greeting: str = ""
    models: tuple[ModelRef, ...] = ()
    temperature: float = 0.7
    turn_detection: dict[str, Any] | None = field(
        default_factory=lambda: {"type": "server_vad", "silence_duration_ms": 500}
    )
    record: bool = False
    version: int = DRAFT
    trial: str = ""
    languages: tuple[str, ...] = ()
    voices: Mapping[str, str] = field(default_factory=dict)
    functions: tuple[dict[str, Any], ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    mcp_servers: tuple[McpServer, ...] = ()
    colleagues: tuple[Colleague, ...] = ()
    filler: Filler = Filler()
    limits: AgentLimits = AgentLimits()
    guard_rails: tuple[GuardRail, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """One routing rule that waits for the caller's first words: it wants their ``languages``, or an ``intent`` that a
    language model finds in them. What could be decided at the door (channel, time, attributes) already was."""

    name: str
    agent: str
    languages: tuple[str, ...] = ()
    intent: str = ""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What of a call is not kept: ``kinds`` (``agents.guard.detectors``) are taken out of all that is written of it,
    and with ``silence`` its recording is silent there."""

    kinds: frozenset[str] = frozenset()
    silence: bool = True


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the door: the tenant's schema name, the key's id, and the agent they asked for.

    ``end_user`` is what the tenant calls the person at the other end, ``limits`` what was lowered for them; ``rules``
    may still choose another agent by the caller's first words. ``entry`` is the slug of the agent they called, where a
    colleague who served them a moment ago has taken the call; else that of ``agent``. ``redaction`` is the tenant's,
    whoever answers. ``values`` are the variables that the call itself brought: what any other agent of this call is
    filled in from too.
    """

    tenant: str
    key_id: str
    agent: AgentSpec
    end_user: str = ""
    limits: dict[str, int] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    entry: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    redaction: Redaction = Redaction()
