"""``GET /v1/audio/voices``: every voice name that speech and calls take."""

from typing import Any

from django.http import HttpRequest, JsonResponse

from realtime.rest.authentication import authenticate
from realtime.rest.errors import endpoint
from speech.tts.voices import KOKORO_VOICES, OPENAI_VOICES, language_of, resolve_voice


def voice_object(name: str) -> dict[str, Any]:
    """``language`` is the language that the voice speaks; ``voice`` is Kokoro's own name for it."""
    kokoro = resolve_voice(name)
    return {"id": name, "object": "audio.voice", "name": name, "language": language_of(kokoro), "voice": kokoro}


@endpoint("GET")
async def list_voices(request: HttpRequest) -> JsonResponse:
    await authenticate(request, None)
    names = [*sorted(OPENAI_VOICES), *sorted(KOKORO_VOICES)]
    return JsonResponse({"object": "list", "data": [voice_object(name) for name in names]})
