"""Server-sent events: one JSON object in each, with its ``type`` inside."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from django.http import StreamingHttpResponse

from realtime.rest.errors import to_api_error

log = logging.getLogger(__name__)


def event_stream(events: AsyncGenerator[dict[str, Any], None]) -> StreamingHttpResponse:
    """A failure on the way is the last event: the status has already been sent."""

    async def frames() -> AsyncGenerator[bytes, None]:
        async with aclosing(events):
            try:
                async for event in events:
                    # The last event of an hour's transcript takes milliseconds.
                    yield await asyncio.to_thread(_frame, event)
            except Exception as error:
                yield _frame({"type": "error", **to_api_error(error).body})

    return StreamingHttpResponse(
        frames(),
        content_type="text/event-stream; charset=utf-8",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _frame(event: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"
