"""The JSON shapes of the price book. Rules live in the operations; here only types."""

from rest_framework import serializers

from tenants.api.shapes import PageQuery, StrictSerializer
from tenants.models import Tenant
from tenants.prices.models import Price, StripeCustomer
from tenants.prices.operations import PER_HIGHEST
from tenants.usage.meters import Meter

METERS = [meter.value for meter in Meter]


class PriceSerializer(serializers.ModelSerializer):
    tenant = serializers.SlugRelatedField("slug", read_only=True, allow_null=True)

    class Meta:
        model = Price
        fields = [
            "id", "tenant", "meter", "provider", "model", "currency", "amount", "per", "effective_from", "created_at",
        ]  # fmt: skip


class PriceShape(StrictSerializer):
    tenant = serializers.SlugRelatedField(
        "slug",
        queryset=Tenant.objects.all(),
        allow_null=True,
        default=None,
        help_text="For this tenant only, by slug; null for all.",
        error_messages={"does_not_exist": "There is no tenant {value!r}."},
    )
    meter = serializers.ChoiceField(METERS)
    provider = serializers.CharField(max_length=100, allow_blank=True, default="", help_text="Empty for any.")
    model = serializers.CharField(
        max_length=200, allow_blank=True, default="", help_text="Empty for any; with a model goes its provider."
    )
    currency = serializers.RegexField(
        r"^[A-Z]{3}\Z", error_messages={"invalid": "A currency has three capital letters, such as EUR."}
    )
    amount = serializers.DecimalField(
        18, 9, min_value=0, allow_null=True, help_text="For `per` units; null takes the rule out from that day on."
    )
    per = serializers.IntegerField(min_value=1, max_value=PER_HIGHEST, default=1, help_text="Such as 1000000 tokens.")
    effective_from = serializers.DateField(help_text="The first UTC day; today or later.")


class PriceQuery(PageQuery):
    tenant = serializers.CharField(
        required=False, allow_blank=True, max_length=63, help_text="By slug; empty: what holds for all."
    )
    meter = serializers.ChoiceField(METERS, required=False)


class StripeCustomerSerializer(serializers.ModelSerializer):
    class Meta:
        model = StripeCustomer
        fields = ["customer_id", "metered_from"]


class StripeCustomerShape(StrictSerializer):
    customer_id = serializers.CharField(max_length=100, help_text="`cus_…`")
    metered_from = serializers.DateTimeField(
        required=False, help_text="Earlier use is not told to Stripe; now, when not given the first time."
    )
