"""The JSON shapes of people, invitations and single sign-on. Rules live in the operations; here only types."""

from rest_framework import serializers

from tenants.api.shapes import StrictSerializer
from tenants.models import EmailDomain, Invitation, Membership, SingleSignOn
from tenants.people.sign_on import expected_record
from tenants.permissions import Role


class MemberSerializer(serializers.ModelSerializer):
    id = serializers.IntegerField(source="user_id", read_only=True)
    email = serializers.EmailField(source="user.email", read_only=True)
    name = serializers.CharField(source="user.name", read_only=True)

    class Meta:
        model = Membership
        fields = ["id", "email", "name", "role", "created_at"]
        read_only_fields = fields


class RoleSerializer(StrictSerializer):
    role = serializers.ChoiceField(Role.choices)


class InvitationSerializer(serializers.ModelSerializer):
    invited_by = serializers.EmailField(source="invited_by.email", read_only=True, default=None, allow_null=True)

    class Meta:
        model = Invitation
        fields = [
            "id", "email", "role", "invited_by", "created_at", "expires_at", "mailed_at", "accepted_at", "revoked_at",
        ]  # fmt: skip
        read_only_fields = fields


class NewInvitationSerializer(StrictSerializer):
    email = serializers.EmailField(max_length=254)
    role = serializers.ChoiceField(Role.choices)


class OwnTenantSerializer(serializers.ModelSerializer):
    slug = serializers.CharField(source="tenant.slug", read_only=True)
    name = serializers.CharField(source="tenant.name", read_only=True)

    class Meta:
        model = Membership
        fields = ["slug", "name", "role"]
        read_only_fields = fields


class MeSerializer(serializers.Serializer):
    kind = serializers.ChoiceField(["key", "client", "person", "operator"], help_text="What signed in.")
    id = serializers.CharField()
    name = serializers.CharField(allow_blank=True)
    email = serializers.EmailField(allow_null=True, help_text="Of a person.")
    tenant = serializers.CharField(allow_null=True, help_text="The slug of the tenant acted in.")
    role = serializers.ChoiceField(Role.choices, allow_null=True, help_text="Of a person in the tenant.")
    scopes = serializers.ListField(child=serializers.CharField())
    refusal = serializers.CharField(allow_null=True, help_text="Why a person acts in no tenant.")
    tenants = OwnTenantSerializer(many=True, help_text="Where a person belongs.")


class ChoiceSerializer(StrictSerializer):
    tenant = serializers.CharField(max_length=63, allow_null=True, help_text="A tenant's slug; null for none.")


class SingleSignOnSerializer(serializers.ModelSerializer):
    redirect_uri = serializers.CharField(read_only=True, help_text="To be registered at the provider.")
    sign_in_url = serializers.CharField(read_only=True, help_text="Where people begin.")

    class Meta:
        model = SingleSignOn
        fields = [
            "issuer", "client_id", "default_role", "required", "redirect_uri", "sign_in_url", "created_at",
            "updated_at",
        ]  # fmt: skip
        read_only_fields = fields


class SingleSignOnChangeSerializer(StrictSerializer):
    issuer = serializers.URLField(max_length=500)
    client_id = serializers.CharField(max_length=191)
    client_secret = serializers.CharField(
        max_length=1000, required=False, write_only=True, help_text="Kept sealed, never shown; needed for a new issuer."
    )
    default_role = serializers.ChoiceField(Role.choices, default=Role.VIEWER)
    required = serializers.BooleanField(default=False)


class EmailDomainSerializer(serializers.ModelSerializer):
    record_name = serializers.SerializerMethodField(help_text="Where the TXT record belongs.")
    record_text = serializers.SerializerMethodField(help_text="What the TXT record says.")

    class Meta:
        model = EmailDomain
        fields = ["domain", "record_name", "record_text", "created_at", "verified_at"]
        read_only_fields = fields

    def get_record_name(self, domain: EmailDomain) -> str:
        return expected_record(domain)[0]

    def get_record_text(self, domain: EmailDomain) -> str:
        return expected_record(domain)[1]


class NewEmailDomainSerializer(StrictSerializer):
    domain = serializers.CharField(max_length=253)


class EmptySerializer(StrictSerializer):
    """Nothing is to be sent."""
