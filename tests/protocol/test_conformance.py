"""Every event that a session can say, in a conversation where it says it, as the ``openai`` package has it.

``TestCall`` validates each event that it sees against the package's types; here is which conversation shows which.
"""

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

from agents.tools.types import ToolError
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from speech.engines import Transcript, Word
from tests.protocol.call import SILENCE, SPEECH, TestCall, tone, tool

VAD = {"type": "server_vad", "idle_timeout_ms": 5000}


def typed_and_written() -> TestCall:
    call = TestCall()
    call.type_in("Hello?")
    call.answer(call.ask(output_modalities=["text"], metadata={"a": "b"}), "Hi.")
    return call


def spoken_both_ways() -> TestCall:
    call = TestCall()
    audio = {"input": {"transcription": {"model": "gpt-4o-transcribe-diarize"}}}
    include = ["item.input_audio_transcription.logprobs"]
    call.client("session.update", session={"type": "realtime", "audio": audio, "include": include})
    call.hear(640, SPEECH)
    types = call.hear(512, SILENCE)
    response_id = call.said[-1]["response"]["id"]
    assert types[-1] == "response.created"
    words = (Word("Go", 0.0, 0.4, 0.9), Word(" on.", 0.4, 0.8, 0.5))
    transcript = Transcript(text="Go on.", language="en", audio_s=0.8, words=words)
    call.result(ev.TranscriptReady(job_id=call.one(do.Transcribe).job_id, transcript=transcript))
    call.answer(response_id, "Gone on.", audio_ms=300)
    return call


def called_functions() -> TestCall:
    call = TestCall()
    response_id = call.ask(tools=[{"type": "function", "name": "add"}])
    call.result(ev.ReplyToolCall(response_id=response_id, index=0, call_id="a", name="add", arguments='{"a":1}'))
    call.result(ev.ReplyFinished(response_id=response_id, reason="tool_calls"))
    return call


def changed_items() -> TestCall:
    call = TestCall()
    call.answer(call.ask(), "A long answer.", audio_ms=1000)
    item_id = next(event for event in call.said if event["type"] == "response.output_item.done")["item"]["id"]
    call.client("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=500)
    call.client("conversation.item.retrieve", item_id=item_id)
    call.client("conversation.item.delete", item_id=item_id)
    call.client("conversation.item.delete", item_id=item_id)
    return call


def lost_and_cleared_audio() -> TestCall:
    call = TestCall()
    audio = {"input": {"transcription": {"model": "whisper-1"}, "turn_detection": None}}
    call.client("session.update", session={"type": "realtime", "audio": audio})
    call.append(tone(300))
    call.client("input_audio_buffer.clear")
    call.append(tone(300))
    call.client("input_audio_buffer.commit")
    job_id = call.one(do.Transcribe).job_id
    call.result(ev.TranscriptFailed(job_id=job_id, code="stt_timeout", message="Too late."))
    return call


def silent_caller() -> TestCall:
    call = TestCall()
    call.client("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": VAD}}})
    call.answer(call.ask(), "Are you there?", audio_ms=320)
    call.hear(6400, SILENCE)
    return call


def transcribed() -> TestCall:
    call = TestCall(transcription=True)
    audio = {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}
    call.client("session.update", session={"type": "transcription", "audio": audio})
    call.hear(640, SPEECH)
    call.hear(512, SILENCE)
    call.recognise(call.one(do.Transcribe).job_id, "Hello.")
    return call


def used_servers() -> TestCall:
    """Tools of MCP servers: one answers, one does not; a call that fails, one that is approved, one that is refused."""
    call = TestCall()
    server = {"type": "mcp", "server_label": "shop", "server_url": "https://shop.example/mcp"}
    call.client("session.update", session={"type": "realtime", "tools": [server, {**server, "server_label": "docs"}]})
    shop, docs = call.all(do.ListTools)
    pay = tool("pay", kind="mcp", server_label="shop", needs_approval=True)
    call.result(ev.ToolsListed(list_id=shop.list_id, tools=(tool("find", kind="mcp", server_label="shop"), pay)))
    call.result(ev.ToolsNotListed(list_id=docs.list_id, error=ToolError("http_error", "Gone.", 410)))
    response_id = call.ask()
    call.call_tools(response_id, "find", arguments='{"a":1}')
    call.tool_answers(call.one(do.RunTool).run_id, error=ToolError("protocol_error", "No such method.", -32601))
    call.call_tools(response_id, "pay", "pay", arguments='{"a":1}')
    requests = [item["id"] for item in call.done()["output"] if item["type"] == "mcp_approval_request"]
    for request_id, approve in zip(requests, (True, False), strict=True):
        answer = {"type": "mcp_approval_response", "approval_request_id": request_id, "approve": approve}
        call.client("conversation.item.create", item=answer)
        if approve:
            call.tool_answers(call.one(do.RunTool).run_id, "Paid.")
    for item in call.session.call.conversation:
        call.client("conversation.item.retrieve", item_id=item.id)
    return call


