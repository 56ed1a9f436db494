"""``/api/v1/limits/``: what holds, what is left, and lower limits for single end users."""

from typing import Any

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.api.pages import answer_page
from tenants.errors import TenancyError
from tenants.limits import operations, queries
from tenants.limits.allowance import Allowance, Party
from tenants.limits.counters import LimitsUnavailable, Standing
from tenants.limits.models import EndUserLimits
from tenants.limits.names import KINDS
from tenants.limits.serializers import (
    EndUserLimitsChangeSerializer,
    EndUserLimitsQuery,
    EndUserLimitsSerializer,
    LimitsSerializer,
    NewEndUserLimitsSerializer,
)
from tenants.limits.throttle import Unavailable, limiter
from tenants.models import ApiKey
from tenants.permissions import Scope
from tenants.rest import Pages, TenantAPIView


class LimitsView(TenantAPIView):
    read_scope = Scope.LIMITS_READ
    write_scope = Scope.LIMITS_WRITE


class Limits(LimitsView):
    serializer_class = LimitsSerializer

    @extend_schema(operation_id="get_limits", responses=LimitsSerializer)
    def get(self, request: Request) -> Response:
        """Each limit that holds for the tenant, and lower ones of the key that asks, with what is left."""
        self.refuse_unknown(set())
        tenant = queries.find_tenant(self.principal.tenant)
        own: dict[str, int] = {}
        if self.principal.kind == "key":
            own = ApiKey.objects.values_list("limits", flat=True).get(public_id=self.principal.id)
        allowance = Allowance(tenant=queries.tenant_limits(tenant), key=own)
        party = Party(tenant=tenant.schema_name, key_id=self.principal.id, allowance=allowance)
        try:
            standings = queries.read_standings(limiter(), party)
        except LimitsUnavailable as error:
            raise Unavailable from error
        sources = queries.limit_sources(tenant)
        shown = [_shown(standing, sources) for standing in standings]
        # Nobody's in particular: it holds for each end user by itself.
        each = allowance.effective("sessions_per_end_user")
        source = "key" if "sessions_per_end_user" in own else sources["sessions_per_end_user"]
        shown.append(_described("sessions_per_end_user", "tenant", source, each, 0, 0.0))
        return Response({"limits": shown})

    def represent(self) -> Response:
        """What is left changes with each request: this has no state that a change could be decided on."""
        return Response({})


def _shown(standing: Standing, sources: dict[str, str]) -> dict[str, Any]:
    counter = standing.counter
    per_unit = KINDS[counter.name].per_unit
    source = sources[counter.name] if counter.level == "tenant" else "key"
    limit, used = counter.limit // per_unit, round(standing.used / per_unit, 3)
    return _described(counter.name, counter.level, source, limit, used, standing.reset_s)


def _described(name: str, level: str, source: str, limit: int, used: float, reset_s: float) -> dict[str, Any]:
    return {
        "name": name,
        "title": KINDS[name].title,
        "level": level,
        "source": source,
        "limit": limit,
        "used": used,
        "remaining": max(0, round(limit - used, 3)),
        "window_s": KINDS[name].window_s,
        "reset_s": round(reset_s, 3),
    }


class EndUserPages(Pages):
    ordering = ("-created_at", "-public_id")


class EndUsers(LimitsView):
    pagination_class = EndUserPages
    serializer_class = EndUserLimitsSerializer

    @extend_schema(
        operation_id="list_end_user_limits",
        parameters=[EndUserLimitsQuery],
        responses=EndUserLimitsSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """The end users who have limits of their own, the newest first."""
        query = self.read_query(EndUserLimitsQuery)
        rows = queries.list_end_user_limits().filter(**query)
        return answer_page(self, rows, EndUserLimitsSerializer)

    @extend_schema(
        operation_id="create_end_user_limits",
        request=NewEndUserLimitsSerializer,
        responses={201: EndUserLimitsSerializer},
    )
    def post(self, request: Request) -> Response:
        """Lower limits for one end user, on the calls that begin from now on."""
        shape = NewEndUserLimitsSerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        try:
            row = operations.limit_end_user(**shape.validated_data)
        except TenancyError as error:
            raise _refusal(error) from error
        return Response(EndUserLimitsSerializer(row).data, status=status.HTTP_201_CREATED)


class OneEndUser(LimitsView):
    serializer_class = EndUserLimitsSerializer

    def find(self, limits_id: str) -> EndUserLimits:
        row = queries.list_end_user_limits().filter(public_id=limits_id).first()
        if row is None:
            raise Http404(f"There are no limits {limits_id[:64]!r}.")
        return row

    @extend_schema(operation_id="get_end_user_limits")
    def get(self, request: Request, limits_id: str) -> Response:
        self.refuse_unknown(set())
        return Response(EndUserLimitsSerializer(self.find(limits_id)).data)

    @extend_schema(operation_id="update_end_user_limits", request=EndUserLimitsChangeSerializer)
    def patch(self, request: Request, limits_id: str) -> Response:
        """Other limits in place of these."""
        row = self.find(limits_id)
        shape = EndUserLimitsChangeSerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        try:
            row = operations.change_end_user_limits(row=row, **shape.validated_data)
        except TenancyError as error:
            raise _refusal(error) from error
        return Response(EndUserLimitsSerializer(row).data)

    @extend_schema(operation_id="delete_end_user_limits", responses={204: None})
    def delete(self, request: Request, limits_id: str) -> Response:
        """The tenant's limits hold for this end user again."""
        operations.free_end_user(row=self.find(limits_id))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _refusal(error: TenancyError) -> ValidationError:
    return ValidationError({error.param: [ErrorDetail(error.message, getattr(error, "code", "invalid"))]})
