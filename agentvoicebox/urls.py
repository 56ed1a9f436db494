"""Every address of the product but the probes (``health``) and the sockets (``asgi``)."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerSplitView

from agentvoicebox import pages
from tenants.people.oauth.endpoint import jwks, token

urlpatterns = [
    path("", pages.front, name="front"),
    path("admin/", admin.site.urls),
    path("accounts/", include("tenants.people.page_urls")),
    path("oauth/token", token, name="oauth_token"),
    path(".well-known/jwks.json", jwks, name="jwks"),
    path("v1/", include("realtime.rest.urls")),
    path("api/v1/", include("agents.urls")),
    path("api/v1/", include("agents.providers.urls")),
    path("api/v1/", include("agents.toolbox.urls")),
    path("api/v1/", include("agents.routing.urls")),
    path("api/v1/", include("agents.trials.urls")),
    path("api/v1/", include("realtime.archive.urls")),
    path("api/v1/", include("realtime.privacy.urls")),
    path("api/v1/", include("realtime.recordings.urls")),
    path("api/v1/", include("tenants.audit.urls")),
    path("api/v1/", include("tenants.features.urls")),
    path("api/v1/", include("tenants.lifecycle.urls")),
    path("api/v1/", include("tenants.keys.urls")),
    path("api/v1/", include("tenants.limits.urls")),
    path("api/v1/", include("tenants.people.urls")),
    path("api/v1/", include("tenants.prices.urls")),
    path("api/v1/", include("tenants.usage.urls")),
    path("api/v1/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/docs/", SpectacularSwaggerSplitView.as_view(template_name="docs/swagger.html"), name="docs"),
    path("api/v1/docs/reference/", SpectacularRedocView.as_view(template_name="docs/redoc.html"), name="reference"),
    path("api/v1/docs/errors/", pages.errors, name="errors"),
]
handler400 = pages.bad_request
handler403 = pages.forbidden
handler404 = pages.not_found
handler500 = pages.broken
