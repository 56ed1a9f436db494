"""``/api/v1/routing-rules/``: which agent takes a call that names none."""

from uuid import UUID

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from agents.routing import operations, queries
from agents.routing.models import RoutingRule
from agents.routing.serializers import (
    RoutingOrderSerializer,
    RoutingRuleQuery,
    RoutingRuleSerializer,
    RoutingTriedSerializer,
    RoutingTrySerializer,
)
from agents.routing.trying import try_rules
from tenants.api.pages import answer_page
from tenants.permissions import Scope
from tenants.rest import Pages, TenantAPIView


class RulePages(Pages):
    ordering = "position"


class RoutingView(TenantAPIView):
    read_scope = Scope.AGENTS_READ
    write_scope = Scope.AGENTS_WRITE
    serializer_class = RoutingRuleSerializer

    def find(self, rule_id: UUID) -> RoutingRule:
        try:
            return queries.find_rule(rule_id)
        except queries.RuleUnknown as error:
            raise Http404(error.message) from error


class RoutingRules(RoutingView):
    pagination_class = RulePages

    @extend_schema(
        operation_id="list_routing_rules", parameters=[RoutingRuleQuery], responses=RoutingRuleSerializer(many=True)
    )
    def get(self, request: Request) -> Response:
        """The tenant's rules in the order in which they are read, a page at a time."""
        return answer_page(self, queries.list_rules(**self.read_query(RoutingRuleQuery)), RoutingRuleSerializer)

    @extend_schema(operation_id="create_routing_rule", responses={201: RoutingRuleSerializer})
    def post(self, request: Request) -> Response:
        """A new rule behind all others. Calls that begin from now on are routed by it."""
        shape = RoutingRuleSerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        try:
            rule = operations.create_rule(**shape.validated_data)
        except operations.RuleInvalid as error:
            raise _refusal(error) from error
        return Response(RoutingRuleSerializer(rule).data, status=status.HTTP_201_CREATED)


class OneRoutingRule(RoutingView):
    @extend_schema(operation_id="get_routing_rule")
    def get(self, request: Request, rule_id: UUID) -> Response:
        """One rule."""
        self.refuse_unknown(set())
        return Response(RoutingRuleSerializer(self.find(rule_id)).data)

    @extend_schema(operation_id="update_routing_rule")
    def patch(self, request: Request, rule_id: UUID) -> Response:
        """Changes the fields that are sent; `conditions` take the place of all that were there."""
        rule = self.find(rule_id)
        shape = RoutingRuleSerializer(rule, data=request.data, partial=True)
        shape.is_valid(raise_exception=True)
        try:
            rule = operations.update_rule(rule=rule, **shape.validated_data)
        except operations.RuleInvalid as error:
            raise _refusal(error) from error
        return Response(RoutingRuleSerializer(rule).data)

    @extend_schema(operation_id="delete_routing_rule", responses={204: None})
    def delete(self, request: Request, rule_id: UUID) -> Response:
        """The rules behind it move up."""
        operations.delete_rule(rule=self.find(rule_id))
        return Response(status=status.HTTP_204_NO_CONTENT)


class RoutingOrder(RoutingView):
    serializer_class = RoutingOrderSerializer

    @extend_schema(operation_id="get_routing_order")
    def get(self, request: Request) -> Response:
        """The ids of all rules, the first that is read first."""
        self.refuse_unknown(set())
        return Response({"rules": [str(rule.pk) for rule in queries.list_rules()]})

    @extend_schema(operation_id="set_routing_order")
    def put(self, request: Request) -> Response:
        """Another order. Every rule is named once."""
        shape = RoutingOrderSerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        try:
            operations.order_rules(**shape.validated_data)
        except operations.RuleInvalid as error:
            raise _refusal(error) from error
        return Response({"rules": [str(rule) for rule in shape.validated_data["rules"]]})


class RoutingTrial(RoutingView):
    write_scope = Scope.AGENTS_READ
    serializer_class = RoutingTrySerializer

    @extend_schema(operation_id="try_routing", responses=RoutingTriedSerializer)
    def post(self, request: Request) -> Response:
        """Which agent would take such a call, and what came of each rule. Nothing is changed, and nobody is called;
        with `words` a language model may be asked."""
        shape = RoutingTrySerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        asked = shape.validated_data
        rows = list(queries.list_rules())
        tried = try_rules(
            queries.read_rules(rows),
            channel=asked["channel"],
            attributes=asked["attributes"],
            now=asked["at"] or timezone.now(),
            words=asked["words"],
            language=asked["language"],
        )
        shown = [
            {"id": row.pk, "name": row.name, "agent": row.agent, "outcome": verdict.outcome, "reason": verdict.reason}
            for row, verdict in zip(rows, tried.verdicts, strict=True)
        ]
        chosen = None if tried.rule is None else rows[tried.rule]
        agent = chosen.agent if chosen else queries.find_default_agent()
        answer = {
            "agent": agent,
            "is_default": chosen is None and agent is not None,
            "rule": chosen and chosen.pk,
            "rules": shown,
        }
        return Response(RoutingTriedSerializer(answer).data)


def _refusal(error: operations.RuleInvalid) -> ValidationError:
    return ValidationError({error.param: [ErrorDetail(error.message, "invalid")]})
