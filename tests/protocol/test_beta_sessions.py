"""Sessions between the two dialects."""

from typing import Any

import pytest

from agents.spec import AgentSpec
from realtime.protocol import contract, contract_beta
from realtime.protocol.beta import session_to_beta, session_to_ga
from realtime.protocol.config import SessionConfig

AGENT = AgentSpec(slug="a", name="A", instructions="Be brief.", voice="verse", speed=1.2)
FLAT = {
    "modalities": ["text", "audio"],
    "instructions": "Speak.",
    "voice": "coral",
    "speed": 1.25,
    "input_audio_format": "g711_alaw",
    "output_audio_format": "pcm16",
    "input_audio_transcription": {"model": "whisper-1", "language": "en", "prompt": None},
    "input_audio_noise_reduction": {"type": "near_field"},
    "turn_detection": {
        "type": "server_vad",
        "threshold": 0.4,
        "prefix_padding_ms": 200,
        "silence_duration_ms": 700,
        "create_response": False,
        "interrupt_response": True,
    },
    "tools": [{"type": "function", "name": "look", "description": "Look.", "parameters": {"type": "object"}}],
    "tool_choice": "required",
    "max_response_output_tokens": 200,
    "tracing": "auto",
    "include": ["item.input_audio_transcription.logprobs"],
}


def realtime() -> SessionConfig:
    return SessionConfig.realtime(session_id="sess_1", model="gpt-realtime", expires_at=9, agent=AGENT)


def transcription() -> SessionConfig:
    return SessionConfig.transcription(session_id="sess_1", expires_at=9)


def test_a_session_comes_back_as_it_was_sent() -> None:
    checked = contract_beta.REALTIME_SESSION.check(FLAT, "session")
    nested = session_to_ga(checked)
    assert contract.SESSION.check(nested, "session") == nested
    shown = session_to_beta(realtime().updated(nested).wire)
    assert sorted(shown.pop("modalities")) == ["audio", "text"]
    assert {name: shown[name] for name in FLAT if name != "modalities"} == {
        name: value for name, value in FLAT.items() if name != "modalities"
    }
    assert (shown["id"], shown["object"], shown["expires_at"]) == ("sess_1", "realtime.session", 9)
    assert shown["temperature"] == 0.8
    assert "type" not in shown


@pytest.mark.parametrize(
    ("flat", "nested"),
    [
        ({}, {}),
        ({"modalities": ["text"]}, {"output_modalities": ["text"]}),
        ({"turn_detection": None}, {"audio": {"input": {"turn_detection": None}}}),
        ({"turn_detection": {"type": "none"}}, {"audio": {"input": {"turn_detection": None}}}),
        ({"input_audio_transcription": None}, {"audio": {"input": {"transcription": None}}}),
        ({"input_audio_format": "pcm16"}, {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}}}}),
        ({"output_audio_format": "g711_ulaw"}, {"audio": {"output": {"format": {"type": "audio/pcmu"}}}}),
        ({"temperature": 0.9, "instructions": ""}, {"instructions": ""}),
        ({"tool_choice": {"type": "function", "name": "f"}}, {"tool_choice": {"type": "function", "name": "f"}}),
    ],
)
def test_only_what_was_sent_is_changed(flat: dict[str, Any], nested: dict[str, Any]) -> None:
    checked = contract_beta.REALTIME_SESSION.check(flat, "session")
    assert session_to_ga(checked) == {"type": "realtime", **nested}


def test_a_transcription_session() -> None:
    flat = {"input_audio_transcription": {"model": "gpt-4o-transcribe"}, "modalities": ["text"]}
    checked = contract_beta.TRANSCRIPTION_SESSION.check(flat, "session")
    nested = session_to_ga(checked, transcription=True)
    assert nested == {
        "type": "transcription",
        "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}},
    }
    shown = session_to_beta(transcription().updated(nested).wire)
    assert shown["object"] == "realtime.transcription_session"
    assert shown["input_audio_transcription"]["model"] == "gpt-4o-transcribe"
    assert not {"voice", "instructions", "model", "tools"} & shown.keys()
    assert "create_response" not in shown["turn_detection"]


def test_an_idle_timeout_shows_only_where_one_is_set() -> None:
    assert "idle_timeout_ms" not in session_to_beta(realtime().wire)["turn_detection"]
    patch = {
        "type": "realtime",
        "audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 6000}}},
    }
    assert session_to_beta(realtime().updated(patch).wire)["turn_detection"]["idle_timeout_ms"] == 6000
