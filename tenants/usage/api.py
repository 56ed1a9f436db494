"""``/api/v1/usage/`` and ``/api/v1/budgets/``: what the tenant used, what it cost, and who is told when."""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from django.db import connection
from django.http import Http404, StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.api.shapes import PageQuery
from tenants.audit.operations import record
from tenants.downloads import CSV, PAGE_ROWS, CsvFile, Page, stream_csv
from tenants.errors import TenancyError
from tenants.permissions import Scope
from tenants.rest import Pages, TenantAPIView
from tenants.usage import budgets, queries
from tenants.usage.models import Budget, Entry
from tenants.usage.serializers import (
    BudgetSerializer,
    BudgetShape,
    CallSerializer,
    CallsQuery,
    PeriodQuery,
    ReportQuery,
    ReportSerializer,
)

SHOWN = {
    "day": ("day",),
    "month": ("month",),
    "agent": ("agent",),
    "key": ("key",),
    "model": ("provider", "model"),
    "total": (),
}
CSV_COLUMNS = (
    "at", "meter", "quantity", "provider", "model", "agent", "key", "end_user", "session_id", "currency", "cost",
)  # fmt: skip
ALERTS = 100


class UsageView(TenantAPIView):
    read_scope, write_scope = Scope.USAGE_READ, Scope.USAGE_WRITE


class Report(UsageView):
    @extend_schema(operation_id="get_usage", parameters=[ReportQuery], responses=ReportSerializer)
    def get(self, request: Request) -> Response:
        """What was used and what it cost, added up by day, month, agent, key or model."""
        asked = self.read_query(ReportQuery)
        group_by = asked.pop("group_by")
        totals = queries.add_up("total", **asked)
        rows = queries.add_up(group_by, **asked) if group_by != "total" else totals
        return Response(
            {
                "from": asked["first"],
                "to": asked["last"],
                "group_by": group_by,
                "total": _shown(totals[0] if totals else queries.Sum(())),
                "rows": [{**dict(zip(SHOWN[group_by], row.group, strict=True)), **_shown(row)} for row in rows],
            }
        )


class CallPages(Pages):
    ordering = ("-began_at", "-session_id")


