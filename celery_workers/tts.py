"""The ``tts`` queue: one task per phrase. ``celery -A celery_workers.tts worker -Q tts --pool threads``"""

import logging
from typing import Any

import msgspec

from celery_workers.app import app, config
from celery_workers.job import Attempt
from celery_workers.lifetime import Lifetime, Loaded
from speech import audio, models
from speech.engines import TTS_HZ, EngineError, TextToSpeech
from speech.jobs import QUEUE_TTS, TASK_SYNTHESISE, Spoken, SpokenAll, SynthesiseJob
from speech.logs import log_context
from speech.models import ModelError
from speech.scripted import ScriptedSpeaking
from speech.tts.fallback import FallbackSpeech

log = logging.getLogger(__name__)

FRAME_SAMPLES = TTS_HZ // 2
PIPER_MODEL = "piper-en_US-joe-medium"
KOKORO_MODEL = "kokoro-v1.0.int8"
KOKORO_VOICES = "kokoro-voices"
MODELS = {"kokoro": KOKORO_MODEL, "piper": PIPER_MODEL}
"""What each engine speaks with; a scripted one has none."""


def load() -> Loaded[FallbackSpeech]:
    """The engine that the configuration names, then Piper if it is there. Raises EngineError or ModelError.

    A model file with the wrong bytes refuses to start even when a second engine could speak.
    """
    if config.tts_engine == "scripted":
        scripted = ScriptedSpeaking(
            first_chunk_ms=config.scripted_tts_first_chunk_ms,
            chunk_ms=config.scripted_tts_chunk_ms,
            fault=config.scripted_fault,
        )
        return Loaded(FallbackSpeech([scripted]), scripted.name, "", scripted.device)
    if config.tts_engine == "piper":
        piper = _load_piper()
        return Loaded(FallbackSpeech([piper]), piper.name, PIPER_MODEL, "cpu")
    # Imported where it is chosen: onnxruntime and espeak cost a scripted worker half a second.
    from speech.tts.kokoro import Kokoro

    try:
        kokoro = Kokoro(
            models.path(KOKORO_MODEL),
            models.path(KOKORO_VOICES),
            device=config.tts_device,
            threads=config.tts_threads,
        )
    except (EngineError, models.ModelMissing) as error:
        second = _second_voice()
        if second is None:
            raise
        log.error("Kokoro is not available, Piper speaks instead: %s", error)
        return Loaded(FallbackSpeech([second], degraded=True), second.name, PIPER_MODEL, "cpu", degraded=True)
    second = _second_voice()
    return Loaded(FallbackSpeech([kokoro, second] if second else [kokoro]), kokoro.name, KOKORO_MODEL, kokoro.device)


def _load_piper() -> TextToSpeech:
    from speech.tts.piper import Piper

    return Piper(models.path(PIPER_MODEL))


def _second_voice() -> TextToSpeech | None:
    from speech.tts.piper import PiperMissing

    try:
        return _load_piper()
    except (PiperMissing, models.ModelMissing) as error:
        log.info("no second voice: %s", error)
    except (EngineError, ModelError) as error:
        log.warning("no second voice: %s", error)
    return None


worker = Lifetime(QUEUE_TTS, config.tts_time_limit_s, load)


@app.task(name=TASK_SYNTHESISE)
def synthesise(*, job: dict[str, Any]) -> None:
    """``job`` holds the fields of a ``SynthesiseJob``."""
    fields = msgspec.convert(job, SynthesiseJob)
    with log_context(session_id=fields.session_id, tenant_id=fields.tenant):
        worker.bench.work(fields, speak)


def speak(attempt: Attempt[SynthesiseJob]) -> None:
    """Each chunk leaves as soon as it is there, in frames of at most half a second."""
    job, samples = attempt.job, 0
    for chunk in worker.engines.synthesise(job.text, voice=job.voice, speed=job.speed, stop=attempt.stop):
        if samples == 0 and worker.bench.metrics.first_chunk:
            worker.bench.metrics.first_chunk.observe(attempt.elapsed_s)
        frames = []
        for start in range(0, len(chunk.pcm), FRAME_SAMPLES):
            pcm = chunk.pcm[start : start + FRAME_SAMPLES]
            by = {"engine": chunk.engine, "model": MODELS.get(chunk.engine, ""), "degraded": chunk.degraded}
            frames.append((Spoken, {"offset_samples": samples, "pcm": audio.to_bytes(pcm), **by}))
            samples += len(pcm)
        attempt.publish_all(frames)
        if attempt.stop.requested:
            return
    attempt.finish("ok", SpokenAll, samples=samples, compute_s=attempt.elapsed_s)
