"""The effective session: what ``session.created`` shows, how an update merges into it, and typed views for the rest.

The wire object is the truth; an update is checked against ``contract`` before it comes here, and a refused one leaves
nothing behind. Only what opens a client's MCP servers is kept beside it: nobody is shown that again.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

from agents.spec import AgentSpec
from agents.tools.mcp_wire import server_from_wire
from agents.tools.types import McpServer
from realtime.protocol.events import JsonObject, Modality
from realtime.protocol.shapes import Invalid, shown, spoken_list
from realtime.protocol.turns import TurnTaking
from speech.noise import Field
from speech.tts.voices import OPENAI_VOICES, VOICES

SERVER_VAD = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 200,
    "idle_timeout_ms": None,
    "create_response": True,
    "interrupt_response": True,
}
SEMANTIC_VAD = {"type": "semantic_vad", "eagerness": "auto", "create_response": True, "interrupt_response": True}
# Eagerness: the longest wait for a caller who may not have finished, and how sure the end-of-turn model must be.
EAGERNESS = {"low": (8_000, 0.7), "medium": (4_000, 0.5), "auto": (4_000, 0.5), "high": (2_000, 0.35)}
# How much longer than usual it is waited before words are told while they are said.
DELAYS = {"minimal": 0.5, "low": 0.75, "medium": 1.0, "high": 1.5, "xhigh": 2.5}
# The models of OpenAI's whose transcripts stream; the same recogniser does the work of all.
STREAMING_MODELS = ("gpt-live-transcribe", "gpt-realtime-whisper")
SECRETS = ("authorization", "headers")
RESPONDING = ("create_response", "interrupt_response", "idle_timeout_ms")


def _turn_detection(patch: JsonObject | None, current: JsonObject | None, transcription: bool) -> JsonObject | None:
    if patch is None:
        return None
    kind = patch["type"]
    defaults = SERVER_VAD if kind == "server_vad" else SEMANTIC_VAD
    kept = current if current is not None and current["type"] == kind else {}
    merged = {**defaults, **kept, **patch}
    if transcription:
        merged = {name: value for name, value in merged.items() if name not in RESPONDING}
    return merged


def _transcription(patch: JsonObject | None, current: JsonObject | None) -> JsonObject | None:
    if patch is None:
        return None
    same = current is not None and patch.get("model", current["model"]) == current["model"]
    merged = {"model": "whisper-1", "language": None, "prompt": None, **((current or {}) if same else {}), **patch}
    merged.pop("delay", None)  # OpenAI takes it and shows it nowhere
    return merged


def _noise_reduction(patch: JsonObject | None, current: JsonObject | None) -> JsonObject | None:
    """An absent ``strength`` keeps its value, as OpenAI documents."""
    return None if patch is None else {"type": "near_field", **(current or {}), **patch}


def check_modalities(modalities: list[Modality], path: str) -> None:
    if len(modalities) != 1:
        raise Invalid(
            "invalid_value",
            f"Invalid modalities: {sorted(modalities)}. Supported combinations are: ['text'] and ['audio'].",
            path,
        )


def check_voice(voice: str | JsonObject, path: str) -> None:
    """OpenAI's names and Kokoro's own; a custom voice's id is one of them. Raises Invalid."""
    name = voice if isinstance(voice, str) else voice["id"]
    if name not in VOICES:
        raise Invalid(
            "invalid_value",
            f"Invalid value: '{name}'. Supported values are: {spoken_list(sorted(OPENAI_VOICES))}, "
            "and Kokoro's own voices, such as 'af_heart'.",
            path,
        )


def read_servers(tools: list[JsonObject], path: str) -> tuple[McpServer, ...]:
    """The MCP servers among ``tools`` as a client wrote them. Raises Invalid."""
    servers: list[McpServer] = []
    for index, tool in enumerate(tools):
        if tool["type"] != "mcp":
            continue
        for elsewhere in ("connector_id", "tunnel_id"):
            if elsewhere in tool:
                raise Invalid(
                    "invalid_value",
                    f"Invalid '{path}[{index}]': '{elsewhere}' names what only OpenAI can reach. Give the 'server_url' "
                    "of an MCP server instead.",
                    f"{path}[{index}].{elsewhere}",
                )
        if any(known.label == tool["server_label"] for known in servers):
            raise Invalid(
                "invalid_value",
                f"Invalid '{path}[{index}].server_label': another tool has the label '{shown(tool['server_label'])}' "
                "already. Give each MCP server one of its own.",
                f"{path}[{index}].server_label",
            )
        servers.append(server_from_wire(tool))
    return tuple(servers)


