"""``/api/v1/providers/``: the tenant's own ways to language models, and the names of the platform's."""

from typing import Any

from django.http import Http404
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import status
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from agents.providers import operations, queries
from agents.providers.checking import check_provider
from agents.providers.models import Provider
from agents.providers.queries import ListedProvider
from agents.providers.serializers import (
    CheckSerializer,
    CheckShape,
    ProviderSerializer,
    ProviderShape,
    ProvidersSerializer,
)
from tenants.api.places import TooBusy
from tenants.permissions import Scope
from tenants.rest import TenantAPIView

OWN_FIELDS = ("kind", "base_url", "credentials_set", "model", "sees", "created_at", "updated_at")


PAGE = {
    "next": None,
    "previous": None,
    "results": [
        {
            "name": "own-vllm", "owner": "tenant", "is_default": False, "kind": "openai_compatible",
            "base_url": "https://llm.example.com/v1", "credentials_set": ["api_key"], "model": "llama-3.3-70b",
            "sees": False, "is_enabled": True, "created_at": "2027-01-15T08:00:00Z",
            "updated_at": "2027-01-15T09:30:00Z",
        },
        {
            "name": "openai", "owner": "platform", "is_default": True, "kind": None, "base_url": None,
            "credentials_set": None, "model": None, "sees": None, "is_enabled": True, "created_at": None,
            "updated_at": None,
        },
    ],
}  # fmt: skip


class Conflict(APIException):
    status_code = 409


class ChecksTaken(APIException):
    """Other checks are going on; each takes a few seconds."""

    status_code = 503
    default_detail = "Other providers are being checked; try again in 5 s."
    default_code = "busy"
    headers = {"Retry-After": "5"}


class ProviderView(TenantAPIView):
    read_scope = Scope.AGENTS_READ
    write_scope = Scope.AGENTS_WRITE
    serializer_class = ProviderSerializer

    def find(self, name: str) -> Provider:
        try:
            return queries.find_provider(name)
        except queries.ProviderUnknown as error:
            raise Http404(error.message) from error


class Providers(ProviderView):
    @extend_schema(
        operation_id="list_providers", responses=ProvidersSerializer, examples=[OpenApiExample("answered", PAGE)]
    )
    def get(self, request: Request) -> Response:
        """By name, all on one page; of the platform's only that they are there."""
        self.refuse_unknown(set())
        shown = [show(listed) for listed in queries.list_providers()]
        return Response({"next": None, "previous": None, "results": shown})

    @extend_schema(operation_id="create_provider", request=ProviderShape, responses={201: ProviderSerializer})
    def post(self, request: Request) -> Response:
        """A new provider. One of a platform provider's name takes its place for this tenant's agents."""
        shape = ProviderShape(data=request.data)
        shape.is_valid(raise_exception=True)
        provider = attempt(operations.create_provider, **shape.validated_data)
        return Response(show(ListedProvider(provider.name, provider)), status=status.HTTP_201_CREATED)


class OneProvider(ProviderView):
    @extend_schema(operation_id="get_provider")
    def get(self, request: Request, name: str) -> Response:
        """One of the tenant's or of the platform's, as the list shows it."""
        self.refuse_unknown(set())
        found = next((listed for listed in queries.list_providers() if listed.name == name), None)
        if found is None:
            raise Http404(queries.ProviderUnknown(name).message)
        return Response(show(found))

    @extend_schema(operation_id="update_provider", request=ProviderShape)
    def patch(self, request: Request, name: str) -> Response:
        """Changes the fields that are sent, for calls that begin from now on. With another kind or address goes the
        credential: those that are there are kept for where they were meant."""
        provider = self.find(name)
        shape = ProviderShape(provider, data=request.data, partial=True)
        shape.is_valid(raise_exception=True)
        provider = attempt(operations.update_provider, provider=provider, **shape.validated_data)
        return Response(show(ListedProvider(provider.name, provider)))

    @extend_schema(operation_id="delete_provider", responses={204: None})
    def delete(self, request: Request, name: str) -> Response:
        """Refused while an agent names it: switch it off by `is_enabled` to have it asked no more."""
        attempt(operations.delete_provider, provider=self.find(name))
        return Response(status=status.HTTP_204_NO_CONTENT)


class Check(ProviderView):
    @extend_schema(operation_id="check_provider", request=CheckShape, responses=CheckSerializer)
    def post(self, request: Request, name: str) -> Response:
        """Asks it for a word, and says how that went. It takes 10 s at most, and what a provider charges for it."""
        shape = CheckShape(data=request.data)
        shape.is_valid(raise_exception=True)
        try:
            checked = check_provider(queries.as_value(self.find(name)), shape.validated_data.get("model", ""))
        except TooBusy as error:
            raise ChecksTaken from error
        return Response(
            {
                "answers": checked.first_token_ms is not None,
                "model": checked.model,
                "first_token_ms": checked.first_token_ms,
                "code": checked.code,
                "message": checked.message,
            }
        )


def show(listed: ListedProvider) -> dict[str, Any]:
    own = {name: getattr(listed.own, name, None) for name in OWN_FIELDS}
    return dict(
        ProviderSerializer(
            {
                "name": listed.name,
                "owner": "tenant" if listed.own else "platform",
                "is_default": listed.is_default,
                "is_enabled": listed.own is None or listed.own.is_enabled,
                **own,
            }
        ).data
    )


def attempt(operation: Any, **arguments: Any) -> Any:
    """What the operation gives. Raises its refusal as the caller is told it."""
    try:
        return operation(**arguments)
    except operations.ProviderInvalid as error:
        raise ValidationError(
            {name: [ErrorDetail(words[0], error.code)] for name, words in error.errors.items()}
        ) from error
    except operations.ProviderInUse as error:
        raise Conflict({"name": [ErrorDetail(error.message, "provider_in_use")]}) from error
