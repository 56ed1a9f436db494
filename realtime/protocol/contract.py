"""The OpenAI Realtime contract as tables: what each client event, session, item and response may carry.

Limits are OpenAI's; those that this product sets itself say so.
"""

from realtime.protocol.shapes import (
    Anything,
    Choice,
    Flag,
    ListOf,
    ListOr,
    MapOf,
    MapTo,
    Number,
    NumberOrWord,
    Object,
    Shape,
    Tagged,
    Text,
    TextOr,
    WordOr,
)

NAME_PATTERN = "^[a-zA-Z0-9_-]+$"
MAX_EVENT_ID = 512
EVENT_ID = Text(MAX_EVENT_ID)
ITEM_ID = Text(32)
CALL_ID = Text(32, NAME_PATTERN)
REFERENCE = Text(512)
"""An id that a client repeats. The limit is this product's: an answer repeats it too."""
METADATA = MapOf(max_pairs=16, max_key_length=64, max_value_length=512)
MAX_OUTPUT_TOKENS = NumberOrWord(Number(1, 4096, whole=True), "inf")
STATUS = Choice(("completed", "incomplete", "in_progress"))

AUDIO_FORMAT = Tagged(
    "type",
    {
        "audio/pcm": Object({"rate": Number(24_000, 24_000, whole=True)}),
        "audio/pcmu": Object({}),
        "audio/pcma": Object({}),
        # This product's own: one packet an event, without a container.
        "audio/opus": Object({}),
    },
)
PCM_WITH_RATE = Object({"rate": Number(24_000, 24_000, whole=True)}, ("rate",))
OUTPUT_AUDIO_FORMAT = Tagged("type", {**AUDIO_FORMAT.shapes, "audio/pcm": PCM_WITH_RATE})
SPEED = Number(0.25, 1.5)
VOICE_NAME = Text(256)
VOICE = TextOr(Object({"id": VOICE_NAME}, ("id",)), VOICE_NAME)

TRANSCRIPTION = Object(
    {
        "model": Text(),
        "language": Text(),
        "languages": ListOf(Text(), min_length=1),
        "keywords": ListOf(Text(), min_length=1),
        "prompt": Text(),
        "delay": Choice(("minimal", "low", "medium", "high", "xhigh")),
    }
)
NOISE_REDUCTION = Object({"type": Choice(("near_field", "far_field")), "strength": Number(0, 1)})
SERVER_VAD = Object(
    {
        "threshold": Number(0, 1),
        "prefix_padding_ms": Number(0, 10_000, whole=True),
        "silence_duration_ms": Number(0, 10_000, whole=True),
        "idle_timeout_ms": Number(5_000, 30_000, whole=True),
        "create_response": Flag(),
        "interrupt_response": Flag(),
    },
    nullable=frozenset({"idle_timeout_ms"}),
)
SEMANTIC_VAD = Object(
    {
        "eagerness": Choice(("low", "medium", "high", "auto")),
        "create_response": Flag(),
        "interrupt_response": Flag(),
    }
)
TURN_DETECTION = Tagged("type", {"server_vad": SERVER_VAD, "semantic_vad": SEMANTIC_VAD}, default="server_vad")
INPUT_NULLABLE = frozenset({"transcription", "noise_reduction", "turn_detection"})
AUDIO_INPUT = Object(
    {
        "format": AUDIO_FORMAT,
        "transcription": TRANSCRIPTION,
        "noise_reduction": NOISE_REDUCTION,
        "turn_detection": TURN_DETECTION,
    },
    nullable=INPUT_NULLABLE,
)

