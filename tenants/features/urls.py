from django.urls import path

from tenants.features import api

urlpatterns = [
    path("features/", api.Features.as_view(), name="features"),
    path("features/<slug:name>/", api.OneFeature.as_view(), name="feature"),
]
