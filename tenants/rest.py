"""What every door of the platform API shares: one tenant, one transaction, one scope, one way to page.

``TenantAPIView`` brings to each of them, without a word of its own: authentication, scope, throttling, the refusal of
query parameters that nobody reads, ETags (``tenants.api.etags``) and idempotency keys (``tenants.api.idempotency``).
"""

from contextlib import suppress
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError, connection, transaction
from django.http import Http404, HttpRequest, HttpResponseBase
from django.views.decorators.common import no_append_slash
from rest_framework import serializers
from rest_framework.authentication import get_authorization_header
from rest_framework.exceptions import APIException, ErrorDetail, NotAuthenticated, ValidationError
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tenants.addresses import request_address
from tenants.api import etags, idempotency
from tenants.api.pages import Pages
from tenants.authentication import ScopeRequired
from tenants.envelope import EnvelopeRenderer, choose_renderer, shape_error
from tenants.keys.queries import ScopeMissing
from tenants.lifecycle.authentication import PlatformKeyAuthentication
from tenants.limits.throttle import refuse_guesses, throttle
from tenants.principal import SYSTEM, Principal, act_as, acting_as

__all__ = ["BodyTooLarge", "HasScope", "Pages", "PlatformAPIView", "TenantAPIView"]


class HasScope(BasePermission):
    """The scope for this method: ``view.read_scope`` or ``view.write_scope``; ``view.delete_scope`` where DELETE has
    its own."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, Principal):
            return False
        scope = view.read_scope if request.method in SAFE_METHODS else view.write_scope
        if request.method == "DELETE":
            scope = getattr(view, "delete_scope", scope)
        if not request.auth.may(scope):
            missing = ScopeMissing(scope, request.auth.kind)
            raise ScopeRequired(missing.message, missing.code)
        return True


class BodyTooLarge(APIException):
    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class TenantAPIView(APIView):
    """One request is one transaction inside the schema of the key's tenant.

    The transaction is not only for the writes: behind a pooler that hands out connections per transaction, it is what
    keeps the schema and the query on the same connection. What a refused or failed request wrote is undone.
    """

    permission_classes = [HasScope]
    read_scope: str
    write_scope: str
    _claim: idempotency.Claim | None = None

    @no_append_slash  # a redirect would lose the body: ``agentvoicebox.pages.not_found`` names the address instead
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self.args, self.kwargs = args, kwargs
        self.request = self.initialize_request(request, *args, **kwargs)
        self.headers = self.default_response_headers
        response = None
        try:
            with acting_as(SYSTEM), transaction.atomic():
                response = self._respond(self.request)
        except (OperationalError, InterfaceError) as error:
            # The connection broke at BEGIN or COMMIT, outside of what DRF handles.
            response = self._finish(shape_error(error, {"view": self}))
        finally:
            connection.set_schema_to_public()
            self._settle(response)
        return response

    def _respond(self, request: Request) -> HttpResponseBase:
        try:
            self.initial(request, *self.args, **self.kwargs)
            response = self._finish(self._read_or_write(request))
            if request.method in ("GET", "HEAD") and isinstance(response, Response):
                return etags.answer_conditionally(request, response)
            return response
        except Exception as error:
            return self._finish(self.handle_exception(error))

    def _read_or_write(self, request: Request) -> HttpResponseBase:
        name = request.method.lower()
        call = getattr(self, name, None) if name in self.http_method_names else None
        if call is None:
            return self.http_method_not_allowed(request, *self.args, **self.kwargs)
        if request.method in SAFE_METHODS:
            return call(request, *self.args, **self.kwargs)
        self.refuse_unknown(set())
        if request.method == "POST":
            claimed = idempotency.claim(request, self.principal)
            if claimed is not None and not isinstance(claimed, idempotency.Claim):
                return claimed
            self._claim = claimed
        with transaction.atomic():
            if request.method in etags.CHANGES:
                self._check_state(request)
            response = call(request, *self.args, **self.kwargs)
            if request.method in ("PUT", "PATCH") and response.status_code == HTTPStatus.OK and hasattr(self, "get"):
                self._name_new_state()
            return response

    def _check_state(self, request: Request) -> None:
        """Raises PreconditionFailed when the caller decided on a state that is no more."""
        etags.hold_address(request.path)
        wanted = etags.wanted_etags(request)
        if not hasattr(self, "get") or not (wanted or settings.API_REQUIRE_IF_MATCH):
            return
        try:
            now = self._etag_now()
        except Http404:
            if request.method != "PUT":
                raise
            if wanted:
                raise etags.PreconditionFailed from None
            return  # it is made now: there is no state to have read
        etags.require_if_match(request)
        if now not in wanted and "*" not in wanted:
            raise etags.PreconditionFailed

    def _name_new_state(self) -> None:
        """The next change can be decided on what this one made."""
        with suppress(Http404):  # the change gave the thing another address
            self.headers["ETag"] = self._etag_now()

    def _etag_now(self) -> str:
        response = self.represent()
        response.accepted_renderer = EnvelopeRenderer()
        response.accepted_media_type = EnvelopeRenderer.media_type
        response.renderer_context = self.get_renderer_context() | {"response": response}
        return etags.etag_of(response.render().content)

    def represent(self) -> Response:
        """What GET answers now, for its ETag alone; a view whose ``get`` does more than read says here what is read."""
        return self.get(self.request, *self.args, **self.kwargs)  # type: ignore[attr-defined]

    def _finish(self, response: HttpResponseBase) -> HttpResponseBase:
        """With its headers, and rendered while the transaction lasts."""
        response = self.finalize_response(self.request, response, *self.args, **self.kwargs)
        # Answers hold a tenant's rows, and secrets that are shown once: no cache but the caller's own keeps them.
        reading = self.request.method in ("GET", "HEAD")
        response.setdefault("Cache-Control", "private, no-cache" if reading else "no-store")
        if not isinstance(response, Response):
            return response
        choose_renderer(response, method=self.request.method, accept=self.request.headers.get("Accept", ""))
        return response.render()

    def _settle(self, response: HttpResponseBase | None) -> None:
        if self._claim is None:
            return
        if response is not None and 200 <= response.status_code < 300 and not response.streaming:
            self._claim.keep(response)
        else:
            self._claim.release()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method in SAFE_METHODS:
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = %s", [settings.POSTGRES_READ_TIMEOUT_MS])
        self._refuse_large_body(request)
        super().initial(request, *args, **kwargs)
        act_as(self.principal)
        request._request.answered_for = self.principal.tenant

    def perform_authentication(self, request: Request) -> None:
        """Who asks, and then whether they may ask so often; whoever is not known counts by address. An address that has
        brought too many unknown keys is not looked up any more, but for keys that were good there a while ago."""
        address = request_address(request._request)
        brought = get_authorization_header(request)
        if brought:
            refuse_guesses(brought, address)
        try:
            super().perform_authentication(request)
        except APIException:
            self.headers |= throttle(None, address)
            raise
        self.headers |= throttle(request.auth if isinstance(request.auth, Principal) else None, address, brought)

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
                there = f"there are {', '.join(sorted(known))}" if known else "there are none here"
                words = f"There is no query parameter {name[:100]!r}; {there}."
                raise ValidationError({name[:100]: [ErrorDetail(words, "unknown_parameter")]})

    def read_query(self, shape: type[serializers.Serializer]) -> dict[str, Any]:
        """The query parameters by a serializer; ``limit`` and ``cursor`` are the page's and not among them.

        Raises ValidationError for one that is wrong, unknown or given twice.
        """
        self.refuse_unknown(set(shape().fields))
        for name, values in self.request.query_params.lists():
            if len(values) > 1:
                raise ValidationError({name: [ErrorDetail(f"Give {name!r} once.", "given_twice")]})
        query = shape(data=self.request.query_params.dict())
        query.is_valid(raise_exception=True)
        return {name: value for name, value in query.validated_data.items() if name not in ("limit", "cursor")}


class PlatformAPIView(TenantAPIView):
    """The same for platform operators, in the shared schema: a tenant's own keys and people lack the scopes."""

    needs_tenant = False
    authentication_classes = [PlatformKeyAuthentication, *TenantAPIView.authentication_classes]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        connection.set_schema_to_public()