class Calls(UsageView):
    pagination_class = CallPages
    serializer_class = CallSerializer

    @extend_schema(operation_id="list_usage_of_calls", parameters=[CallsQuery], responses=CallSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The calls and requests that began in a time, newest first, each with what it used and cost."""
        pages = CallPages()
        calls = pages.paginate_queryset(queries.list_calls(**self.read_query(CallsQuery)), request, self) or []
        sums = queries.add_up_calls([call.session_id for call in calls])
        return pages.get_paginated_response(
            [
                {
                    "session_id": call.session_id,
                    "began_at": call.began_at,
                    "agent": call.agent,
                    "key": call.key_id,
                    "end_user": call.end_user,
                    **_shown(sums[call.session_id]),
                }
                for call in calls
            ]
        )


class UsageCsv(UsageView):
    renderer_classes = [*UsageView.renderer_classes, CsvFile]

    @extend_schema(
        operation_id="export_usage_csv",
        parameters=[PeriodQuery],
        responses={(200, CSV): OpenApiResponse(OpenApiTypes.BINARY, "The file, sent while it is read.")},
        tags=["usage"],
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """The ledger's entries with their cost as CSV, oldest first. Asking for it is recorded."""
        asked = self.read_query(PeriodQuery)
        record(
            action="usage.exported",
            target="csv",
            after={"from": asked["first"], "to": asked["last"]},
            tenant=connection.schema_name,
        )

        def read(after: tuple[datetime, int] | None) -> Page:
            entries = queries.read_entries(**asked, after=after, limit=PAGE_ROWS)
            prices = queries.find_prices({_kind(entry) for entry in entries})
            rows = [_row(entry, prices.get(_kind(entry))) for entry in entries]
            return rows, (entries[-1].at, entries[-1].pk) if len(entries) == PAGE_ROWS else None

        return stream_csv(f"usage-{asked['first']}-{asked['last']}", CSV_COLUMNS, read)


def _kind(entry: Entry) -> queries.Kind:
    return entry.at.date(), entry.meter, entry.provider, entry.model


def _row(entry: Entry, price: tuple[str, Decimal, int] | None) -> list[Any]:
    cost = "" if price is None else str(queries.to_amount(Fraction(entry.quantity) * Fraction(price[1]) / price[2]))
    return [
        entry.at.isoformat(), entry.meter, _plain(entry.quantity), entry.provider, entry.model, entry.agent,
        entry.key_id, entry.end_user, entry.session_id, price[0] if price else "", cost,
    ]  # fmt: skip


def _shown(total: queries.Sum) -> dict[str, Any]:
    return {
        "quantities": {meter: _plain(quantity) for meter, quantity in sorted(total.quantities.items())},
        "cost": {currency: str(cost) for currency, cost in total.costs.items()},
        "unpriced": sorted(total.unpriced),
    }


def _plain(quantity: Decimal) -> str:
    """Whole numbers without a point, seconds without needless zeros, never an exponent."""
    text = f"{quantity:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class BudgetView(UsageView):
    serializer_class = BudgetSerializer

    def find(self, identity: UUID) -> Budget:
        try:
            return queries.find_budget(identity)
        except queries.BudgetUnknown as error:
            raise Http404(error.message) from error

    def show(self, budget: Budget) -> dict[str, Any]:
        month = budgets.first_of_month(timezone.now())
        alerts = sorted(budget.alerts.all(), key=lambda alert: (alert.month, alert.threshold), reverse=True)
        spent = queries.spent(budget, month=month).quantize(queries.MILLIONTH, ROUND_HALF_UP)
        fields = {field: getattr(budget, field) for field in ("id", *budgets.FIELDS, "created_at", "updated_at")}
        return dict(BudgetSerializer({**fields, "spent": spent, "alerts": alerts[:ALERTS]}).data)


class BudgetPages(Pages):
    ordering = ("created_at", "id")


class Budgets(BudgetView):
    pagination_class = BudgetPages

    @extend_schema(operation_id="list_budgets", parameters=[PageQuery], responses=BudgetSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The tenant's budgets, oldest first, a page at a time."""
        self.read_query(PageQuery)
        pages = BudgetPages()
        page = pages.paginate_queryset(Budget.objects.prefetch_related("alerts"), request, self) or []
        return pages.get_paginated_response([self.show(budget) for budget in page])

    @extend_schema(operation_id="create_budget", request=BudgetShape, responses={201: BudgetSerializer})
    def post(self, request: Request) -> Response:
        """A new budget. Nothing is stopped when it is used up: its owners and admins are told."""
        shape = BudgetShape(data=request.data)
        shape.is_valid(raise_exception=True)
        budget = _do(budgets.set_budget, **shape.validated_data)
        return Response(self.show(self.find(budget.pk)), status=status.HTTP_201_CREATED)


class OneBudget(BudgetView):
    @extend_schema(operation_id="get_budget")
    def get(self, request: Request, identity: UUID) -> Response:
        self.refuse_unknown(set())
        return Response(self.show(self.find(identity)))

    @extend_schema(operation_id="update_budget", request=BudgetShape)
    def patch(self, request: Request, identity: UUID) -> Response:
        """Changes the fields that are sent. A threshold that was told this month is not told again."""
        budget = self.find(identity)
        shape = BudgetShape(budget, data=request.data, partial=True)
        shape.is_valid(raise_exception=True)
        _do(budgets.change_budget, budget=budget, **shape.validated_data)
        return Response(self.show(self.find(identity)))

    @extend_schema(operation_id="delete_budget", responses={204: None})
    def delete(self, request: Request, identity: UUID) -> Response:
        """With what it has told so far."""
        budgets.delete_budget(budget=self.find(identity))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _do(operation: Any, **fields: Any) -> Any:
    try:
        return operation(**fields)
    except TenancyError as error:
        raise ValidationError({error.param: [ErrorDetail(error.message, "invalid")]}) from error