def troubled() -> TestCall:
    """Every way in which a response ends without being completed."""
    call = TestCall()
    call.result(ev.ReplyFailed(response_id=call.ask(), code="llm_unavailable", message="No model."))
    call.result(ev.ReplyFinished(response_id=call.ask(), reason="length"))
    call.result(ev.ReplyFinished(response_id=call.ask(), reason="content_filter"))
    call.ask()
    call.client("response.cancel")
    call.client("response.cancel", event_id="mine")
    return call


CONVERSATIONS: tuple[Callable[[], TestCall], ...] = (
    typed_and_written,
    spoken_both_ways,
    called_functions,
    changed_items,
    lost_and_cleared_audio,
    silent_caller,
    transcribed,
    used_servers,
    troubled,
)
_TRANSCRIPTION = "conversation.item.input_audio_transcription."
SAID: dict[str, Callable[[], TestCall]] = {
    "error": changed_items,
    "session.created": typed_and_written,
    "session.updated": spoken_both_ways,
    "input_audio_buffer.speech_started": spoken_both_ways,
    "input_audio_buffer.speech_stopped": spoken_both_ways,
    "input_audio_buffer.committed": spoken_both_ways,
    "input_audio_buffer.cleared": lost_and_cleared_audio,
    "input_audio_buffer.timeout_triggered": silent_caller,
    "conversation.item.added": typed_and_written,
    "conversation.item.done": typed_and_written,
    "conversation.item.retrieved": changed_items,
    "conversation.item.deleted": changed_items,
    "conversation.item.truncated": changed_items,
    _TRANSCRIPTION + "delta": spoken_both_ways,
    _TRANSCRIPTION + "completed": spoken_both_ways,
    _TRANSCRIPTION + "segment": spoken_both_ways,
    _TRANSCRIPTION + "failed": lost_and_cleared_audio,
    "response.created": typed_and_written,
    "response.done": typed_and_written,
    "response.output_item.added": typed_and_written,
    "response.output_item.done": typed_and_written,
    "response.content_part.added": typed_and_written,
    "response.content_part.done": typed_and_written,
    "response.output_text.delta": typed_and_written,
    "response.output_text.done": typed_and_written,
    "response.output_audio_transcript.delta": spoken_both_ways,
    "response.output_audio_transcript.done": spoken_both_ways,
    "response.output_audio.delta": spoken_both_ways,
    "response.output_audio.done": spoken_both_ways,
    "response.function_call_arguments.delta": called_functions,
    "response.function_call_arguments.done": called_functions,
    "rate_limits.updated": typed_and_written,
    "mcp_list_tools.in_progress": used_servers,
    "mcp_list_tools.completed": used_servers,
    "mcp_list_tools.failed": used_servers,
    "response.mcp_call_arguments.delta": used_servers,
    "response.mcp_call_arguments.done": used_servers,
    "response.mcp_call.in_progress": used_servers,
    "response.mcp_call.completed": used_servers,
    "response.mcp_call.failed": used_servers,
}
_NOT_GA = "OpenAI's service does not send it in GA traffic either; the beta dialect does"
_MEDIA = "tells of a media track, as WebRTC and SIP have it; a WebSocket client plays the deltas itself"
UNSAID: dict[str, str] = {
    "conversation.created": _NOT_GA,
    "conversation.item.created": _NOT_GA,
    "output_audio_buffer.started": _MEDIA,
    "output_audio_buffer.stopped": _MEDIA,
    "output_audio_buffer.cleared": _MEDIA,
    "input_audio_buffer.dtmf_event_received": "keys pressed on a telephone come with SIP calls",
}
# Where OpenAI's service sends more than its package's types name.
KNOWN_EXTRAS = {"session": {"id", "object", "expires_at"}}


def tags(kind: type[ev.ServerEvent] = ev.ServerEvent) -> Iterator[str]:
    for child in kind.__subclasses__():
        tag = child.__struct_config__.tag
        if child.__module__ == ev.__name__ and tag != child.__name__:
            yield str(tag)
        yield from tags(child)


def test_each_event_of_the_package_is_said_or_out_of_reach_for_a_reason() -> None:
    union, *_ = get_args(RealtimeServerEvent)
    known = {get_args(model.model_fields["type"].annotation)[0] for model in get_args(union)}
    assert not SAID.keys() & UNSAID.keys()
    assert SAID.keys() | UNSAID.keys() == known


def test_each_event_that_a_session_can_say_has_a_conversation() -> None:
    assert set(tags()) == SAID.keys()


@pytest.mark.parametrize("kind", SAID)
def test_the_event_is_said_where_it_should_be(kind: str) -> None:
    call = SAID[kind]()
    assert kind in [event["type"] for event in call.said]


