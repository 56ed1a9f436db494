"""``/api/v1/agents/``: the tenant's agents, their drafts and published versions."""

from typing import Any

from django.http import Http404, HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from agents import operations, queries
from agents.documents import DocumentInvalid, check_document, parse_document, write_document
from agents.models import Agent, AgentVersion
from agents.serializers import (
    AgentAppliedSerializer,
    AgentDocumentSerializer,
    AgentDraftResetSerializer,
    AgentPublishSerializer,
    AgentQuery,
    AgentSerializer,
    AgentVersionChoiceSerializer,
    AgentVersionDetailSerializer,
    AgentVersionSerializer,
    DiffQuery,
    DiffSerializer,
)
from agents.versions import differ
from tenants.api.pages import answer_page
from tenants.envelope import JsonParser
from tenants.permissions import Scope
from tenants.rest import Pages, TenantAPIView

YAML = "application/yaml"


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT


class AgentPages(Pages):
    ordering = "slug"


class VersionPages(Pages):
    ordering = "-number"


class AgentView(TenantAPIView):
    read_scope = Scope.AGENTS_READ
    write_scope = Scope.AGENTS_WRITE
    serializer_class = AgentSerializer

    def find(self, slug: str) -> Agent:
        try:
            return queries.find_agent(slug)
        except queries.AgentUnknown as error:
            raise Http404(error.message) from error

    def find_version(self, agent: Agent, number: int) -> AgentVersion:
        try:
            return queries.find_version(agent, number)
        except queries.VersionUnknown as error:
            raise Http404(error.message) from error

    def show(self, slug: str) -> Response:
        return Response(AgentSerializer(self.find(slug)).data)


class Agents(AgentView):
    pagination_class = AgentPages

    @extend_schema(operation_id="list_agents", parameters=[AgentQuery], responses=AgentSerializer(many=True))
    def get(self, request: Request) -> Response:
        """The tenant's agents by slug, a page at a time."""
        filters = self.read_query(AgentQuery)
        return answer_page(self, queries.list_agents(**filters), AgentSerializer)

    @extend_schema(operation_id="create_agent", responses={201: AgentSerializer})
    def post(self, request: Request) -> Response:
        """A new agent, as a draft. ``slug`` and ``name`` are needed, the rest has defaults. It takes calls once it is
        published."""
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
        """Its draft, and which of its versions take calls."""
        self.refuse_unknown(set())
        return self.show(slug)

    @extend_schema(operation_id="update_agent")
    def patch(self, request: Request, slug: str) -> Response:
        """Changes the fields of the draft that are sent. Calls get them once they are published."""
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
        """With all its versions. Its conversations stay in the archive. An agent that another one names as a colleague,
        or a routing rule, and the default one while there are others, cannot be deleted (409)."""
        try:
            operations.delete_agent(agent=self.find(slug))
        except operations.AgentInUse as error:
            raise Conflict(error.message, error.code) from error
        return Response(status=status.HTTP_204_NO_CONTENT)


class AgentVersions(AgentView):
    pagination_class = VersionPages

    @extend_schema(operation_id="list_agent_versions", responses=AgentVersionSerializer(many=True))
    def get(self, request: Request, slug: str) -> Response:
        """What was published, the latest first, a page at a time."""
        self.refuse_unknown({"limit", "cursor"})
        versions = queries.list_versions(self.find(slug)).defer("definition")
        return answer_page(self, versions, AgentVersionSerializer)


class OneAgentVersion(AgentView):
    @extend_schema(operation_id="get_agent_version", responses=AgentVersionDetailSerializer)
    def get(self, request: Request, slug: str, number: int) -> Response:
        """One version, with what it says."""
        self.refuse_unknown(set())
        return Response(AgentVersionDetailSerializer(self.find_version(self.find(slug), number)).data)


class AgentDiff(AgentView):
    @extend_schema(operation_id="diff_agent", parameters=[DiffQuery], responses=DiffSerializer)
    def get(self, request: Request, slug: str) -> Response:
        """What differs between two versions, or between a version and the draft, field by field."""
        asked = self.read_query(DiffQuery)
        agent = self.find(slug)
        first = asked.get("first") or (str(agent.live.number) if agent.live else None)
        if first is None:
            words = "The agent has no live version; say which one to compare with."
            raise ValidationError({"from": [ErrorDetail(words, "required")]})
        try:
            before, after = (queries.read_definition(agent, name) for name in (first, asked["last"]))
        except queries.VersionUnknown as error:
            raise Http404(error.message) from error
        return Response({"from": first, "to": asked["last"], "changes": differ(before, after)})


