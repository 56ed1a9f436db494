"""``/api/v1/tenants/`` and ``/api/v1/plans/`` for platform operators, ``/api/v1/tenant/`` for the tenant itself."""

from typing import Any

from django.db import connection
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.api.pages import answer_page
from tenants.errors import TenancyError
from tenants.lifecycle import operations, plans, queries
from tenants.lifecycle.certificate import CertificateInvalid, verify
from tenants.lifecycle.queue import ask_for_build
from tenants.lifecycle.serializers import (
    CertificateSerializer,
    DeletionSerializer,
    NewTenantSerializer,
    NothingSerializer,
    PlanChangeSerializer,
    PlanSerializer,
    SettingsSerializer,
    SuspensionSerializer,
    TenantChangeSerializer,
    TenantQuery,
    TenantSerializer,
)
from tenants.models import Plan, Tenant
from tenants.permissions import Scope
from tenants.rest import Pages, PlatformAPIView, TenantAPIView

CONFLICTS = (operations.StatusRefused, plans.PlanInUse)


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT


class TenantPages(Pages):
    ordering = ("-created_at", "-id")


class TenantView(PlatformAPIView):
    read_scope = write_scope = Scope.PLATFORM_TENANTS
    serializer_class = TenantSerializer

    def find(self, slug: str) -> Tenant:
        try:
            return queries.find_tenant(slug)
        except queries.TenantUnknown as error:
            raise Http404(error.message) from error

    def act(self, request: Request, slug: str, operation: Any, shape: type[Any]) -> Response:
        """One operation on one tenant, with what the body says."""
        fields = read_body(request, shape)
        try:
            tenant = operation(tenant=self.find(slug), **fields)
        except TenancyError as error:
            raise refusal(error) from error
        if operation is operations.retry_tenant:
            ask_for_build(tenant)
        return Response(TenantSerializer(self.find(slug)).data)