def extras(model: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """(the field that holds the object, the name that the package's types do not know) anywhere below."""
    if isinstance(model, BaseModel):
        for name in model.model_extra or ():
            yield where, name
        for name in type(model).model_fields:
            yield from extras(getattr(model, name), name)
    elif isinstance(model, list):
        for member in model:
            yield from extras(member, where)


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_no_event_has_a_field_that_the_package_does_not_know(conversation: Callable[[], TestCall]) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
    for event in conversation().said:
        for where, name in extras(adapter.validate_python(event)):
            assert name in KNOWN_EXTRAS.get(where, ()), f"{event['type']}: {where}.{name}"


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_events_and_items_are_spelt_as_openai_spells_them(conversation: Callable[[], TestCall]) -> None:
    call = conversation()
    for event in call.said:
        assert list(event)[:2] == ["type", "event_id"]
        assert re.fullmatch(r"event_\w+", event["event_id"])
        for item in [event["item"]] if "item" in event else event.get("response", {}).get("output", []):
            assert "object" not in item
            assert item.get("status", "completed") in ("in_progress", "completed", "incomplete")
            assert ("status" in item) is not item["type"].startswith("mcp_")
            for part in item.get("content", ()):
                spoken_or_written = {"assistant": {"output_text", "output_audio"}, "system": {"input_text"}}
                assert part["type"] in spoken_or_written.get(item["role"], {"input_text", "input_audio", "input_image"})
                if event["type"] != "conversation.item.retrieved":
                    assert "audio" not in part
        if "part" in event:
            assert event["part"].keys() == {"type", {"text": "text", "audio": "transcript"}[event["part"]["type"]]}


RESPONSE_FIELDS = {
    "object", "id", "status", "status_details", "output", "conversation_id", "output_modalities", "max_output_tokens",
    "audio", "usage", "metadata",
}  # fmt: skip


def test_a_response_shows_its_nulls() -> None:
    call = TestCall()
    call.answer(call.ask(output_modalities=["text"]), "Hi.")
    created, done = (event["response"] for event in call.said if event["type"] in ("response.created", "response.done"))
    assert created.keys() == done.keys() == RESPONSE_FIELDS
    assert (created["status_details"], created["usage"], created["metadata"]) == (None, None, None)
    assert created["output"] == []
    # Also where nothing is spoken.
    assert created["audio"] == {"output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "alloy"}}
    assert done["status_details"] is None
    assert done["usage"].keys() == {
        "total_tokens",
        "input_tokens",
        "output_tokens",
        "input_token_details",
        "output_token_details",
    }


def test_an_error_shows_its_nulls() -> None:
    call = TestCall()
    call.client("response.cancel")
    assert call.events[0]["error"] == {
        "type": "invalid_request_error",
        "code": "response_cancel_not_active",
        "message": "Cancellation failed: no active response found",
        "param": None,
        "event_id": None,
    }


def test_the_end_of_speech_carries_no_sound_and_the_end_of_words_carries_them() -> None:
    done = {event["type"]: event for event in spoken_both_ways().said if event["type"].endswith(".done")}
    place = {"type", "event_id", "response_id", "item_id", "output_index", "content_index"}
    assert done["response.output_audio.done"].keys() == place
    assert done["response.output_audio_transcript.done"].keys() == place | {"transcript"}
    assert done["response.content_part.done"]["part"] == {"type": "audio", "transcript": "Gone on."}


def test_the_order_of_lists_and_heads_is_a_chain() -> None:
    """``previous_item_id`` of added and done: null first, then each the one before."""
    call = typed_and_written()
    chain = [(e["previous_item_id"], e["item"]["id"]) for e in call.said if e["type"] == "conversation.item.added"]
    assert chain[0][0] is None
    assert [before for before, _ in chain[1:]] == [item_id for _, item_id in chain[:-1]]
    done = [(e["previous_item_id"], e["item"]["id"]) for e in call.said if e["type"] == "conversation.item.done"]
    assert done == chain


def test_a_retrieved_item_carries_its_sound() -> None:
    call = changed_items()
    [retrieved] = [event["item"] for event in call.said if event["type"] == "conversation.item.retrieved"]
    assert len(base64.b64decode(retrieved["content"][0]["audio"])) == 500 * 48


def test_a_transcription_session_says_nothing_of_responses_or_limits() -> None:
    types = {event["type"] for event in transcribed().said}
    assert not {kind for kind in types if kind.startswith("response.")}
    assert "rate_limits.updated" not in types
    session = transcribed().said[0]["session"]
    assert session.keys() == {"type", "object", "id", "expires_at", "audio", "include"}
    assert session["audio"]["input"]["turn_detection"].keys() == {
        "type",
        "threshold",
        "prefix_padding_ms",
        "silence_duration_ms",
    }
