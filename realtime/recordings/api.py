"""``/api/v1/recordings/``: what calls sounded like, and ``/api/v1/recording-policy/``: which calls are recorded."""

import logging
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Any

from django.db import connection
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import APIException
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from realtime.recordings import operations, queries
from realtime.recordings.models import Recording
from realtime.recordings.playback import Playback, RecordingDamaged
from realtime.recordings.ranges import RangeUnsatisfiable, read_range
from realtime.recordings.serializers import (
    ContentQuery,
    PolicySerializer,
    RecordingDetailSerializer,
    RecordingQuery,
    RecordingSerializer,
)
from realtime.recordings.storage import StorageUnavailable
from realtime.recordings.threads import read_in_thread
from tenants.api.pages import answer_page
from tenants.encryption.errors import EncryptionError
from tenants.envelope import EnvelopeRenderer, ProblemRenderer
from tenants.permissions import Scope
from tenants.rest import Pages, TenantAPIView

log = logging.getLogger(__name__)

ENDED = object()


class Damaged(APIException):
    status_code = HTTPStatus.INTERNAL_SERVER_ERROR
    default_code = "recording_damaged"


class Held(APIException):
    status_code = HTTPStatus.CONFLICT
    default_code = "legal_hold"


class StorageAway(APIException):
    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "storage_unavailable"
    default_detail = "The storage of recordings does not answer at the moment; try again shortly."
    wait = 5


class RangeNotSatisfiable(APIException):
    status_code = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    default_code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"'Range' begins behind the end; there are {size} bytes.")
        self.headers = {"Content-Range": f"bytes */{size}"}


class RecordingPages(Pages):
    ordering = ("-started_at", "-conversation_id")


class RecordingView(TenantAPIView):
    read_scope = Scope.RECORDINGS_READ
    write_scope = Scope.CONVERSATIONS_WRITE

    def find(self, session_id: str) -> Recording:
        try:
            return queries.find_recording(session_id)
        except queries.RecordingUnknown as error:
            raise Http404(error.message) from error


class Recordings(RecordingView):
    serializer_class = RecordingSerializer
    pagination_class = RecordingPages

    @extend_schema(
        operation_id="list_recordings", parameters=[RecordingQuery], responses=RecordingSerializer(many=True)
    )
    def get(self, request: Request) -> Response:
        """The tenant's recordings, newest first, a page at a time."""
        found = queries.list_recordings(**self.read_query(RecordingQuery))
        return answer_page(self, found, RecordingSerializer)


class OneRecording(RecordingView):
    serializer_class = RecordingDetailSerializer

    @extend_schema(operation_id="get_recording")
    def get(self, request: Request, session_id: str) -> Response:
        """One call's recording, by the call's id."""
        self.refuse_unknown(set())
        return Response(RecordingDetailSerializer(self.find(session_id)).data)

    @extend_schema(operation_id="delete_recording", responses={204: None})
    def delete(self, request: Request, session_id: str) -> Response:
        """Takes the audio out of the storage, at once and for good; not under a legal hold. The transcript stays."""
        recording = self.find(session_id)
        try:
            operations.delete_recording(session_id=recording.pk)
        except operations.RecordingHeld as error:
            raise Held(error.message) from error
        except StorageUnavailable as error:
            raise _away(error) from error
        return Response(status=HTTPStatus.NO_CONTENT)


class Audio(BaseRenderer):
    """Only what is negotiated: the view answers with a stream, and errors are JSON."""

    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        raise NotImplementedError("audio is streamed")


class Wav(Audio):
    media_type, format = "audio/wav", "wav"


class Flac(Audio):
    media_type, format = "audio/flac", "flac"


