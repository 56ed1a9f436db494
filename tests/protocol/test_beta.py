"""The beta dialect over the same session: its names, its shapes, and each of its flows event by event."""

import base64
from typing import Any

import msgspec
import pytest
from openai.types.beta.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.wire_beta import Beta
from realtime.runtime.door import Admission, ConnectGate, Refusal, Visit, read_visit
from realtime.transports.websocket import VoiceConsumer, VoiceGateway
from tests.protocol.call import SILENCE, SPEECH, TestCall, tone

BEARER = {"authorization": "Bearer avb_live_0123456789abcdefghij"}
CREATED = "conversation.item.created"
TEXT_ANSWER = [
    "response.output_item.added",
    CREATED,
    "response.content_part.added",
    "response.text.delta",
    "response.text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]
SPOKEN_ANSWER = [
    "response.output_item.added",
    CREATED,
    "response.content_part.added",
    "response.audio_transcript.delta",
    "response.audio.delta",
    "response.audio.done",
    "response.audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]
COMMITTED = ["input_audio_buffer.committed", CREATED]
KNOWN = (
    "'session.update', 'transcription_session.update', 'input_audio_buffer.append', 'input_audio_buffer.commit', "
    "'input_audio_buffer.clear', 'conversation.item.create', 'conversation.item.truncate', "
    "'conversation.item.delete', 'conversation.item.retrieve', 'response.create', and 'response.cancel'"
)
# Not in the SDK's union, or with a client_secret there that only REST gives.
UNTYPED = ("transcription_session.created", "transcription_session.updated")
_openai_events = TypeAdapter(RealtimeServerEvent)


class BetaCall(TestCall):
    """``said`` and ``events`` are as a client of the beta dialect sees them."""

    def __init__(self, **fields: Any) -> None:
        self.beta = Beta()
        super().__init__(**fields)
        opening = self.beta.opening(self.session.call.conversation.id)
        for event in opening:
            self.session.call.say(event)
        self._note([do.Send(event) for event in opening])

    def _note(self, effects: list[do.Effect]) -> list[str]:
        before = len(self.said)
        for effect in effects:
            if isinstance(effect, do.OpenListening):
                self.generation, self.scored_16khz = effect.generation, 0
            elif isinstance(effect, do.CountTokens):
                limits = ev.RateLimited(limit=1000, remaining=1000 - effect.tokens, reset_s=60.0)
                self._note(self.session.receive(limits))
            elif isinstance(effect, do.Send) and (frame := self.beta.encode(effect.event)):
                event = msgspec.json.decode(frame)
                if event["type"] not in UNTYPED:
                    assert _openai_events.validate_python(event).type == event["type"]
                self.said.append(event)
        self.effects = effects
        return self.types_since(before)

    def frame(self, frame: str | bytes) -> list[str]:
        return self.result(self.beta.parse(frame))

    def update(self, **session: Any) -> dict[str, Any]:
        """session.update; returns the session that came back."""
        assert self.client("session.update", session=session) == ["session.updated"], self.events
        updated: dict[str, Any] = self.events[0]["session"]
        return updated


# ---- the session ----


def test_a_call_opens_with_a_flat_session_and_a_conversation() -> None:
    call = BetaCall()
    created, conversation = call.said
    assert (created["type"], conversation["type"]) == ("session.created", "conversation.created")
    assert conversation["conversation"] == {"id": "conv_1", "object": "realtime.conversation"}
    session = created["session"]
    assert session["object"] == "realtime.session"
    assert not {"type", "audio", "output_modalities", "max_output_tokens"} & session.keys()
    assert session["modalities"] == ["audio", "text"]
    assert (session["input_audio_format"], session["output_audio_format"]) == ("pcm16", "pcm16")
    assert session["turn_detection"]["type"] == "server_vad"
    assert (session["temperature"], session["max_response_output_tokens"]) == (0.8, "inf")


def test_an_update_as_the_reference_client_sends_it_changes_what_it_names() -> None:
    call = BetaCall()
    tool = {"type": "function", "name": "add", "description": "Adds.", "parameters": {"type": "object"}}
    session = call.update(
        modalities=["text", "audio"],
        instructions="Be kind.",
        voice="verse",
        input_audio_format="g711_ulaw",
        output_audio_format="g711_alaw",
        input_audio_transcription={"model": "whisper-1"},
        turn_detection={"type": "none"},
        tools=[tool],
        tool_choice="required",
        temperature=0.7,
        max_response_output_tokens=4096,
    )
    assert session["turn_detection"] is None
    assert call.one(do.CloseListening)
    assert session["input_audio_transcription"]["model"] == "whisper-1"
    assert (session["input_audio_format"], session["output_audio_format"]) == ("g711_ulaw", "g711_alaw")
    assert (session["voice"], session["instructions"]) == ("verse", "Be kind.")
    assert (session["temperature"], session["max_response_output_tokens"]) == (0.7, 4096)
    assert session["tools"] == [tool]
    assert session["tool_choice"] == "required"
    assert call.update(modalities=["text"])["modalities"] == ["text"]
    assert call.update()["temperature"] == 0.7


def test_formats_reach_the_audio() -> None:
    call = BetaCall()
    call.update(output_audio_format="g711_ulaw")
    call.answer(call.ask(), "Hi.", audio_ms=100)
    deltas = [base64.b64decode(event["delta"]) for event in call.said if event["type"] == "response.audio.delta"]
    assert len(b"".join(deltas)) == 800


# ---- flows ----


def test_a_typed_question_gets_a_written_answer() -> None:
    call = BetaCall()
    item_id = call.type_in("Hello?")
    [created] = call.events
    assert created["type"] == CREATED
    assert created["previous_item_id"] is None
    assert created["item"] == {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "Hello?"}],
    }
    response_id = call.ask(modalities=["text"], metadata={"topic": "test"}, temperature=1.1)
    response = call.events[0]["response"]
    assert response["modalities"] == ["text"]
    assert (response["voice"], response["output_audio_format"], response["temperature"]) == ("alloy", "pcm16", 1.1)
    assert not {"audio", "output_modalities"} & response.keys()
    assert call.answer(response_id, "Hi.") == TEXT_ANSWER
    done = next(event["response"] for event in call.said if event["type"] == "response.done")
    assert done["output"][0]["content"] == [{"type": "text", "text": "Hi."}]
    assert done["output"][0]["object"] == "realtime.item"
    assert (done["status"], done["temperature"], done["metadata"]) == ("completed", 1.1, {"topic": "test"})
    call.ask()
    assert call.events[0]["response"]["temperature"] == 0.8


