"""Every address of the product but the probes (``health``) and the sockets (``asgi``)."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from agentvoicebox import pages

urlpatterns = [
    path("", pages.front, name="front"),
    path("admin/", admin.site.urls),
    path("v1/", include("realtime.rest.urls")),
    path("api/v1/", include("agents.urls")),
    path("api/v1/", include("realtime.archive.urls")),
    path("api/v1/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
]
handler404 = pages.not_found
handler500 = pages.broken
