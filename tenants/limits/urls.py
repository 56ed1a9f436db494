"""Addresses of limits, under ``/api/v1/``."""

from django.urls import path

from tenants.limits import api

urlpatterns = [
    path("limits/", api.Limits.as_view(), name="limits"),
    path("limits/end-users/", api.EndUsers.as_view(), name="end_user_limits"),
    path("limits/end-users/<str:limits_id>/", api.OneEndUser.as_view(), name="one_end_user_limits"),
]
