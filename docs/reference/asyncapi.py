"""``docs/asyncapi.yaml``: the socket as AsyncAPI 3, from the shapes of clients' events and the types of our own."""

from typing import Any

import msgspec
import yaml

from docs.reference import notes
from docs.reference.markdown import said_events
from realtime.protocol import contract
from realtime.protocol import shapes as sh

Schema = dict[str, Any]

NAMED: dict[str, sh.Shape] = {
    "SessionUpdate": contract.SESSION,
    "TurnDetection": contract.TURN_DETECTION,
    "Transcription": contract.TRANSCRIPTION,
    "Tool": contract.TOOLS.shape,
    "ToolChoice": contract.TOOL_CHOICE,
    "Truncation": contract.TRUNCATION,
    "Prompt": contract.PROMPT,
    "ClientItem": contract.ITEM,
    "ResponseRequest": contract.RESPONSE,
}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def schema(shape: sh.Shape) -> Schema:
    """A reference where the shape has a name."""
    return next((ref(name) for name, named in NAMED.items() if named is shape), None) or spelt(shape)


def spelt(shape: sh.Shape) -> Schema:
    match shape:
        case sh.Anything():
            return {}
        case sh.Flag():
            return {"type": "boolean"}
        case sh.Text(max_length, pattern):
            return with_values({"type": "string"}, maxLength=max_length, pattern=pattern or None)
        case sh.Choice(values):
            return {"type": "string", "enum": list(values)}
        case sh.Number(minimum, maximum, whole):
            return with_values({"type": "integer" if whole else "number"}, minimum=minimum, maximum=maximum)
        case sh.NumberOrWord(number, word):
            return {"oneOf": [schema(number), {"const": word}]}
        case sh.WordOr(choices, other):
            return {"oneOf": [{"type": "string", "enum": list(choices)}, schema(other)]}
        case sh.TextOr(other, text):
            return {"oneOf": [schema(text), schema(other)]}
        case sh.ListOr(members, other):
            return {"oneOf": [schema(members), schema(other)]}
        case sh.ListOf(member, min_length, max_length):
            return with_values(
                {"type": "array", "items": schema(member)}, minItems=min_length or None, maxItems=max_length
            )
        case sh.MapOf(max_pairs, _, max_value_length):
            value = {"type": "string", "maxLength": max_value_length}
            return {"type": "object", "maxProperties": max_pairs, "additionalProperties": value}
        case sh.MapTo(member):
            return {"type": "object", "additionalProperties": schema(member)}
        case sh.Object():
            return spelt_object(shape, {}, ())
        case sh.Tagged():
            return {"oneOf": variants(shape, {}, ())}
    raise TypeError(shape)


def with_values(base: Schema, **keywords: Any) -> Schema:
    return base | {name: value for name, value in keywords.items() if value is not None}


def spelt_object(shape: sh.Object, tags: Schema, required: tuple[str, ...]) -> Schema:
    """``tags``: the literals that tell the object from others."""
    properties = dict(tags)
    for name, field in shape.fields.items():
        said = schema(field)
        # Null clears what can be cleared and means absent elsewhere; only a boolean must be one.
        properties[name] = said if isinstance(field, sh.Flag | sh.Anything) else {"anyOf": [said, {"type": "null"}]}
    for name in shape.required:
        properties[name] = schema(shape.fields[name])
    one_of = [{"required": [name]} for name in shape.one_of]
    return with_values(
        {"type": "object", "properties": properties, "additionalProperties": False},
        required=[*required, *shape.required] or None,
        oneOf=one_of or None,
    )


def variants(shape: sh.Tagged, tags: Schema, required: tuple[str, ...]) -> list[Schema]:
    found: list[Schema] = []
    for name, variant in shape.shapes.items():
        marked = {**tags, shape.tag: {"const": name}}
        needed = required if name == shape.default else (*required, shape.tag)
        if isinstance(variant, sh.Tagged):
            found += variants(variant, marked, needed)
        elif isinstance(variant, sh.Object):
            found.append(spelt_object(variant, marked, needed))
    return found


