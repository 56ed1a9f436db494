"""A session in ``audio/opus``, this product's own format: one packet an event, both ways. (OpenAI's types do not know
it, so these events are not held to them.)"""

import itertools
from typing import Any

import msgspec
import numpy as np
import pybase64
import pytest

from agents.spec import AgentSpec
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.config import SessionConfig
from realtime.protocol.session import Session
from realtime.protocol.wire import GA
from speech.opus import OpusDecoder, OpusEncoder, packet_ms
from tests.protocol.call import tone

AGENT = AgentSpec(slug="test", name="Test", instructions="Be brief.", turn_detection=None)
OPUS = {"format": {"type": "audio/opus"}}


class OpusCall:
    def __init__(self) -> None:
        counter = itertools.count(1)
        config = SessionConfig.realtime(session_id="sess_1", model="gpt-realtime", expires_at=1, agent=AGENT)
        self.session = Session(config, AGENT, lambda prefix: f"{prefix}_{next(counter)}")
        self.session.open()
        [updated] = self.client(
            type="session.update", session={"type": "realtime", "audio": {"input": OPUS, "output": OPUS}}
        )
        assert updated["session"]["audio"]["input"]["format"] == {"type": "audio/opus"}

    def client(self, **event: Any) -> list[dict[str, Any]]:
        return self.take(GA.parse(msgspec.json.encode(event).decode()))

    def take(self, entering: ev.Input) -> list[dict[str, Any]]:
        self.effects = self.session.receive(entering)
        return [msgspec.json.decode(GA.encode(effect.event)) for effect in self.effects if isinstance(effect, do.Send)]

    def append(self, packet: bytes) -> list[dict[str, Any]]:
        return self.client(type="input_audio_buffer.append", audio=pybase64.b64encode_as_string(packet))


@pytest.fixture
def call() -> OpusCall:
    return OpusCall()


def test_what_is_appended_in_packets_is_recognised_as_speech(call: OpusCall) -> None:
    for packet in OpusEncoder(20).push(tone(1000)):
        assert call.append(packet) == []
    call.client(type="input_audio_buffer.commit")
    [wanted] = [effect for effect in call.effects if isinstance(effect, do.Transcribe)]
    assert abs(len(wanted.pcm_24khz) - 24_000) < 24 * 25
    assert np.abs(wanted.pcm_24khz).max() > 4_000


def test_an_answer_comes_in_packets(call: OpusCall) -> None:
    [created] = call.client(type="response.create")[:1]
    response_id = created["response"]["id"]
    call.take(ev.ReplyBegan(response_id=response_id))
    call.take(ev.ReplyText(response_id=response_id, text="Hello."))
    said = [event for _ in range(5) for event in call.take(ev.ReplyAudio(response_id=response_id, pcm_24khz=tone(200)))]
    said += call.take(ev.ReplyFinished(response_id=response_id, reason="stop"))
    packets = [pybase64.b64decode(event["delta"]) for event in said if event["type"] == "response.output_audio.delta"]
    decoder = OpusDecoder()
    heard = np.concatenate([decoder.decode(packet) for packet in packets])
    assert {packet_ms(packet) for packet in packets} == {120}
    assert 24_000 <= len(heard) <= 24_000 + 2 * 120 * 24
    assert said[-1]["response"]["audio"]["output"]["format"] == {"type": "audio/opus"}


def test_what_is_no_packet_is_an_error_and_the_session_goes_on(call: OpusCall) -> None:
    [error] = call.append(b"\xff\xff\xff")
    assert error["type"] == "error"
    assert (error["error"]["code"], error["error"]["param"]) == ("invalid_value", "audio")
    assert "Opus packet" in error["error"]["message"]
    for packet in OpusEncoder(20).push(tone(500)):
        assert call.append(packet) == []
    assert call.client(type="input_audio_buffer.commit")[0]["type"] == "input_audio_buffer.committed"


def test_an_item_with_audio_of_its_own_is_told_where_opus_belongs(call: OpusCall) -> None:
    content = [{"type": "input_audio", "audio": pybase64.b64encode_as_string(b"\xf8\xff\xfe")}]
    [error] = call.client(type="conversation.item.create", item={"type": "message", "role": "user", "content": content})
    assert error["error"]["param"] == "item.content[0].audio"
    assert "input audio buffer" in error["error"]["message"]
