"""``/api/v1/agents/{slug}/trials/``: A/B trials of an agent's versions. ``…/releases/``: versions that are watched."""

from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from agents.models import Agent
from agents.queries import AgentUnknown, find_agent
from agents.trials import operations, queries
from agents.trials.models import Trial
from agents.trials.promotion import conclude_trial
from agents.trials.serializers import (
    ReleaseQuery,
    ReleaseSerializer,
    TrialDetailSerializer,
    TrialEndSerializer,
    TrialQuery,
    TrialSerializer,
    TrialStartSerializer,
)
from tenants.api.pages import answer_page
from tenants.permissions import Scope
from tenants.rest import Pages, TenantAPIView

CONFLICTS = {"trial_running", "trial_ended", "unpublished"}


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT


class TrialPages(Pages):
    ordering = ("-started_at", "-id")


class ReleasePages(Pages):
    ordering = ("-since", "-id")


class TrialView(TenantAPIView):
    read_scope = Scope.AGENTS_READ
    write_scope = Scope.AGENTS_WRITE
    serializer_class = TrialSerializer

    def find_agent(self, slug: str) -> Agent:
        try:
            return find_agent(slug)
        except AgentUnknown as error:
            raise Http404(error.message) from error

    def find(self, slug: str, trial_id: UUID) -> Trial:
        try:
            return queries.find_trial(self.find_agent(slug), trial_id)
        except queries.TrialUnknown as error:
            raise Http404(error.message) from error


class Trials(TrialView):
    pagination_class = TrialPages

    @extend_schema(operation_id="list_agent_trials", parameters=[TrialQuery], responses=TrialSerializer(many=True))
    def get(self, request: Request, slug: str) -> Response:
        """The agent's trials, newest first, a page at a time."""
        filters = self.read_query(TrialQuery)
        return answer_page(self, queries.list_trials(self.find_agent(slug), **filters), TrialSerializer)

    @extend_schema(
        operation_id="start_agent_trial",
        request=TrialStartSerializer,
        responses={201: TrialDetailSerializer, 409: OpenApiResponse(description="One is running, or none is live.")},
    )
    def post(self, request: Request, slug: str) -> Response:
        """From now on callers are split between the versions by weight; whoever comes again gets the same one."""
        agent = self.find_agent(slug)
        shape = TrialStartSerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        try:
            trial = operations.start_trial(agent=agent, **shape.validated_data)
        except operations.TrialRefused as error:
            raise _refusal(error) from error
        return Response(TrialDetailSerializer(trial).data, status=status.HTTP_201_CREATED)


class OneTrial(TrialView):
    serializer_class = TrialDetailSerializer

    @extend_schema(operation_id="get_agent_trial")
    def get(self, request: Request, slug: str, trial_id: UUID) -> Response:
        """One trial with its versions side by side: rates and means with intervals of 95 % confidence."""
        self.refuse_unknown(set())
        return Response(TrialDetailSerializer(self.find(slug, trial_id)).data)


class EndOfTrial(TrialView):
    @extend_schema(
        operation_id="end_agent_trial",
        request=TrialEndSerializer,
        responses={200: TrialDetailSerializer, 409: OpenApiResponse(description="It has ended.")},
    )
    def post(self, request: Request, slug: str, trial_id: UUID) -> Response:
        """New callers get the control again, or the version that is promoted. Calls in progress go on as they are."""
        trial = self.find(slug, trial_id)
        shape = TrialEndSerializer(data=request.data)
        shape.is_valid(raise_exception=True)
        try:
            conclude_trial(trial=trial, **shape.validated_data)
        except operations.TrialRefused as error:
            raise _refusal(error) from error
        return Response(TrialDetailSerializer(trial).data)


class Releases(TrialView):
    serializer_class = ReleaseSerializer
    pagination_class = ReleasePages

    @extend_schema(
        operation_id="list_agent_releases", parameters=[ReleaseQuery], responses=ReleaseSerializer(many=True)
    )
    def get(self, request: Request, slug: str) -> Response:
        """Versions that went live in another one's place, newest first, and what watching them has shown."""
        filters = self.read_query(ReleaseQuery)
        return answer_page(self, queries.list_releases(self.find_agent(slug), **filters), ReleaseSerializer)


def _refusal(error: operations.TrialRefused) -> APIException:
    details = {error.param: [ErrorDetail(error.message, error.code)]}
    return Conflict(details) if error.code in CONFLICTS else ValidationError(details)
