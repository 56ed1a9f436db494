"""The shape of every answer of the platform API, and of every error."""

import logging
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError, connection, transaction
from django.http import Http404
from rest_framework.exceptions import APIException, NotAuthenticated, ParseError
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.settings import api_settings

from tenants.api.problems import PROBLEM_JSON, as_problem_details, problem_body

log = logging.getLogger(__name__)


class JsonParser(JSONParser):
    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError("JSON parse error - nested too deeply") from error


class EnvelopeRenderer(JSONRenderer):
    """``{"status": "success", "data": …}``; errors come shaped already."""

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        response = renderer_context["response"]
        if response.status_code == HTTPStatus.NO_CONTENT:
            return b""
        if not response.exception:
            data = {"status": "success", "data": data}
        return super().render(data, accepted_media_type, renderer_context)


class ProblemRenderer(JSONRenderer):
    """Errors for whoever accepts ``application/problem+json``; what is no error stays in its envelope."""

    media_type = PROBLEM_JSON
    format = "problem"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        data = as_problem_details(data, renderer_context["response"].status_code)
        return super().render(data, accepted_media_type, renderer_context)


def choose_renderer(response: Response, *, method: str, accept: str) -> None:
    """Errors, and what OPTIONS tells, are JSON whatever was negotiated; problem details are only for errors, and for
    who names them."""
    if response.exception:
        response.accepted_renderer = ProblemRenderer() if PROBLEM_JSON in accept else EnvelopeRenderer()
    elif method == "OPTIONS" or isinstance(response.accepted_renderer, ProblemRenderer):
        response.accepted_renderer = EnvelopeRenderer()
    else:
        return
    response.accepted_media_type = response.accepted_renderer.media_type


def shape_error(error: Exception, context: dict[str, Any]) -> Response:
    """Every error as ``tenants.api.problems`` shapes it, and nothing of a fault inside."""
    if isinstance(error, Http404):
        return _problem(HTTPStatus.NOT_FOUND, "not_found", str(error) or "There is nothing here.")
    if isinstance(error, PermissionDenied):
        return _problem(HTTPStatus.FORBIDDEN, "permission_denied", "This is not allowed.")
    if isinstance(error, APIException):
        code, message, param = _first(error.detail, error.get_codes())
        headers = dict(getattr(error, "headers", None) or {})
        if header := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = header
        if wait := getattr(error, "wait", None):
            headers.setdefault("Retry-After", str(int(wait)))
        if isinstance(error, NotAuthenticated):
            message = "Send the header 'Authorization: Bearer <API key>'."
        return _problem(error.status_code, code, message, param, headers)
    if connection.in_atomic_block:
        transaction.set_rollback(True)
    view = type(context.get("view")).__name__
    if isinstance(error, OperationalError | InterfaceError):
        log.warning("the database did not answer", extra={"view": view, "error": type(error).__name__})
        message = "The database does not answer at the moment; try again shortly."
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "database_unavailable", message, headers={"Retry-After": "2"})
    log.error("a request failed", extra={"view": view}, exc_info=error)
    return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "Something failed on our side; it is logged.")


def _problem(
    status: int, code: str, message: str, param: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    return Response(problem_body(status, code, message, param), status=status, headers=headers, exception=True)


def _first(detail: Any, codes: Any, param: str | None = None) -> tuple[str, str, str | None]:
    """The first error in DRF's nested details, and the path of the parameter it is about."""
    if isinstance(detail, dict):
        name = next(iter(detail))
        inner = param if name == api_settings.NON_FIELD_ERRORS_KEY else f"{param}.{name}" if param else str(name)
        return _first(detail[name], codes[name], inner)
    if isinstance(detail, list):
        position = next(index for index, entry in enumerate(detail) if entry)
        return _first(detail[position], codes[position], param)
    return str(codes), str(detail), param
