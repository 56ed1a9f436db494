"""Addresses of the room; see ``api``."""

from django.urls import path

from agents.providers import api

urlpatterns = [
    path("providers/", api.Providers.as_view(), name="providers"),
    path("providers/<slug:name>/", api.OneProvider.as_view(), name="provider"),
    path("providers/<slug:name>/check/", api.Check.as_view(), name="provider_check"),
]
