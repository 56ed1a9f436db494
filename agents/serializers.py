"""The JSON shape of an agent. Rules live in the model; here only types."""

from typing import Any

from django.core.exceptions import ValidationError as ModelError
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from agents.models import Agent
from agents.validators import check_turn_detection


@extend_schema_field(OpenApiTypes.OBJECT)
class TurnDetectionField(serializers.JSONField):
    """OpenAI's ``audio.input.turn_detection``, or null for push-to-talk."""

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        try:
            check_turn_detection(value)
        except ModelError as error:
            raise serializers.ValidationError(error.messages, "invalid") from error
        return value


class AgentSerializer(serializers.ModelSerializer):
    turn_detection = TurnDetectionField(required=False, allow_null=True)

    class Meta:
        model = Agent
        fields = [
            "slug", "name", "instructions", "greeting", "voice", "speed", "language", "model", "temperature",
            "turn_detection", "is_default", "created_at", "updated_at",
        ]  # fmt: skip
        validators = []
        read_only_fields = ["created_at", "updated_at"]
        # Uniqueness is decided by the operation, in the same transaction as the write.
        extra_kwargs = {
            "slug": {"validators": Agent._meta.get_field("slug").validators},
            "is_default": {"validators": []},
        }

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(self.initial_data) - set(self.fields))
        if unknown:
            words = f"There is no field {unknown[0]!r}; there are {', '.join(self.fields)}."
            raise serializers.ValidationError({unknown[0]: [serializers.ErrorDetail(words, "unknown_parameter")]})
        return attrs
