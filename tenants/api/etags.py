"""ETags: a GET that changed nothing answers 304, and a change that was decided on an old state is refused.

An ETag is the hash of the bytes that GET answers with, so it is strong. A change computes the one of the present state
while it holds the lock of its address, so of two changes decided on the same state only the first is made.
"""

import hashlib
from urllib.parse import quote

from django.conf import settings
from django.db import connection
from django.http import HttpResponseBase, HttpResponseNotModified
from django.utils.cache import get_conditional_response
from django.utils.http import parse_etags
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

CHANGES = {"PUT", "PATCH", "DELETE"}


class PreconditionFailed(APIException):
    status_code = 412

    def __init__(self) -> None:
        super().__init__(
            {"If-Match": [ErrorDetail("It has changed since; read it again and decide anew.", "precondition_failed")]}
        )


class PreconditionRequired(APIException):
    status_code = 428

    def __init__(self) -> None:
        words = "Send the header 'If-Match' with the ETag that GET answered."
        super().__init__({"If-Match": [ErrorDetail(words, "precondition_required")]})


def etag_of(content: bytes) -> str:
    """A strong ETag with its quotes."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def answer_conditionally(request: Request, response: Response) -> HttpResponseBase:
    """The rendered answer of a GET with its ETag; 304 when ``If-None-Match`` names it.

    Raises PreconditionFailed when ``If-Match`` names another.
    """
    etag = etag_of(response.content)
    response["ETag"] = etag
    if (wanted := wanted_etags(request)) and etag not in wanted and "*" not in wanted:
        raise PreconditionFailed
    answer = get_conditional_response(request._request, etag=etag, response=response)
    return answer if isinstance(answer, HttpResponseNotModified) else response


def wanted_etags(request: Request) -> list[str]:
    """What ``If-Match`` names; empty without the header. Raises ValidationError when it names nothing that can be."""
    header = request.headers.get("If-Match", "")
    etags = parse_etags(header)
    if header and not etags:
        words = f"'If-Match' is * or ETags in double quotes, as GET answers them; got {header!r}."
        raise ValidationError({"If-Match": [ErrorDetail(words, "invalid")]})
    return etags


def require_if_match(request: Request) -> None:
    """Raises PreconditionRequired where the setting wants each change to name the state it was decided on."""
    if settings.API_REQUIRE_IF_MATCH and "If-Match" not in request.headers:
        raise PreconditionRequired


def hold_address(path: str) -> None:
    """Until the transaction ends, other changes at this address of the tenant wait."""
    with connection.cursor() as cursor:
        name = f"rest:{connection.schema_name}:{quote(path)}"  # PostgreSQL takes no NUL
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])