STATUS = {"enum": ["in_progress", "completed", "incomplete"]}
# What the session says is built from values, not from shapes: these are its objects.
SAID: dict[str, Schema] = {
    "Session": {
        "type": "object",
        "description": "The whole effective session: what an update may set, and what the server adds.",
        "required": ["type", "object", "id", "expires_at", "audio", "include"],
        "properties": {
            "type": {"enum": ["realtime", "transcription"]},
            "object": {"enum": ["realtime.session", "realtime.transcription_session"]},
            "id": {"type": "string"},
            "model": {"type": "string"},
            "expires_at": {"type": "integer", "description": "Unix time in seconds."},
            "audio": {"type": "object", "required": ["input"]},
        },
    },
    "Item": {
        "type": "object",
        "required": ["id", "type"],
        "properties": {
            "id": {"type": "string"},
            "type": {
                "enum": [
                    *("message", "function_call", "function_call_output", "mcp_list_tools", "mcp_call"),
                    *("mcp_approval_request", "mcp_approval_response"),
                ]
            },
            "status": STATUS,
            "role": {"enum": ["user", "assistant", "system"]},
            "content": {"type": "array", "items": ref("Content")},
            "name": {"type": "string"},
            "call_id": {"type": "string"},
            "arguments": {"type": "string"},
            "output": {"type": ["string", "null"]},
            "server_label": {"type": "string"},
            "error": {"anyOf": [ref("McpError"), {"type": "null"}]},
            "tools": {"type": "array", "items": {"type": "object", "required": ["name", "input_schema"]}},
            "approval_request_id": {"type": ["string", "null"]},
            "approve": {"type": "boolean"},
            "reason": {"type": ["string", "null"]},
        },
        "additionalProperties": False,
    },
    "McpError": {
        "type": "object",
        "required": ["type", "message"],
        "properties": {
            "type": {"enum": ["protocol_error", "tool_execution_error", "http_error"]},
            "message": {"type": "string"},
            "code": {"type": "integer"},
        },
        "additionalProperties": False,
    },
    "Content": {
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {"enum": ["input_text", "input_audio", "input_image", "output_text", "output_audio"]},
            "text": {"type": "string"},
            "transcript": {"type": ["string", "null"]},
            "audio": {"type": "string", "contentEncoding": "base64"},
            "image_url": {"type": "string"},
            "detail": {"enum": ["auto", "low", "high"]},
        },
        "additionalProperties": False,
    },
    "Part": {
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {"enum": ["text", "audio"]},
            "text": {"type": "string"},
            "transcript": {"type": "string"},
        },
        "additionalProperties": False,
    },
    "Response": {
        "type": "object",
        "required": [
            *("object", "id", "status", "status_details", "output", "conversation_id", "output_modalities"),
            *("max_output_tokens", "audio", "usage", "metadata"),
        ],
        "properties": {
            "object": {"const": "realtime.response"},
            "id": {"type": "string"},
            "status": {"enum": ["in_progress", "completed", "cancelled", "incomplete", "failed"]},
            "status_details": {"anyOf": [ref("StatusDetails"), {"type": "null"}]},
            "output": {"type": "array", "items": ref("Item")},
            "conversation_id": {"type": ["string", "null"]},
            "output_modalities": {"type": "array", "items": {"enum": ["text", "audio"]}},
            "max_output_tokens": {"oneOf": [{"type": "integer"}, {"const": "inf"}]},
            "audio": {"type": "object", "required": ["output"]},
            "usage": {"anyOf": [ref("Usage"), {"type": "null"}]},
            "metadata": {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
        },
        "additionalProperties": False,
    },
    "StatusDetails": {
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {"enum": ["cancelled", "incomplete", "failed"]},
            "reason": {"enum": ["turn_detected", "client_cancelled", "max_output_tokens", "content_filter"]},
            "error": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("type", "code", "message")},
            },
        },
    },
    "Usage": {
        "type": "object",
        "required": ["total_tokens", "input_tokens", "output_tokens", "input_token_details", "output_token_details"],
        "properties": {
            **{name: {"type": "integer"} for name in ("total_tokens", "input_tokens", "output_tokens")},
            "input_token_details": {"type": "object"},
            "output_token_details": {"type": "object"},
        },
    },
}
FIELD_SCHEMAS = {"session": "Session", "item": "Item", "part": "Part", "response": "Response"}


