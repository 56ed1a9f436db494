"""What the shapes of all rooms share: what nobody reads is refused by name."""

from typing import Any

from rest_framework import serializers


class StrictFields:
    """For serializers, before their base: a field that does not exist, or is not the caller's to set, is refused."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            writable = [name for name, field in self.fields.items() if not field.read_only]  # type: ignore[attr-defined]
            for name in data:
                if name not in writable:
                    known = f"there are {', '.join(writable)}" if writable else "there are none"
                    words = f"There is no field {str(name)[:100]!r} to set; {known}."
                    raise serializers.ValidationError(
                        {str(name)[:100]: [serializers.ErrorDetail(words, "unknown_parameter")]}
                    )
                if isinstance(data[name], str) and "\0" in data[name]:
                    # PostgreSQL's text holds none, and not every kind of field looks.
                    words = "Null characters are not allowed."
                    raise serializers.ValidationError(
                        {name: [serializers.ErrorDetail(words, "null_characters_not_allowed")]}
                    )
        return super().to_internal_value(data)  # type: ignore[misc]


class StrictSerializer(StrictFields, serializers.Serializer):
    pass


class StrictModelSerializer(StrictFields, serializers.ModelSerializer):
    pass


class PageQuery(serializers.Serializer):
    """The parameters of every list; a list with filters has a subclass with one field for each."""

    limit = serializers.IntegerField(required=False, min_value=1, help_text="Rows per page.")
    cursor = serializers.CharField(
        required=False, help_text="The `cursor` of the `next` or `previous` address of another page."
    )
