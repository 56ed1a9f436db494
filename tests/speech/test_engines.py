"""Scripted engines, the second voice, the configuration: what needs no model."""

from collections.abc import Iterator

import numpy as np
import pytest

from speech.config import ConfigError, read_config
from speech.engines import EngineError, EngineRefused, Pcm, Stop
from speech.jobs import Spoken, SpokenAll
from speech.remote import Splice
from speech.scripted import Faults, ScriptedHearing, ScriptedSpeaking, spoken_as, tone
from speech.stop import StopSignal
from speech.tts.fallback import FallbackSpeech
from speech.tts.voices import VOICES


class Voice:
    """An engine that gives ``chunks`` chunks and then fails, if it is to."""

    voices = frozenset(VOICES)

    def __init__(self, name: str, chunks: int, failure: Exception | None = None) -> None:
        self.name = name
        self._chunks = chunks
        self._failure = failure

    def synthesise(self, text: str, *, voice: str, speed: float = 1.0, stop: Stop | None = None) -> Iterator[Pcm]:
        for _ in range(self._chunks):
            yield tone(10, 24_000)
        if self._failure:
            raise self._failure


def speak(speech: FallbackSpeech) -> list[tuple[str, bool]]:
    chunks = speech.synthesise("hi", voice="alloy", speed=1.0, stop=StopSignal())
    return [(chunk.engine, chunk.degraded) for chunk in chunks]


def test_the_first_voice_speaks_when_it_can() -> None:
    assert speak(FallbackSpeech([Voice("a", 2), Voice("b", 1)])) == [("a", False), ("a", False)]


def test_the_second_voice_speaks_degraded_when_the_first_fails() -> None:
    assert speak(FallbackSpeech([Voice("a", 0, EngineError("broken")), Voice("b", 1)])) == [("b", True)]


def test_a_first_voice_that_did_not_load_degrades_everything() -> None:
    assert speak(FallbackSpeech([Voice("b", 1)], degraded=True)) == [("b", True)]


def test_nobody_changes_voice_within_a_phrase() -> None:
    with pytest.raises(EngineError, match="broken"):
        speak(FallbackSpeech([Voice("a", 1, EngineError("broken")), Voice("b", 1)]))


def test_what_is_refused_is_not_asked_of_the_second_voice() -> None:
    with pytest.raises(EngineRefused):
        speak(FallbackSpeech([Voice("a", 0, EngineRefused("no")), Voice("b", 1)]))


def test_without_any_voice_there_is_no_speech() -> None:
    with pytest.raises(EngineError, match="last"):
        speak(FallbackSpeech([Voice("a", 0, EngineError("first")), Voice("b", 0, EngineError("last"))]))


def test_scripted_hearing_reads_what_the_audio_carries_or_measures_it() -> None:
    hearing = ScriptedHearing()
    assert hearing.transcribe(spoken_as("grüß dich", 700)).text == "grüß dich"
    assert hearing.transcribe(np.zeros(8_000, np.int16)).text == "utterance of 500 ms"
    assert ScriptedHearing(text="always").transcribe(np.zeros(8_000, np.int16)).text == "always"
    with pytest.raises(ValueError, match="1 ms"):
        spoken_as("far too long for this", 1)


def test_scripted_speech_is_as_long_as_its_text_and_one_unbroken_tone() -> None:
    chunks = list(ScriptedSpeaking().synthesise("ten chars.", voice="alloy"))
    assert np.array_equal(np.concatenate(chunks), tone(14_400, 24_000))


def test_faults_strike_by_rule() -> None:
    first = Faults("raise-first")
    with pytest.raises(EngineError):
        first.strike(b"a")
    first.strike(b"a")
    struck = 0
    for number in range(1000):
        try:
            Faults("raise:0.1").strike(str(number).encode())
        except EngineError:
            struck += 1
    assert 60 < struck < 140
    with pytest.raises(ValueError, match="no scripted fault 'explode'"):
        Faults("explode")


def spoken(attempt: int, offset: int, samples: int) -> Spoken:
    pcm = np.arange(offset, offset + samples, dtype=np.int16).tobytes()
    return Spoken(tenant="t", job_id="j", attempt=attempt, seq=0, offset_samples=offset, pcm=pcm, engine="e")


def test_splicing_gives_each_sample_once_and_in_order() -> None:
    splice, heard = Splice(), []
    frames = [spoken(1, 0, 10), spoken(1, 20, 10), spoken(2, 0, 15), spoken(1, 10, 10), spoken(2, 15, 25)]
    for frame in [*frames, SpokenAll(tenant="t", job_id="j", attempt=2, seq=9, samples=40, compute_s=0.1)]:
        splice.put(frame)
        while (chunk := splice.take()) is not None:
            heard += chunk.pcm.tolist()
    assert heard == list(range(40))
    assert splice.complete


def test_an_end_before_its_audio_is_not_complete() -> None:
    splice = Splice()
    splice.put(SpokenAll(tenant="t", job_id="j", attempt=1, seq=9, samples=40, compute_s=0.1))
    splice.put(spoken(1, 20, 20))
    assert splice.take() is None
    assert not splice.complete


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AVB_STT_ENGINE", "parrot"),
        ("AVB_TTS_ENGINE", "parrot"),
        ("AVB_STT_DEVICE", "tpu"),
        ("AVB_STT_THREADS", "many"),
        ("AVB_TTS_TIME_LIMIT_S", "0"),
        ("AVB_METRICS_PORT", "70000"),
        ("REDIS_URL", "http://localhost"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable):
        read_config()


def test_concurrency_follows_the_cores_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert read_config().concurrency("tts") == 4
    monkeypatch.setenv("AVB_TTS_CONCURRENCY", "7")
    assert read_config().concurrency("tts") == 7
