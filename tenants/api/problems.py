"""Errors of the platform API: their shape, what each status means, and the page that explains them.

``error`` in the envelope has ``code`` (for programs), ``message`` (for people), ``param`` (what of the request it is
about) and ``documentation`` (where this page explains it). Who asks for ``application/problem+json`` gets the same as
RFC 9457 wants it.
"""

from http import HTTPStatus
from typing import Any

DOCUMENTATION = "/api/v1/docs/errors/"
PROBLEM_JSON = "application/problem+json"

MEANINGS: dict[int, str] = {
    400: "The request is wrong: param names the field, query parameter or header, message says what would be right.",
    401: "No key, token or session, or one that is not valid, expired or revoked.",
    403: "The key or the person's role lacks the scope that this needs, or the key is not allowed from this address.",
    404: "The tenant has no such thing. What belongs to another tenant is answered in the same way.",
    405: "There is the address, but not this method: the header Allow lists those that there are.",
    406: "Answers are application/json; the header Accept allows none of the types there are.",
    409: "The state of things does not allow it now, or a request with the same Idempotency-Key is still running.",
    412: "The thing has changed since: its ETag is not the one in If-Match. Read it again and decide anew.",
    413: "The body is larger than AVB_API_MAX_BODY_BYTES.",
    415: "Send the body as application/json.",
    422: "The Idempotency-Key came before with another request.",
    428: "This installation wants the header If-Match, with the ETag that GET answered, on every change.",
    429: "A limit is reached: Retry-After says for how many seconds, the RateLimit headers say which one.",
    500: "Something failed on our side. It is logged under the X-Request-Id of the answer.",
    501: "This installation has the address, but not what it takes to answer.",
    503: "Something that the answer needs does not respond at the moment; try again after Retry-After seconds.",
}


def problem_body(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The envelope of an error."""
    error = {"code": code, "message": message, "param": param, "documentation": f"{DOCUMENTATION}#{int(status)}"}
    return {"status": "error", "error": error}


def as_problem_details(body: dict[str, Any], status: int) -> dict[str, Any]:
    """The same error as RFC 9457 shapes it; ``code`` and ``param`` are extension members."""
    error = body["error"]
    return {
        "type": error["documentation"],
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error["message"],
        "code": error["code"],
        "param": error["param"],
    }
