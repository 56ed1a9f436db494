"""Reading a request's JSON body."""

from typing import Any

import msgspec
from django.conf import settings
from django.http import HttpRequest

from realtime.rest.errors import ApiError

NOT_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The API expects a JSON payload, but what was sent was not valid JSON.)"
)


def read_json(request: HttpRequest) -> dict[str, Any]:
    """The body's object; an empty body is an empty object. Raises ApiError."""
    body, limit = request.body, settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if len(body) > limit:  # without a Content-Length, Django has not looked
        raise ApiError(413, f"The request body may have at most {limit} bytes.", code="request_too_large")
    try:
        decoded = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, NOT_JSON) from error
    if not isinstance(decoded, dict):
        raise ApiError(400, "The body of your request must be a JSON object.")
    return decoded
