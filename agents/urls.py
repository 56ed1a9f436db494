from django.urls import path

from agents import api

urlpatterns = [
    path("agents/", api.Agents.as_view(), name="agents"),
    path("agents/<slug:slug>/", api.OneAgent.as_view(), name="agent"),
]
