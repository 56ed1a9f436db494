"""The JSON shapes of the audit log."""

from datetime import datetime

from rest_framework import serializers

from tenants.api.shapes import PageQuery
from tenants.audit.chain import at_text
from tenants.audit.models import Entry


class HashedTime(serializers.DateTimeField):
    """As ``hash`` covers it, so that whoever has an answer or an export can check it."""

    def to_representation(self, value: datetime) -> str:
        return at_text(value)


class EntrySerializer(serializers.ModelSerializer):
    at = HashedTime()

    class Meta:
        model = Entry
        fields = [
            "seq", "at", "action", "target", "actor_kind", "actor_id", "actor_name", "address", "before", "after",
            "previous_hash", "hash",
        ]  # fmt: skip


class FilterQuery(serializers.Serializer):
    """Which entries: those for which everything that is given holds."""

    action = serializers.RegexField(
        r"^[a-z_]+\.[a-z_]*\Z",
        required=False,
        max_length=100,
        help_text="What was done, such as `api_key.revoked`; `api_key.` asks for everything that was done to keys.",
        error_messages={"invalid": "An action is named like 'api_key.revoked', all of a kind like 'api_key.'."},
    )
    actor = serializers.CharField(required=False, max_length=200, help_text="Who did it, by id.")
    target = serializers.CharField(required=False, max_length=500, help_text="What it was done to.")
    address = serializers.IPAddressField(required=False, help_text="The IP address that it was done from.")
    begin = serializers.DateTimeField(required=False, help_text="Done then or later.")
    end = serializers.DateTimeField(required=False, help_text="Done before.")

    def get_fields(self) -> dict[str, serializers.Field]:
        """``from`` and ``to``: the first is a word of Python's own, so neither can be declared by name."""
        fields = super().get_fields()
        fields["from"], fields["to"] = fields.pop("begin"), fields.pop("end")
        fields["from"].source, fields["to"].source = "begin", "end"
        return fields


class ListQuery(FilterQuery, PageQuery):
    pass
