"""The JSON shapes of features."""

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from tenants.api.shapes import StrictSerializer
from tenants.features.flags import Feature
from tenants.models import Tenant

FEATURE = {
    "name": "realtime_beta",
    "description": "Clients may speak the beta dialect of the Realtime API",
    "default": True,
    "is_enabled": None,
    "tenants": {"hotel-aurora": False},
}
MOST_TENANTS = 1_000


@extend_schema_serializer(examples=[OpenApiExample("answered", FEATURE)])
class FeatureSerializer(serializers.Serializer):
    name = serializers.ChoiceField(Feature.values, source="feature")
    description = serializers.CharField()
    default = serializers.BooleanField(help_text="What holds where nobody has said otherwise.")  # type: ignore[assignment]
    is_enabled = serializers.BooleanField(allow_null=True, help_text="For the platform; null: the default.")
    tenants = serializers.DictField(
        child=serializers.BooleanField(), help_text="What is otherwise for single tenants, by slug."
    )


@extend_schema_serializer(
    examples=[
        OpenApiExample("answered", {"next": None, "previous": None, "results": [FEATURE]}),
    ]
)
class FeaturesSerializer(serializers.Serializer):
    """All of them are on one page."""

    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = FeatureSerializer(many=True)


@extend_schema_serializer(
    examples=[OpenApiExample("sent", {"is_enabled": None, "tenants": {"hotel-aurora": False}}, request_only=True)]
)
class FeatureChangeSerializer(StrictSerializer):
    is_enabled = serializers.BooleanField(
        required=False, allow_null=True, help_text="For the platform; null takes the setting away."
    )
    tenants = serializers.DictField(
        child=serializers.BooleanField(allow_null=True),
        required=False,
        help_text="For single tenants, by slug; null takes the setting away. Those that are not named stay.",
    )

    def validate_tenants(self, wanted: dict[str, bool | None]) -> dict[Tenant, bool | None]:
        if len(wanted) > MOST_TENANTS:
            raise serializers.ValidationError(f"Name at most {MOST_TENANTS} tenants at once.", "too_many")
        found = {tenant.slug: tenant for tenant in Tenant.objects.filter(slug__in=[*wanted])}
        if unknown := next((slug for slug in wanted if slug not in found), None):
            raise serializers.ValidationError(f"There is no tenant {unknown[:63]!r}.", "does_not_exist")
        return {found[slug]: is_enabled for slug, is_enabled in wanted.items()}
