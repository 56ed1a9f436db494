"""How large a request may be. Django would write the whole body to disk before a view could look at it."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from django.conf import settings

from realtime.rest.errors import ApiError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

OPENAI_PREFIX, PLATFORM_PREFIX = "/v1/", "/api/v1/"
UPLOADS = ("/v1/audio/transcriptions", "/v1/audio/translations")


def limit_of(path: str) -> int:
    """Bytes. A form with a recording has its other fields, and its boundaries, beside it."""
    fields = int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    return settings.TRANSCRIPTION_MAX_FILE_BYTES + fields if path in UPLOADS else fields


class BodyTooLarge(Exception):
    """More has come than the limit."""


class BodyLimit:
    """ASGI: answers 413 as soon as a body is announced, or turns out, to be too large; at every address."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        limit = limit_of(scope["path"])
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > limit:
            await refuse(send, scope["path"], limit, int(announced))
            return
        read = 0

        async def receive_within_limit() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise BodyTooLarge
            return message

        try:
            await self._application(scope, receive_within_limit, send)
        except BodyTooLarge:  # while Django reads the body, so nothing has been answered yet
            await refuse(send, scope["path"], limit, read)


async def refuse(send: Send, path: str, limit: int, size: int) -> None:
    content_type, body = refusal(path, limit, size)
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})


def refusal(path: str, limit: int, size: int) -> tuple[bytes, bytes]:
    """Content type and body, in the shape that the address answers in."""
    words = f"Maximum content size limit ({limit}) exceeded ({size} bytes read)"
    if path.startswith(OPENAI_PREFIX):
        return b"application/json", msgspec.json.encode(ApiError(413, words, kind="server_error").body)
    if path.startswith(PLATFORM_PREFIX):
        error = {"code": "body_too_large", "message": f"The body may have at most {limit} bytes.", "param": None}
        return b"application/json", msgspec.json.encode({"status": "error", "error": error})
    return b"text/plain; charset=utf-8", f"{words}\n".encode()
