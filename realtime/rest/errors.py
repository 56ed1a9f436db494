"""Errors of the endpoints under ``/v1``, in OpenAI's shape, and the frame that gives every failure that shape."""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.db import Error as DatabaseError
from django.http import HttpRequest, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from realtime.protocol.shapes import Invalid
from realtime.runtime.door import id_source
from realtime.runtime.secrets import SecretsUnavailable, TooManySecrets
from speech.engines import SpeechFailed
from tenants.addresses import request_address
from tenants.encryption.errors import EncryptionError
from tenants.limits.counters import LimitsUnavailable

log = logging.getLogger(__name__)
new_id = id_source()

SERVER_ERROR = "The server had an error while processing your request. Sorry about that!"
OVERLOADED = "The server is currently overloaded or cannot be reached. Please try again later."
View = Callable[..., Awaitable[HttpResponseBase]]


class ApiError(Exception):
    """A request is refused. ``param`` is the path of what was wrong; ``kind`` is OpenAI's ``type``.

    ``retry_after_s`` is when another try makes sense.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        retry_after_s: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind
        self.headers = headers or {}
        self.retry_after_s = 2 if retry_after_s is None and status == 503 else retry_after_s

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def endpoint(method: str) -> Callable[[View], View]:
    """An async view for one method. Keys need no CSRF token; who comes with a session is asked for it in ``people``.

    ``request.request_id`` names the request in logs and in the answer's ``x-request-id``.
    """

    def frame(view: View) -> View:
        @csrf_exempt
        @functools.wraps(view)
        async def framed(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
            request.request_id = new_id("req")
            try:
                if request.method != method:
                    await _count_stranger(request)
                    raise wrong_method(request)
                response = await view(request, *args, **kwargs)
            except Exception as error:
                response = respond(error)
            response.headers["x-request-id"] = request.request_id
            for name, value in getattr(request, "limit_headers", {}).items():
                response.headers[name] = value
            return response

        return framed

    return frame


def respond(error: Exception) -> JsonResponse:
    refusal = to_api_error(error)
    headers = dict(refusal.headers)
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JsonResponse(refusal.body, status=refusal.status, headers=headers)


def to_api_error(error: Exception) -> ApiError:
    """How a caller hears of it. What nobody expected is logged, and shows nothing of the inside."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Invalid):
        return ApiError(400, error.message, code=error.code, param=error.param)
    if isinstance(error, TooManySecrets):
        words = f"Rate limit reached for client secrets: {error}"
        return ApiError(429, words, code="rate_limit_exceeded", kind="requests", retry_after_s=error.retry_after_s)
    if isinstance(error, RequestDataTooBig):
        return ApiError(413, "The request body is too large.", code="request_too_large")
    if isinstance(error, BadRequest | SuspiciousOperation | MultiPartParserError):
        return ApiError(400, f"We could not parse the body of your request: {error}")
    if isinstance(error, SpeechFailed):
        log.warning("speech failed: %s", error.code)
        if error.code.endswith("_failed"):
            return ApiError(500, SERVER_ERROR, code=error.code, kind="server_error")
        return ApiError(503, OVERLOADED, code=error.code, kind="server_error")
    if isinstance(error, DatabaseError | SecretsUnavailable | LimitsUnavailable | EncryptionError):
        log.warning("a request cannot be served: %s", type(error).__name__)
        return ApiError(503, OVERLOADED, code="service_unavailable", kind="server_error")
    log.error("a request failed", exc_info=error)
    return ApiError(500, SERVER_ERROR, kind="server_error")


def wrong_method(request: HttpRequest) -> ApiError:
    return ApiError(
        405,
        f"Not allowed to {request.method} on {request.path} (HINT: Perhaps you meant to use a different HTTP method?)",
        code="method_not_supported",
    )


async def _count_stranger(request: HttpRequest) -> None:
    """By its address: nobody looks at the key of a request that leads nowhere.

    Raises ApiError and LimitsUnavailable.
    """
    from realtime.rest.authentication import count_anonymous  # which raises ApiError, so it is above this module

    await count_anonymous(request_address(request))


@csrf_exempt
async def no_such_address(request: HttpRequest, address: str) -> JsonResponse:
    try:
        await _count_stranger(request)
    except Exception as error:
        return respond(error)
    return respond(ApiError(404, f"Invalid URL ({request.method} {request.path})"))
