"""JSON to client events and server events to JSON: the only place that spells wire names.

``parse`` never raises: whatever a client sends becomes an event, ``Refused`` at worst. The beta dialect is a second
table over the same session, in ``wire_beta``.
"""

import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pybase64

from realtime.protocol import events as ev
from realtime.protocol.contract import CLIENT_EVENTS, MAX_EVENT_ID, NAMED_CLIENT_EVENTS
from realtime.protocol.shapes import Invalid, Object, missing, unsupported, wrong_type

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


def audio_delta(kind: str, event: ev.OutputAudioDelta) -> str:
    """Most of what is sent: ids are ours and need no escaping, so a template beats an encoder."""
    return (
        f'{{"type":"{kind}","event_id":"{event.event_id}","response_id":"{event.response_id}",'
        f'"item_id":"{event.item_id}","output_index":{event.output_index},"content_index":{event.content_index},'
        f'"delta":"{pybase64.b64encode_as_string(event.delta)}"}}'
    )


class Dialect:
    """How one call's frames are spelt: ``shapes`` of what may come, ``named`` what an unknown type is told of."""

    name: str
    shapes: Mapping[str, Object]
    named: tuple[str, ...]

    def parse(self, frame: str | bytes) -> ev.ClientEvent:
        if isinstance(frame, bytes):
            return ev.Refused(
                code="invalid_event", message="Expected a text WebSocket message; binary frames are not supported."
            )
        try:
            # Nine frames in ten are audio: they skip the general way.
            append = _decode_append(frame)
            if append.event_id is None or len(append.event_id) <= MAX_EVENT_ID:
                return ev.InputAudioAppend(audio=decode_audio(append.audio, "audio"), event_id=append.event_id)
        except (msgspec.MsgspecError, Invalid, RecursionError, UnicodeEncodeError):
            pass
        return self._parse_any(frame)

    def _parse_any(self, frame: str) -> ev.ClientEvent:
        try:
            value = _decode(frame)
        except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError) as error:
            return ev.Refused(code="invalid_json", message=f"Invalid event: failed to parse JSON value. {error}")
        event_id = value.get("event_id") if isinstance(value, dict) else None
        if not isinstance(event_id, str) or len(event_id) > MAX_EVENT_ID:
            event_id = None
        try:
            return self._read(value)
        except Invalid as fault:
            return ev.Refused(event_id=event_id, code=fault.code, message=fault.message, param=fault.param)
        except RecursionError:
            return ev.Refused(
                event_id=event_id, code="invalid_value", message="Invalid event: nested too deeply.", param=None
            )

    def _read(self, value: Any) -> ev.ClientEvent:
        """A decoded frame as an event. Raises Invalid."""
        if not isinstance(value, dict):
            raise wrong_type("event", "an object", value)
        kind = value.get("type")
        if kind is None:
            raise missing("type")
        if not isinstance(kind, str):
            raise wrong_type("type", "a string", kind)
        shape = self.shapes.get(kind)
        if shape is None:
            raise unsupported("type", kind, self.named)
        fields = shape.check({name: member for name, member in value.items() if name != "type"}, "")
        if kind == "input_audio_buffer.append":
            fields["audio"] = decode_audio(fields["audio"], "audio")
        return self.event(kind, fields)

    def event(self, kind: str, fields: ev.JsonObject) -> ev.ClientEvent:
        """The event of checked fields. Raises Invalid."""
        return STRUCTS[kind](**fields)

    def opening(self, conversation_id: str) -> Sequence[ev.ServerEvent]:
        """What follows ``session.created`` without being asked for."""
        return ()

    def encode(self, event: ev.ServerEvent) -> str:
        """One frame; empty where this dialect says nothing."""
        raise NotImplementedError


class Ga(Dialect):
    """The dialect of the API as generally available."""

    name = "ga"
    shapes = CLIENT_EVENTS
    named = NAMED_CLIENT_EVENTS

    def encode(self, event: ev.ServerEvent) -> str:
        if isinstance(event, ev.OutputAudioDelta):
            return audio_delta("response.output_audio.delta", event)
        return _encode(event).decode()


GA = Ga()
