"""OpenAI's REST addresses, under ``/v1``."""

from django.urls import path, re_path

from realtime.rest import calls, client_secrets, models, speech, transcriptions, voices
from realtime.rest.errors import no_such_address

urlpatterns = [
    path("realtime/client_secrets", client_secrets.create_client_secret),
    path("realtime/sessions", client_secrets.create_beta_session),
    path("realtime/transcription_sessions", client_secrets.create_beta_transcription_session),
    path("realtime/calls", calls.create_call),
    path("models", models.list_models),
    path("models/<str:model>", models.retrieve_model),
    path("audio/speech", speech.create_speech),
    path("audio/transcriptions", transcriptions.create_transcription),
    path("audio/translations", transcriptions.create_translation),
    path("audio/voices", voices.list_voices),
    re_path(r"(?P<address>.*)\Z", no_such_address),
]
