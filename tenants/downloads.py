"""Long tables as files, sent while they are read: a page at a time, each in a transaction of its own."""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.http import StreamingHttpResponse
from django_tenants.utils import schema_context
from rest_framework.renderers import BaseRenderer

PAGE_ROWS = 1_000
CSV, JSON_LINES = "text/csv", "application/x-ndjson"
FORMULA = ("=", "+", "-", "@", "\t", "\r")

Page = tuple[list[Sequence[Any]], Any]
Read = Callable[[Any], Page]
"""Gives the rows behind a position (None: from the first on) and the position of the last of them; None: no more."""


class CsvFile(BaseRenderer):
    """So that clients may ask for what they get by ``Accept``. Renders nothing: files are sent as they are read."""

    media_type, format, render_style = CSV, "csv", "binary"


class JsonLinesFile(BaseRenderer):
    """The same for JSON lines."""

    media_type, format, render_style = JSON_LINES, "jsonl", "binary"


def stream_csv(name: str, columns: Sequence[str], read: Read) -> StreamingHttpResponse:
    """Rows of the schema that is current now. Cells that a spreadsheet would take for a formula begin with a quote."""

    def lines(rows: Iterable[Sequence[Any]]) -> bytes:
        text = io.StringIO()
        csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
        return text.getvalue().encode()

    return _respond(f"{name}.csv", f"{CSV}; charset=utf-8", _stream(read, lines, lines([columns])))


def stream_json_lines(name: str, columns: Sequence[str], read: Read) -> StreamingHttpResponse:
    """The same rows, each as a JSON object in a line."""

    def lines(rows: Iterable[Sequence[Any]]) -> bytes:
        objects = (dict(zip(columns, row, strict=True)) for row in rows)
        return "".join(f"{json.dumps(row, default=str, ensure_ascii=False)}\n" for row in objects).encode()

    return _respond(f"{name}.jsonl", f"{JSON_LINES}; charset=utf-8", _stream(read, lines, b""))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value) if isinstance(value, dict | list) else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _respond(name: str, content_type: str, content: AsyncIterator[bytes]) -> StreamingHttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(content, content_type=content_type, headers=headers)


def _stream(read: Read, lines: Callable[[Iterable[Sequence[Any]]], bytes], head: bytes) -> AsyncIterator[bytes]:
    schema = connection.schema_name

    def read_page(position: Any) -> tuple[bytes, Any]:
        try:
            with schema_context(schema), transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL statement_timeout = %s", [settings.POSTGRES_READ_TIMEOUT_MS])
                rows, following = read(position)
                return lines(rows), following
        finally:
            # The request is over, which is when Django gives connections back.
            if not connection.in_atomic_block:
                close_old_connections()

    async def stream() -> AsyncIterator[bytes]:
        if head:
            yield head
        position = None
        while True:
            data, position = await sync_to_async(read_page)(position)
            if data:
                yield data
            if position is None:
                return

    return stream()