def test_a_spoken_answer_climbs_the_audio_ladder() -> None:
    call = BetaCall()
    response_id = call.ask()
    assert call.events[0]["response"]["modalities"] == ["audio", "text"]
    assert call.answer(response_id, "Hi.", audio_ms=100) == SPOKEN_ANSWER
    added = next(event for event in call.said if event["type"] == CREATED)
    assert (added["item"]["status"], added["item"]["content"]) == ("in_progress", [])
    parts = [event["part"] for event in call.said if event["type"].startswith("response.content_part")]
    assert parts == [{"type": "audio", "transcript": ""}, {"type": "audio", "transcript": "Hi."}]
    done = next(event["item"] for event in call.said if event["type"] == "response.output_item.done")
    assert done["content"] == [{"type": "audio", "transcript": "Hi."}]


def test_speech_and_silence_make_a_turn_that_is_answered() -> None:
    call = BetaCall()
    call.update(input_audio_transcription={"model": "whisper-1"})
    assert call.hear(640, SPEECH) == ["input_audio_buffer.speech_started"]
    item_id = call.said[-1]["item_id"]
    assert call.hear(512, SILENCE) == ["input_audio_buffer.speech_stopped", *COMMITTED, "response.created"]
    item = next(event["item"] for event in call.said if event["type"] == CREATED)
    assert (item["id"], item["object"]) == (item_id, "realtime.item")
    assert item["content"] == [{"type": "input_audio", "transcript": None}]
    response_id = call.said[-1]["response"]["id"]
    job = next(iter(call.all(do.Transcribe)))
    prefix = "conversation.item.input_audio_transcription."
    assert call.recognise(job.job_id, "Go.") == [prefix + "delta", prefix + "completed"]
    assert call.answer(response_id, "Gone.", audio_ms=20) == SPOKEN_ANSWER


def test_speech_during_an_answer_ends_it() -> None:
    call = BetaCall()
    response_id = call.ask()
    call.result(ev.ReplyText(response_id=response_id, text="Once upon a time "))
    call.result(ev.ReplyAudio(response_id=response_id, pcm_24khz=tone(1000)))
    assert call.hear(640, SPEECH) == ["input_audio_buffer.speech_started", *SPOKEN_ANSWER[5:]]
    done = next(event["response"] for event in call.said if event["type"] == "response.done")
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    truncate = {"item_id": done["output"][0]["id"], "content_index": 0, "audio_end_ms": 600}
    assert call.client("conversation.item.truncate", **truncate) == ["conversation.item.truncated"]


