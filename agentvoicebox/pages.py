"""The front page, and what is shown where there is nothing."""

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import is_valid_path, reverse
from django.views import defaults
from django.views.decorators.http import require_safe

from tenants.addresses import platform_admin_url
from tenants.api.problems import MEANINGS, problem_body

API = "/api/"


@require_safe
def front(request: HttpRequest) -> HttpResponse:
    """What runs here and where to go next. It asks no database, so it shows even when nothing else works."""
    scheme = "wss" if request.is_secure() else "ws"
    return render(
        request,
        "front.html",
        {
            "realtime_url": f"{scheme}://{request.get_host()}/v1/realtime",
            "sign_in_url": reverse("account_login"),
            "admin_url": reverse("admin:index"),
            "platform_url": platform_admin_url(request),
            "docs_url": reverse("docs"),
            "reference_url": reverse("reference"),
        },
    )


@require_safe
def errors(request: HttpRequest) -> HttpResponse:
    """What each status of the API means; ``error.documentation`` of every answer leads here."""
    meanings = [(status, HTTPStatus(status).phrase, words) for status, words in MEANINGS.items()]
    return render(request, "docs/errors.html", {"meanings": meanings})


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.path.startswith(API):
        return _problem(400, "bad_request", "The request cannot be read; its host, path or headers are malformed.")
    return defaults.bad_request(request, exception)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.path.startswith(API):
        return _problem(403, "permission_denied", "You may not do this.")
    return render(request, "403.html", status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.path.startswith(API):
        words = f"There is nothing at {request.path}"
        slashed = f"{request.path_info}/"
        return _problem(404, "not_found", f"{words}; send it to {slashed}." if is_valid_path(slashed) else f"{words}.")
    return render(request, "404.html", status=404)


def broken(request: HttpRequest) -> HttpResponse:
    if request.path.startswith(API):
        return _problem(500, "internal_error", "Something failed on our side; it is logged.")
    return render(request, "500.html", status=500)


def _problem(status: int, code: str, message: str) -> JsonResponse:
    return JsonResponse(problem_body(status, code, message), status=status)
