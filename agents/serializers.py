"""The JSON shapes of agents, their versions, and voices. Rules live in the model; here only types."""

from typing import Any

from django.core.exceptions import ValidationError as ModelError
from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from agents.documents import SCHEMA
from agents.models import NOTE_CHARACTERS, Agent, AgentVersion
from agents.operations import FIELDS
from agents.shapes import SCHEMAS
from agents.validators import check_turn_detection
from agents.versions import DRAFT
from tenants.api.shapes import PageQuery, StrictModelSerializer, StrictSerializer

MAX_NUMBER = 2_147_483_647
NAMED = rf"^(?:{DRAFT}|[1-9][0-9]{{0,8}})\Z"


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


def column(name: str) -> serializers.JSONField:
    """A JSON column, checked by the model; the document shows its schema."""
    field = type(f"{name.title()}Field", (serializers.JSONField,), {})
    return extend_schema_field(SCHEMAS[name])(field)(required=False, help_text=Agent._meta.get_field(name).help_text)


class AgentSerializer(StrictModelSerializer):
    """An agent's draft, and which of its versions take calls."""

    turn_detection = TurnDetectionField(required=False, allow_null=True)
    variables = column("variables")
    voices = column("voices")
    languages = column("languages")
    fallback_models = column("fallback_models")
    tools = column("tools")
    colleagues = column("colleagues")
    filler = column("filler")
    limits = column("limits")
    guard_rails = column("guard_rails")
    live = serializers.IntegerField(
        source="live.number",
        read_only=True,
        allow_null=True,
        help_text="The version that takes calls; null: none does.",
    )
    standby = serializers.IntegerField(
        source="standby.number", read_only=True, allow_null=True, help_text="The version that a rollback makes live."
    )

    class Meta:
        model = Agent
        fields = [*FIELDS, "live", "standby", "created_at", "updated_at"]
        validators = []
        read_only_fields = ["created_at", "updated_at"]
        # Uniqueness is decided by the operation, in the same transaction as the write.
        extra_kwargs = {
            "slug": {"validators": Agent._meta.get_field("slug").validators},
            "is_default": {"validators": []},
        }


class AgentDocumentSerializer(AgentSerializer):
    """The document that `export` writes, as YAML or JSON."""

    class Meta(AgentSerializer.Meta):
        fields = list(FIELDS)
        extra_kwargs = {**AgentSerializer.Meta.extra_kwargs, "slug": {"required": False}}

    live = standby = None

    def get_fields(self) -> dict[str, serializers.Field]:
        schema = serializers.ChoiceField([SCHEMA], help_text="Of what a document looks like.")
        return {"schema": schema, **super().get_fields()}


class AgentAppliedSerializer(serializers.Serializer):
    created = serializers.BooleanField(help_text="There was no such agent before.")
    changed = serializers.ListField(
        child=serializers.CharField(), help_text="The fields of the draft that are not as they were."
    )
    agent = AgentSerializer()


class AgentVersionSerializer(serializers.ModelSerializer):
    """A published version, without what it says."""

    is_live = serializers.BooleanField(read_only=True, help_text="It takes calls.")
    is_standby = serializers.BooleanField(read_only=True, help_text="A rollback makes it live.")

    class Meta:
        model = AgentVersion
        fields = ["number", "note", "published_by", "created_at", "is_live", "is_standby"]


class AgentVersionDetailSerializer(AgentVersionSerializer):
    """A published version."""

    definition = serializers.DictField(help_text="The fields of the draft then; its tools with what they were then.")

    class Meta(AgentVersionSerializer.Meta):
        fields = [*AgentVersionSerializer.Meta.fields, "definition"]


class AgentPublishSerializer(StrictSerializer):
    note = serializers.CharField(
        required=False, allow_blank=True, default="", max_length=NOTE_CHARACTERS, help_text="What is new, for people."
    )
    activate = serializers.BooleanField(
        required=False, default=True, help_text="New calls get it at once; false: it waits to be activated."
    )


class AgentVersionChoiceSerializer(StrictSerializer):
    version = serializers.IntegerField(min_value=1, max_value=MAX_NUMBER, help_text="A version's number.")


class AgentDraftResetSerializer(StrictSerializer):
    version = serializers.IntegerField(
        required=False, min_value=1, max_value=MAX_NUMBER, help_text="A version's number; the live one if not given."
    )


class DiffQuery(serializers.Serializer):
    """What is compared: a version's number, or `draft`."""

    first = serializers.RegexField(NAMED, required=False, help_text="The live version when not given.")
    last = serializers.RegexField(NAMED, default=DRAFT, help_text="The draft when not given.")

    def get_fields(self) -> dict[str, serializers.Field]:
        """``from`` and ``to``: the first is a word of Python's own, so neither can be declared by name."""
        fields = super().get_fields()
        fields["from"], fields["to"] = fields.pop("first"), fields.pop("last")
        fields["from"].source, fields["to"].source = "first", "last"
        return fields


class ChangeSerializer(serializers.Serializer):
    field = serializers.CharField()
    before = serializers.JSONField(required=False, allow_null=True)
    after = serializers.JSONField(required=False, allow_null=True)
    lines = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Of texts: a unified diff, in the place of the two."
    )


class DiffSerializer(serializers.Serializer):
    changes = ChangeSerializer(many=True)

    def get_fields(self) -> dict[str, serializers.Field]:
        return {"from": serializers.CharField(), "to": serializers.CharField(), **super().get_fields()}


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