def test_a_manual_commit_makes_an_item_and_no_answer() -> None:
    call = BetaCall()
    call.update(turn_detection=None)
    call.append(tone(500))
    assert call.client("input_audio_buffer.commit") == COMMITTED
    assert call.client("input_audio_buffer.clear") == ["input_audio_buffer.cleared"]


def test_function_calls_stream_their_arguments_and_take_their_output() -> None:
    call = BetaCall()
    call.update(tools=[{"type": "function", "name": "add", "parameters": {"type": "object"}}])
    response_id = call.ask(tool_choice={"type": "function", "name": "add"})
    types = call.result(
        ev.ReplyToolCall(response_id=response_id, index=0, call_id="call_a", name="add", arguments="{}")
    )
    types += call.result(ev.ReplyFinished(response_id=response_id, reason="tool_calls"))
    assert types == [
        "response.output_item.added",
        CREATED,
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    done = next(event for event in call.said if event["type"] == "response.function_call_arguments.done")
    assert done.keys() == {"type", "event_id", "response_id", "item_id", "output_index", "call_id", "arguments"}
    output = {"type": "function_call_output", "call_id": done["call_id"], "output": "3"}
    assert call.client("conversation.item.create", item=output) == [CREATED]
    assert call.events[0]["item"]["object"] == "realtime.item"


def test_cancel_ends_an_answer_with_what_was_said() -> None:
    call = BetaCall()
    response_id = call.ask(modalities=["text"])
    call.result(ev.ReplyText(response_id=response_id, text="Well"))
    assert call.client("response.cancel") == TEXT_ANSWER[4:]


def test_answers_beside_the_conversation_leave_no_trace() -> None:
    call = BetaCall()
    history = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
    ]
    aside = call.ask(conversation="none", modalities=["text"], input=history, max_response_output_tokens=5)
    start = call.one(do.StartReply)
    assert [(m.role, m.text) for m in start.request.messages[1:]] == [("user", "Hi."), ("assistant", "Hello.")]
    assert start.request.max_tokens == 5
    assert call.said[-1]["response"]["max_output_tokens"] == 5
    assert CREATED not in call.answer(aside, "Aside.")


def test_items_are_retrieved_deleted_and_restored_in_the_names_of_the_beta() -> None:
    call = BetaCall()
    restored = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "I said so."}]}
    assert call.client("conversation.item.create", item=restored) == [CREATED]
    item_id = call.events[0]["item"]["id"]
    assert call.client("conversation.item.retrieve", item_id=item_id) == ["conversation.item.retrieved"]
    assert call.events[0]["item"]["content"] == [{"type": "text", "text": "I said so."}]
    assert call.client("conversation.item.delete", item_id=item_id) == ["conversation.item.deleted"]


def test_a_transcription_session_is_updated_by_its_own_event() -> None:
    call = BetaCall(transcription=True)
    assert call.said[0]["type"] == "transcription_session.created"
    assert "type" not in call.said[0]["session"]
    asked = {"input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "en"}, "turn_detection": None}
    assert call.client("transcription_session.update", session=asked) == ["transcription_session.updated"]
    session = call.events[0]["session"]
    assert session["object"] == "realtime.transcription_session"
    assert session["input_audio_transcription"]["model"] == "gpt-4o-transcribe"
    call.append(tone(500))
    assert call.client("input_audio_buffer.commit") == COMMITTED
    assert call.recognise(call.one(do.Transcribe).job_id, "Hello.")[-1].endswith("completed")


# ---- errors ----


@pytest.mark.parametrize(
    ("event", "code", "message", "param"),
    [
        ({"type": "nope"}, "invalid_value", f"Invalid value: 'nope'. Supported values are: {KNOWN}.", "type"),
        (
            {"type": "session.update", "session": {"type": "realtime"}},
            "unknown_parameter",
            "Unknown parameter: 'session.type'.",
            "session.type",
        ),
        (
            {"type": "session.update", "session": {"modalities": ["audio"]}},
            "invalid_value",
            "Invalid modalities: ['audio']. Supported combinations are: ['text'] and ['audio', 'text'].",
            "session.modalities",
        ),
        (
            {"type": "session.update", "session": {"input_audio_format": "mp3"}},
            "invalid_value",
            "Invalid value: 'mp3'. Supported values are: 'pcm16', 'g711_ulaw', and 'g711_alaw'.",
            "session.input_audio_format",
        ),
        (
            {"type": "session.update", "session": {"temperature": 2}},
            "decimal_above_max_value",
            "Invalid 'session.temperature': decimal above maximum value. Expected a value <= 1.2, but got 2 instead.",
            "session.temperature",
        ),
        (
            {"type": "transcription_session.update", "session": {}},
            "invalid_value",
            "Invalid value: 'transcription'. A session's type cannot change; this one is 'realtime'.",
            "session.type",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
            },
            "invalid_value",
            "Invalid value: 'output_text'. Supported values are: 'text'.",
            "item.content[0].type",
        ),
    ],
)
def test_a_wrong_event_gets_its_error_in_the_names_of_the_beta(
    event: dict[str, Any], code: str, message: str, param: str
) -> None:
    call = BetaCall()
    fields = {name: value for name, value in event.items() if name != "type"}
    assert call.client(event["type"], event_id="mine", **fields) == ["error"]
    error = call.events[0]["error"]
    assert (error["code"], error["message"], error["param"], error["event_id"]) == (code, message, param, "mine")
    assert call.answer(call.ask(), "Hi.", audio_ms=20) == SPOKEN_ANSWER


