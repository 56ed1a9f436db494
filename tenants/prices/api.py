"""``/api/v1/prices/``: the price book, for platform operators; and whom Stripe bills for a tenant."""

from django.http import Http404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.api.pages import answer_page
from tenants.errors import TenancyError
from tenants.lifecycle.queries import TenantUnknown, find_tenant
from tenants.models import Tenant
from tenants.permissions import Scope
from tenants.prices import operations, queries
from tenants.prices.models import Price
from tenants.prices.serializers import (
    PriceQuery,
    PriceSerializer,
    PriceShape,
    StripeCustomerSerializer,
    StripeCustomerShape,
)
from tenants.rest import Pages, PlatformAPIView


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT


class PricePages(Pages):
    ordering = ("-effective_from", "-id")


class PriceView(PlatformAPIView):
    read_scope = write_scope = Scope.PLATFORM_PLANS
    serializer_class = PriceSerializer

    def find(self, identity: int) -> Price:
        try:
            return queries.find_price(identity)
        except (queries.PriceUnknown, OverflowError) as error:
            raise Http404(str(error)) from error


class Prices(PriceView):
    pagination_class = PricePages

    @extend_schema(operation_id="list_prices", parameters=[PriceQuery], responses=PriceSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The price book, the latest first, a page at a time."""
        return answer_page(self, queries.list_prices(**self.read_query(PriceQuery)), PriceSerializer)

    @extend_schema(operation_id="set_price", request=PriceShape, responses={201: PriceSerializer})
    def post(self, request: Request) -> Response:
        """A price from a day on, today at the earliest. It replaces the one before it of the same tenant, meter,
        provider and model; what was used before keeps its cost."""
        shape = PriceShape(data=request.data)
        shape.is_valid(raise_exception=True)
        try:
            price = operations.set_price(**shape.validated_data)
        except TenancyError as error:
            raise ValidationError({error.param: [ErrorDetail(error.message, "invalid")]}) from error
        return Response(PriceSerializer(price).data, status=status.HTTP_201_CREATED)


class OnePrice(PriceView):
    @extend_schema(operation_id="get_price")
    def get(self, request: Request, identity: int) -> Response:
        self.refuse_unknown(set())
        return Response(PriceSerializer(self.find(identity)).data)

    @extend_schema(
        operation_id="withdraw_price", responses={204: None, 409: OpenApiResponse(description="It has begun.")}
    )
    def delete(self, request: Request, identity: int) -> Response:
        """Only one that has not begun: 409 for any other."""
        try:
            operations.withdraw_price(price=self.find(identity))
        except operations.PriceInForce as error:
            raise Conflict({error.param: [ErrorDetail(error.message, "price_in_force")]}) from error
        return Response(status=status.HTTP_204_NO_CONTENT)


class StripeCustomerOf(PlatformAPIView):
    read_scope = write_scope = Scope.PLATFORM_PLANS
    serializer_class = StripeCustomerSerializer

    def find(self, slug: str) -> Tenant:
        try:
            return find_tenant(slug)
        except TenantUnknown as error:
            raise Http404(error.message) from error

    @extend_schema(operation_id="get_stripe_customer")
    def get(self, request: Request, slug: str) -> Response:
        """Whom Stripe bills for this tenant's use."""
        self.refuse_unknown(set())
        customer = queries.find_stripe_customer(self.find(slug))
        if customer is None:
            raise Http404("Stripe bills nobody for this tenant.")
        return Response(StripeCustomerSerializer(customer).data)

    @extend_schema(operation_id="set_stripe_customer", request=StripeCustomerShape)
    def put(self, request: Request, slug: str) -> Response:
        """From ``metered_from`` on this tenant's use is told to Stripe, where `STRIPE_API_KEY` is set."""
        tenant = self.find(slug)
        shape = StripeCustomerShape(data=request.data)
        shape.is_valid(raise_exception=True)
        try:
            customer = operations.set_stripe_customer(tenant=tenant, **shape.validated_data)
        except TenancyError as error:
            raise ValidationError({error.param: [ErrorDetail(error.message, "invalid")]}) from error
        return Response(StripeCustomerSerializer(customer).data)

    @extend_schema(operation_id="remove_stripe_customer", responses={204: None})
    def delete(self, request: Request, slug: str) -> Response:
        """Nothing more is told to Stripe; what was told stays there."""
        if not operations.remove_stripe_customer(tenant=self.find(slug)):
            raise Http404("Stripe bills nobody for this tenant.")
        return Response(status=status.HTTP_204_NO_CONTENT)
