"""``/api/v1/redaction-policy/``: what is taken out of transcripts and recordings before they are kept."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from agents.guard.detectors import KINDS
from realtime.privacy import redaction_policy as redaction
from realtime.privacy.models import RedactionPolicy
from tenants.api.shapes import StrictSerializer
from tenants.permissions import Scope
from tenants.rest import TenantAPIView


class DetectableSerializer(serializers.Serializer):
    kind = serializers.CharField()
    title = serializers.CharField(help_text="For people.")


class RedactionPolicySerializer(StrictSerializer):
    kinds = serializers.ListField(
        child=serializers.ChoiceField(list(KINDS)),
        required=False,
        help_text="What is replaced by its name, such as `[card number]`, in all that is kept of a call.",
    )
    silence_recordings = serializers.BooleanField(
        required=False, help_text="Whether recordings are silent where it was said."
    )
    detectable = DetectableSerializer(many=True, read_only=True, help_text="All that can be found.")


class RedactionPolicyView(TenantAPIView):
    read_scope = Scope.SETTINGS_READ
    write_scope = Scope.SETTINGS_WRITE
    serializer_class = RedactionPolicySerializer

    @extend_schema(operation_id="get_redaction_policy")
    def get(self, request: Request) -> Response:
        """What is taken out of the tenant's calls before they are kept."""
        self.refuse_unknown(set())
        return Response(_shown(redaction.find_policy()))

    @extend_schema(operation_id="update_redaction_policy")
    def patch(self, request: Request) -> Response:
        """Holds for calls that begin from now on; what is kept already stays as it is."""
        shape = RedactionPolicySerializer(data=request.data, partial=True)
        shape.is_valid(raise_exception=True)
        try:
            policy = redaction.change_redaction(**shape.validated_data)
        except redaction.PolicyInvalid as error:
            raise ValidationError({"kinds": [ErrorDetail(error.message, "invalid")]}) from error
        return Response(_shown(policy))


def _shown(policy: RedactionPolicy) -> dict[str, Any]:
    detectable = [{"kind": kind, "title": title} for kind, title in KINDS.items()]
    shown = {"kinds": policy.kinds, "silence_recordings": policy.silence_recordings, "detectable": detectable}
    return dict(RedactionPolicySerializer(shown).data)
