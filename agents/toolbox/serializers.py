"""The JSON shapes of tools, MCP servers and credentials. Rules live in the operations; here only types."""

from typing import Any

import msgspec
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from agents.toolbox.models import Credential, McpServer, Tool
from tenants.api.shapes import PageQuery, StrictModelSerializer, StrictSerializer

TIMES = ["created_at", "updated_at"]
FILTER = {
    "type": "object",
    "properties": {"tool_names": {"type": "array", "items": {"type": "string"}}, "read_only": {"type": "boolean"}},
}
SECRETS = "By kind: value; token; password; client_secret; key."


@extend_schema_field({"type": "object", "additionalProperties": {}})
class ObjectField(serializers.JSONField):
    """Any JSON object; what may be in it is the operation's to say."""

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        if not isinstance(value, dict):
            raise serializers.ValidationError("This is an object.", "invalid")
        return value


@extend_schema_field(
    {
        "type": "object",
        "required": ["method", "url"],
        "properties": {
            "method": {"type": "string", "enum": ["GET", "POST", "PUT", "PATCH", "DELETE"]},
            "url": {"type": "string", "description": "https://host/path/{{arguments.name}}; no query."},
            "query": {"type": "object", "additionalProperties": {}},
            "headers": {"type": "object", "additionalProperties": {"type": "string"}},
            "body": {"description": "JSON with places; a string that is one place becomes the value."},
        },
    }
)
class RequestField(ObjectField):
    pass


@extend_schema_field(
    {
        "type": "object",
        "properties": {
            "select": {"type": "string", "description": "JSONPath of what the model reads; empty for all."},
            "fields": {"type": "object", "additionalProperties": {"type": "string"}},
            "max_characters": {"type": "integer", "minimum": 1, "maximum": 32000},
        },
    }
)
class ResponseField(ObjectField):
    pass


@extend_schema_field({"oneOf": [{"type": "array", "items": {"type": "string"}}, FILTER, {"type": "null"}]})
class AllowedToolsField(serializers.JSONField):
    pass


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "enum": ["always", "never"]},
            {"type": "object", "properties": {"always": FILTER, "never": FILTER}},
            {"type": "null"},
        ]
    }
)
class ApprovalField(serializers.JSONField):
    pass


def _by_name() -> serializers.SlugRelatedField:
    return serializers.SlugRelatedField(
        slug_field="name",
        queryset=Credential.objects.all(),
        required=False,
        allow_null=True,
        help_text="The name of a credential, or null.",
        error_messages={"does_not_exist": "There is no credential {value!r}."},
    )


class ToolSerializer(StrictModelSerializer):
    parameters = ObjectField(required=False, help_text="What the model gives: a JSON Schema of type object.")
    request = RequestField(help_text="What is sent, with {{places}} for values.")
    response = ResponseField(required=False, help_text="What the model reads of the answer.")
    credential = _by_name()

    class Meta:
        model = Tool
        fields = [
            "name", "description", "parameters", "request", "response", "timeout_ms", "integration", "calls_per_minute",
            "credential", "is_enabled", *TIMES,
        ]  # fmt: skip
        read_only_fields = TIMES
        extra_kwargs = {"name": {"validators": Tool._meta.get_field("name").validators}}


class ToolQuery(PageQuery):
    name = serializers.CharField(required=False, help_text="Part of the name, in any case.")
    integration = serializers.CharField(required=False, help_text="Only tools of this integration.")


class McpServerSerializer(StrictModelSerializer):
    headers = serializers.DictField(
        child=serializers.CharField(allow_blank=True, trim_whitespace=False),
        required=False,
        write_only=True,
        help_text="Sent with each request; may hold secrets and is not shown again.",
    )
    allowed_tools = AllowedToolsField(required=False, allow_null=True)
    require_approval = ApprovalField(required=False, allow_null=True)
    credential = _by_name()

    class Meta:
        model = McpServer
        fields = [
            "label", "url", "headers", "credential", "allowed_tools", "require_approval", "timeout_ms",
            "calls_per_minute", "is_enabled", *TIMES,
        ]  # fmt: skip
        read_only_fields = TIMES
        extra_kwargs = {"label": {"validators": McpServer._meta.get_field("label").validators}}


