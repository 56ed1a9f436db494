"""The JSON shapes of providers. Rules live in the model and ``kinds``; here only types."""

from rest_framework import serializers

from agents.providers.kinds import CREDENTIAL_CHARACTERS, NAMES, Kind
from agents.providers.models import Provider
from tenants.api.shapes import StrictModelSerializer, StrictSerializer


class ProviderSerializer(serializers.Serializer):
    """Of the platform's providers a tenant sees the name, and that there is one."""

    name = serializers.CharField(help_text="How agents name it: `provider/model`.")
    owner = serializers.ChoiceField(["tenant", "platform"])
    is_default = serializers.BooleanField(help_text="Asked where an agent names no provider.")
    kind = serializers.ChoiceField(Kind.choices, allow_null=True)
    base_url = serializers.CharField(allow_null=True)
    credentials_set = serializers.ListField(
        child=serializers.ChoiceField(NAMES), allow_null=True, help_text="Which are there. Nobody is shown them."
    )
    model = serializers.CharField(allow_null=True)
    sees = serializers.BooleanField(allow_null=True)
    is_enabled = serializers.BooleanField()
    created_at = serializers.DateTimeField(allow_null=True)
    updated_at = serializers.DateTimeField(allow_null=True)


class ProvidersSerializer(serializers.Serializer):
    """All of them are on one page."""

    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = ProviderSerializer(many=True)


class ProviderShape(StrictModelSerializer):
    """What is sent. ``credentials`` by kind: ``api_key``; for Bedrock ``region``, and ``access_key_id`` with
    ``secret_access_key`` (and ``session_token``) or ``api_key``."""

    credentials = serializers.DictField(
        child=serializers.CharField(max_length=CREDENTIAL_CHARACTERS, allow_blank=True, allow_null=True),
        required=False,
        help_text="In a change only those that are replaced; null takes one away.",
    )

    class Meta:
        model = Provider
        fields = ["name", "kind", "base_url", "credentials", "model", "sees", "is_enabled"]
        validators = []
        # Uniqueness is decided by the operation, in the same transaction as the write.
        extra_kwargs = {"name": {"validators": Provider._meta.get_field("name").validators}}


class CheckShape(StrictSerializer):
    model = serializers.CharField(
        max_length=200, required=False, allow_blank=True, help_text="Which model to ask; the provider's own else."
    )


class CheckSerializer(serializers.Serializer):
    answers = serializers.BooleanField()
    model = serializers.CharField()
    first_token_ms = serializers.IntegerField(allow_null=True, help_text="From asking to the first token.")
    code = serializers.ChoiceField(
        ["", "llm_unavailable", "llm_timeout", "llm_auth", "llm_rate_limited", "llm_bad_response", "llm_refused"],
        help_text="Why it did not answer.",
    )
    message = serializers.CharField(allow_blank=True)
