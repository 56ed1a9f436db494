"""Addresses of the room; see ``api``."""

from django.urls import path

from agents.routing import api

urlpatterns = [
    path("routing-rules/", api.RoutingRules.as_view(), name="routing-rules"),
    path("routing-rules/order/", api.RoutingOrder.as_view(), name="routing-order"),
    path("routing-rules/try/", api.RoutingTrial.as_view(), name="routing-try"),
    path("routing-rules/<uuid:rule_id>/", api.OneRoutingRule.as_view(), name="routing-rule"),
]
