"""``/api/v1/privacy/``: exports and erasures of end users, legal holds; and holds of single conversations."""

from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.db import connection
from django.http import Http404, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from realtime.archive.queries import ConversationUnknown, find_conversation
from realtime.privacy import erasure as erasing
from realtime.privacy import export as exporting
from realtime.privacy import holds
from realtime.privacy.models import Erasure, Export, LegalHold
from realtime.privacy.queue import TASK_ERASE, TASK_EXPORT, request_job
from realtime.privacy.serializers import (
    ErasureSerializer,
    ExportSerializer,
    HoldRequest,
    HoldSerializer,
    ReasonRequest,
    SubjectRequest,
)
from realtime.privacy.subjects import EndUserInvalid
from realtime.recordings.storage import ObjectMissing, StorageUnavailable
from realtime.recordings.threads import read_in_thread
from tenants.api.shapes import PageQuery
from tenants.encryption.errors import EncryptionError
from tenants.envelope import EnvelopeRenderer, ProblemRenderer
from tenants.permissions import Scope
from tenants.rest import Pages, TenantAPIView

ENDED = object()


class Conflict(APIException):
    status_code = HTTPStatus.CONFLICT


class Away(APIException):
    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "storage_unavailable"
    default_detail = "The storage, or what opens it, does not answer at the moment; try again shortly."
    wait = 5


class JobPages(Pages):
    ordering = ("-requested_at", "-id")


class HoldPages(Pages):
    ordering = ("-placed_at", "-id")


class PrivacyView(TenantAPIView):
    read_scope = write_scope = Scope.PRIVACY_WRITE

    def read_body(self, shape: Any) -> dict[str, Any]:
        asked = shape(data=self.request.data)
        asked.is_valid(raise_exception=True)
        return dict(asked.validated_data)

    def page(self, pages: Pages, rows: Any, shape: Any) -> Response:
        self.read_query(PageQuery)
        page = pages.paginate_queryset(rows, self.request, self)
        return pages.get_paginated_response(shape(page, many=True).data)


