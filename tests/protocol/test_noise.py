"""Noise reduction in a session: for all who listen, switched at any time, and no sample lost or out of place."""

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Limits
from speech.audio import encode_ulaw
from speech.engines import Pcm
from tests.protocol.call import TestCall, tone

HISS = np.random.default_rng(1).normal(0, 500, 24 * 3000).astype(np.int16)


def reduce(call: TestCall, wanted: dict[str, Any] | None, **heard: Any) -> None:
    session = {"type": "realtime", "audio": {"input": {"noise_reduction": wanted, **heard}}}
    call.client("session.update", session=session)
    assert call.events[-1]["type"] == "session.updated", call.events


def listened(call: TestCall) -> list[Pcm]:
    return [effect.pcm_24khz for effect in call.all(do.Listen)]


def committed(call: TestCall) -> Pcm:
    """The sound of the item that was committed last, as a client retrieves it."""
    item_id = next(event["item_id"] for event in reversed(call.said) if event["type"] == "input_audio_buffer.committed")
    call.client("conversation.item.retrieve", item_id=item_id)
    return np.frombuffer(base64.b64decode(call.events[0]["item"]["content"][0]["audio"]), np.int16)


def test_without_noise_reduction_every_byte_comes_through() -> None:
    call = TestCall()
    reduce(call, None, turn_detection=None)
    call.append(HISS)
    call.client("input_audio_buffer.commit")
    assert np.array_equal(committed(call), HISS)


@pytest.mark.parametrize("kind", ["near_field", "far_field"])
def test_voice_activity_recogniser_and_the_kept_audio_get_the_same_filtered_sound(kind: str) -> None:
    call = TestCall()
    reduce(call, {"type": kind})
    call.append(HISS)
    heard = listened(call)
    call.client("input_audio_buffer.commit")
    heard += listened(call)
    recognised = call.one(do.Transcribe).pcm_24khz
    kept = committed(call)
    assert len(kept) == len(HISS)
    assert np.array_equal(np.concatenate(heard), kept)
    assert np.array_equal(recognised, kept)
    assert kept[24_000:].std() < HISS.std() / 3


def test_the_session_shows_it_and_keeps_a_strength_that_an_update_leaves_out() -> None:
    call = TestCall()
    reduce(call, {"type": "near_field", "strength": 0.5})
    reduce(call, {"type": "far_field"})
    assert call.said[-1]["session"]["audio"]["input"]["noise_reduction"] == {"type": "far_field", "strength": 0.5}
    assert call.session.call.config.noise_reduction == ("far_field", 0.5)
    reduce(call, None)
    reduce(call, {"type": "near_field"})
    assert call.said[-1]["session"]["audio"]["input"]["noise_reduction"] == {"type": "near_field"}
    assert call.session.call.config.noise_reduction == ("near_field", 1.0)


MODES = [None, {"type": "near_field"}, {"type": "far_field"}, {"type": "far_field", "strength": 0.3}]


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.one_of(st.integers(0, 60), st.sampled_from(MODES)), max_size=25))
def test_switching_it_in_the_middle_loses_and_shifts_nothing(steps: list[Any]) -> None:
    call = TestCall()
    reduce(call, None, turn_detection=None)
    told, sent = np.full(24 * 400, 4000, np.int16), []
    call.append(told)
    for step in steps:
        if isinstance(step, int):
            sent.append(tone(step))
            call.append(sent[-1])
        else:
            reduce(call, step)
    call.client("input_audio_buffer.commit")
    kept, whole = committed(call), np.concatenate([told, *sent])
    assert len(kept) == len(whole)
    assert call.session.ear.input.end == len(whole)
    # What was unfiltered is untouched and in its place.
    assert np.array_equal(kept[: len(told)], told)
    assert call.client("input_audio_buffer.commit") == ["error"]
    assert "has 0.00ms" in call.events[0]["error"]["message"]


def test_times_count_what_was_appended() -> None:
    call = TestCall()
    reduce(call, {"type": "near_field"}, turn_detection=None)
    call.append(tone(1000))
    call.client("input_audio_buffer.clear")
    assert call.session.call.heard_samples == 24_000
    call.append(tone(150))
    call.client("input_audio_buffer.commit")
    assert len(committed(call)) == 150 * 24


@pytest.mark.parametrize("kind", ["audio/pcm", "audio/pcmu"])
def test_a_long_append_enters_in_pieces_and_comes_out_the_same(kind: str) -> None:
    def append(divided: bool) -> Pcm:
        call = TestCall()
        reduce(call, {"type": "far_field"}, turn_detection=None, format={"type": kind})
        audio = HISS.tobytes() + b"x" if kind == "audio/pcm" else encode_ulaw(HISS)
        event = ev.InputAudioAppend(audio=audio)
        parts = call.session.divide(event) if divided else [event]
        assert max(len(part.audio) for part in parts) <= (400 * 48 if divided else len(audio))
        for part in parts:
            call.result(part)
        call.client("input_audio_buffer.commit")
        return committed(call)

    # Resampling from 8 kHz dithers.
    assert np.allclose(append(True), append(False), atol=0 if kind == "audio/pcm" else 2)


def test_an_append_that_is_refused_is_refused_once_and_whole() -> None:
    call = TestCall(limits=Limits(input_audio_s=2))
    event = ev.InputAudioAppend(audio=HISS.tobytes(), event_id="mine")
    [part] = call.session.divide(event)
    assert call.result(part) == ["error"]
    assert call.events[0]["error"]["event_id"] == "mine"
    assert call.session.ear.input.end == 0
