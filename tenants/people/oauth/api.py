"""``/api/v1/oauth-clients/``: programs of the tenant that fetch access tokens."""

from typing import Any

from django.conf import settings
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.api.pages import answer_page
from tenants.api.shapes import PageQuery, StrictSerializer
from tenants.models import OAuthClient
from tenants.people.doors import attempt, own_tenant, read_body
from tenants.people.oauth import clients
from tenants.permissions import TENANT_SCOPES, Scope
from tenants.rest import Pages, TenantAPIView


class OAuthClientSerializer(serializers.ModelSerializer):
    scopes = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = OAuthClient
        fields = [
            "client_id", "name", "scopes", "created_at", "rotated_at", "previous_expires_at", "last_used_at",
            "revoked_at",
        ]  # fmt: skip
        read_only_fields = fields


class OAuthSecretSerializer(OAuthClientSerializer):
    client_secret = serializers.CharField(read_only=True, help_text="Shown this once.")

    class Meta(OAuthClientSerializer.Meta):
        fields = [*OAuthClientSerializer.Meta.fields, "client_secret"]
        read_only_fields = fields


class NewOAuthClientSerializer(StrictSerializer):
    name = serializers.CharField(max_length=200)
    scopes = serializers.ListField(
        child=serializers.CharField(max_length=100), min_length=1, max_length=len(TENANT_SCOPES)
    )


class OAuthClientChangeSerializer(StrictSerializer):
    name = serializers.CharField(max_length=200, required=False)
    scopes = serializers.ListField(
        child=serializers.CharField(max_length=100), min_length=1, max_length=len(TENANT_SCOPES), required=False
    )


class SecretRotationSerializer(StrictSerializer):
    overlap_s = serializers.IntegerField(
        min_value=0, default=0, help_text="How long the old secret goes on, in seconds."
    )

    def validate_overlap_s(self, overlap_s: int) -> int:
        if overlap_s > settings.OAUTH_ROTATION_S:
            raise serializers.ValidationError(f"At most {settings.OAUTH_ROTATION_S} seconds.", "max_value")
        return overlap_s


class OAuthClientPages(Pages):
    ordering = ("-created_at", "-id")


class OAuthClientView(TenantAPIView):
    read_scope = Scope.KEYS_READ
    write_scope = Scope.KEYS_WRITE
    serializer_class = OAuthClientSerializer

    def find(self, client_id: str) -> OAuthClient:
        found = clients.clients(self.principal.tenant).filter(client_id=client_id).first()
        if found is None:
            raise Http404(f"There is no OAuth client {client_id!r}.")
        return found


def with_secret(client: OAuthClient, secret: str) -> dict[str, Any]:
    client.client_secret = secret
    return OAuthSecretSerializer(client).data


class OAuthClients(OAuthClientView):
    pagination_class = OAuthClientPages

    @extend_schema(
        operation_id="list_oauth_clients", parameters=[PageQuery], responses=OAuthClientSerializer(many=True)
    )
    def get(self, request: Request) -> Response:
        """Newest first, a page at a time; revoked ones too."""
        self.read_query(PageQuery)
        return answer_page(self, clients.clients(self.principal.tenant), OAuthClientSerializer)

    @extend_schema(
        operation_id="create_oauth_client", request=NewOAuthClientSerializer, responses={201: OAuthSecretSerializer}
    )
    def post(self, request: Request) -> Response:
        """A new client. Its secret is in this answer and never shown again. You can give only scopes that you hold."""
        fields = read_body(request, NewOAuthClientSerializer)
        held = self.principal.scopes
        client, secret = attempt(clients.create_client, tenant=own_tenant(), held=held, **fields)
        return Response(with_secret(client, secret), status=status.HTTP_201_CREATED)


class OneOAuthClient(OAuthClientView):
    @extend_schema(operation_id="get_oauth_client")
    def get(self, request: Request, client_id: str) -> Response:
        self.refuse_unknown(set())
        return Response(OAuthClientSerializer(self.find(client_id)).data)

    @extend_schema(operation_id="update_oauth_client", request=OAuthClientChangeSerializer)
    def patch(self, request: Request, client_id: str) -> Response:
        """Changes the fields that are sent. Tokens that are out lose the scopes that the client loses."""
        client = self.find(client_id)
        fields = read_body(request, OAuthClientChangeSerializer)
        attempt(clients.update_client, client=client, held=self.principal.scopes, **fields)
        return Response(OAuthClientSerializer(self.find(client_id)).data)

    @extend_schema(operation_id="revoke_oauth_client", responses={204: None})
    def delete(self, request: Request, client_id: str) -> Response:
        """Its secret and its tokens open nothing from now on, and its calls end."""
        clients.revoke_client(client=self.find(client_id))
        return Response(status=status.HTTP_204_NO_CONTENT)


class Rotation(OAuthClientView):
    @extend_schema(
        operation_id="rotate_oauth_client", request=SecretRotationSerializer, responses=OAuthSecretSerializer
    )
    def post(self, request: Request, client_id: str) -> Response:
        """A new secret, shown this once. The old one goes on for ``overlap_s``; tokens that are out live on."""
        client = self.find(client_id)
        fields = read_body(request, SecretRotationSerializer)
        held = self.principal.scopes
        rotated, secret = attempt(clients.rotate_client, client=client, held=held, **fields)
        return Response(with_secret(rotated, secret))