class RecordingContent(RecordingView):
    renderer_classes = [Wav, Flac, EnvelopeRenderer, ProblemRenderer]

    @extend_schema(
        operation_id="get_recording_content",
        parameters=[
            ContentQuery,
            OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="One range of bytes."),
        ],
        responses={
            (200, "audio/wav"): OpenApiTypes.BINARY,
            (200, "audio/flac"): OpenApiTypes.BINARY,
            (206, "audio/wav"): OpenApiTypes.BINARY,
            416: OpenApiResponse(description="The range begins behind the end."),
        },
    )
    def get(self, request: Request, session_id: str) -> HttpResponseBase:
        """The audio: stereo, the caller on the left, what was heard of the agent on the right.

        WAV takes ranges, so players can seek. FLAC takes them where the recording is one part. Every request is
        audited.
        """
        asked = self.read_query(ContentQuery)
        recording = self.find(session_id)
        form = asked.get("format") or ("flac" if request.accepted_renderer.format == "flac" else "wav")
        playback = Playback.of(recording)
        size = playback.wav_bytes if form == "wav" else playback.flac_bytes
        span = self._span(request, playback, size)
        start, end = span or (0, size or 0)
        if request.method == "HEAD":
            return self._head(HttpResponse(), recording, playback, form, size, span)
        pieces = playback.wav(start, end) if form == "wav" else playback.flac(start, end)
        try:
            # What is wrong with the first part is told as an error; of a later one only the broken stream tells.
            first = next(pieces, b"")
        except RecordingDamaged as error:
            raise Damaged(error.message) from error
        except (StorageUnavailable, EncryptionError) as error:
            raise _away(error) from error
        operations.note_listening(recording=recording, form=form, span=request.headers.get("Range", ""))
        return self._head(StreamingHttpResponse(_stream(first, pieces)), recording, playback, form, size, span)

    def _head(
        self,
        response: HttpResponseBase,
        recording: Recording,
        playback: Playback,
        form: str,
        size: int | None,
        span: tuple[int, int] | None,
    ) -> HttpResponseBase:
        response["Content-Type"] = f"audio/{form}"
        response["ETag"] = playback.etag
        response["Accept-Ranges"] = "bytes" if size is not None else "none"
        response["Content-Disposition"] = f'inline; filename="{recording.pk}.{form}"'
        if span is not None:
            response.status_code = HTTPStatus.PARTIAL_CONTENT
            response["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
        if size is not None:
            start, end = span or (0, size)
            response["Content-Length"] = str(end - start)
        return response

    def _span(self, request: Request, playback: Playback, size: int | None) -> tuple[int, int] | None:
        if size is None or request.headers.get("If-Range", playback.etag) != playback.etag:
            return None
        try:
            return read_range(request.headers.get("Range"), size)
        except RangeUnsatisfiable as error:
            raise RangeNotSatisfiable(size) from error


async def _stream(first: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Each piece is fetched in a thread: this runs on the event loop that calls run on."""
    yield first
    while (piece := await read_in_thread(_next, pieces)) is not ENDED:
        yield piece


def _next(pieces: Iterator[bytes]) -> Any:
    try:
        return next(pieces, ENDED)
    except (RecordingDamaged, StorageUnavailable, EncryptionError) as error:
        log.error("a recording breaks off: %s", error)
        raise
    finally:
        # A data key may have been looked up; the thread is anybody's.
        connection.close()


def _away(error: Exception) -> StorageAway:
    log.error("the storage of recordings failed: %s", error)
    return StorageAway()


class RecordingPolicy(TenantAPIView):
    read_scope = Scope.SETTINGS_READ
    write_scope = Scope.SETTINGS_WRITE
    serializer_class = PolicySerializer

    @extend_schema(operation_id="get_recording_policy")
    def get(self, request: Request) -> Response:
        """Which of the tenant's calls are recorded."""
        self.refuse_unknown(set())
        return Response(PolicySerializer({"record": queries.policy_record()}).data)

    @extend_schema(operation_id="update_recording_policy")
    def patch(self, request: Request) -> Response:
        """Holds for calls that begin from now on."""
        shape = PolicySerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        policy = operations.change_policy(record_calls=shape.validated_data["record"])
        return Response(PolicySerializer(policy).data)
