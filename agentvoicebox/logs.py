"""What Django adds to the log lines of ``speech.logs``: whose request a line belongs to."""

import logging
import re
import secrets
from collections.abc import Callable
from typing import Literal

from django.db import connection
from django.http import HttpRequest, HttpResponse

from speech import logs

TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
CORRELATION = re.compile(r"[A-Za-z0-9_.-]{1,128}")
CORRELATION_HEADER = "X-Correlation-Id"
REQUEST_HEADER = "X-Request-Id"


class TenantContextFilter(logs.ContextFilter):
    """Outside of a call, a line belongs to the tenant whose schema this thread's connection is in.

    Django puts the request on its lines, with parameters that name end users and codes that sign people in.
    """

    def filter(self, record: logging.LogRecord) -> Literal[True]:
        super().filter(record)
        record.__dict__.pop("request", None)
        if not record.tenant_id:  # type: ignore[attr-defined]
            schema = getattr(connection, "schema_name", "")
            record.tenant_id = "" if schema == "public" else schema
        return True


class RequestLogMiddleware:
    """Takes W3C ``traceparent``, ``X-Correlation-Id`` and ``X-Request-Id`` from the caller, or makes them.

    The last two are sent back: a correlation id may span many requests, a request id names this one.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        parent = TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
        given = request.headers.get(CORRELATION_HEADER, "")
        correlation = given if CORRELATION.fullmatch(given) else secrets.token_hex(8)
        trace = parent[1] if parent else secrets.token_hex(16)
        wished = request.headers.get(REQUEST_HEADER, "")
        request_id = wished if CORRELATION.fullmatch(wished) else f"req_{secrets.token_hex(12)}"
        with logs.log_context(trace_id=trace, correlation_id=correlation, request_id=request_id):
            response = self.get_response(request)
        response[CORRELATION_HEADER] = correlation
        response.headers.setdefault(REQUEST_HEADER, request_id)
        return response