def check_room(servers: tuple[McpServer, ...], most: int, path: str) -> None:
    """Raises Invalid for more than ``most``."""
    if len(servers) > most:
        raise Invalid(
            "too_many_mcp_servers",
            f"Invalid '{path}': too many MCP servers. Expected at most {most}, but got {len(servers)} instead.",
            path,
        )


def _without_secrets(tool: JsonObject) -> JsonObject:
    return {name: value for name, value in tool.items() if name not in SECRETS}


def _merged_input(current: JsonObject, patch: JsonObject, transcription: bool) -> JsonObject:
    merged = {**current, **patch}
    if "turn_detection" in patch:
        merged["turn_detection"] = _turn_detection(patch["turn_detection"], current["turn_detection"], transcription)
    if "transcription" in patch:
        merged["transcription"] = _transcription(patch["transcription"], current["transcription"])
    if "noise_reduction" in patch:
        merged["noise_reduction"] = _noise_reduction(patch["noise_reduction"], current["noise_reduction"])
    if merged["format"]["type"] == "audio/pcm":
        merged["format"] = {"type": "audio/pcm", "rate": 24_000}
    return merged


@dataclass(frozen=True)
class SessionConfig:
    """``wire`` is never changed in place; ``updated`` gives a new one. ``servers`` are the MCP servers that a client
    named in ``tools``, with all it takes to reach them; ``delay`` is how long words that are told while they are said
    may wait for better ones."""

    wire: JsonObject
    servers: tuple[McpServer, ...] = ()
    delay: str = "medium"

    @classmethod
    def realtime(cls, *, session_id: str, model: str, expires_at: int, agent: AgentSpec) -> "SessionConfig":
        return cls(
            {
                "type": "realtime",
                "object": "realtime.session",
                "id": session_id,
                "model": model,
                "output_modalities": ["audio"],
                "instructions": agent.instructions,
                "tools": list(agent.functions),
                "tool_choice": "auto",
                "max_output_tokens": "inf",
                "tracing": None,
                "truncation": "auto",
                "prompt": None,
                "expires_at": expires_at,
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24_000},
                        "transcription": None,
                        "noise_reduction": None,
                        "turn_detection": _turn_detection(agent.turn_detection, None, False),
                    },
                    "output": {
                        "format": {"type": "audio/pcm", "rate": 24_000},
                        "voice": agent.voice,
                        "speed": agent.speed,
                    },
                },
                "include": None,
            }
        )

    @classmethod
    def transcription(cls, *, session_id: str, expires_at: int) -> "SessionConfig":
        return cls(
            {
                "type": "transcription",
                "object": "realtime.transcription_session",
                "id": session_id,
                "expires_at": expires_at,
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24_000},
                        "transcription": None,
                        "noise_reduction": None,
                        "turn_detection": _turn_detection({"type": "server_vad"}, None, True),
                    }
                },
                "include": None,
            }
        )

    def updated(self, patch: JsonObject, *, assistant_has_spoken: bool = False, prompt: str | None = None) -> Self:
        """Deep merge: absent keeps, null clears, arrays replace. ``prompt``: the words of the stored prompt that the
        patch names; its own ``instructions`` win. Raises Invalid."""
        if patch["type"] != self.wire["type"]:
            raise Invalid(
                "invalid_value",
                f"Invalid value: '{patch['type']}'. A session's type cannot change; this one is '{self.wire['type']}'.",
                "session.type",
            )
        wire = {**self.wire, "audio": dict(self.wire["audio"])}
        if prompt is not None:
            wire["instructions"] = prompt
        servers = self.servers
        for name, value in patch.items():
            if name in ("type", "model", "audio"):
                continue  # the model is fixed when the session opens
            if name == "output_modalities":
                check_modalities(value, "session.output_modalities")
            if name == "tools":
                servers = read_servers(value, "session.tools")
                value = [_without_secrets(tool) for tool in value]
            wire[name] = value
        audio = patch.get("audio", {})
        delay = ((audio.get("input") or {}).get("transcription") or {}).get("delay", self.delay)
        if "input" in audio:
            wire["audio"]["input"] = _merged_input(wire["audio"]["input"], audio["input"], self.is_transcription)
        if "output" in audio:
            voice = audio["output"].get("voice", wire["audio"]["output"]["voice"])
            check_voice(voice, "session.audio.output.voice")
            if assistant_has_spoken and voice != wire["audio"]["output"]["voice"]:
                raise Invalid(
                    "cannot_update_voice", "Cannot update a conversation's voice if assistant audio is present."
                )
            wire["audio"]["output"] = {**wire["audio"]["output"], **audio["output"]}
        return replace(self, wire=wire, servers=servers, delay=delay)

    def handed_over(self, before: AgentSpec, after: AgentSpec) -> Self:
        """Another agent answers from now on: with its own instructions, voice and functions. What the client itself
        set of turn detection, speed and functions stays."""
        audio = self.wire["audio"]
        heard, spoken = dict(audio["input"]), {**audio["output"], "voice": after.voice}
        if heard["turn_detection"] == _turn_detection(before.turn_detection, None, False):
            heard["turn_detection"] = _turn_detection(after.turn_detection, None, False)
        if spoken["speed"] == before.speed:
            spoken["speed"] = after.speed
        own = [tool for tool in self.wire["tools"] if tool not in before.functions]
        names = {tool.get("name") for tool in own}
        tools = [*own, *(function for function in after.functions if function["name"] not in names)]
        changed = {
            "instructions": after.instructions,
            "prompt": None,
            "tools": tools,
            "audio": {"input": heard, "output": spoken},
        }
        return replace(self, wire={**self.wire, **changed})

    @property
    def id(self) -> str:
        return str(self.wire["id"])

    @property
    def is_transcription(self) -> bool:
        return bool(self.wire["type"] == "transcription")

    @property
    def voice(self) -> str:
        """The name of the voice; empty where nothing is spoken."""
        voice = self.wire["audio"].get("output", {}).get("voice", "")
        return str(voice if isinstance(voice, str) else voice["id"])

    @property
    def output_modality(self) -> str:
        """``audio`` or ``text``; empty in a transcription session."""
        return str(self.wire.get("output_modalities", [""])[0])

    @property
    def input_format(self) -> str:
        return str(self.wire["audio"]["input"]["format"]["type"])

    @property
    def input_transcription(self) -> JsonObject | None:
        value: JsonObject | None = self.wire["audio"]["input"]["transcription"]
        return value

    @property
    def streams_words(self) -> bool:
        """Whether the caller's words are told while they are still being said."""
        asked = self.input_transcription
        return asked is not None and asked.get("model") in STREAMING_MODELS

    @property
    def patience(self) -> float:
        """How much longer than usual the words of what is being said may wait."""
        return DELAYS[self.delay]

    @property
    def noise_reduction(self) -> tuple[Field, float] | None:
        """The kind of microphone, and how much of the noise is taken, 0..1."""
        asked: JsonObject | None = self.wire["audio"]["input"]["noise_reduction"]
        return None if asked is None else (asked["type"], asked.get("strength", 1.0))

    @property
    def turn_taking(self) -> TurnTaking | None:
        turn: JsonObject | None = self.wire["audio"]["input"]["turn_detection"]
        if turn is None:
            return None
        responding: dict[str, Any] = {
            name: turn.get(name, not self.is_transcription) for name in ("create_response", "interrupt_response")
        }
        if turn["type"] == "semantic_vad":
            longest_wait_ms, complete = EAGERNESS[turn["eagerness"]]
            return TurnTaking(silence_duration_ms=longest_wait_ms, complete=complete, **responding)
        return TurnTaking(
            threshold=turn["threshold"],
            prefix_padding_ms=turn["prefix_padding_ms"],
            silence_duration_ms=turn["silence_duration_ms"],
            idle_timeout_ms=turn.get("idle_timeout_ms"),
            **responding,
        )
