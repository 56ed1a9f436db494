"""Addresses of the room; see ``api``."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
