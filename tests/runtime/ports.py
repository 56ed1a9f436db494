"""Scripted ports: a call's engines, transport and archive as the test wants them, without servers."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from agents.llm.types import Delta, Finished, LlmError, Request, TextDelta
from agents.spec import AgentSpec, Redaction, Rule
from agents.tools.types import McpServer, Receipt, ToolAnswer, ToolContext, ToolError, ToolSpec, ToolsUnavailable
from realtime.archive.events import AnyArchiveEvent
from realtime.protocol import events as ev
from realtime.protocol.call import Limits
from realtime.protocol.config import SessionConfig
from realtime.protocol.session import Session
from realtime.runtime.budget import Exhausted, Tell, Ticket
from realtime.runtime.door import id_source
from realtime.runtime.ports import AgentUnavailable, Ports, PromptRefused, Scored, SpokenChunk
from realtime.runtime.register import SessionRecord
from realtime.runtime.runner import CallRecord, Runner, RunnerConfig
from speech.engines import Heard, Pcm, Segment, SpeechFailed, Transcript
from tenants.limits.allowance import Allowance, Party

AGENT = AgentSpec(slug="test", name="Test", instructions="Be brief.")


class Model:
    """Says its words, one a token, then finishes; an exception among them is raised."""

    name = "scripted"
    model = "scripted-1"

    def __init__(self, *words: str | Exception) -> None:
        self.words = words
        self.requests: list[Request] = []
        self.closed = 0

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        try:
            for word in self.words:
                await asyncio.sleep(0)
                if isinstance(word, Exception):
                    raise word
                yield TextDelta(word)
            yield Finished("stop", 7, len(self.words), 0)
        finally:
            self.closed += 1


class Speech:
    """Hears what it was told to hear, in ``segments`` where they are wanted, and speaks 100 ms a phrase. ``gate`` unset
    holds everything back."""

    def __init__(self, heard: str = "Hello.", fails: str = "") -> None:
        self.heard = heard
        self.fails = fails
        self.gate = asyncio.Event()
        self.gate.set()
        self.spoken: list[str] = []
        self.closed = 0
        self.transcribed_ms: list[int] = []
        self.guesses = 0
        self.segments: list[str] = []

    async def transcribe(
        self,
        pcm: Pcm,
        *,
        tenant: str,
        session_id: str,
        sample_rate_hz: int,
        language: str | None,
        prompt: str | None,
        answer_s: float | None = None,
        heard: Heard | None = None,
    ) -> Transcript:
        self.transcribed_ms.append(len(pcm) * 1000 // sample_rate_hz)
        self.guesses += answer_s is not None
        await self.gate.wait()
        if self.fails == "stt":
            raise SpeechFailed("stt_timeout", "no answer within 10 s")
        for text in self.segments if heard is not None else ():
            await asyncio.sleep(0)
            heard(Segment(text))
        return Transcript(self.heard, "en", len(pcm) / sample_rate_hz, engine="ears", model="ears-1")

    async def synthesise(
        self, text: str, *, tenant: str, session_id: str, voice: str, speed: float
    ) -> AsyncGenerator[SpokenChunk, None]:
        self.spoken.append(text)
        try:
            await self.gate.wait()
            if self.fails == "tts":
                raise SpeechFailed("tts_failed", "no engine")
            for _ in range(2):
                await asyncio.sleep(0)
                yield SpokenChunk(np.full(1200, len(self.spoken), np.int16), "scripted", model="voice-1")
        finally:
            self.closed += 1


class Listening:
    """Scores a window as soon as it is full: loud is speech."""

    def __init__(self) -> None:
        self.open_streams = 0

    def open(self, scored: Scored) -> "Listening._Stream":
        self.open_streams += 1
        return self._Stream(self, scored)

    class _Stream:
        def __init__(self, listening: "Listening", scored: Scored) -> None:
            self.listening, self.scored = listening, scored
            self.rest = np.empty(0, np.int16)
            self.windows = 0
            self.closed = False

        def push(self, pcm_24khz: Pcm) -> None:
            self.rest = np.concatenate([self.rest, pcm_24khz])
            while len(self.rest) >= 768:
                window, self.rest = self.rest[:768], self.rest[768:]
                self.windows += 1
                self.scored(self.windows * 512, 0.9 if np.abs(window).max() > 1000 else 0.01)

        def close(self) -> None:
            if not self.closed:
                self.closed = True
                self.listening.open_streams -= 1


class Judge:
    """Thinks what it is told to think."""

    def __init__(self, probability: float = 1.0) -> None:
        self.probability = probability
        self.asked_ms: list[int] = []

    async def judge(self, pcm_24khz: Pcm) -> float:
        self.asked_ms.append(len(pcm_24khz) // 24)
        return self.probability


class Archive:
    def __init__(self) -> None:
        self.events: list[tuple[str, AnyArchiveEvent]] = []

    def put(self, tenant: str, event: AnyArchiveEvent) -> None:
        self.events.append((tenant, event))


class Register:
    """Remembers what it was told."""

    gateway_id = "gateway"

    def __init__(self) -> None:
        self.live: dict[str, SessionRecord] = {}
        self.told: list[str] = []

    def enter(self, record: SessionRecord) -> None:
        self.live[record.id] = record
        self.told.append("created")

    def change(self, session_id: str, **fields: Any) -> None:
        self.live[session_id] = msgspec.structs.replace(self.live[session_id], **fields)
        self.told.append("updated")

    def leave(self, session_id: str, reason: str) -> None:
        del self.live[session_id]
        self.told.append(f"closed: {reason}")


class Wire:
    """A transport between a test and a runner. ``reads`` False is a client that takes nothing."""

    abilities: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.events: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.reads = True
        self.broken = False
        self.gone = "client_closed"
        self.arrived = asyncio.Event()

    async def receive(self) -> str | bytes | None:
        return await self.incoming.get()

    async def send(self, frame: str) -> None:
        if self.broken:
            raise ConnectionError("gone")
        if not self.reads:
            await asyncio.Event().wait()
        self.events.append(json.loads(frame))
        self.arrived.set()

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


class Budget:
    """1,000 tokens, and tickets as long as there are any."""

    def __init__(self, tickets: int = 1_000) -> None:
        self.tickets = tickets
        self.left = 1_000
        self.audio_ms = 0

    async def take(self) -> Ticket | Exhausted:
        await asyncio.sleep(0)
        if not self.tickets:
            return Exhausted("Rate limit reached for requests_per_minute: Limit 0. Please try again in 60s.")
        self.tickets -= 1
        return Ticket()

    def settle(self, ticket: Ticket | None, tokens: int, tell: Tell) -> None:
        self.left -= tokens
        tell(ev.RateLimited(limit=1_000, remaining=self.left, reset_s=60.0))

    def give_back(self, ticket: Ticket) -> None:
        self.tickets += 1

    def count_audio(self, total_ms: int) -> None:
        self.audio_ms = total_ms


LIMITS = {
    "requests_per_minute": 100,
    "tokens_per_minute": 100_000,
    "concurrent_sessions": 10,
    "sessions_per_end_user": 3,
    "audio_minutes_per_day": 1_000,
    "connections_per_second": 20,
}


def party(tenant: str = "acme", key_id: str = "key_1", end_user: str = "", **limits: int) -> Party:
    """Whose limits count; ``limits`` in place of the tenant's usual ones."""
    return Party(tenant=tenant, key_id=key_id, end_user=end_user, allowance=Allowance(tenant=LIMITS | limits))


