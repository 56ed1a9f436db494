"""What a client of the beta dialect may send, as tables: flat sessions, its own content types; the rest as in GA."""

from dataclasses import dataclass
from typing import Any

from realtime.protocol import contract as ga
from realtime.protocol.shapes import (
    Choice,
    Invalid,
    ListOf,
    Number,
    Object,
    Shape,
    Tagged,
    Text,
    WordOr,
)

AUDIO_FORMAT = Choice(("pcm16", "g711_ulaw", "g711_alaw"))
MODALITY = Choice(("text", "audio"))
TEMPERATURE = Number(0.6, 1.2)
TOOLS = ListOf(Tagged("type", {"function": ga.FUNCTION_TOOL}, default="function"), max_length=128)
TOOL_CHOICE = WordOr(
    ("none", "auto", "required"), Tagged("type", {"function": Object({"name": Text()}, ("name",))}, default="function")
)
TURN_DETECTION = Tagged(
    "type",
    {
        "server_vad": ga.SERVER_VAD,
        "semantic_vad": ga.SEMANTIC_VAD,
        "none": ga.SERVER_VAD,
    },
    default="server_vad",
)
CLIENT_SECRET = Object(
    {
        name: Object({"anchor": Choice(("created_at",)), "seconds": Number(10, 7200, whole=True)})
        for name in ("expires_after", "expires_at")
    }
)


@dataclass(frozen=True)
class Modalities:
    """Text alone, or audio with its text."""

    def check(self, value: Any, path: str) -> Any:
        asked = ListOf(MODALITY).check(value, path)
        if sorted(asked) not in (["text"], ["audio", "text"]):
            raise Invalid(
                "invalid_value",
                f"Invalid modalities: {sorted(asked)[:4]}. Supported combinations are: ['text'] and ['audio', 'text'].",
                path,
            )
        return asked


INPUT_FIELDS: dict[str, Shape] = {
    "modalities": Modalities(),
    "input_audio_format": AUDIO_FORMAT,
    "input_audio_transcription": ga.TRANSCRIPTION,
    "input_audio_noise_reduction": ga.NOISE_REDUCTION,
    "turn_detection": TURN_DETECTION,
    "include": ga.INCLUDE,
    "client_secret": CLIENT_SECRET,
}
INPUT_NULLABLE = frozenset(
    {"input_audio_transcription", "input_audio_noise_reduction", "turn_detection", "include", "client_secret"}
)
REALTIME_SESSION = Object(
    {
        **INPUT_FIELDS,
        "model": Text(),
        "instructions": Text(),
        "voice": ga.VOICE_NAME,
        "output_audio_format": AUDIO_FORMAT,
        "speed": ga.SPEED,
        "tools": TOOLS,
        "tool_choice": TOOL_CHOICE,
        "temperature": TEMPERATURE,
        "max_response_output_tokens": ga.MAX_OUTPUT_TOKENS,
        "tracing": ga.TRACING,
        "prompt": ga.PROMPT,
    },
    nullable=INPUT_NULLABLE | {"tracing", "prompt"},
)
TRANSCRIPTION_SESSION = Object(INPUT_FIELDS, nullable=INPUT_NULLABLE)

WRITTEN = Object({"text": Text()}, ("text",))
USER_CONTENT = Tagged("type", dict(ga.USER_CONTENT.shapes))
ASSISTANT_CONTENT = Tagged("type", {"text": WRITTEN})
MESSAGE_BY_ROLE: dict[str, Shape] = {
    role: Object({**ga.ITEM_FIELDS, "content": ListOf(content, min_length=1)}, ("content",))
    for role, content in (("system", ga.SYSTEM_CONTENT), ("user", USER_CONTENT), ("assistant", ASSISTANT_CONTENT))
}
ITEM_TYPES: dict[str, Shape] = {
    "message": Tagged("role", MESSAGE_BY_ROLE),
    "function_call": ga.FUNCTION_CALL,
    "function_call_output": ga.FUNCTION_CALL_OUTPUT,
}
ITEM = Tagged("type", ITEM_TYPES)
INPUT_ITEM = Tagged("type", {**ITEM_TYPES, "item_reference": Object({"id": ga.ITEM_ID}, ("id",))})
RESPONSE = Object(
    {
        "conversation": Choice(("auto", "none")),
        "input": ListOf(INPUT_ITEM),
        "instructions": Text(),
        "modalities": Modalities(),
        "voice": ga.VOICE_NAME,
        "output_audio_format": AUDIO_FORMAT,
        "tools": TOOLS,
        "tool_choice": TOOL_CHOICE,
        "temperature": TEMPERATURE,
        "max_response_output_tokens": ga.MAX_OUTPUT_TOKENS,
        "max_output_tokens": ga.MAX_OUTPUT_TOKENS,
        "metadata": ga.METADATA,
        "prompt": ga.PROMPT,
    },
    nullable=frozenset({"metadata", "prompt"}),
)

CLIENT_EVENTS: dict[str, Object] = {
    "session.update": Object({"session": REALTIME_SESSION, "event_id": ga.EVENT_ID}, ("session",)),
    "transcription_session.update": Object({"session": TRANSCRIPTION_SESSION, "event_id": ga.EVENT_ID}, ("session",)),
    **{kind: shape for kind, shape in ga.CLIENT_EVENTS.items() if kind != "session.update"},
    "conversation.item.create": Object(
        {"item": ITEM, "previous_item_id": ga.REFERENCE, "event_id": ga.EVENT_ID}, ("item",)
    ),
    "response.create": Object({"response": RESPONSE, "event_id": ga.EVENT_ID}),
}
NAMED_CLIENT_EVENTS = tuple(kind for kind in CLIENT_EVENTS if kind != "output_audio_buffer.clear")
