"""Pages that anybody may ask for, such as the sign-in form, by IP address, and what people do who are signed in, by
person. The APIs count by themselves."""

import logging
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from tenants.addresses import request_address
from tenants.limits.counter import Counter
from tenants.limits.counters import LimitsUnavailable
from tenants.limits.headers import ratelimit_headers, retry_headers
from tenants.limits.throttle import anonymous_counter, known_note, limiter, principal_counters, refusal_words
from tenants.middleware import PAGES_OF_PEOPLE
from tenants.people.standing import find_standing

APIS = ("/v1/", "/api/v1/")
PAGES_OF_THE_API = ("/api/v1/schema/", "/api/v1/docs/")

log = logging.getLogger(__name__)


class PageThrottle:
    """Before anything is looked up, sessions included: whoever makes up cookies counts by address and costs the
    database no more than that. A cookie that was somebody's here a short while ago is left to ``PersonThrottle``.

    While Redis is away pages are served uncounted: then people come to see what is wrong."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(APIS) and not request.path.startswith(PAGES_OF_THE_API):
            return self.get_response(request)
        note = _session_note(request)
        try:
            request.is_left_to_person = note is not None and limiter().is_noted(note)
        except LimitsUnavailable:
            request.is_left_to_person = False
        if request.is_left_to_person:
            return self.get_response(request)
        return _count([anonymous_counter(request_address(request))]) or self.get_response(request)


class PersonThrottle:
    """Behind ``PersonMiddleware``. People count for themselves, as on the platform API, and in the same counter."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path.startswith(PAGES_OF_PEOPLE):
            return self.get_response(request)
        address, standing, note = request_address(request), find_standing(request), _session_note(request)
        refusal = None
        if standing is not None and note is not None:
            refusal = _count([*principal_counters(standing.principal(address)), note])
        elif request.is_left_to_person:  # the session has ended since
            refusal = _count([anonymous_counter(address)])
        return refusal or self.get_response(request)


def _session_note(request: HttpRequest) -> Counter | None:
    cookie = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if not cookie or not request.path.startswith(PAGES_OF_PEOPLE):
        return None
    return known_note(f"session {cookie}".encode(), request_address(request))


def _count(counters: list[Counter]) -> HttpResponse | None:
    try:
        answer = limiter().ask(counters)
    except LimitsUnavailable as error:
        log.warning("pages are not counted: %s", error)
        return None
    if answer.refused is None:
        return None
    headers = retry_headers(answer) | ratelimit_headers(answer)
    return HttpResponse(f"{refusal_words(answer)}\n", "text/plain; charset=utf-8", 429, headers=headers)
