"""Pages that anybody may ask for, such as the sign-in form, by IP address. The APIs count by themselves."""

import logging
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from tenants.addresses import request_address
from tenants.limits.counters import LimitsUnavailable
from tenants.limits.headers import ratelimit_headers, retry_headers
from tenants.limits.throttle import anonymous_counter, limiter, refusal_words

APIS = ("/v1/", "/api/v1/")
PAGES_OF_THE_API = ("/api/v1/schema/", "/api/v1/docs/")

log = logging.getLogger(__name__)


class PageThrottle:
    """While Redis is away pages are served uncounted: then people come to see what is wrong."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(APIS) and not request.path.startswith(PAGES_OF_THE_API):
            return self.get_response(request)
        try:
            answer = limiter().ask([anonymous_counter(request_address(request))])
        except LimitsUnavailable as error:
            log.warning("pages are not counted: %s", error)
            return self.get_response(request)
        if answer.refused is not None:
            headers = retry_headers(answer) | ratelimit_headers(answer)
            return HttpResponse(f"{refusal_words(answer)}\n", "text/plain; charset=utf-8", 429, headers=headers)
        return self.get_response(request)