FUNCTION_TOOL = Object({"name": Text(64, NAME_PATTERN), "description": Text(1024), "parameters": Anything()}, ("name",))
MAX_URL = 2_000
"""This product's own limit."""
MCP_FILTER = Object({"read_only": Flag(), "tool_names": ListOf(Text())})
MCP_TOOL = Object(
    {
        "server_label": Text(),
        "server_description": Text(),
        "server_url": Text(MAX_URL, "https?://.+"),
        "connector_id": Choice(
            (
                "connector_dropbox",
                "connector_gmail",
                "connector_googlecalendar",
                "connector_googledrive",
                "connector_microsoftteams",
                "connector_outlookcalendar",
                "connector_outlookemail",
                "connector_sharepoint",
            )
        ),
        "tunnel_id": Text(pattern="^tunnel_[a-z0-9]{32}$"),
        "authorization": Text(),
        "headers": MapTo(Text()),
        "allowed_tools": ListOr(ListOf(Text()), MCP_FILTER),
        "allowed_callers": ListOf(Choice(("direct", "programmatic"))),
        "require_approval": WordOr(("always", "never"), Object({"always": MCP_FILTER, "never": MCP_FILTER})),
        "defer_loading": Flag(),
    },
    required=("server_label",),
    nullable=frozenset({"headers", "allowed_tools", "allowed_callers", "require_approval"}),
    one_of=("server_url", "connector_id", "tunnel_id"),
)
TOOLS = ListOf(Tagged("type", {"function": FUNCTION_TOOL, "mcp": MCP_TOOL}, default="function"), max_length=128)
TOOL_CHOICE = WordOr(
    ("none", "auto", "required"),
    Tagged(
        "type",
        {
            "function": Object({"name": Text()}, ("name",)),
            "mcp": Object({"server_label": Text(), "name": Text()}, ("server_label",), frozenset({"name"})),
        },
    ),
)
REASONING = Object({"effort": Choice(("minimal", "low", "medium", "high", "xhigh"))})
PROMPT_INPUT = Tagged(
    "type",
    {
        "input_text": Object({"text": Text()}, ("text",)),
        "input_image": Object(
            {"image_url": Text(), "file_id": Text(), "detail": Choice(("low", "high", "auto", "original"))}
        ),
        "input_file": Object({"file_id": Text(), "file_url": Text(), "file_data": Text(), "filename": Text()}),
    },
)
PROMPT = Object({"id": Text(), "version": Text(), "variables": MapTo(TextOr(PROMPT_INPUT))}, ("id",))
TRACING = WordOr(("auto",), Object({"group_id": Text(), "metadata": Anything(), "workflow_name": Text()}))
TRUNCATION = WordOr(
    ("auto", "disabled"),
    Tagged(
        "type",
        {
            "retention_ratio": Object(
                {
                    "retention_ratio": Number(0, 1),
                    "token_limits": Object({"post_instructions": Number(0, whole=True)}),
                },
                ("retention_ratio",),
            )
        },
    ),
)
INCLUDE = ListOf(Choice(("item.input_audio_transcription.logprobs",)))
MODALITIES = ListOf(Choice(("text", "audio")))

REALTIME_SESSION = Object(
    {
        "model": Text(),
        "output_modalities": MODALITIES,
        "instructions": Text(),
        "tools": TOOLS,
        "tool_choice": TOOL_CHOICE,
        "parallel_tool_calls": Flag(),
        "max_output_tokens": MAX_OUTPUT_TOKENS,
        "reasoning": REASONING,
        "tracing": TRACING,
        "truncation": TRUNCATION,
        "prompt": PROMPT,
        "include": INCLUDE,
        "audio": Object(
            {"input": AUDIO_INPUT, "output": Object({"format": OUTPUT_AUDIO_FORMAT, "voice": VOICE, "speed": SPEED})}
        ),
    },
    nullable=frozenset({"tracing", "prompt", "include"}),
)
TRANSCRIPTION_SESSION = Object(
    {"audio": Object({"input": AUDIO_INPUT}), "include": INCLUDE}, nullable=frozenset({"include"})
)
SESSION = Tagged("type", {"realtime": REALTIME_SESSION, "transcription": TRANSCRIPTION_SESSION})

INPUT_TEXT = Object({"text": Text()}, ("text",))
INPUT_AUDIO = Object({"audio": Text(), "transcript": Text()}, ("audio",), frozenset({"transcript"}))
# As OpenAI has it, no address: whoever serves the language model would fetch it, from inside its own network.
IMAGE_URL = Text(pattern="data:image/[A-Za-z0-9.+-]+;base64,.+")
INPUT_IMAGE = Object({"image_url": IMAGE_URL, "detail": Choice(("auto", "low", "high"))}, ("image_url",))
USER_CONTENT = Tagged("type", {"input_text": INPUT_TEXT, "input_audio": INPUT_AUDIO, "input_image": INPUT_IMAGE})
SYSTEM_CONTENT = Tagged("type", {"input_text": INPUT_TEXT})
ASSISTANT_CONTENT = Tagged("type", {"output_text": INPUT_TEXT})

