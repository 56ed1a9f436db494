"""The JSON shapes of tenants and plans. Rules live in the operations; here only types."""

from typing import Any

from django.core.exceptions import ValidationError as Refused
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from tenants.api.cors import check_origins
from tenants.api.shapes import PageQuery, StrictModelSerializer, StrictSerializer
from tenants.lifecycle.operations import GRACE_DAYS_MAX, REASON_CHARACTERS
from tenants.models import Plan, Tenant, TenantStatus

RETENTION_DAYS_MAX = 36_500


@extend_schema_field({"type": "object", "additionalProperties": {"type": "integer"}})
class LimitsField(serializers.JSONField):
    """Numbers by the names of ``GET /api/v1/limits/``."""


class OriginsField(serializers.ListField):
    child = serializers.CharField(max_length=300)

    def to_internal_value(self, data: Any) -> list[str]:
        origins = super().to_internal_value(data)
        try:
            check_origins(origins)
        except Refused as error:
            raise serializers.ValidationError(error.messages, error.code) from error
        return origins


class ProgressSerializer(serializers.Serializer):
    """The work on the tenant's schema: its making, its last migration, or its erasure."""

    step = serializers.CharField(source="work_step", help_text="What is being done now; empty when nothing is.")
    done = serializers.IntegerField(source="work_done")
    total = serializers.IntegerField(source="work_total")
    error = serializers.CharField(source="work_error", help_text="Why it stands still; empty when it does not.")
    at = serializers.DateTimeField(source="work_at", allow_null=True, help_text="When it last went on.")


class TenantSerializer(serializers.ModelSerializer):
    """A tenant as platform operators see it."""

    plan = serializers.SlugRelatedField("slug", read_only=True, allow_null=True)
    domains = serializers.SlugRelatedField("domain", many=True, read_only=True)
    limits = LimitsField(read_only=True)
    progress = ProgressSerializer(source="*", read_only=True)

    class Meta:
        model = Tenant
        fields = [
            "slug", "name", "status", "status_reason", "status_changed_at", "delete_after", "plan", "limits", "domains",
            "progress", "created_at",
        ]  # fmt: skip
        read_only_fields = fields


class NewTenantSerializer(StrictSerializer):
    slug = serializers.CharField(max_length=63)
    name = serializers.CharField(max_length=200)
    plan = serializers.CharField(max_length=63, required=False, allow_null=True, help_text="A plan's slug.")
    domains = serializers.ListField(child=serializers.CharField(max_length=253), required=False)
    limits = LimitsField(required=False)


class TenantChangeSerializer(StrictSerializer):
    name = serializers.CharField(max_length=200, required=False)
    plan = serializers.CharField(max_length=63, required=False, allow_null=True, help_text="A plan's slug.")
    domains = serializers.ListField(child=serializers.CharField(max_length=253), required=False)
    limits = LimitsField(required=False)


class SuspensionSerializer(StrictSerializer):
    reason = serializers.CharField(max_length=REASON_CHARACTERS)


class DeletionSerializer(StrictSerializer):
    confirmation = serializers.CharField(max_length=63, help_text="The tenant's slug, typed again.")
    reason = serializers.CharField(max_length=REASON_CHARACTERS, required=False, allow_blank=True)
    grace_days = serializers.IntegerField(
        min_value=0,
        max_value=GRACE_DAYS_MAX,
        required=False,
        help_text="Without it the platform's, which a platform key can only lengthen.",
    )


class NothingSerializer(StrictSerializer):
    """An empty body, or ``{}``."""


class TenantQuery(PageQuery):
    status = serializers.ChoiceField(choices=TenantStatus.choices, required=False)
    plan = serializers.CharField(max_length=63, required=False, help_text="A plan's slug.")


class CertificateSerializer(serializers.Serializer):
    certificate = serializers.CharField(help_text="JSON text: what was counted and removed, when and by whom.")
    sha256 = serializers.CharField(help_text="Of the bytes of that text, in hex.")
    signature = serializers.CharField(help_text="Ed25519 over the same bytes, in base64.")
    public_key = serializers.CharField(help_text="Base64.")
    valid = serializers.BooleanField(help_text="Whether hash and signature hold, and the key is this platform's.")


class PlanSerializer(StrictModelSerializer):
    limits = LimitsField(required=False)

    class Meta:
        model = Plan
        fields = ["slug", "name", "limits", "created_at"]
        read_only_fields = ["created_at"]
        # Uniqueness is decided by the operation, in the same transaction as the write.
        extra_kwargs = {"slug": {"validators": Plan._meta.get_field("slug").validators}}


class PlanChangeSerializer(StrictSerializer):
    name = serializers.CharField(max_length=200, required=False)
    limits = LimitsField(required=False)


class SettingsSerializer(StrictModelSerializer):
    """A tenant as its own people see it."""

    plan = serializers.SlugRelatedField("slug", read_only=True, allow_null=True)
    cors_origins = OriginsField(required=False, help_text="Web origins that may call the REST API with its keys.")
    retention_days = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=RETENTION_DAYS_MAX,
        help_text="Days that conversations are kept; null for the platform's default.",
    )

    class Meta:
        model = Tenant
        fields = ["slug", "name", "status", "plan", "cors_origins", "retention_days", "created_at"]
        read_only_fields = ["slug", "status", "plan", "created_at"]
