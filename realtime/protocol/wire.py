"""JSON to client events and server events to JSON: the only place that spells wire names.

``parse`` never raises: whatever a client sends becomes an event, ``Refused`` at worst. A dialect is one object with
``parse`` and ``encode``.
"""

import binascii
from typing import Any

import msgspec
import pybase64

from realtime.protocol import events as ev
from realtime.protocol.contract import CLIENT_EVENTS, NAMED_CLIENT_EVENTS
from realtime.protocol.shapes import Invalid, missing, unsupported, wrong_type

MAX_APPEND_BYTES = 15 * 1024 * 1024

STRUCTS: dict[str, type[ev.ClientEvent]] = {
    "session.update": ev.SessionUpdate,
    "input_audio_buffer.append": ev.InputAudioAppend,
    "input_audio_buffer.commit": ev.InputAudioCommit,
    "input_audio_buffer.clear": ev.InputAudioClear,
    "output_audio_buffer.clear": ev.OutputAudioClear,
    "conversation.item.create": ev.ItemCreate,
    "conversation.item.truncate": ev.ItemTruncate,
    "conversation.item.delete": ev.ItemDelete,
    "conversation.item.retrieve": ev.ItemRetrieve,
    "response.create": ev.ResponseCreate,
    "response.cancel": ev.ResponseCancel,
}

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class _Append(msgspec.Struct, tag_field="type", tag="input_audio_buffer.append", forbid_unknown_fields=True):
    audio: str
    event_id: str | None = None


_decode_append = msgspec.json.Decoder(_Append).decode


def decode_audio(text: str, path: str) -> bytes:
    """Raises Invalid when ``text`` is no base64 or stands for more audio than one event may carry."""
    try:
        audio = pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("invalid_value", f"Invalid '{path}': expected base64-encoded audio bytes.", path) from None
    if len(audio) > MAX_APPEND_BYTES:
        raise Invalid(
            "string_above_max_length",
            f"Invalid '{path}': audio too long. Expected at most {MAX_APPEND_BYTES} bytes, "
            f"but got {len(audio)} instead.",
            path,
        )
    return audio


class Ga:
    """The dialect of the API as generally available."""

    name = "ga"

    def parse(self, frame: str | bytes) -> ev.ClientEvent:
        if isinstance(frame, bytes):
            return ev.Refused(
                code="invalid_event", message="Expected a text WebSocket message; binary frames are not supported."
            )
        try:
            # Nine frames in ten are audio: they skip the general way.
            append = _decode_append(frame)
            return ev.InputAudioAppend(audio=decode_audio(append.audio, "audio"), event_id=append.event_id)
        except (msgspec.MsgspecError, Invalid, RecursionError, UnicodeEncodeError):
            return self._parse_any(frame)

    def _parse_any(self, frame: str) -> ev.ClientEvent:
        try:
            value = _decode(frame)
        except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError) as error:
            return ev.Refused(code="invalid_json", message=f"Invalid event: failed to parse JSON value. {error}")
        event_id = value.get("event_id") if isinstance(value, dict) else None
        try:
            return self.read(value)
        except Invalid as fault:
            return ev.Refused(
                event_id=event_id if isinstance(event_id, str) else None,
                code=fault.code,
                message=fault.message,
                param=fault.param,
            )
        except RecursionError:
            return ev.Refused(code="invalid_value", message="Invalid event: nested too deeply.")

    def read(self, value: Any) -> ev.ClientEvent:
        """A decoded frame as an event. Raises Invalid."""
        if not isinstance(value, dict):
            raise wrong_type("event", "an object", value)
        kind = value.get("type")
        if kind is None:
            raise missing("type")
        if not isinstance(kind, str):
            raise wrong_type("type", "a string", kind)
        shape = CLIENT_EVENTS.get(kind)
        if shape is None:
            raise unsupported("type", kind, NAMED_CLIENT_EVENTS)
        fields = shape.check({name: member for name, member in value.items() if name != "type"}, "")
        if kind == "input_audio_buffer.append":
            fields["audio"] = decode_audio(fields["audio"], "audio")
        return STRUCTS[kind](**fields)

    def encode(self, event: ev.ServerEvent) -> str:
        if isinstance(event, ev.OutputAudioDelta):
            # Most of what is sent: ids are ours and need no escaping, so a template beats an encoder.
            return (
                f'{{"type":"response.output_audio.delta","event_id":"{event.event_id}","response_id":"{event.response_id}",'
                f'"item_id":"{event.item_id}","output_index":{event.output_index},"content_index":{event.content_index},'
                f'"delta":"{pybase64.b64encode_as_string(event.delta)}"}}'
            )
        return _encode(event).decode()


GA = Ga()
