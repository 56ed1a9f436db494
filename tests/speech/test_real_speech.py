"""The real models on recorded and synthesised speech."""

import threading
import time

import jiwer
import numpy as np
import pytest

from realtime.protocol.wording import Stretch
from speech import audio, models
from speech.engines import STT_HZ, TTS_HZ, EngineRefused, Segment
from speech.stop import StopSignal
from speech.stt.whisper import Whisper
from speech.tts.kokoro import Kokoro
from speech.tts.voices import KOKORO_VOICES, OPENAI_VOICES, UnknownVoice
from tests.speech.clips import load_clips, plain_words

pytestmark = pytest.mark.real_speech


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return Whisper(models.path("whisper-tiny.en"), device="cpu", threads=2)


@pytest.fixture(scope="module")
def kokoro() -> Kokoro:
    return Kokoro(models.path("kokoro-v1.0.int8"), models.path("kokoro-voices"), device="cpu", threads=2)


def test_recorded_clips_are_understood(whisper: Whisper) -> None:
    clips = load_clips()
    understood = []
    for clip in clips:
        begun = time.perf_counter()
        understood.append(whisper.transcribe(clip.pcm_16khz))
        print(f"\n{clip.file}: {(time.perf_counter() - begun) * 1000:.0f} ms", end="")
    error_rate = jiwer.wer(
        [plain_words(clip.text) for clip in clips], [plain_words(transcript.text) for transcript in understood]
    )
    print(f"\nword error rate {error_rate:.3f}")
    assert error_rate <= 0.15


def test_words_have_times_within_the_utterance(whisper: Whisper) -> None:
    clip = load_clips()[-1]
    words = whisper.transcribe(clip.pcm_16khz).words
    assert len(words) > 15
    assert all(0 <= word.start_s <= word.end_s <= 11.5 and 0 <= word.probability <= 1 for word in words)
    assert [word.start_s for word in words] == sorted(word.start_s for word in words)


def test_segments_of_a_long_utterance_come_one_after_the_other(whisper: Whisper) -> None:
    """More than the half minute that Whisper hears at once."""
    pause = np.zeros(STT_HZ // 2, np.int16)
    pcm = np.concatenate([piece for clip in load_clips() for piece in (clip.pcm_16khz, pause)])
    segments: list[tuple[float, Segment]] = []
    transcript = whisper.transcribe(pcm, heard=lambda segment: segments.append((time.perf_counter(), segment)))
    ended = time.perf_counter()
    told = "".join(segment.text for _, segment in segments)
    print(f"\n{len(segments)} segments, the first {ended - segments[0][0]:.1f} s before the end")
    assert len(segments) >= 5
    assert transcript.text.startswith(told)
    assert len(told) < len(transcript.text)
    assert [word for _, segment in segments for word in segment.words] == list(
        transcript.words[: sum(len(segment.words) for _, segment in segments)]
    )
    assert transcript == whisper.transcribe(pcm)


def test_words_told_while_they_are_said_are_those_of_the_transcript(whisper: Whisper) -> None:
    """A caller is heard in stretches that grow by a second; two successive ones must agree."""
    for clip in (load_clips()[0], load_clips()[-1]):
        stretch = Stretch(0)
        for end in range(STT_HZ, len(clip.pcm_16khz), STT_HZ):
            stretch.guess(whisper.transcribe(clip.pcm_16khz[:end]))
        early = "".join(part.text for part in stretch.parts)
        stretch.closed, stretch.transcript = True, whisper.transcribe(clip.pcm_16khz)
        stretch.advance()
        whole = "".join(part.text for part in stretch.parts)
        print(f"\n{len(early.split())} of {len(whole.split())} words told early")
        assert len(early.split()) > len(whole.split()) / 2
        assert whole.startswith(early)
        assert jiwer.wer(plain_words(clip.text), plain_words(whole)) <= 0.1


@pytest.mark.parametrize("level", [0.0, 0.001, 0.02, 0.1])
def test_noise_says_nothing(whisper: Whisper, level: float) -> None:
    noise = np.random.default_rng(1).normal(0, level, 3 * STT_HZ).astype(np.float32)
    assert whisper.transcribe(audio.to_pcm(noise)).text == ""


@pytest.mark.parametrize("voice", ["alloy", "onyx", "bf_emma"])
def test_spoken_text_is_understood_again(whisper: Whisper, kokoro: Kokoro, voice: str) -> None:
    text = "Your order was shipped on Monday, and it will arrive tomorrow morning. Can I help you with anything else?"
    chunks = list(kokoro.synthesise(text, voice=voice))
    assert len(chunks) == 2
    heard = whisper.transcribe(audio.resample(np.concatenate(chunks), TTS_HZ, STT_HZ))
    assert plain_words(heard.text) == plain_words(text)


def test_speed_changes_the_length(kokoro: Kokoro) -> None:
    slow, fast = (
        sum(map(len, kokoro.synthesise("The weather is nice today.", voice="nova", speed=speed)))
        for speed in (0.8, 1.5)
    )
    assert slow > 1.3 * fast


def test_a_running_inference_is_stopped(kokoro: Kokoro) -> None:
    stop = StopSignal()
    requested = []

    def request() -> None:
        requested.append(time.perf_counter())
        stop.request("cancelled")

    threading.Timer(0.3, request).start()
    text = "This is a long sentence that goes on and on without any end in sight, so that there is time to stop it."
    assert list(kokoro.synthesise(text * 2, voice="nova", stop=stop)) == []
    ended_ms = (time.perf_counter() - requested[0]) * 1000
    print(f"\nstopped {ended_ms:.0f} ms after the request")
    assert ended_ms < 200


def test_nothing_speakable_is_no_audio(kokoro: Kokoro) -> None:
    assert list(kokoro.synthesise(" … 😀 ", voice="alloy")) == []


def test_wrong_requests_are_refused_by_name(kokoro: Kokoro) -> None:
    with pytest.raises(UnknownVoice, match="robot"):
        list(kokoro.synthesise("hi", voice="robot"))
    with pytest.raises(EngineRefused, match="speed must be between"):
        list(kokoro.synthesise("hi", voice="alloy", speed=9.0))


@pytest.mark.parametrize("speed", [0.25, 4.0])
def test_speeds_beyond_kokoros_own_are_met(kokoro: Kokoro, speed: float) -> None:
    plain, changed = (
        sum(map(len, kokoro.synthesise("The weather is nice today", voice="nova", speed=asked)))
        for asked in (max(0.5, min(speed, 2.0)), speed)
    )
    assert changed / plain == pytest.approx(max(0.5, min(speed, 2.0)) / speed, rel=0.05)


def test_a_model_of_english_alone_does_not_translate(whisper: Whisper) -> None:
    with pytest.raises(EngineRefused, match="English only"):
        whisper.transcribe(load_clips()[0].pcm_16khz, translate=True)


def test_every_voice_of_the_table_is_in_the_file() -> None:
    assert set(np.load(models.path("kokoro-voices"))) == KOKORO_VOICES
    assert set(OPENAI_VOICES.values()) <= KOKORO_VOICES


def test_a_caller_who_repeats_himself_is_heard(whisper: Whisper, kokoro: Kokoro) -> None:
    said = "No, no, no, no, no, no, no, no, no, no. Yes, yes, yes, yes, yes, yes, yes, yes, yes, yes, yes."
    pcm = np.concatenate([audio.resample(chunk, TTS_HZ, STT_HZ) for chunk in kokoro.synthesise(said, voice="alloy")])
    words = plain_words(whisper.transcribe(pcm).text).split()
    assert words.count("no") >= 5
    assert words.count("yes") >= 5
