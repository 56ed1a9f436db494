"""The frames that gateway and speech workers exchange: jobs go up as Celery arguments, frames come down over Redis.

A frame is one msgpack-encoded struct; the tag says which. Keys and channels are spelled here and nowhere else.
"""

import msgspec

QUEUE_STT = "stt"
QUEUE_TTS = "tts"
TASK_TRANSCRIBE = "celery_workers.stt.transcribe"
TASK_SYNTHESISE = "celery_workers.tts.synthesise"

CANCELLATIONS_CHANNEL = "avb:cancellations"
WORKER_TTL_S = 5
WORKER_REFRESH_S = 1.0
JOB_TTL_S = 60
LEASE_MS = 2_500
LEASE_REFRESH_S = 0.8


def audio_key(tenant: str, job_id: str) -> str:
    return f"avb:{tenant}:job:{job_id}:audio"


def out_key(tenant: str, job_id: str) -> str:
    return f"avb:{tenant}:job:{job_id}:out"


def lease_key(tenant: str, job_id: str) -> str:
    return f"avb:{tenant}:job:{job_id}:lease"


def cancelled_key(tenant: str, job_id: str) -> str:
    return f"avb:{tenant}:job:{job_id}:cancelled"


def replies_channel(gateway_id: str) -> str:
    return f"avb:replies:{gateway_id}"


def worker_key(queue: str, worker: str) -> str:
    """Holds a ``WorkerState`` as JSON while that worker lives."""
    return f"avb:worker:{queue}:{worker}"


def workers_key(queue: str) -> str:
    """Sorted set: the workers of a queue by the Unix time at which each was last seen."""
    return f"avb:workers:{queue}"


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself each second. ``busy`` is the number of jobs it runs, of ``concurrency`` at most."""

    worker: str
    pid: int
    engine: str
    model: str
    device: str
    busy: int
    concurrency: int
    degraded: bool = False


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What both kinds of job carry. ``submitted`` and ``deadline`` are Unix time in seconds; past the deadline nobody
    waits for a job to begin any more."""

    job_id: str
    tenant: str
    session_id: str
    gateway_id: str
    attempt: int = 1
    submitted: float
    deadline: float


class TranscribeJob(Job, frozen=True, kw_only=True):
    """The utterance lies at ``audio_key(tenant, job_id)`` as PCM16 of ``sample_rate_hz``; ``translate``: to English;
    ``segments``: each is published as soon as it is understood."""

    sample_rate_hz: int
    language: str | None = None
    prompt: str | None = None
    translate: bool = False
    segments: bool = False


class SynthesiseJob(Job, frozen=True, kw_only=True):
    text: str
    voice: str
    speed: float = 1.0


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", array_like=False):
    """Every frame names its job and tenant; ``seq`` counts a single attempt's frames from 0, without gaps.

    Attempts of one number may run twice (a message delivered again), so a receiver trusts offsets before ``seq``.
    """

    tenant: str
    job_id: str
    attempt: int
    seq: int


class Started(Frame, frozen=True, kw_only=True, tag="started"):
    """A worker holds the lease. ``queued_s`` is how long the message waited."""

    worker: str
    queued_s: float


class Alive(Frame, frozen=True, kw_only=True, tag="alive"):
    """Still at work: sent with each refresh of the lease, not kept in the stream; ``seq`` is the last frame's."""


class Understood(Frame, frozen=True, kw_only=True, tag="understood"):
    """The ``index``-th segment of a transcription, counted from 0; the last one comes with ``Transcribed`` only."""

    index: int
    text: str
    words: list[tuple[str, float, float, float]] = []


class Transcribed(Frame, frozen=True, kw_only=True, tag="transcribed"):
    """Last frame of a transcription. ``words``: (text, start_s, end_s, probability). ``engine`` and ``model``
    understood it."""

    text: str
    language: str
    audio_s: float
    compute_s: float
    words: list[tuple[str, float, float, float]] = []
    engine: str = ""
    model: str = ""


class Spoken(Frame, frozen=True, kw_only=True, tag="spoken"):
    """PCM16 at 24 kHz; ``offset_samples`` is its place within the phrase. ``engine`` speaks, with this ``model``;
    ``degraded``: it is not the first choice."""

    offset_samples: int
    pcm: bytes
    engine: str
    degraded: bool = False
    model: str = ""


class SpokenAll(Frame, frozen=True, kw_only=True, tag="spoken_all"):
    """Last frame of a synthesis: the whole phrase has ``samples`` samples."""

    samples: int
    compute_s: float


class Failed(Frame, frozen=True, kw_only=True, tag="failed"):
    """Last frame of a failed attempt. ``message`` is safe to show; ``retryable``: another try might succeed."""

    code: str
    message: str
    retryable: bool


AnyFrame = Started | Alive | Understood | Transcribed | Spoken | SpokenAll | Failed

encode_frame = msgspec.msgpack.Encoder().encode
decode_frame = msgspec.msgpack.Decoder(AnyFrame).decode