class AgentPublication(AgentView):
    @extend_schema(
        operation_id="publish_agent", request=AgentPublishSerializer, responses={201: AgentVersionDetailSerializer}
    )
    def post(self, request: Request, slug: str) -> Response:
        """The draft as a new version. All that keeps it from taking calls is said at once. Calls in progress go on as
        they are."""
        agent = self.find(slug)
        shape = AgentPublishSerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        try:
            version = operations.publish_agent(agent=agent, **shape.validated_data)
        except operations.AgentInvalid as error:
            place = next(iter(error.errors))
            raise ValidationError({place: [ErrorDetail(str(error), "agent_invalid")]}) from error
        found = queries.find_version(agent, version.number)
        return Response(AgentVersionDetailSerializer(found).data, status=status.HTTP_201_CREATED)


class AgentActivation(AgentView):
    @extend_schema(operation_id="activate_agent_version", request=AgentVersionChoiceSerializer)
    def post(self, request: Request, slug: str) -> Response:
        """New calls get this version; calls in progress go on as they are."""
        agent = self.find(slug)
        shape = AgentVersionChoiceSerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        operations.activate_version(version=self.find_version(agent, shape.validated_data["version"]))
        return self.show(slug)


class AgentRollback(AgentView):
    @extend_schema(operation_id="roll_back_agent", request=None)
    def post(self, request: Request, slug: str) -> Response:
        """New calls get the version that took them before; done twice, it is taken back."""
        try:
            operations.roll_back_agent(agent=self.find(slug))
        except operations.NothingToRollBack as error:
            raise Conflict(error.message, error.code) from error
        return self.show(slug)


class AgentDraft(AgentView):
    @extend_schema(operation_id="reset_agent_draft", request=AgentDraftResetSerializer)
    def put(self, request: Request, slug: str) -> Response:
        """The draft as a version was when it was published; what else was changed in it is lost."""
        agent = self.find(slug)
        shape = AgentDraftResetSerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        number = shape.validated_data.get("version") or (agent.live and agent.live.number)
        if number is None:
            words = "The agent has no live version; say which one the draft shall be."
            raise ValidationError({"version": [ErrorDetail(words, "required")]})
        operations.reset_draft(agent=agent, version=self.find_version(agent, number))
        return self.show(slug)


class AgentExport(AgentView):
    @extend_schema(
        operation_id="export_agent",
        responses={(200, YAML): OpenApiResponse(OpenApiTypes.STR, "The document.")},
    )
    def get(self, request: Request, slug: str) -> HttpResponse:
        """The draft as one YAML document, to be kept in Git and applied again."""
        self.refuse_unknown(set())
        return HttpResponse(write_document(self.find(slug)), content_type=f"{YAML}; charset=utf-8")


class YamlParser(BaseParser):
    media_type = YAML

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """What is written there. Raises ValidationError."""
        try:
            return parse_document(stream.read())
        except DocumentInvalid as error:
            raise _wrong_document(error) from error


class AgentApplication(AgentView):
    parser_classes = [JsonParser, YamlParser]

    @extend_schema(
        operation_id="apply_agent",
        request={"application/json": AgentDocumentSerializer, YAML: AgentDocumentSerializer},
        responses=AgentAppliedSerializer,
    )
    def put(self, request: Request, slug: str) -> Response:
        """The draft as the document has it: what the document leaves out gets its default. A document that says its
        slug makes the agent where there is none. Applying the same document again changes nothing."""
        document = request.data
        if not isinstance(document, dict) or document.get("slug") != slug:
            self.find(slug)
        try:
            fields = check_document(document)
        except DocumentInvalid as error:
            raise _wrong_document(error) from error
        shape = AgentSerializer(data={"slug": slug, **fields})
        shape.is_valid(raise_exception=True)
        if shape.validated_data["slug"] != slug:
            words = f"The document is about {shape.validated_data['slug']!r}, the address about {slug!r}."
            raise ValidationError({"slug": [ErrorDetail(words, "invalid")]})
        try:
            applied = operations.apply_agent(**shape.validated_data)
        except operations.AgentInvalid as error:
            raise _refusal(error) from error
        return Response(AgentAppliedSerializer(applied).data)


def _wrong_document(error: DocumentInvalid) -> ValidationError:
    detail = ErrorDetail(error.message, "document_invalid")
    return ValidationError({error.field: [detail]} if error.field else [detail])


def _refusal(error: operations.AgentInvalid) -> ValidationError:
    code = "slug_taken" if isinstance(error, operations.SlugTaken) else "invalid"
    return ValidationError({name: [ErrorDetail(words[0], code)] for name, words in error.errors.items()})
