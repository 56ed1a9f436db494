"""Model names that clients hard-code. Each stands for whatever model this installation has for the same work."""

from realtime.rest.errors import ApiError
from realtime.runtime.door import MODELS as REALTIME_MODELS

TRANSCRIPTION_MODELS = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-live-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-transcribe-diarize",
    "gpt-realtime-whisper",
)
SPEECH_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "kokoro")
MODELS = (*REALTIME_MODELS, *TRANSCRIPTION_MODELS, *SPEECH_MODELS)


def is_one_of(model: str, names: tuple[str, ...]) -> bool:
    """A name of the list, or a dated version of one, such as ``tts-1-2023-11-06``."""
    return any(model == name or model.startswith(f"{name}-20") for name in names)


def require_model(model: str, names: tuple[str, ...]) -> None:
    """Raises ApiError."""
    if not is_one_of(model, names):
        raise ApiError(
            404,
            f"The model `{model[:64]}` does not exist or cannot be used here. Use one of: {', '.join(names)}.",
            code="model_not_found",
            param="model",
        )
