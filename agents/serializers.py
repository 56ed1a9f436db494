"""The JSON shapes of agents and voices. Rules live in the model; here only types."""

from typing import Any

from django.core.exceptions import ValidationError as ModelError
from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from agents.models import Agent
from agents.validators import check_turn_detection
from tenants.api.shapes import PageQuery, StrictModelSerializer

EXAMPLE = {
    "slug": "front-desk",
    "name": "Front desk",
    "instructions": "You answer the phone of a hotel. One or two short sentences.",
    "greeting": "Hotel Aurora, good morning!",
    "voice": "marin",
    "speed": 1.0,
    "language": "en",
    "model": "",
    "temperature": 0.7,
    "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
    "is_default": True,
}
TIMES = {"created_at": "2027-01-15T08:00:00Z", "updated_at": "2027-01-15T08:30:00Z"}


@extend_schema_field({"type": "object", "additionalProperties": {}})
class TurnDetectionField(serializers.JSONField):
    """OpenAI's ``audio.input.turn_detection``, or null for push-to-talk."""

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        try:
            check_turn_detection(value)
        except ModelError as error:
            raise serializers.ValidationError(error.messages, "invalid") from error
        return value


@extend_schema_serializer(
    examples=[
        OpenApiExample("sent", EXAMPLE, request_only=True),
        OpenApiExample("answered", EXAMPLE | TIMES, response_only=True),
    ]
)
class AgentSerializer(StrictModelSerializer):
    turn_detection = TurnDetectionField(required=False, allow_null=True)

    class Meta:
        model = Agent
        fields = [
            "slug", "name", "instructions", "greeting", "voice", "speed", "language", "model", "temperature",
            "turn_detection", "record", "is_default", "created_at", "updated_at",
        ]  # fmt: skip
        validators = []
        read_only_fields = ["created_at", "updated_at"]
        # Uniqueness is decided by the operation, in the same transaction as the write.
        extra_kwargs = {
            "slug": {"validators": Agent._meta.get_field("slug").validators},
            "is_default": {"validators": []},
        }


class AgentQuery(PageQuery):
    name = serializers.CharField(required=False, help_text="Part of the name, in any case.")
    voice = serializers.CharField(required=False, help_text="The voice's name.")
    language = serializers.CharField(required=False, help_text="ISO 639-1.")
    model = serializers.CharField(required=False, help_text="The provider's model name.")
    is_default = serializers.BooleanField(required=False, allow_null=True, default=None)


@extend_schema_serializer(
    examples=[
        OpenApiExample("answered", {"id": "marin", "language": "en-us", "gender": "female", "engine_voice": "af_heart"})
    ]
)
class VoiceSerializer(serializers.Serializer):
    id = serializers.CharField(help_text="The name that agents and sessions take.")
    language = serializers.CharField(help_text="The language it speaks, as espeak names it.")
    gender = serializers.ChoiceField(["female", "male"])
    engine_voice = serializers.CharField(help_text="Kokoro's own name for it.")


class VoiceQuery(serializers.Serializer):
    language = serializers.CharField(required=False, help_text="Such as en-us, or en for all of English.")
    gender = serializers.ChoiceField(["female", "male"], required=False)


class VoicesSerializer(serializers.Serializer):
    """All of them are on one page."""

    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = VoiceSerializer(many=True)
