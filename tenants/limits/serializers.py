"""What limits look like to the API."""

from rest_framework import serializers

from tenants.api.shapes import PageQuery, StrictSerializer
from tenants.limits.models import EndUserLimits
from tenants.limits.names import KINDS, LARGEST


class StandingSerializer(serializers.Serializer):
    name = serializers.ChoiceField(list(KINDS), help_text="Which limit.")
    title = serializers.CharField(help_text="What it counts.")
    level = serializers.ChoiceField(["tenant", "key"], help_text="Whose counter it is; key: the one that asks.")
    source = serializers.ChoiceField(["default", "plan", "tenant", "key"], help_text="Where the number comes from.")
    limit = serializers.IntegerField()
    used = serializers.FloatField(help_text="In the window that ends now.")
    remaining = serializers.FloatField()
    window_s = serializers.IntegerField(help_text="Seconds that it counts over; 0: what is there at the same time.")
    reset_s = serializers.FloatField(help_text="Seconds until all of it is free again.")


class LimitsSerializer(serializers.Serializer):
    limits = StandingSerializer(many=True)


class EndUserLimitsSerializer(serializers.ModelSerializer):
    id = serializers.CharField(source="public_id")

    class Meta:
        model = EndUserLimits
        fields = ["id", "end_user", "limits", "created_at", "updated_at"]
        read_only_fields = fields


class EndUserLimitsChangeSerializer(StrictSerializer):
    limits = serializers.DictField(
        child=serializers.IntegerField(min_value=0, max_value=LARGEST),
        help_text=f"By name: {', '.join(kind.name for kind in KINDS.values() if kind.for_end_users)}.",
    )


class NewEndUserLimitsSerializer(EndUserLimitsChangeSerializer):
    end_user = serializers.CharField(
        max_length=200, help_text="As calls name it: the header OpenAI-Safety-Identifier, or ?user=."
    )


class EndUserLimitsQuery(PageQuery):
    end_user = serializers.CharField(required=False, help_text="Only this one's.")
