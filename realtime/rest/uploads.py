"""Multipart requests with a recording in them."""

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from realtime.protocol.shapes import Invalid, Object, missing
from realtime.rest.errors import ApiError
from speech.encode import UploadRefused, decode_upload
from speech.engines import Pcm

# Decoding takes a core each: two at once leave the others to the calls.
_decoding = ThreadPoolExecutor(2, thread_name_prefix="decode-upload")

LISTS = ("timestamp_granularities", "include", "keywords", "languages")
NUMBERS = ("temperature",)
FLAGS = ("stream",)


async def read_upload(request: HttpRequest, shape: Object) -> tuple[dict[str, Any], Pcm]:
    """The checked fields, and the file as mono PCM at 16 kHz. Raises Invalid or ApiError."""
    if request.content_type != "multipart/form-data":
        raise ApiError(400, "Send this request as multipart/form-data, with the recording as the part 'file'.")
    # A chunked request announces no length, and without one Django takes a form for empty.
    request.META.setdefault("CONTENT_LENGTH", str(settings.TRANSCRIPTION_MAX_FILE_BYTES))
    # Django parses where these are first read, which takes a while for a large file.
    fields, files = await asyncio.to_thread(lambda: (request.POST, request.FILES))
    asked = shape.check(read_fields({name: fields.getlist(name) for name in fields}), "")
    upload = files.get("file")
    if upload is None or isinstance(upload, list):
        raise missing("file")
    limit = settings.TRANSCRIPTION_MAX_FILE_BYTES
    if (upload.size or 0) > limit:
        words = f"Maximum content size limit ({limit}) exceeded ({upload.size} bytes read)"
        raise ApiError(413, words, kind="server_error")
    loop = asyncio.get_running_loop()
    longest_s = settings.TRANSCRIPTION_MAX_AUDIO_S
    try:
        pcm = await loop.run_in_executor(_decoding, lambda: decode_upload(upload.read(), longest_s=longest_s))
    except UploadRefused as refusal:
        raise Invalid("invalid_value", str(refusal), "file") from refusal
    return asked, pcm


def read_fields(form: Mapping[str, list[str]]) -> dict[str, Any]:
    """A form's strings as the values that a JSON body would hold: ``name[]`` is a list, ``a[b]`` an object.

    What cannot be read stays a string, for the shape to refuse.
    """
    read: dict[str, Any] = {}
    for key, values in form.items():
        name, bracket, inner = key.partition("[")
        inner = inner.removesuffix("]")
        if name in LISTS:
            read[name] = read.get(name, []) + values
        elif bracket and inner:
            nested = read.setdefault(name, {})
            if isinstance(nested, dict):
                nested[inner] = _literal(values[-1])
        elif name in NUMBERS or name in FLAGS or values[-1].startswith("{"):
            read[name] = _literal(values[-1])
        else:
            read[name] = values[-1]
    return read


def _literal(text: str) -> Any:
    try:
        return json.loads(text.strip().lower() if text.strip().lower() in ("true", "false") else text)
    except (ValueError, RecursionError):
        return text
