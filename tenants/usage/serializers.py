"""The JSON shapes of usage, cost and budgets. Numbers that must stay exact are strings."""

import calendar
from datetime import UTC, date
from typing import Any

from django.conf import settings
from django.utils import timezone
from rest_framework import serializers

from tenants.api.shapes import PageQuery, StrictSerializer
from tenants.usage.budgets import HIGHEST_THRESHOLD, MOST_THRESHOLDS, THRESHOLDS
from tenants.usage.models import Budget, BudgetAlert

GROUPS = ("day", "month", "agent", "key", "model", "total")


class PeriodQuery(serializers.Serializer):
    """UTC days, both included; this month when not given."""

    first = serializers.DateField(required=False, help_text="The first day (UTC); this month's, when not given.")
    last = serializers.DateField(required=False, help_text="The last day; the end of that month, when not given.")
    agent = serializers.CharField(required=False, max_length=63, help_text="Only that agent's, by slug.")
    key = serializers.CharField(required=False, max_length=32, help_text="Only that API key's, by id.")
    end_user = serializers.CharField(required=False, max_length=200, help_text="Only what this end user caused.")

    def get_fields(self) -> dict[str, serializers.Field]:
        """``from`` and ``to``: the first is a word of Python's own, so neither can be declared by name."""
        fields = super().get_fields()
        fields["from"], fields["to"] = fields.pop("first"), fields.pop("last")
        fields["from"].source, fields["to"].source = "first", "last"
        return fields

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        first = attrs.get("first") or timezone.now().astimezone(UTC).date().replace(day=1)
        last = attrs.get("last") or end_of_month(first)
        longest = settings.USAGE_REPORT_DAYS
        if not 1 <= (last - first).days + 1 <= longest or last.year >= date.max.year:
            words = f"'to' is 'from' or a later day, and with it at most {longest} days."
            raise serializers.ValidationError({"to": [serializers.ErrorDetail(words, "invalid")]})
        return {**attrs, "first": first, "last": last}


def end_of_month(day: date) -> date:
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])


class ReportQuery(PeriodQuery):
    group_by = serializers.ChoiceField(GROUPS, default="day", help_text="What each row is about.")


class CallsQuery(PeriodQuery, PageQuery):
    pass


class SumSerializer(serializers.Serializer):
    quantities = serializers.DictField(
        child=serializers.CharField(), help_text="Of each meter that was used, in its own unit."
    )
    cost = serializers.DictField(child=serializers.CharField(), help_text="By currency, to a millionth.")
    unpriced = serializers.ListField(
        child=serializers.CharField(), help_text="Meters with a use that the price book has no price for."
    )


class RowSerializer(SumSerializer):
    day = serializers.DateField(required=False)
    month = serializers.DateField(required=False, help_text="Its first day.")
    agent = serializers.CharField(required=False)
    key = serializers.CharField(required=False)
    provider = serializers.CharField(required=False)
    model = serializers.CharField(required=False)


class ReportSerializer(serializers.Serializer):
    group_by = serializers.ChoiceField(GROUPS)
    total = SumSerializer()
    rows = RowSerializer(many=True)

    def get_fields(self) -> dict[str, serializers.Field]:
        fields = super().get_fields()
        return {"from": serializers.DateField(), "to": serializers.DateField(), **fields}


class CallSerializer(SumSerializer):
    session_id = serializers.CharField(help_text="`sess_…` of a call, `req_…` of a request.")
    began_at = serializers.DateTimeField()
    agent = serializers.CharField()
    key = serializers.CharField()
    end_user = serializers.CharField()


class AlertSerializer(serializers.ModelSerializer):
    class Meta:
        model = BudgetAlert
        fields = ["month", "threshold", "spent", "at", "told_at"]


class BudgetSerializer(serializers.ModelSerializer):
    spent = serializers.DecimalField(20, 6, help_text="This month (UTC).")
    alerts = AlertSerializer(many=True, help_text="Thresholds that were passed, the latest first; at most 100.")

    class Meta:
        model = Budget
        fields = [
            "id", "name", "amount", "currency", "thresholds", "agent", "created_at", "updated_at", "spent", "alerts",
        ]  # fmt: skip


class BudgetShape(StrictSerializer):
    name = serializers.CharField(max_length=200)
    amount = serializers.DecimalField(14, 2, help_text="For each calendar month (UTC); above 0.")
    currency = serializers.RegexField(
        r"^[A-Z]{3}\Z",
        help_text="ISO 4217; the costs in this currency count.",
        error_messages={"invalid": "A currency has three capital letters, such as EUR."},
    )
    thresholds = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=HIGHEST_THRESHOLD),
        min_length=1,
        max_length=MOST_THRESHOLDS,
        default=list(THRESHOLDS),
        help_text="Per cent of the amount, rising. Owners and admins get a mail, once for each and month.",
    )
    agent = serializers.CharField(
        max_length=63, allow_blank=True, default="", help_text="Only this agent's use; empty for all."
    )
