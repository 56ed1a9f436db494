"""The beta dialect: a second table of names over the same session.

Clients ask for it by ``OpenAI-Beta: realtime=v1`` or the subprotocol ``openai-beta.realtime-v1``.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from realtime.protocol import events as ev
from realtime.protocol.beta import BETA_FORMATS, DEFAULT_TEMPERATURE, FORMATS, session_to_beta, session_to_ga
from realtime.protocol.contract_beta import CLIENT_EVENTS, NAMED_CLIENT_EVENTS
from realtime.protocol.wire import Dialect, audio_delta

RENAMED: dict[type[ev.ServerEvent], str] = {
    ev.ItemAdded: "conversation.item.created",
    ev.OutputTextDelta: "response.text.delta",
    ev.OutputTextDone: "response.text.done",
    ev.OutputAudioDelta: "response.audio.delta",
    ev.OutputAudioDone: "response.audio.done",
    ev.OutputTranscriptDelta: "response.audio_transcript.delta",
    ev.OutputTranscriptDone: "response.audio_transcript.done",
}
UNSAID = (ev.ItemDone, ev.McpArgumentsDelta, ev.McpArgumentsDone, ev.OfMcpCall, ev.OfMcpList)
ITEM_TYPES = ("message", "function_call", "function_call_output")
"""The dialect is older than MCP: items of other types are not shown, and no place is left where they would be."""
CONTENT_TYPES = {"output_text": "text", "output_audio": "audio"}
# Where the session speaks of a GA field, a client of the beta hears the name that it used.
PATHS = {
    "session.output_modalities": "session.modalities",
    "session.audio.output.voice": "session.voice",
    "session.audio.output.speed": "session.speed",
    "session.audio.output.format": "session.output_audio_format",
    "session.audio.input.format": "session.input_audio_format",
    "session.audio.input.transcription": "session.input_audio_transcription",
    "session.audio.input.noise_reduction": "session.input_audio_noise_reduction",
    "session.audio.input.turn_detection": "session.turn_detection",
    "session.max_output_tokens": "session.max_response_output_tokens",
    "response.output_modalities": "response.modalities",
    "response.audio.output.voice": "response.voice",
    "response.audio.output.format": "response.output_audio_format",
    "response.max_output_tokens": "response.max_response_output_tokens",
}


class ConversationCreated(ev.ServerEvent, tag="conversation.created", kw_only=True):
    conversation: ev.JsonObject


def item_to_ga(item: ev.JsonObject) -> ev.JsonObject:
    if "content" not in item:
        return item
    content = [{**part, "type": "output_text"} if part["type"] == "text" else part for part in item["content"]]
    return {**item, "content": content}


def item_to_beta(item: ev.JsonObject) -> ev.JsonObject:
    shown = {"id": item["id"], "object": "realtime.item", **item}
    if "content" in item:
        shown["content"] = [{**part, "type": CONTENT_TYPES.get(part["type"], part["type"])} for part in item["content"]]
    return shown


def response_to_ga(asked: ev.JsonObject) -> ev.JsonObject:
    """``temperature`` stays: the session does not know it and leaves it alone."""
    response = dict(asked)
    output: ev.JsonObject = {}
    if "modalities" in response:
        response["output_modalities"] = ["audio"] if "audio" in response.pop("modalities") else ["text"]
    if "voice" in response:
        output["voice"] = response.pop("voice")
    if "output_audio_format" in response:
        kind = FORMATS[response.pop("output_audio_format")]
        output["format"] = {"type": kind, "rate": 24_000} if kind == "audio/pcm" else {"type": kind}
    if output:
        response["audio"] = {"output": output}
    if "max_response_output_tokens" in response:
        response["max_output_tokens"] = response.pop("max_response_output_tokens")
    if "input" in response:
        response["input"] = [item_to_ga(item) for item in response["input"]]
    return response


def response_to_beta(response: ev.JsonObject, temperature: float) -> ev.JsonObject:
    shown = dict(response)
    modalities, output = shown.pop("output_modalities"), shown.pop("audio")["output"]
    voice = output["voice"]
    shown["output"] = [item_to_beta(item) for item in response["output"] if item["type"] in ITEM_TYPES]
    shown["modalities"] = ["audio", "text"] if "audio" in modalities else ["text"]
    shown["voice"] = voice if isinstance(voice, str) else voice["id"]
    shown["output_audio_format"] = BETA_FORMATS[output["format"]["type"]]
    shown["temperature"] = temperature
    return shown


def error_to_beta(error: ev.JsonObject) -> ev.JsonObject:
    param = error["param"]
    if param is None:
        return error
    for ga, beta in PATHS.items():
        if param == ga or param.startswith((f"{ga}.", f"{ga}[")):
            message = error["message"].replace(f"'{ga}", f"'{beta}")
            return {**error, "param": beta + param[len(ga) :], "message": message}
    return error


class Beta(Dialect):
    """One instance per call: it remembers the temperatures that were asked for, which nothing else needs."""

    name = "beta"
    shapes = CLIENT_EVENTS
    named = NAMED_CLIENT_EVENTS

    def __init__(self) -> None:
        self._temperature = DEFAULT_TEMPERATURE
        self._asked_temperature: float | None = None
        self._temperatures: dict[str, float] = {}
        self._unseen: dict[str, str | None] = {}
        """Items that the client does not know of, each with the one before it."""
        self._unseen_outputs: dict[str, list[int]] = {}
        """Where those are in the outputs of responses."""

    def event(self, kind: str, fields: ev.JsonObject) -> ev.ClientEvent:
        if kind in ("session.update", "transcription_session.update"):
            flat = fields["session"]
            session = session_to_ga(flat, transcription=kind == "transcription_session.update")
            if "temperature" in flat:
                session["temperature"] = flat["temperature"]  # the session keeps it and makes nothing of it
            return ev.SessionUpdate(session=session, event_id=fields.get("event_id"))
        if kind == "conversation.item.create":
            fields["item"] = item_to_ga(fields["item"])
        elif kind == "response.create" and "response" in fields:
            self._asked_temperature = fields["response"].get("temperature")
            fields["response"] = response_to_ga(fields["response"])
        return super().event(kind, fields)

    def opening(self, conversation_id: str) -> Sequence[ev.ServerEvent]:
        return (ConversationCreated(conversation={"id": conversation_id, "object": "realtime.conversation"}),)

    def encode(self, event: ev.ServerEvent) -> str:
        if isinstance(event, UNSAID) or self._hides(event):
            return ""
        if isinstance(event, ev.OutputAudioDelta):
            if event.response_id in self._unseen_outputs:
                event = msgspec.structs.replace(event, output_index=self._output_index(event))
            return audio_delta(RENAMED[ev.OutputAudioDelta], event)
        body: dict[str, Any] = msgspec.to_builtins(event)
        body["type"] = RENAMED.get(type(event), body["type"])
        if isinstance(event, ev.OfResponse):
            body["output_index"] = self._output_index(event)
        if isinstance(event, ev.ItemAdded | ev.Committed):
            body["previous_item_id"] = self._seen_before(event.previous_item_id)
        match event:
            case ev.SessionCreated() | ev.SessionUpdated():
                body |= self._session(body)
            case ev.ItemAdded() | ev.ItemRetrieved() | ev.OutputItemAdded() | ev.OutputItemDone():
                body["item"] = item_to_beta(body["item"])
            case ev.ResponseCreated() | ev.ResponseDone():
                body["response"] = self._response(body["response"])
            case ev.ArgumentsDone():
                del body["name"]
            case ev.Error():
                self._asked_temperature = None
                body["error"] = error_to_beta(body["error"])
        return msgspec.json.encode(body).decode()

    def _hides(self, event: ev.ServerEvent) -> bool:
        match event:
            case ev.OutputItemAdded() | ev.OutputItemDone() if event.item["type"] not in ITEM_TYPES:
                if isinstance(event, ev.OutputItemAdded):
                    self._unseen_outputs.setdefault(event.response_id, []).append(event.output_index)
                return True
            case ev.ItemAdded() if event.item["type"] not in ITEM_TYPES:
                self._unseen[event.item["id"]] = event.previous_item_id
                return True
        return False

    def _output_index(self, event: ev.OfResponse) -> int:
        unseen = self._unseen_outputs.get(event.response_id, ())
        return event.output_index - sum(index < event.output_index for index in unseen)

    def _seen_before(self, item_id: str | None) -> str | None:
        while item_id is not None and item_id in self._unseen:
            item_id = self._unseen[item_id]
        return item_id

    def _session(self, body: ev.JsonObject) -> ev.JsonObject:
        session = body["session"]
        if session["type"] == "transcription":
            return {"type": f"transcription_{body['type']}", "session": session_to_beta(session)}
        self._temperature = session.get("temperature", DEFAULT_TEMPERATURE)
        return {"session": session_to_beta(session, temperature=self._temperature)}

    def _response(self, response: ev.JsonObject) -> ev.JsonObject:
        if response["status"] == "in_progress":
            asked, self._asked_temperature = self._asked_temperature, None
            self._temperatures[response["id"]] = self._temperature if asked is None else asked
            return response_to_beta(response, self._temperatures[response["id"]])
        self._unseen_outputs.pop(response["id"], None)
        return response_to_beta(response, self._temperatures.pop(response["id"], self._temperature))
