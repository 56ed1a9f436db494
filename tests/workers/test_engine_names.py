"""What workers say of who heard and who spoke, for the ledger."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from celery_workers import stt, tts
from celery_workers.lifetime import Loaded
from speech import jobs
from speech.engines import STT_HZ, TTS_HZ, EngineError, SpokenChunk
from speech.remote import Splice
from speech.scripted import ScriptedHearing, ScriptedSpeaking
from speech.stop import StopSignal
from speech.tts.fallback import FallbackSpeech


class Attempt:
    """One try at a job, that keeps what it published."""

    elapsed_s = 0.1

    def __init__(self, **job: Any) -> None:
        self.job = SimpleNamespace(tenant="acme", job_id="job_1", **job)
        self.stop = StopSignal()
        self.frames: list[tuple[Any, dict[str, Any]]] = []

    def publish_all(self, frames: Any) -> None:
        self.frames += frames

    def finish(self, outcome: str, kind: Any, **fields: Any) -> None:
        self.frames.append((kind, fields))


def give(monkeypatch: pytest.MonkeyPatch, worker: Any, loaded: Loaded[Any], audio: bytes = b"") -> None:
    bench = SimpleNamespace(redis=SimpleNamespace(get=lambda key: audio), metrics=SimpleNamespace(first_chunk=None))
    monkeypatch.setattr(worker, "_loaded", loaded)
    monkeypatch.setattr(worker, "_bench", bench)


def test_a_transcript_names_its_engine_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = Loaded(ScriptedHearing(text="Hello."), "faster-whisper", "whisper-base", "cpu")
    give(monkeypatch, stt.worker, loaded, np.zeros(STT_HZ, np.int16).tobytes())
    attempt = Attempt(sample_rate_hz=STT_HZ, language=None, prompt=None, translate=False, segments=False)
    stt.recognise(attempt)  # type: ignore[arg-type]
    [(kind, fields)] = attempt.frames
    assert (kind, fields["engine"], fields["model"]) == (jobs.Transcribed, "faster-whisper", "whisper-base")


class Voice(ScriptedSpeaking):
    def __init__(self, name: str, fault: str = "") -> None:
        super().__init__(fault=fault)
        self.name = name


@pytest.mark.parametrize(
    ("voices", "spoke"),
    [
        ([Voice("kokoro"), Voice("piper")], ("kokoro", tts.KOKORO_MODEL, False)),
        ([Voice("kokoro", "raise:*"), Voice("piper")], ("piper", tts.PIPER_MODEL, True)),
        ([Voice("scripted")], ("scripted", "", False)),
    ],
)
def test_speech_names_the_engine_that_spoke_and_its_model(
    monkeypatch: pytest.MonkeyPatch, voices: list[Voice], spoke: tuple[str, str, bool]
) -> None:
    loaded = Loaded(FallbackSpeech(voices), "kokoro", tts.KOKORO_MODEL, "cpu")
    give(monkeypatch, tts.worker, loaded)
    attempt = Attempt(text="Hello there.", voice="alloy", speed=1.0)
    tts.speak(attempt)  # type: ignore[arg-type]
    frames = [kind(tenant="acme", job_id="job_1", attempt=1, seq=0, **fields) for kind, fields in attempt.frames]
    splice, chunks = Splice(), list[SpokenChunk]()
    for frame in frames:
        splice.put(jobs.decode_frame(jobs.encode_frame(frame)))  # type: ignore[arg-type]
        while (chunk := splice.take()) is not None:
            chunks.append(chunk)
    assert splice.complete
    assert sum(len(chunk.pcm) for chunk in chunks) > TTS_HZ // 10
    assert {(chunk.engine, chunk.model, chunk.degraded) for chunk in chunks} == {spoke}


def test_every_engine_that_speaks_has_its_model_named() -> None:
    from speech import models

    for model in tts.MODELS.values():
        assert models.find(model).role == "tts"
    with pytest.raises(EngineError):
        FallbackSpeech([])
