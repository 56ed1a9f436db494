"""Addresses of the tenant's API keys, under ``/api/v1/``."""

from django.urls import path

from tenants.keys import api

urlpatterns = [
    path("keys/", api.Keys.as_view(), name="keys"),
    path("keys/<str:key_id>/", api.OneKey.as_view(), name="key"),
    path("keys/<str:key_id>/rotate/", api.KeyRotation.as_view(), name="key_rotation"),
]
