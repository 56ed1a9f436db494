"""``/api/v1/conversations/``: what was said, read only."""

from django.conf import settings
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from realtime.archive import queries
from realtime.archive.serializers import (
    ConversationSerializer,
    FilterSerializer,
    TranscriptSerializer,
)
from tenants.permissions import Scope
from tenants.rest import Pages, TenantAPIView


class ConversationPages(Pages):
    ordering = ("-started_at", "-id")


class Conversations(TenantAPIView):
    read_scope = write_scope = Scope.CONVERSATIONS_READ
    serializer_class = ConversationSerializer
    pagination_class = ConversationPages

    @extend_schema(
        operation_id="list_conversations",
        parameters=[FilterSerializer],
        responses=ConversationSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """The tenant's conversations, newest first, a page at a time."""
        self.refuse_unknown(set(FilterSerializer().fields))
        shape = FilterSerializer(data=request.query_params.dict())
        shape.is_valid(raise_exception=True)
        filters = {name: value for name, value in shape.validated_data.items() if name not in ("limit", "cursor")}
        pages = ConversationPages()
        page = pages.paginate_queryset(queries.list_conversations(**filters), request, self)
        return pages.get_paginated_response(ConversationSerializer(page, many=True).data)


class OneConversation(TenantAPIView):
    read_scope = write_scope = Scope.CONVERSATIONS_READ
    serializer_class = TranscriptSerializer

    @extend_schema(operation_id="get_conversation")
    def get(self, request: Request, session_id: str) -> Response:
        """One conversation with its items, by the session's id."""
        self.refuse_unknown(set())
        try:
            conversation = queries.find_conversation(session_id)
        except queries.ConversationUnknown as error:
            raise Http404(error.message) from error
        items, left_out = queries.load_items(conversation, limit=settings.API_MAX_ITEMS)
        transcript = TranscriptSerializer(
            {**ConversationSerializer(conversation).data, "items": items, "items_left_out": left_out}
        )
        return Response(transcript.data)