class Exports(PrivacyView):
    serializer_class = ExportSerializer
    pagination_class = JobPages

    @extend_schema(operation_id="list_end_user_exports", parameters=[PageQuery], responses=ExportSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Exports that were asked for, newest first, a page at a time."""
        return self.page(JobPages(), Export.objects.all(), ExportSerializer)

    @extend_schema(operation_id="export_end_user", request=SubjectRequest, responses={202: ExportSerializer})
    def post(self, request: Request) -> Response:
        """Gather everything that is kept of an end user. It is ready when its `state` is."""
        try:
            export = exporting.request_export(**self.read_body(SubjectRequest))
        except EndUserInvalid as error:
            raise _invalid(error) from error
        request_job(TASK_EXPORT, export.pk)
        return Response(ExportSerializer(export).data, status=HTTPStatus.ACCEPTED)


class OneExport(PrivacyView):
    serializer_class = ExportSerializer

    @extend_schema(operation_id="get_end_user_export")
    def get(self, request: Request, export_id: UUID) -> Response:
        """One export, and how far it is."""
        self.refuse_unknown(set())
        return Response(ExportSerializer(_find(Export, export_id)).data)

    @extend_schema(operation_id="delete_end_user_export", responses={204: None})
    def delete(self, request: Request, export_id: UUID) -> Response:
        """Remove its file before its time."""
        try:
            exporting.withdraw_export(export=_find(Export, export_id))
        except StorageUnavailable as error:
            raise Away from error
        return Response(status=HTTPStatus.NO_CONTENT)


class Zip(BaseRenderer):
    """Only what is negotiated: the view answers with a stream, and errors are JSON."""

    media_type, format, charset = "application/zip", "zip", None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        raise NotImplementedError("the file is streamed")


class ExportFile(PrivacyView):
    renderer_classes = [Zip, EnvelopeRenderer, ProblemRenderer]

    @extend_schema(operation_id="get_end_user_export_file", responses={(200, "application/zip"): OpenApiTypes.BINARY})
    def get(self, request: Request, export_id: UUID) -> HttpResponseBase:
        """The ZIP file, from when it is ready until it expires. Every download is audited."""
        self.refuse_unknown(set())
        export = _find(Export, export_id)
        try:
            pieces = exporting.open_export(export=export)
        except exporting.ExportGone as error:
            raise Conflict(f"There is no file: the export is {export.state}.", "export_not_ready") from error
        except (StorageUnavailable, ObjectMissing, EncryptionError) as error:
            raise Away from error
        response = StreamingHttpResponse(_stream(pieces), content_type="application/zip")
        response["Content-Length"] = str(export.bytes)
        response["Content-Disposition"] = f'attachment; filename="export-{export.pk}.zip"'
        return response


async def _stream(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Each piece is fetched in a thread: this runs on the event loop that calls run on."""
    while (piece := await read_in_thread(_next, pieces)) is not ENDED:
        yield piece


def _next(pieces: Iterator[bytes]) -> Any:
    try:
        return next(pieces, ENDED)
    finally:
        # A data key may have been looked up; the thread is anybody's.
        connection.close()


class Erasures(PrivacyView):
    serializer_class = ErasureSerializer
    pagination_class = JobPages

    @extend_schema(operation_id="list_erasures", parameters=[PageQuery], responses=ErasureSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Erasures that were asked for, newest first, a page at a time."""
        return self.page(JobPages(), Erasure.objects.all(), ErasureSerializer)

    @extend_schema(operation_id="erase_end_user", request=SubjectRequest, responses={202: ErasureSerializer})
    def post(self, request: Request) -> Response:
        """Remove everything that is kept of an end user, for good. A legal hold refuses it."""
        try:
            erasure = erasing.request_erasure(**self.read_body(SubjectRequest))
        except EndUserInvalid as error:
            raise _invalid(error) from error
        except erasing.HeldBack as error:
            raise Conflict(error.message, "legal_hold") from error
        request_job(TASK_ERASE, erasure.pk)
        return Response(ErasureSerializer(erasure).data, status=HTTPStatus.ACCEPTED)


class OneErasure(PrivacyView):
    serializer_class = ErasureSerializer

    @extend_schema(operation_id="get_erasure")
    def get(self, request: Request, erasure_id: UUID) -> Response:
        """One erasure, and what it has removed."""
        self.refuse_unknown(set())
        return Response(ErasureSerializer(_find(Erasure, erasure_id)).data)


class Holds(PrivacyView):
    serializer_class = HoldSerializer
    pagination_class = HoldPages

    @extend_schema(operation_id="list_legal_holds", parameters=[PageQuery], responses=HoldSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Legal holds on conversations and on end users, newest first, a page at a time."""
        return self.page(HoldPages(), LegalHold.objects.all(), HoldSerializer)

    @extend_schema(operation_id="hold_end_user", request=HoldRequest, responses={201: HoldSerializer})
    def post(self, request: Request) -> Response:
        """Keep everything of an end user from retention and erasure. Held already: the reason is replaced."""
        try:
            hold = holds.hold_end_user(**self.read_body(HoldRequest))
        except (holds.HoldRefused, EndUserInvalid) as error:
            raise _invalid(error) from error
        return Response(HoldSerializer(hold).data, status=HTTPStatus.CREATED)


class OneHold(PrivacyView):
    serializer_class = HoldSerializer

    @extend_schema(operation_id="get_legal_hold")
    def get(self, request: Request, hold_id: UUID) -> Response:
        """One legal hold."""
        self.refuse_unknown(set())
        return Response(HoldSerializer(_find(LegalHold, hold_id)).data)

    @extend_schema(operation_id="release_end_user", responses={204: None})
    def delete(self, request: Request, hold_id: UUID) -> Response:
        """Release an end user's hold. One of a conversation is released at the conversation."""
        try:
            holds.release_hold(hold_id=hold_id)
        except holds.HoldUnknown as error:
            raise Http404("There is no such legal hold of an end user.") from error
        return Response(status=HTTPStatus.NO_CONTENT)


class ConversationHold(TenantAPIView):
    read_scope = Scope.CONVERSATIONS_READ
    write_scope = Scope.CONVERSATIONS_WRITE
    delete_scope = Scope.PRIVACY_WRITE
    serializer_class = HoldSerializer

    @extend_schema(operation_id="get_conversation_hold")
    def get(self, request: Request, session_id: str) -> Response:
        """The conversation's own legal hold."""
        self.refuse_unknown(set())
        self._find(session_id)
        hold = LegalHold.objects.filter(session_id=session_id).first()
        if hold is None:
            raise Http404("This conversation has no legal hold of its own.")
        return Response(HoldSerializer(hold).data)

    @extend_schema(operation_id="hold_conversation", request=ReasonRequest, responses=HoldSerializer)
    def put(self, request: Request, session_id: str) -> Response:
        """Keep this conversation and its recording from retention and erasure."""
        self._find(session_id)
        asked = ReasonRequest(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            hold = holds.hold_conversation(session_id=session_id, **asked.validated_data)
        except holds.HoldRefused as error:
            raise _invalid(error) from error
        return Response(HoldSerializer(hold).data)

    @extend_schema(operation_id="release_conversation", responses={204: None})
    def delete(self, request: Request, session_id: str) -> Response:
        """Release it: retention and erasure apply again. Needs the scope ``privacy:write``."""
        self._find(session_id)
        try:
            holds.release_conversation(session_id=session_id)
        except holds.HoldUnknown as error:
            raise Http404("This conversation has no legal hold of its own.") from error
        return Response(status=HTTPStatus.NO_CONTENT)

    def _find(self, session_id: str) -> None:
        try:
            find_conversation(session_id)
        except ConversationUnknown as error:
            raise Http404(error.message) from error


def _find(model: Any, row_id: UUID) -> Any:
    row = model.objects.filter(pk=row_id).first()
    if row is None:
        raise Http404(f"There is no {model._meta.verbose_name} {row_id}.")
    return row


def _invalid(error: EndUserInvalid | holds.HoldRefused) -> ValidationError:
    param, code = getattr(error, "param", "end_user"), getattr(error, "code", "invalid")
    return ValidationError({param: [ErrorDetail(error.message, code)]})
