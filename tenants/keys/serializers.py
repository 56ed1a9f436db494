"""What a key looks like to the API. The secret is shown when it is made, and never again."""

from django.utils import timezone
from rest_framework import serializers

from tenants.api.shapes import PageQuery, StrictSerializer
from tenants.keys.operations import NAME_CHARACTERS, ROTATION_HOURS_MAX
from tenants.limits.names import KINDS, LARGEST
from tenants.models import ApiKey
from tenants.permissions import TENANT_SCOPES


class LimitsField(serializers.DictField):
    child = serializers.IntegerField(min_value=0, max_value=LARGEST)

    def __init__(self, **options: object) -> None:
        words = f"Lower limits than the tenant's, by name: {', '.join(KINDS)}. None: the tenant's hold."
        super().__init__(**({"help_text": words} | options))


class KeyFields(StrictSerializer):
    name = serializers.CharField(max_length=NAME_CHARACTERS, help_text="For people to recognise it by.")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(sorted(TENANT_SCOPES)), help_text="What it may do; none of it more than you may."
    )
    agent = serializers.CharField(
        max_length=63, allow_blank=True, required=False, help_text="The agent for callers who name none; by slug."
    )
    allowed_networks = serializers.ListField(
        child=serializers.CharField(max_length=50),
        required=False,
        help_text="IP addresses and networks that may use it, such as 192.0.2.0/24; none: all may.",
    )
    limits = LimitsField(required=False)
    expires_at = serializers.DateTimeField(
        allow_null=True, required=False, help_text="From then on it opens nothing; null: never."
    )


class NewKeySerializer(KeyFields):
    mode = serializers.ChoiceField(["live", "test"], default="live", help_text="How its secret begins.")


class KeyChangeSerializer(KeyFields):
    """Every field may be left out."""


class RotationSerializer(StrictSerializer):
    overlap_hours = serializers.FloatField(
        min_value=0,
        max_value=ROTATION_HOURS_MAX,
        required=False,
        help_text="How long the old key opens yet; 0 ends it at once. Without it, what the platform has set.",
    )


class KeySerializer(serializers.ModelSerializer):
    id = serializers.CharField(source="public_id")
    status = serializers.SerializerMethodField(help_text="active, expired or revoked.")
    replaced_by = serializers.CharField(
        source="replaced_by.public_id", default=None, allow_null=True, help_text="The key after it."
    )

    class Meta:
        model = ApiKey
        fields = [
            "id", "name", "prefix", "scopes", "agent", "allowed_networks", "limits", "status", "replaced_by",
            "created_at", "last_used_at", "expires_at", "revoked_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_status(self, key: ApiKey) -> str:
        if key.revoked_at:
            return "revoked"
        return "expired" if key.expires_at and key.expires_at <= timezone.now() else "active"


class KeyWithSecretSerializer(KeySerializer):
    secret = serializers.CharField(help_text="Shown this once.")

    class Meta(KeySerializer.Meta):
        fields = [*KeySerializer.Meta.fields, "secret"]
        read_only_fields = fields


class KeyQuery(PageQuery):
    status = serializers.ChoiceField(["active", "expired", "revoked"], required=False, help_text="Only these.")
