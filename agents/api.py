"""``/api/v1/agents/``: the tenant's agents."""

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from agents import operations, queries
from agents.models import Agent
from agents.serializers import AgentQuery, AgentSerializer
from tenants.api.pages import answer_page
from tenants.permissions import Scope
from tenants.rest import Pages, TenantAPIView


class AgentPages(Pages):
    ordering = "slug"


class AgentView(TenantAPIView):
    read_scope = Scope.AGENTS_READ
    write_scope = Scope.AGENTS_WRITE
    serializer_class = AgentSerializer

    def find(self, slug: str) -> Agent:
        try:
            return queries.find_agent(slug)
        except queries.AgentUnknown as error:
            raise Http404(error.message) from error


class Agents(AgentView):
    pagination_class = AgentPages

    @extend_schema(operation_id="list_agents", parameters=[AgentQuery], responses=AgentSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The tenant's agents by slug, a page at a time."""
        filters = self.read_query(AgentQuery)
        return answer_page(self, queries.list_agents(**filters), AgentSerializer)

    @extend_schema(operation_id="create_agent", responses={201: AgentSerializer})
    def post(self, request: Request) -> Response:
        """A new agent. ``slug`` and ``name`` are needed, the rest has defaults."""
        shape = AgentSerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        try:
            agent = operations.create_agent(**shape.validated_data)
        except operations.AgentInvalid as error:
            raise _refusal(error) from error
        return Response(AgentSerializer(agent).data, status=status.HTTP_201_CREATED)


class OneAgent(AgentView):
    @extend_schema(operation_id="get_agent")
    def get(self, request: Request, slug: str) -> Response:
        self.refuse_unknown(set())
        return Response(AgentSerializer(self.find(slug)).data)

    @extend_schema(operation_id="update_agent")
    def patch(self, request: Request, slug: str) -> Response:
        """Changes the fields that are sent. Running calls keep the agent they began with."""
        agent = self.find(slug)
        shape = AgentSerializer(agent, data=request.data, partial=True)
        shape.is_valid(raise_exception=True)
        try:
            agent = operations.update_agent(agent=agent, **shape.validated_data)
        except operations.AgentInvalid as error:
            raise _refusal(error) from error
        return Response(AgentSerializer(agent).data)

    @extend_schema(operation_id="delete_agent", responses={204: None})
    def delete(self, request: Request, slug: str) -> Response:
        """Its conversations stay in the archive."""
        operations.delete_agent(agent=self.find(slug))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _refusal(error: operations.AgentInvalid) -> ValidationError:
    code = "slug_taken" if isinstance(error, operations.SlugTaken) else "invalid"
    return ValidationError({name: [ErrorDetail(words[0], code)] for name, words in error.errors.items()})
