"""What speech processes are told by the environment. A wrong value stops the start and names its variable."""

import os
from dataclasses import dataclass

from environs import Env, EnvError, ValidationError, validate


class ConfigError(Exception):
    """A variable has a value that cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class SpeechConfig:
    """Read once at start with ``read_config``. Threads 0 means: up to four of this machine's cores."""

    redis_url: str
    stt_engine: str
    stt_model: str
    stt_device: str
    stt_threads: int
    stt_concurrency: int
    stt_time_limit_s: float
    tts_engine: str
    tts_device: str
    tts_threads: int
    tts_concurrency: int
    tts_time_limit_s: float
    metrics_port: int
    metrics_host: str
    log_level: str
    scripted_stt_delay_ms: int
    scripted_stt_text: str
    scripted_tts_first_chunk_ms: int
    scripted_tts_chunk_ms: int
    scripted_fault: str

    def concurrency(self, queue: str) -> int:
        """Jobs that one worker of ``stt`` or ``tts`` runs at once: as many as the cores carry, four on a GPU."""
        chosen, threads, device, engine = {
            "stt": (self.stt_concurrency, self.stt_threads, self.stt_device, self.stt_engine),
            "tts": (self.tts_concurrency, self.tts_threads, self.tts_device, self.tts_engine),
        }[queue]
        if chosen:
            return chosen
        if engine == "scripted":
            return 32
        if device == "cuda":
            return 4
        return max(1, (os.cpu_count() or 1) // threads)


def read_config() -> SpeechConfig:
    """From the environment; raises ConfigError."""
    env = Env(eager=True)
    cores = min(4, os.cpu_count() or 1)
    positive = validate.Range(min=0, min_inclusive=False)
    count = validate.Range(min=0, max=1024)
    delay = validate.Range(min=0, max=60_000)
    device = validate.OneOf(["auto", "cpu", "cuda"])
    try:
        return SpeechConfig(
            redis_url=env.str("REDIS_URL", "redis://127.0.0.1:6379/0", validate=_redis_url),
            stt_engine=env.str("AVB_STT_ENGINE", "whisper", validate=validate.OneOf(["whisper", "scripted"])),
            stt_model=env.str("AVB_STT_MODEL", "whisper-tiny.en", validate=validate.Length(min=1)),
            stt_device=env.str("AVB_STT_DEVICE", "auto", validate=device),
            stt_threads=env.int("AVB_STT_THREADS", 0, validate=count) or cores,
            stt_concurrency=env.int("AVB_STT_CONCURRENCY", 0, validate=count),
            stt_time_limit_s=env.float("AVB_STT_TIME_LIMIT_S", 10.0, validate=positive),
            tts_engine=env.str("AVB_TTS_ENGINE", "kokoro", validate=validate.OneOf(["kokoro", "piper", "scripted"])),
            tts_device=env.str("AVB_TTS_DEVICE", "auto", validate=device),
            tts_threads=env.int("AVB_TTS_THREADS", 0, validate=count) or cores,
            tts_concurrency=env.int("AVB_TTS_CONCURRENCY", 0, validate=count),
            tts_time_limit_s=env.float("AVB_TTS_TIME_LIMIT_S", 10.0, validate=positive),
            metrics_port=env.int("AVB_METRICS_PORT", 0, validate=validate.Range(min=0, max=65535)),
            metrics_host=env.str("AVB_METRICS_HOST", "127.0.0.1"),
            log_level=env.str(
                "AVB_LOG_LEVEL", "INFO", validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
            ),
            scripted_stt_delay_ms=env.int("AVB_SCRIPTED_STT_DELAY_MS", 0, validate=delay),
            scripted_stt_text=env.str("AVB_SCRIPTED_STT_TEXT", ""),
            scripted_tts_first_chunk_ms=env.int("AVB_SCRIPTED_TTS_FIRST_CHUNK_MS", 0, validate=delay),
            scripted_tts_chunk_ms=env.int("AVB_SCRIPTED_TTS_CHUNK_MS", 0, validate=delay),
            scripted_fault=env.str("AVB_SCRIPTED_FAULT", ""),
        )
    except EnvError as error:
        raise ConfigError(str(error)) from error


def _redis_url(url: str) -> None:
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValidationError("must begin with redis://, rediss:// or unix://")