class ToolCredentialSerializer(StrictModelSerializer):
    config = ObjectField(required=False, help_text="What may be seen of it, by its kind.")
    secret = ObjectField(write_only=True, help_text=f"Not shown again. {SECRETS}")

    hosts = serializers.ListField(
        child=serializers.CharField(), required=False, help_text=Credential._meta.get_field("hosts").help_text
    )

    class Meta:
        model = Credential
        fields = ["name", "kind", "config", "secret", "hosts", *TIMES]
        read_only_fields = TIMES
        extra_kwargs = {"name": {"validators": Credential._meta.get_field("name").validators}}


class ToolTrySerializer(StrictSerializer):
    arguments = ObjectField(required=False, default=dict, help_text="What a model would give.")
    variables = serializers.DictField(
        child=serializers.CharField(allow_blank=True),
        required=False,
        default=dict,
        help_text="Variables of the call by their names, such as caller.name.",
    )


class ToolErrorSerializer(serializers.Serializer):
    type = serializers.ChoiceField(["protocol_error", "tool_execution_error", "http_error"])
    message = serializers.CharField()
    code = serializers.IntegerField(required=False)


class ToolAnswerSerializer(serializers.Serializer):
    output = serializers.CharField(help_text="What the model would read.")
    error = ToolErrorSerializer(allow_null=True)
    receipt = ObjectField(help_text="What was asked, sent and answered, and how long it took.")


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "object", "additionalProperties": {}}]})
class DocumentField(serializers.JSONField):
    """Text, or the object itself."""

    def to_internal_value(self, data: Any) -> str:
        value = super().to_internal_value(data)
        if isinstance(value, dict):
            return msgspec.json.encode(value).decode()
        if not isinstance(value, str) or not value.strip():
            raise serializers.ValidationError(
                "This is an OpenAPI document: an object, or JSON or YAML as text.", "invalid"
            )
        return value


class ToolImportSerializer(StrictSerializer):
    document = DocumentField(
        required=False, help_text="An OpenAPI 3.0 or 3.1 document: the object itself, or JSON or YAML as text."
    )
    url = serializers.CharField(required=False, max_length=2_000, help_text="Where to fetch it instead.")
    server_url = serializers.CharField(
        required=False, max_length=2_000, help_text="Asked in the place of the document's own server."
    )
    operations = serializers.ListField(
        child=serializers.CharField(max_length=2_000),
        required=False,
        max_length=1_000,
        help_text="Which ones, such as 'GET /orders/{id}'; all that can be imported when left out.",
    )
    credentials = serializers.DictField(
        child=serializers.CharField(),
        required=False,
        default=dict,
        help_text="By the document's security scheme the name of the credential to use.",
    )
    integration = serializers.CharField(required=False, default="", help_text="Of all tools that are made.")
    create = serializers.BooleanField(default=False, help_text="False shows what would be made and makes nothing.")


class ImportedOperationSerializer(serializers.Serializer):
    operation = serializers.CharField(source="key")
    name = serializers.CharField()
    description = serializers.CharField()
    parameters = ObjectField()
    request = ObjectField()
    security = serializers.ListField(
        child=serializers.CharField(), help_text="Schemes of the document, of which one is needed."
    )
    problem = serializers.CharField(help_text="Why it cannot be imported; empty when it can.")


class ImportedToolsSerializer(serializers.Serializer):
    title = serializers.CharField()
    schemes = serializers.DictField(
        child=serializers.CharField(),
        help_text="The document's security schemes and the kind of credential each wants.",
    )
    operations = ImportedOperationSerializer(many=True)
    created = serializers.ListField(child=serializers.CharField(), help_text="The names of the tools that were made.")


class OfferedToolSerializer(serializers.Serializer):
    name = serializers.CharField()
    description = serializers.CharField()
    parameters = ObjectField()
    needs_approval = serializers.BooleanField(default=False)


class OfferedToolsSerializer(serializers.Serializer):
    """All of them are on one page."""

    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = OfferedToolSerializer(many=True)


class BuiltinToolSerializer(serializers.Serializer):
    name = serializers.CharField()
    description = serializers.CharField()
    by = serializers.ChoiceField(["protocol", "transport", "server"], help_text="Who does it.")
    settings = ObjectField(help_text="JSON Schema of what an agent sets beside type and name.")


class BuiltinToolsSerializer(serializers.Serializer):
    """All of them are on one page."""

    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = BuiltinToolSerializer(many=True)
