from django.urls import path

from agents import api, voices

urlpatterns = [
    path("agents/", api.Agents.as_view(), name="agents"),
    path("agents/<slug:slug>/", api.OneAgent.as_view(), name="agent"),
    path("voices/", voices.Voices.as_view(), name="voices"),
    path("voices/<str:voice>/", voices.OneVoice.as_view(), name="voice"),
]