def test_what_the_session_refuses_is_named_as_the_client_named_it() -> None:
    call = BetaCall()
    assert call.client("session.update", session={"voice": "nobody"}) == ["error"]
    assert call.events[0]["error"]["param"] == "session.voice"
    assert call.client("response.create", response={"voice": "nobody", "temperature": 1.0}) == ["error"]
    assert call.events[0]["error"]["param"] == "response.voice"
    call.ask()
    assert call.events[0]["response"]["temperature"] == 0.8


# ---- the door ----


@pytest.mark.parametrize(
    ("headers", "subprotocols", "dialect"),
    [
        ({}, [], "ga"),
        ({"openai-beta": "assistants=v2"}, [], "ga"),
        ({"openai-beta": "realtime=v1"}, [], "beta"),
        ({"openai-beta": "assistants=v2, realtime=v1"}, [], "beta"),
        ({}, ["realtime", "openai-beta.realtime-v1"], "beta"),
    ],
)
def test_the_header_or_the_subprotocol_choose_the_dialect(
    headers: dict[str, str], subprotocols: list[str], dialect: str
) -> None:
    assert read_visit(BEARER | headers, subprotocols, "model=gpt-realtime").dialect == dialect
    assert read_visit(BEARER | headers, subprotocols, "intent=transcription").dialect == dialect


def test_azures_clients_name_a_deployment_and_a_version() -> None:
    preview = "api-version=2024-10-01-preview&deployment=gpt-4o-realtime-preview"
    visit = read_visit({"api-key": "KEY"}, [], preview)
    assert (visit.key, visit.model, visit.dialect) == ("KEY", "gpt-4o-realtime-preview", "beta")
    assert read_visit({"api-key": "KEY"}, [], "api-version=2025-08-28&deployment=gpt-realtime").dialect == "ga"


def test_where_the_beta_is_off_its_clients_are_turned_away_for_good() -> None:
    with pytest.raises(Refusal) as refusal:
        read_visit(BEARER | {"openai-beta": "realtime=v1"}, [], "model=gpt-realtime", beta=False)
    assert refusal.value.code == "beta_api_shape_disabled"
    assert refusal.value.close_code == 4000
    assert refusal.value.close_reason == "invalid_request_error.beta_api_shape_disabled"
    assert refusal.value.message == (
        "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API."
    )
    assert read_visit(BEARER, [], "model=gpt-realtime", beta=False).dialect == "ga"


async def test_who_is_turned_away_hears_why_and_the_socket_closes() -> None:
    async def admit(visit: Visit, session_id: str) -> Admission:
        raise AssertionError("nobody who is turned away is looked up")

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    ports: Any = None
    scope = {
        "type": "websocket",
        "query_string": b"model=gpt-realtime",
        "headers": [(b"Authorization", b"Bearer KEY"), (b"OpenAI-Beta", b"realtime=v1")],
        "subprotocols": ["realtime"],
    }
    await VoiceConsumer(VoiceGateway(ports, admit, ports, ports, ConnectGate(1), beta=False))(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert sent[0]["subprotocol"] == "realtime"
    assert msgspec.json.decode(sent[1]["text"])["error"]["code"] == "beta_api_shape_disabled"
    assert (sent[2]["code"], sent[2]["reason"]) == (4000, "invalid_request_error.beta_api_shape_disabled")