class Tenants(TenantView):
    pagination_class = TenantPages

    @extend_schema(operation_id="list_tenants", parameters=[TenantQuery], responses=TenantSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The tenants of this installation, newest first, a page at a time."""
        filters = self.read_query(TenantQuery)
        if "plan" in filters:
            filters["plan__slug"] = filters.pop("plan")
        return answer_page(self, queries.all_tenants().filter(**filters), TenantSerializer)

    @extend_schema(operation_id="create_tenant", request=NewTenantSerializer, responses={202: TenantSerializer})
    def post(self, request: Request) -> Response:
        """A new tenant. It is answered at once, ``creating``; ``progress`` shows how its schema is made, and then it is
        ``active``."""
        fields = read_body(request, NewTenantSerializer)
        try:
            tenant = operations.request_tenant(**fields)
        except TenancyError as error:
            raise refusal(error) from error
        ask_for_build(tenant)
        return Response(TenantSerializer(self.find(tenant.slug)).data, status=status.HTTP_202_ACCEPTED)


class OneTenant(TenantView):
    @extend_schema(operation_id="get_tenant")
    def get(self, request: Request, slug: str) -> Response:
        self.refuse_unknown(set())
        return Response(TenantSerializer(self.find(slug)).data)

    @extend_schema(operation_id="update_tenant", request=TenantChangeSerializer)
    def patch(self, request: Request, slug: str) -> Response:
        """Changes the fields that are sent. ``domains`` and ``limits`` are replaced as a whole."""
        return self.act(request, slug, operations.update_tenant, TenantChangeSerializer)


class Suspension(TenantView):
    @extend_schema(operation_id="suspend_tenant", request=SuspensionSerializer)
    def post(self, request: Request, slug: str) -> Response:
        """Keys, calls and pages of the tenant open nothing from now on; calls in progress are closed. All is kept."""
        return self.act(request, slug, operations.suspend_tenant, SuspensionSerializer)


class Resumption(TenantView):
    @extend_schema(operation_id="resume_tenant", request=NothingSerializer)
    def post(self, request: Request, slug: str) -> Response:
        """A suspended tenant opens again."""
        return self.act(request, slug, operations.resume_tenant, NothingSerializer)


class Retry(TenantView):
    @extend_schema(operation_id="retry_tenant", request=NothingSerializer)
    def post(self, request: Request, slug: str) -> Response:
        """Take up again what stands still at ``progress.error``."""
        return self.act(request, slug, operations.retry_tenant, NothingSerializer)


class Deletion(TenantView):
    @extend_schema(operation_id="delete_tenant", request=DeletionSerializer)
    def post(self, request: Request, slug: str) -> Response:
        """Closed from now on, erased after ``delete_after``. Until then it can be undeleted."""
        return self.act(request, slug, operations.request_deletion, DeletionSerializer)


class Undeletion(TenantView):
    @extend_schema(operation_id="undelete_tenant", request=NothingSerializer)
    def post(self, request: Request, slug: str) -> Response:
        """Back to what it was before its deletion was asked for."""
        return self.act(request, slug, operations.cancel_deletion, NothingSerializer)


class Certificate(TenantView):
    @extend_schema(operation_id="get_erasure_certificate", responses=CertificateSerializer)
    def get(self, request: Request, slug: str) -> Response:
        """The signed certificate of the last erasure of a tenant of this name, and whether it holds."""
        self.refuse_unknown(set())
        entry = queries.find_certificate(slug)
        if entry is None or entry.after is None:
            raise Http404(f"No tenant {slug!r} was erased.")
        try:
            verify(entry.after)
        except CertificateInvalid:
            return Response(entry.after | {"valid": False})
        return Response(entry.after | {"valid": True})


class PlanPages(Pages):
    ordering = "slug"


class PlanView(PlatformAPIView):
    read_scope = write_scope = Scope.PLATFORM_PLANS
    serializer_class = PlanSerializer

    def find(self, slug: str) -> Plan:
        plan = Plan.objects.filter(slug=slug).first()
        if plan is None:
            raise Http404(f"There is no plan {slug!r}.")
        return plan


class Plans(PlanView):
    pagination_class = PlanPages

    @extend_schema(operation_id="list_plans", responses=PlanSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The plans by slug, a page at a time."""
        self.refuse_unknown({"cursor", "limit"})
        return answer_page(self, Plan.objects.all(), PlanSerializer)

    @extend_schema(operation_id="create_plan", responses={201: PlanSerializer})
    def post(self, request: Request) -> Response:
        """A new plan. What ``limits`` does not name has the platform's default."""
        try:
            plan = plans.create_plan(**read_body(request, PlanSerializer))
        except TenancyError as error:
            raise refusal(error) from error
        return Response(PlanSerializer(plan).data, status=status.HTTP_201_CREATED)


class OnePlan(PlanView):
    @extend_schema(operation_id="get_plan")
    def get(self, request: Request, slug: str) -> Response:
        self.refuse_unknown(set())
        return Response(PlanSerializer(self.find(slug)).data)

    @extend_schema(operation_id="update_plan", request=PlanChangeSerializer)
    def patch(self, request: Request, slug: str) -> Response:
        """Changes the fields that are sent; every tenant on the plan has the new limits."""
        try:
            plan = plans.update_plan(plan=self.find(slug), **read_body(request, PlanChangeSerializer))
        except TenancyError as error:
            raise refusal(error) from error
        return Response(PlanSerializer(plan).data)

    @extend_schema(operation_id="delete_plan", responses={204: None})
    def delete(self, request: Request, slug: str) -> Response:
        """Only a plan that no tenant is on."""
        try:
            plans.delete_plan(plan=self.find(slug))
        except TenancyError as error:
            raise refusal(error) from error
        return Response(status=status.HTTP_204_NO_CONTENT)


class OwnTenant(TenantAPIView):
    read_scope = Scope.SETTINGS_READ
    write_scope = Scope.SETTINGS_WRITE
    serializer_class = SettingsSerializer

    def find(self) -> Tenant:
        return queries.all_tenants().get(schema_name=connection.schema_name)

    @extend_schema(operation_id="get_own_tenant")
    def get(self, request: Request) -> Response:
        """The tenant that the key belongs to."""
        self.refuse_unknown(set())
        return Response(SettingsSerializer(self.find()).data)

    @extend_schema(operation_id="update_own_tenant")
    def patch(self, request: Request) -> Response:
        """Changes the fields that are sent. Its plan, limits and host names are the platform operator's to change."""
        tenant = self.find()
        shape = SettingsSerializer(tenant, data=request.data, partial=True)
        shape.is_valid(raise_exception=True)
        operations.change_settings(tenant=tenant, **shape.validated_data)
        return Response(SettingsSerializer(self.find()).data)


def read_body(request: Request, shape: type[Any]) -> dict[str, Any]:
    """The fields that were sent. Raises ValidationError."""
    body = shape(data=request.data)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)


def refusal(error: TenancyError) -> APIException:
    """What the caller is told: 409 where the state of things does not allow it, else 400."""
    kind = Conflict if isinstance(error, CONFLICTS) else ValidationError
    return kind({error.param: [ErrorDetail(error.message, getattr(error, "code", "invalid"))]})
