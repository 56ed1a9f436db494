"""``POST /v1/realtime/calls``: where WebRTC calls will begin. Until then it says so."""

from django.http import HttpRequest, JsonResponse

from realtime.rest.authentication import authenticate
from realtime.rest.errors import ApiError, endpoint
from tenants.permissions import Scope


@endpoint("POST")
async def create_call(request: HttpRequest) -> JsonResponse:
    await authenticate(request, Scope.REALTIME)
    raise ApiError(
        501,
        "WebRTC calls are not available on this server yet. Connect over WebSocket: wss://HOST/v1/realtime",
        code="not_implemented",
    )
