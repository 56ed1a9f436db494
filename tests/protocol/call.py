"""A session on a table: say what comes in, read what goes out. No I/O, no clock, no random numbers."""

import itertools
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from agents.spec import AgentSpec, Rule
from agents.tools.types import Receipt, ToolAnswer, ToolError, ToolSpec
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Limits
from realtime.protocol.config import SessionConfig
from realtime.protocol.session import Session
from realtime.protocol.wire import GA
from speech.engines import Pcm, Transcript

AGENT = AgentSpec(slug="test", name="Test", instructions="Be brief.")
SILENCE, SPEECH = 0.01, 0.9
WINDOW_16KHZ = 512
WINDOW_24KHZ = 768


_openai_events = TypeAdapter(RealtimeServerEvent)


def check_conformance(event: dict[str, Any]) -> None:
    """The ``openai`` package's own types accept the event as the type that it says it is."""
    parsed = _openai_events.validate_python(event)
    assert parsed.type == event["type"]


def tool(name: str, **fields: Any) -> ToolSpec:
    """One that the server runs."""
    settings: dict[str, Any] = {"kind": "http", "server_label": "http"} | fields
    return ToolSpec(name=name, description=f"Does {name}.", parameters={"type": "object"}, **settings)


def tone(ms: int) -> Pcm:
    return (np.sin(np.arange(24 * ms) / 10) * 8000).astype(np.int16)


@dataclass
class TestCall:
    """Effects of the last input are in ``effects``, its server events in ``events``; all of them in ``said``."""

    __test__ = False
    agent: AgentSpec = AGENT
    transcription: bool = False
    limits: Limits = field(default_factory=Limits)
    rules: tuple[Rule, ...] = ()
    abilities: frozenset[str] = frozenset()
    config: SessionConfig | None = None

    def __post_init__(self) -> None:
        counter = itertools.count(1)
        new_id = lambda prefix: f"{prefix}_{next(counter)}"  # noqa: E731
        if self.config is not None:
            config = self.config
        elif self.transcription:
            config = SessionConfig.transcription(session_id="sess_1", expires_at=1)
        else:
            config = SessionConfig.realtime(session_id="sess_1", model="gpt-realtime", expires_at=1, agent=self.agent)
        self.session = Session(config, self.agent, new_id, self.limits, rules=self.rules, abilities=self.abilities)
        self.said: list[dict[str, Any]] = []
        self.raw: list[ev.ServerEvent] = []
        self.events: list[dict[str, Any]] = []
        self.effects: list[do.Effect] = []
        self.generation = 0
        self.scored_16khz = 0
        self._note(self.session.open())

    def _note(self, effects: list[do.Effect]) -> list[str]:
        before = len(self.said)
        for effect in effects:
            if isinstance(effect, do.Send):
                self.raw.append(effect.event)
                self.said.append(msgspec.json.decode(GA.encode(effect.event)))
                check_conformance(self.said[-1])
            elif isinstance(effect, do.OpenListening):
                self.generation, self.scored_16khz = effect.generation, 0
            elif isinstance(effect, do.CountTokens):
                limits = ev.RateLimited(limit=1000, remaining=1000 - effect.tokens, reset_s=60.0)
                self._note(self.session.receive(limits))
        self.effects = effects
        return self.types_since(before)

    def types_since(self, count: int) -> list[str]:
        self.events = self.said[count:]
        return [event["type"] for event in self.events]

    def all(self, kind: type) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def one(self, kind: type) -> Any:
        [effect] = self.all(kind)
        return effect

    def client(self, type: str, **fields: Any) -> list[str]:  # noqa: A002 - the wire's word
        """A client event, through the wire. Returns the types of the events it caused."""
        return self.frame(msgspec.json.encode({"type": type, **fields}).decode())

    def frame(self, frame: str | bytes) -> list[str]:
        return self.result(GA.parse(frame))

    def result(self, entering: ev.Input) -> list[str]:
        return self._note(self.session.receive(entering))

    def append(self, pcm: Pcm) -> list[str]:
        return self.result(ev.InputAudioAppend(audio=pcm.tobytes()))

    def hear(self, ms: int, probability: float) -> list[str]:
        """Audio of this length arrives and is scored, window by window."""
        types: list[str] = []
        effects: list[do.Effect] = []
        for _ in range(round(ms / 32)):
            types += self.append(tone(32))
            effects += self.effects
            self.scored_16khz += WINDOW_16KHZ
            types += self.result(
                ev.WindowScored(generation=self.generation, end_sample_16khz=self.scored_16khz, probability=probability)
            )
            effects += self.effects
        self.effects = effects
        return types

    def recognise(self, job_id: str, text: str) -> list[str]:
        return self.result(
            ev.TranscriptReady(job_id=job_id, transcript=Transcript(text=text, language="en", audio_s=1.0))
        )

    def type_in(self, text: str) -> str:
        """A typed user message; returns its item's id."""
        self.client(
            "conversation.item.create",
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]},
        )
        return str(self.events[0]["item"]["id"])

    def ask(self, **response: Any) -> str:
        """response.create; returns the response's id."""
        self.client("response.create", response=response)
        created = self.events[0]
        assert created["type"] == "response.created", created
        return str(created["response"]["id"])

    def call_tools(self, response_id: str, *names: str, arguments: str = "{}") -> list[str]:
        """The model calls these at once, and ends its reply."""
        types: list[str] = []
        effects: list[do.Effect] = []
        results: list[ev.Result] = [
            ev.ReplyToolCall(response_id=response_id, index=index, call_id=f"c{index}", name=name, arguments=arguments)
            for index, name in enumerate(names)
        ]
        for result in [*results, ev.ReplyFinished(response_id=response_id, reason="tool_calls", output_tokens=1)]:
            types += self.result(result)
            effects += self.effects
        self.effects = effects
        return types

    def tool_answers(self, run_id: str, output: str = "", error: ToolError | None = None) -> list[str]:
        receipt = Receipt(tool="x", kind="http", took_ms=5.0)
        return self.result(ev.ToolAnswered(run_id=run_id, answer=ToolAnswer(output, receipt, error)))

    @property
    def items(self) -> list[tuple[str, str]]:
        """Type and status of what is in the conversation."""
        return [(item.type, item.status) for item in self.session.call.conversation]

    def done(self) -> dict[str, Any]:
        """The response that ended last."""
        found = [event["response"] for event in self.said if event["type"] == "response.done"]
        return dict(found[-1])

    def answer(self, response_id: str, text: str, audio_ms: int = 0) -> list[str]:
        """The reply's words (and audio) arrive, and it ends."""
        types = self.result(ev.ReplyBegan(response_id=response_id))
        types += self.result(ev.ReplyText(response_id=response_id, text=text))
        if audio_ms:
            types += self.result(ev.ReplyAudio(response_id=response_id, pcm_24khz=tone(audio_ms)))
        return types + self.result(ev.ReplyFinished(response_id=response_id, reason="stop", output_tokens=3))