class Tools:
    """Answers each tool with what it was told to, by its name: words, an error to raise, or a coroutine function of
    the arguments. ``servers`` has the tools of MCP servers by their labels."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.servers: dict[str, tuple[ToolSpec, ...]] = {}
        self.asked: list[tuple[str, str, ToolContext]] = []
        self.cancelled: list[str] = []

    async def list_tools(self, server: McpServer, *, tenant: str) -> tuple[ToolSpec, ...]:
        await asyncio.sleep(0)
        if server.label not in self.servers:
            raise ToolsUnavailable(ToolError("http_error", "Nobody answers there.", 502))
        return self.servers[server.label]

    async def run(self, tool: ToolSpec, arguments: str, context: ToolContext) -> ToolAnswer:
        self.asked.append((tool.name, arguments, context))
        answer = self.answers[tool.name]
        try:
            if callable(answer):
                answer = await answer(arguments)
        except asyncio.CancelledError:
            self.cancelled.append(tool.name)
            raise
        if isinstance(answer, Exception):
            raise answer
        receipt = Receipt(tool=tool.name, kind=tool.kind, asked=arguments, agent=context.agent)
        if isinstance(answer, ToolError):
            return ToolAnswer("", msgspec.structs.replace(receipt, outcome="failed"), answer)
        return ToolAnswer(str(answer), receipt)


class Directory:
    """Has these agents, and these prompts by id."""

    def __init__(self, *agents: AgentSpec, prompts: dict[str, str] | None = None) -> None:
        self.agents = {agent.slug: agent for agent in agents}
        self.prompts = prompts or {}
        self.asked: list[tuple[Any, ...]] = []
        self.remembered: list[tuple[str, ...]] = []
        self.chooses = ""

    async def load(self, tenant: str, slug: str, values: Mapping[str, str], *, subject: str) -> AgentSpec:
        self.asked.append((tenant, slug, subject))
        await asyncio.sleep(0)
        if slug not in self.agents:
            raise AgentUnavailable(f"There is no agent {slug!r}.")
        return self.agents[slug]

    async def prompt(
        self, tenant: str, prompt: dict[str, Any], values: Mapping[str, str], param: str, *, subject: str
    ) -> str:
        await asyncio.sleep(0)
        if prompt["id"] not in self.prompts:
            raise PromptRefused("prompt_not_found", f"There is no prompt {prompt['id']!r}.", f"{param}.id")
        return self.prompts[prompt["id"]]

    async def route(
        self,
        tenant: str,
        rules: tuple[Rule, ...],
        text: str,
        language: str,
        agent: AgentSpec,
        values: Mapping[str, str],
        *,
        subject: str,
        spend: Callable[[Finished], None],
    ) -> AgentSpec | None:
        spend(Finished("stop", 11, 1, provider="router", model="router-1"))
        self.asked.append((tenant, rules, text, language, subject))
        await asyncio.sleep(0)
        return self.agents.get(self.chooses)

    def remember(self, tenant: str, end_user: str, channel: str, entry: str, agent: str) -> None:
        self.remembered.append((tenant, end_user, channel, entry, agent))


@dataclass
class Table:
    """One call and everything around it. ``async with Table(...) as table``."""

    model: Any = field(default_factory=lambda: Model("Hi ", "there."))
    speech: Speech = field(default_factory=Speech)
    config: RunnerConfig = field(default_factory=RunnerConfig)
    agent: AgentSpec = AGENT
    judge: Judge = field(default_factory=Judge)
    budget: Budget = field(default_factory=Budget)
    tools: Tools = field(default_factory=Tools)
    directory: Directory = field(default_factory=Directory)
    wire: Wire = field(default_factory=Wire)
    limits: Limits = field(default_factory=Limits)
    rules: tuple[Rule, ...] = ()
    end_user: str = ""
    recorder: Any = None
    redaction: Redaction = field(default_factory=Redaction)
    session_config: SessionConfig | None = None

    async def __aenter__(self) -> "Table":
        self.archive, self.listening, self.register = Archive(), Listening(), Register()
        session_config = self.session_config or SessionConfig.realtime(
            session_id="sess_1", model="agent:test", expires_at=1, agent=self.agent
        )
        ports = Ports(
            listening=self.listening,
            hearing=self.speech,
            judging=self.judge,
            speaking=self.speech,
            model=self.model,
            archive=self.archive,
            register=self.register,
            tools=self.tools,
            directory=self.directory,
            recorder=self.recorder,
        )
        record = CallRecord(
            "acme", self.agent.slug, "websocket", "key_1", self.end_user, "agent:test", redaction=self.redaction
        )
        session = Session(
            session_config, self.agent, id_source(), self.limits, rules=self.rules, abilities=self.wire.abilities
        )
        clock = asyncio.get_running_loop().time
        self.runner = Runner(session, ports, self.wire, record, self.budget, self.config, clock=clock)
        self.running = asyncio.create_task(self.runner.run())
        await self.until("session.created")
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.running.done():
            await self.hang_up()

    async def hang_up(self) -> str:
        self.wire.incoming.put_nowait(None)
        return await asyncio.wait_for(self.running, 5)

    def send(self, type: str, **fields: Any) -> None:  # noqa: A002 - the wire's word
        self.wire.incoming.put_nowait(json.dumps({"type": type, **fields}))

    def done(self) -> dict[str, Any]:
        """The response that ended last."""
        return next(e["response"] for e in reversed(self.wire.events) if e["type"] == "response.done")

    def type_in(self, text: str) -> None:
        content = [{"type": "input_text", "text": text}]
        self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})

    def speak(self, ms: int, level: int = 5000) -> None:
        import base64

        pcm = np.full(24 * ms, level, np.int16)
        self.send("input_audio_buffer.append", audio=base64.b64encode(pcm.tobytes()).decode())

    async def until(self, wanted: str | Callable[[], bool], longest_s: float = 5) -> None:
        """Until an event of this type has come, or a condition holds."""
        holds = (lambda: wanted in self.wire.types) if isinstance(wanted, str) else wanted
        async with asyncio.timeout(longest_s):
            while not holds():  # noqa: ASYNC110 - a test polls
                await asyncio.sleep(0.001)


UNAVAILABLE = LlmError("llm_unavailable", "No model.")