ITEM_FIELDS: dict[str, Shape] = {"id": ITEM_ID, "object": Choice(("realtime.item",)), "status": STATUS}
MESSAGE_BY_ROLE: dict[str, Shape] = {
    role: Object({**ITEM_FIELDS, "content": ListOf(content, min_length=1)}, ("content",))
    for role, content in (("system", SYSTEM_CONTENT), ("user", USER_CONTENT), ("assistant", ASSISTANT_CONTENT))
}


MESSAGE = Tagged("role", MESSAGE_BY_ROLE)
FUNCTION_CALL = Object({**ITEM_FIELDS, "name": Text(), "call_id": CALL_ID, "arguments": Text()}, ("name", "arguments"))
FUNCTION_CALL_OUTPUT = Object({**ITEM_FIELDS, "call_id": CALL_ID, "output": Text()}, ("call_id", "output"))
MCP_APPROVAL_RESPONSE = Object(
    {**ITEM_FIELDS, "approval_request_id": REFERENCE, "approve": Flag(), "reason": Text()},
    ("approval_request_id", "approve"),
    frozenset({"reason"}),
)
ITEM_TYPES: dict[str, Shape] = {
    "message": MESSAGE,
    "function_call": FUNCTION_CALL,
    "function_call_output": FUNCTION_CALL_OUTPUT,
    "mcp_approval_response": MCP_APPROVAL_RESPONSE,
}
ITEM = Tagged("type", ITEM_TYPES)
INPUT_ITEM = Tagged("type", {**ITEM_TYPES, "item_reference": Object({"id": ITEM_ID}, ("id",))})

RESPONSE = Object(
    {
        "conversation": Choice(("auto", "none")),
        "input": ListOf(INPUT_ITEM),
        "instructions": Text(),
        "output_modalities": MODALITIES,
        "audio": Object({"output": Object({"format": OUTPUT_AUDIO_FORMAT, "voice": VOICE})}),
        "tools": TOOLS,
        "tool_choice": TOOL_CHOICE,
        "parallel_tool_calls": Flag(),
        "max_output_tokens": MAX_OUTPUT_TOKENS,
        "metadata": METADATA,
        "reasoning": REASONING,
        "prompt": PROMPT,
    },
    nullable=frozenset({"metadata", "prompt"}),
)

MS = Number(0, whole=True)
CLIENT_EVENTS: dict[str, Object] = {
    "session.update": Object({"session": SESSION, "event_id": EVENT_ID}, ("session",)),
    "input_audio_buffer.append": Object({"audio": Text(), "event_id": EVENT_ID}, ("audio",)),
    "input_audio_buffer.commit": Object({"event_id": EVENT_ID}),
    "input_audio_buffer.clear": Object({"event_id": EVENT_ID}),
    "output_audio_buffer.clear": Object({"event_id": EVENT_ID}),
    "conversation.item.create": Object({"item": ITEM, "previous_item_id": REFERENCE, "event_id": EVENT_ID}, ("item",)),
    "conversation.item.truncate": Object(
        {"item_id": REFERENCE, "content_index": MS, "audio_end_ms": MS, "event_id": EVENT_ID},
        ("item_id", "content_index", "audio_end_ms"),
    ),
    "conversation.item.delete": Object({"item_id": REFERENCE, "event_id": EVENT_ID}, ("item_id",)),
    "conversation.item.retrieve": Object({"item_id": REFERENCE, "event_id": EVENT_ID}, ("item_id",)),
    "response.create": Object({"response": RESPONSE, "event_id": EVENT_ID}),
    "response.cancel": Object({"response_id": REFERENCE, "event_id": EVENT_ID}),
}

# The real service lists exactly these in its answer to an unknown event type.
NAMED_CLIENT_EVENTS = (
    "session.update",
    "session.close",
    "input_audio_buffer.append",
    "session.input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.truncate",
    "conversation.item.delete",
    "conversation.item.retrieve",
    "response.create",
    "response.cancel",
)
