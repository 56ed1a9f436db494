"""The ``stt`` queue: one task per utterance. ``celery -A celery_workers.stt worker -Q stt --pool threads``"""

import itertools
from collections.abc import Iterable
from typing import Any

import msgspec

from celery_workers.app import app, config
from celery_workers.job import Attempt
from celery_workers.lifetime import Lifetime, Loaded
from speech import audio, models
from speech.engines import STT_HZ, EngineError, Segment, SpeechToText, Word
from speech.jobs import QUEUE_STT, TASK_TRANSCRIBE, Transcribed, TranscribeJob, Understood, audio_key
from speech.logs import log_context
from speech.scripted import ScriptedHearing


def load() -> Loaded[SpeechToText]:
    """The engine that the configuration names, warmed. Raises EngineError or ModelError."""
    if config.stt_engine == "scripted":
        scripted = ScriptedHearing(
            delay_ms=config.scripted_stt_delay_ms, text=config.scripted_stt_text, fault=config.scripted_fault
        )
        return Loaded(scripted, scripted.name, "", scripted.device)
    # Imported where it is chosen: a scripted worker starts without the engine's half second and memory.
    from speech.stt.whisper import Whisper

    whisper = Whisper(
        models.path(config.stt_model),
        device=config.stt_device,
        threads=config.stt_threads,
        concurrency=config.concurrency(QUEUE_STT),
    )
    return Loaded(whisper, whisper.name, config.stt_model, whisper.device)


worker = Lifetime(QUEUE_STT, config.stt_time_limit_s, load)


@app.task(name=TASK_TRANSCRIBE)
def transcribe(*, job: dict[str, Any]) -> None:
    """``job`` holds the fields of a ``TranscribeJob``."""
    fields = msgspec.convert(job, TranscribeJob)
    with log_context(session_id=fields.session_id, tenant_id=fields.tenant):
        worker.bench.work(fields, recognise)


def recognise(attempt: Attempt[TranscribeJob]) -> None:
    job = attempt.job
    raw = worker.bench.redis.get(audio_key(job.tenant, job.job_id))
    if not isinstance(raw, bytes):
        raise EngineError("the utterance is not in Redis any more")
    utterance = audio.resample(audio.from_bytes(raw), job.sample_rate_hz, STT_HZ)
    counted = itertools.count()

    def heard(segment: Segment) -> None:
        attempt.publish(Understood, index=next(counted), text=segment.text, words=plain(segment.words))

    transcript = worker.engines.transcribe(
        utterance,
        language=job.language,
        prompt=job.prompt,
        translate=job.translate,
        heard=heard if job.segments else None,
    )
    attempt.finish(
        "ok",
        Transcribed,
        text=transcript.text,
        language=transcript.language,
        audio_s=transcript.audio_s,
        compute_s=attempt.elapsed_s,
        words=plain(transcript.words),
        engine=worker.loaded.engine,
        model=worker.loaded.model,
    )


def plain(words: Iterable[Word]) -> list[tuple[str, float, float, float]]:
    """Words as frames carry them."""
    return [(word.text, word.start_s, word.end_s, word.probability) for word in words]
