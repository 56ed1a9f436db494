"""Frames to fuzz with: a valid event of every type in each dialect, and what chance makes of them."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

TOOL = {"type": "function", "name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
MCP = {
    "type": "mcp",
    "server_label": "docs",
    "server_url": "https://example.com/mcp",
    "headers": {"a": "b"},
    "allowed_tools": {"tool_names": ["x"], "read_only": True},
    "require_approval": {"always": {"tool_names": ["x"]}},
}
SAID = {"type": "message", "role": "user", "id": "item_a", "content": [{"type": "input_text", "text": "Hello."}]}
HEARD = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_audio", "audio": "AAAAAAAA", "transcript": "x"}],
}
SEEN = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA"}],
}
CALLED = {"type": "function_call", "call_id": "call_a", "name": "add", "arguments": "{}", "status": "completed"}
RETURNED = {"type": "function_call_output", "call_id": "call_a", "output": "3"}
SHARED: list[dict[str, Any]] = [
    {"type": "input_audio_buffer.append", "audio": "AAAA" * 40},
    {"type": "input_audio_buffer.append", "audio": "AAAA" * 4000, "event_id": "event_audio"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "output_audio_buffer.clear"},
    {"type": "conversation.item.create", "item": SAID, "previous_item_id": "root"},
    {"type": "conversation.item.create", "item": HEARD},
    {"type": "conversation.item.create", "item": SEEN},
    {"type": "conversation.item.create", "item": CALLED},
    {"type": "conversation.item.create", "item": RETURNED},
    {"type": "conversation.item.truncate", "item_id": "item_a", "content_index": 0, "audio_end_ms": 300},
    {"type": "conversation.item.delete", "item_id": "item_a"},
    {"type": "conversation.item.retrieve", "item_id": "item_a"},
    {"type": "response.cancel", "response_id": "resp_a"},
    {"type": "response.cancel"},
    {"type": "response.create"},
]
GA: list[dict[str, Any]] = [
    *SHARED,
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "model": "gpt-realtime",
            "output_modalities": ["text"],
            "instructions": "Be kind.",
            "tools": [TOOL, MCP],
            "tool_choice": {"type": "function", "name": "add"},
            "parallel_tool_calls": True,
            "max_output_tokens": 100,
            "reasoning": {"effort": "low"},
            "tracing": {"group_id": "g", "metadata": {"a": 1}, "workflow_name": "w"},
            "truncation": {
                "type": "retention_ratio",
                "retention_ratio": 0.5,
                "token_limits": {"post_instructions": 1000},
            },
            "prompt": {"id": "p", "version": "1", "variables": {"x": "y", "z": {"type": "input_text", "text": "t"}}},
            "include": ["item.input_audio_transcription.logprobs"],
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "transcription": {"model": "whisper-1", "language": "en", "prompt": "names", "delay": "low"},
                    "noise_reduction": {"type": "near_field", "strength": 0.5},
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.5,
                        "prefix_padding_ms": 300,
                        "silence_duration_ms": 500,
                        "idle_timeout_ms": 6000,
                        "create_response": True,
                        "interrupt_response": False,
                    },
                },
                "output": {"format": {"type": "audio/pcmu"}, "voice": "marin", "speed": 1.1},
            },
        },
    },
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "tools": [MCP],
            "truncation": "disabled",
            "tool_choice": {"type": "mcp", "server_label": "docs"},
            "prompt": None,
            "audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}},
        },
    },
    {
        "type": "session.update",
        "session": {"type": "transcription", "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi."}]},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "mcp_approval_response", "id": "i", "approval_request_id": "a", "approve": True},
    },
    {
        "type": "response.create",
        "response": {
            "conversation": "none",
            "input": [SAID, {"type": "item_reference", "id": "item_a"}, CALLED, RETURNED, HEARD],
            "instructions": "Be brief.",
            "output_modalities": ["audio"],
            "audio": {"output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": {"id": "alloy"}}},
            "tools": [TOOL],
            "tool_choice": "required",
            "max_output_tokens": "inf",
            "metadata": {"a": "b"},
            "reasoning": {"effort": "high"},
        },
    },
]
BETA: list[dict[str, Any]] = [
    *SHARED,
    {
        "type": "session.update",
        "session": {
            "modalities": ["text", "audio"],
            "instructions": "Be kind.",
            "voice": "alloy",
            "input_audio_format": "pcm16",
            "output_audio_format": "g711_ulaw",
            "input_audio_transcription": {"model": "whisper-1"},
            "input_audio_noise_reduction": {"type": "far_field"},
            "turn_detection": {"type": "none"},
            "tools": [TOOL],
            "tool_choice": {"type": "function", "name": "add"},
            "temperature": 0.8,
            "max_response_output_tokens": 4096,
            "speed": 1,
            "tracing": "auto",
            "client_secret": {"expires_after": {"anchor": "created_at", "seconds": 600}},
        },
    },
    {
        "type": "transcription_session.update",
        "session": {
            "modalities": ["text"],
            "input_audio_format": "g711_alaw",
            "include": ["item.input_audio_transcription.logprobs"],
            "turn_detection": {"type": "server_vad", "threshold": 0.5},
        },
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi."}]},
    },
    {
        "type": "response.create",
        "response": {
            "conversation": "none",
            "modalities": ["text"],
            "input": [SAID, {"type": "item_reference", "id": "item_a"}],
            "voice": "verse",
            "output_audio_format": "pcm16",
            "temperature": 0.9,
            "max_response_output_tokens": 7,
            "metadata": {"a": "b"},
        },
    },
]

STRINGS = (
    "", "root", "none", "auto", "item_a", "item_1", "call_a", "inf", "realtime", "audio/pcm", "null", "\x00", "\u2028",
    "🙂" * 20, "é" * 512, "x" * 33, "x" * 513, "x" * 5000, "AAAA", "=", "A", "response.create", "{}", "%s{0}\\",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 5, 0.5, 0.1, -0.0, 1e308, -1e308, 24000, 23999, 100_000, 2**31, 2**53, 2**63, 2**64, -(2**63) - 1,
    10**30, 10**400, 1e-320,
)  # fmt: skip


def nest(depth: int, *, objects: bool) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if objects else [value]
    return value


class Chance:
    """Frames without end; the same ones for the same seed and valid events."""

    def __init__(self, seed: int, valid: list[dict[str, Any]]) -> None:
        self.random = Random(seed)
        self.valid = [json.dumps(event) for event in valid]
        self.types = sorted({event["type"] for event in valid})
        names: set[str] = set()
        for event in valid:
            names |= {step for path in paths(event) for step in path if isinstance(step, str)}
        self.names = [*sorted(names), "bogus", "", "constructor", "__proto__", "event_id", "x" * 600]

    def __iter__(self) -> Iterator[str | bytes]:
        while True:
            yield self.frame()

    def frame(self) -> str | bytes:
        random = self.random
        kind = random.random()
        if kind < 0.02:
            return random.randbytes(random.randrange(40))
        if kind < 0.05:
            return random.randbytes(random.randrange(60)).decode("latin-1")
        if kind < 0.06:
            return json.dumps(self.value())
        event = json.loads(random.choice(self.valid))
        if random.random() < 0.5:
            event["event_id"] = f"event_{random.randrange(10**6)}"
        for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 5))):
            event = self.mutate(event)
        text = json.dumps(event, ensure_ascii=random.random() < 0.5)
        return self.spoil(text) if random.random() < 0.2 else text

    def value(self) -> Any:
        random = self.random
        match random.randrange(9):
            case 0:
                return None
            case 1:
                return random.random() < 0.5
            case 2:
                return random.choice(NUMBERS)
            case 3 | 4:
                return random.choice(STRINGS)
            case 5:
                return [self.value() for _ in range(random.randrange(3))]
            case 6:
                return {random.choice(self.names): self.value() for _ in range(random.randrange(3))}
            case 7:
                return random.choice(self.types)
            case _:
                depth = random.choice((1, 3, 30, 300)) if random.random() < 0.2 else 1
                return nest(depth, objects=random.random() < 0.5)

    def mutate(self, event: Any) -> Any:
        """One change somewhere in the tree."""
        random = self.random
        places = list(paths(event))
        if not places:
            return self.value()
        path = random.choice(places)
        holder = event
        for step in path[:-1]:
            holder = holder[step]
        last = path[-1]
        match random.randrange(7):
            case 0:
                del holder[last]
            case 1:
                holder[last] = [holder[last]] * random.choice((1, 2, 200 if len(places) < 20 else 3))
            case 2:
                holder[last] = {random.choice(self.names): holder[last]}
            case 3 if isinstance(holder, dict):
                holder[random.choice(self.names)] = self.value()
            case 4 if isinstance(holder, dict):
                holder[random.choice(self.names)] = holder.pop(last)
            case 5:
                donor = json.loads(random.choice(self.valid))
                *way, end = random.choice(list(paths(donor)))
                for step in way:
                    donor = donor[step]
                holder[last] = donor[end]
            case _:
                holder[last] = self.value()
        return event

    def spoil(self, text: str) -> str:
        """No longer the JSON that it was, or no JSON at all."""
        random = self.random
        at = random.randrange(len(text) + 1)
        match random.randrange(8):
            case 0:
                return text[:at]
            case 1:
                return text[:at] + random.choice('{}[]",:\\\x00\x1f\ud800é \n0-') + text[at:]
            case 2:
                return text.replace("1", random.choice(("NaN", "Infinity", "-Infinity", "1e999", "01", "9" * 5000)), 1)
            case 3:
                return text.replace('"', random.choice(('"\\ud800', '"\\udc00\\ud800', '"\\u0000', '"\ud83d')), 1)
            case 4:
                name = random.choice(("type", "event_id", "session", "item", "audio"))
                return text[:-1] + f',"{name}":{json.dumps(self.value())}}}'
            case 5:
                depth = random.choice((100, 2000, 50_000)) if random.random() < 0.02 else 50
                return text[:at] + "[" * depth + text[at:]
            case 6:
                return text + random.choice((text, " ", "\x00", ",", "//"))
            case _:
                return "".join(random.sample(text, len(text))) if len(text) < 400 else text[::-1]


def paths(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every node but the root, not too deep."""
    if len(way) > 20:
        return
    pairs: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, member in pairs:
        yield (*way, step)
        yield from paths(member, (*way, step))
