"""``/api/v1/voices/``: the voices that agents speak with."""

from django.http import Http404
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agents.serializers import VoiceQuery, VoiceSerializer, VoicesSerializer
from speech.tts.voices import KOKORO_VOICES, OPENAI_VOICES, VOICES, language_of, resolve_voice
from tenants.permissions import Scope
from tenants.rest import TenantAPIView

GENDERS = {"f": "female", "m": "male"}
MARIN = {"id": "marin", "language": "en-us", "gender": "female", "engine_voice": "af_heart"}
PAGE = {"next": None, "previous": None, "results": [MARIN]}


def describe_voice(name: str) -> dict[str, str]:
    """``name`` is one of ``VOICES``. Kokoro's names say language and gender: af_heart is American and female."""
    kokoro = resolve_voice(name)
    return {"id": name, "language": language_of(kokoro), "gender": GENDERS[kokoro[1]], "engine_voice": kokoro}


def speaks(voice: dict[str, str], language: str) -> bool:
    return voice["language"] == language.lower() or voice["language"].startswith(f"{language.lower()}-")


class Voices(TenantAPIView):
    read_scope = write_scope = Scope.AGENTS_READ

    @extend_schema(
        operation_id="list_voices",
        parameters=[VoiceQuery],
        responses=VoicesSerializer,
        examples=[OpenApiExample("answered", PAGE)],
    )
    def get(self, request: Request) -> Response:
        """OpenAI's names first, then Kokoro's own."""
        asked = self.read_query(VoiceQuery)
        voices = [describe_voice(name) for name in [*sorted(OPENAI_VOICES), *sorted(KOKORO_VOICES)]]
        if language := asked.get("language"):
            voices = [voice for voice in voices if speaks(voice, language)]
        if gender := asked.get("gender"):
            voices = [voice for voice in voices if voice["gender"] == gender]
        return Response({"next": None, "previous": None, "results": voices})


class OneVoice(TenantAPIView):
    read_scope = write_scope = Scope.AGENTS_READ

    @extend_schema(operation_id="get_voice", responses=VoiceSerializer)
    def get(self, request: Request, voice: str) -> Response:
        """One voice by its name."""
        self.refuse_unknown(set())
        if voice not in VOICES:
            raise Http404(f"There is no voice {voice[:64]!r}.")
        return Response(describe_voice(voice))
