"""What every door of the platform API shares: one tenant, one transaction, one scope, one way to page."""

from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.exceptions import ValidationError as ValidationFault
from django.db import DataError, InterfaceError, OperationalError, connection, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import APIException, ErrorDetail, NotAuthenticated, NotFound, ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from tenants.authentication import ScopeRequired
from tenants.envelope import shape_error
from tenants.keys.queries import ScopeMissing
from tenants.principal import SYSTEM, Principal, act_as, acting_as


class HasScope(BasePermission):
    """The scope for this method: ``view.read_scope`` or ``view.write_scope``."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, Principal):
            return False
        scope = view.read_scope if request.method in SAFE_METHODS else view.write_scope
        if not request.auth.may(scope):
            missing = ScopeMissing(scope)
            raise ScopeRequired(missing.message, missing.code)
        return True


class BodyTooLarge(APIException):
    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class TenantAPIView(APIView):
    """One request is one transaction inside the schema of the key's tenant.

    The transaction is not only for the writes: behind a pooler that hands out connections per transaction, it is what
    keeps the schema and the query on the same connection.
    """

    permission_classes = [HasScope]
    read_scope: str
    write_scope: str

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.headers = self.default_response_headers
        try:
            with acting_as(SYSTEM), transaction.atomic():
                return super().dispatch(request, *args, **kwargs)
        except (OperationalError, InterfaceError) as error:
            # The connection broke at BEGIN or COMMIT, outside of what DRF handles.
            response = shape_error(error, {"view": self})
            return self.finalize_response(self.initialize_request(request), response)
        finally:
            connection.set_schema_to_public()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method in SAFE_METHODS:
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = %s", [settings.POSTGRES_READ_TIMEOUT_MS])
        self._refuse_large_body(request)
        super().initial(request, *args, **kwargs)
        act_as(self.principal)

    def _refuse_large_body(self, request: Request) -> None:
        """DRF's parser reads the stream past Django's own limit."""
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        try:
            size = len(request._request.body)
        except RequestDataTooBig:
            size = limit + 1
        if size > limit:
            raise BodyTooLarge(f"The body may have at most {limit} bytes.", "body_too_large")

    @property
    def principal(self) -> Principal:
        principal = self.request.auth
        if not isinstance(principal, Principal):
            raise NotAuthenticated
        return principal

    def refuse_unknown(self, known: set[str]) -> None:
        """Raises ValidationError for a query parameter that nobody reads: a mistyped filter would show too much."""
        for name in self.request.query_params:
            if name not in known:
                words = f"There is no query parameter {name!r}; there are {', '.join(sorted(known))}."
                raise ValidationError({name: [ErrorDetail(words, "unknown_parameter")]})


class Pages(CursorPagination):
    """``?cursor=`` continues where the last page ended; ``?limit=`` asks for a page size."""

    page_size_query_param = "limit"

    def get_page_size(self, request: Request) -> int:
        asked = request.query_params.get("limit")
        if asked is None:
            return settings.API_PAGE_SIZE
        if not (asked.isascii() and asked.isdecimal()) or not 1 <= int(asked) <= settings.API_MAX_PAGE_SIZE:
            words = f"'limit' is a number from 1 to {settings.API_MAX_PAGE_SIZE}; got {asked!r}."
            raise ValidationError({"limit": [ErrorDetail(words, "invalid")]})
        return int(asked)

    def paginate_queryset(self, queryset: QuerySet[Any], request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValidationFault, DataError) as error:
            # The cursor is the caller's: what it decodes to need not be a time or a text that PostgreSQL can hold.
            raise NotFound(self.invalid_cursor_message) from error
