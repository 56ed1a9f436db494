"""``/api/v1/keys/``: the tenant's API keys."""

from django.db.models import Q, QuerySet
from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.authentication import ScopeRequired
from tenants.errors import TenancyError
from tenants.keys import operations, queries
from tenants.keys.bounds import KeyBound
from tenants.keys.queries import ScopeMissing
from tenants.keys.serializers import (
    KeyChangeSerializer,
    KeyQuery,
    KeySerializer,
    KeyWithSecretSerializer,
    NewKeySerializer,
    RotationSerializer,
)
from tenants.limits.queries import find_tenant
from tenants.models import ApiKey
from tenants.permissions import Scope
from tenants.rest import Pages, TenantAPIView


class KeyPages(Pages):
    ordering = ("-created_at", "-public_id")


class KeyView(TenantAPIView):
    read_scope = Scope.KEYS_READ
    write_scope = Scope.KEYS_WRITE
    serializer_class = KeySerializer

    def keys(self) -> QuerySet[ApiKey]:
        return queries.list_keys(find_tenant(self.principal.tenant))

    def find(self, key_id: str) -> ApiKey:
        key = self.keys().filter(public_id=key_id).first()
        if key is None:
            raise Http404(f"There is no key {key_id[:64]!r}.")
        return key

    def require_limits_scope(self, fields: dict[str, object]) -> None:
        if fields.get("limits") is not None and not self.principal.may(Scope.LIMITS_WRITE):
            missing = ScopeMissing(Scope.LIMITS_WRITE, self.principal.kind)
            raise ScopeRequired(missing.message, missing.code)


class Keys(KeyView):
    pagination_class = KeyPages

    @extend_schema(operation_id="list_keys", parameters=[KeyQuery], responses=KeySerializer(many=True))
    def get(self, request: Request) -> Response:
        """The tenant's keys, the newest first, a page at a time. Their secrets are nowhere."""
        query = self.read_query(KeyQuery)
        expired = Q(revoked_at=None, expires_at__lte=timezone.now())
        wanted = {"active": Q(revoked_at=None) & ~expired, "expired": expired, "revoked": Q(revoked_at__isnull=False)}
        keys = self.keys().filter(wanted.get(query.get("status", ""), Q()))
        pages = KeyPages()
        return pages.get_paginated_response(KeySerializer(pages.paginate_queryset(keys, request, self), many=True).data)

    @extend_schema(operation_id="create_key", request=NewKeySerializer, responses={201: KeyWithSecretSerializer})
    def post(self, request: Request) -> Response:
        """A new key. Its ``secret`` is in this answer and in no other."""
        shape = NewKeySerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        self.require_limits_scope(shape.validated_data)
        try:
            key, secret = operations.issue_key(tenant=find_tenant(self.principal.tenant), **shape.validated_data)
        except TenancyError as error:
            raise refusal(error) from error
        return Response({**KeySerializer(key).data, "secret": secret}, status=status.HTTP_201_CREATED)


class OneKey(KeyView):
    @extend_schema(operation_id="get_key", responses=KeySerializer)
    def get(self, request: Request, key_id: str) -> Response:
        self.refuse_unknown(set())
        return Response(KeySerializer(self.find(key_id)).data)

    @extend_schema(operation_id="update_key", request=KeyChangeSerializer(partial=True), responses=KeySerializer)
    def patch(self, request: Request, key_id: str) -> Response:
        """Changes the fields that are sent, at once; calls in progress keep the limits that they began with. ``limits``
        wants the scope ``limits:write`` too."""
        key = self.find(key_id)
        shape = KeyChangeSerializer(data=request.data, partial=True)
        shape.is_valid(raise_exception=True)
        self.require_limits_scope(shape.validated_data)
        try:
            key = operations.change_key(key=key, **shape.validated_data)
        except TenancyError as error:
            raise refusal(error) from error
        return Response(KeySerializer(key).data)

    @extend_schema(operation_id="revoke_key", responses={204: None})
    def delete(self, request: Request, key_id: str) -> Response:
        """Revokes it: within a second it opens nothing, and what it had opened is closed. The row stays."""
        operations.revoke_key(key=self.find(key_id))
        return Response(status=status.HTTP_204_NO_CONTENT)


class KeyRotation(KeyView):
    serializer_class = RotationSerializer

    @extend_schema(operation_id="rotate_key", request=RotationSerializer, responses={201: KeyWithSecretSerializer})
    def post(self, request: Request, key_id: str) -> Response:
        """A new key in its place, with a secret that is in this answer and in no other; the old one lives on for
        ``overlap_hours``."""
        key = self.find(key_id)
        shape = RotationSerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        try:
            fresh, secret = operations.rotate_key(key=key, **shape.validated_data)
        except TenancyError as error:
            raise refusal(error) from error
        return Response({**KeySerializer(fresh).data, "secret": secret}, status=status.HTTP_201_CREATED)


def refusal(error: TenancyError) -> ValidationError | ScopeRequired:
    """How the API tells of what an operation refused."""
    if isinstance(error, operations.ScopeNotHeld | KeyBound):
        return ScopeRequired({error.param: [ErrorDetail(error.message, error.code)]})
    return ValidationError({error.param: [ErrorDetail(error.message, getattr(error, "code", "invalid"))]})