def camel(event: str) -> str:
    return "".join(word.capitalize() for word in event.replace(".", "_").split("_"))


def client_messages() -> tuple[Schema, Schema]:
    messages, schemas = {}, {}
    for event, shape in contract.CLIENT_EVENTS.items():
        name = f"Client{camel(event)}"
        schemas[name] = spelt_object(shape, {"type": {"const": event}}, ("type",))
        messages[name] = message(event, name, f"Answer: {notes.CLIENT_EVENTS[event]}.")
    return messages, schemas


def server_messages() -> tuple[Schema, Schema]:
    events = said_events()
    _, schemas = msgspec.json.schema_components(list(events.values()), ref_template="#/components/schemas/{name}")
    for said in schemas.values():
        said.pop("title", None)
        said["description"] = " ".join(said["description"].split()) if "description" in said else None
        if said["description"] is None:
            del said["description"]
        for field, properties in said["properties"].items():
            properties.pop("default", None)
            if field in FIELD_SCHEMAS:
                said["properties"][field] = ref(FIELD_SCHEMAS[field])
    messages = {}
    for event, kind in events.items():
        schemas[kind.__name__]["required"].insert(1, "event_id")
        messages[f"Server{camel(event)}"] = message(event, kind.__name__, f"{notes.SERVER_EVENTS[event]}.")
    # Names of types would say nothing to a reader: the wire's do.
    renamed = {kind.__name__: f"Server{camel(event)}" for event, kind in events.items()}
    for said in messages.values():
        name = said["payload"]["$ref"].rpartition("/")[2]
        said["payload"] = ref(renamed[name])
    return messages, {renamed.get(name, name): said for name, said in schemas.items()}


def message(event: str, payload: str, summary: str) -> Schema:
    return {"name": event, "summary": summary[0].upper() + summary[1:], "payload": ref(payload)}


def document() -> Schema:
    client, client_schemas = client_messages()
    server, server_schemas = server_messages()
    messages = {**client, **server}
    channel = "#/channels/realtime"
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "AgentVoiceBox realtime API",
            "version": "1",
            "description": "One WebSocket, one call. Frames are JSON, one event each. See realtime.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:8000",
                "protocol": "ws",
                "security": [{"$ref": "#/components/securitySchemes/key"}],
            }
        },
        "channels": {
            "realtime": {
                "address": "/v1/realtime",
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "query": {
                            "type": "object",
                            "properties": {
                                "model": {"type": "string", "description": "A model's name, or agent:NAME."},
                                "agent": {"type": "string", "description": "An agent's name."},
                                "intent": {"const": "transcription"},
                            },
                        },
                        "bindingVersion": "0.1.0",
                    }
                },
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            }
        },
        "operations": {
            "hear": {
                "action": "receive",
                "summary": "What a client may send.",
                "channel": {"$ref": channel},
                "messages": [{"$ref": f"{channel}/messages/{name}"} for name in client],
            },
            "say": {
                "action": "send",
                "summary": "What the server says.",
                "channel": {"$ref": channel},
                "messages": [{"$ref": f"{channel}/messages/{name}"} for name in server],
            },
        },
        "components": {
            "messages": messages,
            "schemas": {
                **client_schemas,
                **server_schemas,
                **{name: spelt(shape) for name, shape in NAMED.items()},
                **SAID,
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def build() -> str:
    class Plain(yaml.SafeDumper):
        """Repeats rather than anchors."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(document(), Dumper=Plain, sort_keys=False, width=120, allow_unicode=True)
