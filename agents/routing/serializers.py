"""The JSON shapes of routing rules. What conditions may hold is decided by ``agents.routing.matching``."""

from rest_framework import serializers

from agents.routing.matching import DAYS, INTENT_CHARACTERS, VALUE_CHARACTERS
from agents.routing.models import RoutingRule
from tenants.api.shapes import PageQuery, StrictModelSerializer, StrictSerializer

WORDS_CHARACTERS = 2_000


class HoursSerializer(StrictSerializer):
    """Where `to` is not after `from` it is on the next day, and `days` name the day on which the hours begin."""

    time_zone = serializers.CharField(help_text="An IANA name, such as Europe/Berlin.")
    days = serializers.ListField(
        child=serializers.ChoiceField(DAYS), required=False, help_text="Every day if not given."
    )
    begin = serializers.CharField(required=False, help_text="As the clocks there show it, 00:00 if not given.")
    end = serializers.CharField(required=False, help_text="The first minute that is outside, 24:00 if not given.")

    def get_fields(self) -> dict[str, serializers.Field]:
        """``from`` is a word of Python's own, so it cannot be declared by name."""
        fields = super().get_fields()
        fields["from"], fields["to"] = fields.pop("begin"), fields.pop("end")
        return fields


class ConditionsSerializer(StrictSerializer):
    """All must hold; one that is empty or null always does. Of several values any will do."""

    channels = serializers.ListField(
        child=serializers.CharField(max_length=63), required=False, help_text="How the caller comes, such as websocket."
    )
    hours = HoursSerializer(required=False, allow_null=True)
    attributes = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField(max_length=VALUE_CHARACTERS, trim_whitespace=False)),
        required=False,
        help_text="Of the call's variables, such as caller.tier, the values that will do; 'gold*': all that begin so.",
    )
    languages = serializers.ListField(
        child=serializers.CharField(max_length=3),
        required=False,
        help_text="ISO 639, of the caller's first words.",
    )
    intent = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=INTENT_CHARACTERS,
        help_text="What the caller wants, in words; a language model compares it with the first words.",
    )


class RoutingRuleSerializer(StrictModelSerializer):
    conditions = ConditionsSerializer(required=False, help_text="A change takes the place of all of them.")

    class Meta:
        model = RoutingRule
        fields = ["id", "position", "name", "is_enabled", "agent", "conditions", "created_at", "updated_at"]
        read_only_fields = ["id", "position", "created_at", "updated_at"]


class RoutingRuleQuery(PageQuery):
    agent = serializers.CharField(
        required=False, max_length=63, help_text="Only rules that choose this agent, by slug."
    )
    is_enabled = serializers.BooleanField(required=False, allow_null=True, default=None)


class RoutingOrderSerializer(StrictSerializer):
    rules = serializers.ListField(
        child=serializers.UUIDField(), help_text="Every rule of the tenant by its id; the first is read first."
    )


class RoutingTrySerializer(StrictSerializer):
    """A call as it might come."""

    channel = serializers.CharField(max_length=63, default="websocket")
    attributes = serializers.DictField(
        child=serializers.CharField(max_length=VALUE_CHARACTERS, allow_blank=True, trim_whitespace=False),
        default=dict,
        help_text="The call's variables.",
    )
    at = serializers.DateTimeField(required=False, allow_null=True, default=None, help_text="When; now if not given.")
    words = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        max_length=WORDS_CHARACTERS,
        help_text="The caller's first words; without them rules that need them wait.",
    )
    language = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        max_length=35,
        help_text="Of the words; empty where it is unknown.",
    )


class TriedRuleSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    agent = serializers.CharField()
    outcome = serializers.ChoiceField(["holds", "waits", "does_not_hold", "not_reached"])
    reason = serializers.CharField(help_text="For people.")


class RoutingTriedSerializer(serializers.Serializer):
    agent = serializers.CharField(
        allow_null=True, help_text="Who takes the call; null: a plain assistant, since there is no default agent."
    )
    is_default = serializers.BooleanField(help_text="No rule chose: the tenant's default agent takes the call.")
    rule = serializers.UUIDField(allow_null=True, help_text="The rule that chose; null: none did.")
    rules = TriedRuleSerializer(many=True)
