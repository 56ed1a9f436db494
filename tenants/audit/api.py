"""``/api/v1/audit/``: who did what in the tenant. ``/api/v1/platform/audit/``: the same for what operators do."""

from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.api.pages import answer_page
from tenants.audit import queries
from tenants.audit.chain import at_text
from tenants.audit.operations import record
from tenants.audit.serializers import EntrySerializer, FilterQuery, ListQuery
from tenants.downloads import CSV, JSON_LINES, PAGE_ROWS, CsvFile, JsonLinesFile, Page, stream_csv, stream_json_lines
from tenants.permissions import Scope
from tenants.rest import Pages, PlatformAPIView, TenantAPIView

COLUMNS = EntrySerializer.Meta.fields
FILE = OpenApiResponse(OpenApiTypes.BINARY, "The file, sent while it is read.")


class EntryPages(Pages):
    ordering = ("-seq",)


class AuditView(TenantAPIView):
    read_scope = write_scope = Scope.AUDIT_READ
    serializer_class = EntrySerializer


class AuditLog(AuditView):
    pagination_class = EntryPages

    @extend_schema(operation_id="list_audit_entries", parameters=[ListQuery], responses=EntrySerializer(many=True))
    def get(self, request: Request) -> Response:
        """Administrative acts, sign-ins, uses of keys and exports of data, newest first, a page at a time."""
        return self.list(request)

    def list(self, request: Request) -> Response:
        return answer_page(self, queries.list_entries(**self.read_query(ListQuery)), EntrySerializer)


class Export(AuditView):
    """Written down in the log itself, before the first row leaves."""

    renderer_classes = [*AuditView.renderer_classes, CsvFile, JsonLinesFile]

    def export(
        self, form: str, send: Callable[[str, Sequence[str], Callable[[Any], Page]], StreamingHttpResponse]
    ) -> StreamingHttpResponse:
        filters = self.read_query(FilterQuery)
        record(
            action="audit.exported",
            target=form,
            after={"filters": dict(self.request.query_params.items())},
            tenant=connection.schema_name,
        )

        def read(position: Any) -> Page:
            found = queries.list_entries(**filters).order_by("seq")
            entries = list((found.filter(seq__gt=position) if position else found)[:PAGE_ROWS])
            rows = [[getattr(entry, name) for name in COLUMNS] for entry in entries]
            for row in rows:
                row[COLUMNS.index("at")] = at_text(row[COLUMNS.index("at")])
            return rows, entries[-1].seq if len(entries) == PAGE_ROWS else None

        return send("audit", COLUMNS, read)


class AuditCsv(Export):
    @extend_schema(
        operation_id="export_audit_csv", parameters=[FilterQuery], responses={(200, CSV): FILE}, tags=["audit"]
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """The log as CSV, oldest first. Asking for it is recorded."""
        return self.export("csv", stream_csv)


class AuditJsonLines(Export):
    @extend_schema(
        operation_id="export_audit_json_lines",
        parameters=[FilterQuery],
        responses={(200, JSON_LINES): FILE},
        tags=["audit"],
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """The log as a JSON object in each line, oldest first: all that is hashed, as it is hashed. Asking for it is
        recorded."""
        return self.export("jsonl", stream_json_lines)


class PlatformAuditLog(PlatformAPIView, AuditLog):
    read_scope = write_scope = Scope.PLATFORM_AUDIT

    @extend_schema(
        operation_id="list_platform_audit_entries",
        parameters=[ListQuery],
        responses=EntrySerializer(many=True),
        tags=["audit"],
    )
    def get(self, request: Request) -> Response:
        """What was done to the platform itself: tenants, plans, prices, platform keys; newest first."""
        return self.list(request)


class PlatformAuditCsv(PlatformAPIView, Export):
    read_scope = write_scope = Scope.PLATFORM_AUDIT

    @extend_schema(
        operation_id="export_platform_audit_csv", parameters=[FilterQuery], responses={(200, CSV): FILE}, tags=["audit"]
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """The platform's log as CSV, oldest first. Asking for it is recorded."""
        return self.export("csv", stream_csv)
