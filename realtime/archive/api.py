"""``/api/v1/conversations/``: what was said, read only."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from django.conf import settings
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from realtime.archive import queries
from realtime.archive.models import Conversation
from realtime.archive.serializers import (
    ConversationQuery,
    ConversationSerializer,
    ItemSerializer,
    TranscriptSerializer,
)
from realtime.privacy.cold import UNREADABLE
from realtime.recordings.storage import StorageUnavailable
from tenants.api.pages import answer_page
from tenants.api.shapes import PageQuery
from tenants.permissions import Scope
from tenants.rest import Pages, TenantAPIView

log = logging.getLogger(__name__)


class ConversationPages(Pages):
    ordering = ("-started_at", "-id")


class ItemPages(Pages):
    ordering = ("first_seq", "id")


class ColdStorageAway(APIException):
    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    headers = {"Retry-After": "5"}

    def __init__(self) -> None:
        super().__init__(
            "The items of this old conversation are in cold storage, which does not answer now.", "storage_unavailable"
        )


@contextmanager
def reading_items() -> Iterator[None]:
    """Those of an old conversation come from cold storage."""
    try:
        yield
    except (StorageUnavailable, *UNREADABLE) as error:
        log.error("cold storage failed: %s", error)
        raise ColdStorageAway from error


class ConversationView(TenantAPIView):
    read_scope = write_scope = Scope.CONVERSATIONS_READ

    def find(self, session_id: str) -> Conversation:
        try:
            return queries.find_conversation(session_id)
        except queries.ConversationUnknown as error:
            raise Http404(error.message) from error


class Conversations(ConversationView):
    serializer_class = ConversationSerializer
    pagination_class = ConversationPages

    @extend_schema(
        operation_id="list_conversations",
        parameters=[ConversationQuery],
        responses=ConversationSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """The tenant's conversations, newest first, a page at a time."""
        filters = self.read_query(ConversationQuery)
        return answer_page(self, queries.list_conversations(**filters), ConversationSerializer)


class OneConversation(ConversationView):
    serializer_class = TranscriptSerializer

    @extend_schema(operation_id="get_conversation")
    def get(self, request: Request, session_id: str) -> Response:
        """One conversation with its items, by the session's id; of very many items the latest ones."""
        self.refuse_unknown(set())
        conversation = self.find(session_id)
        with reading_items():
            items, left_out = queries.load_items(conversation, limit=settings.API_MAX_ITEMS)
        transcript = TranscriptSerializer(
            {**ConversationSerializer(conversation).data, "items": items, "items_left_out": left_out}
        )
        return Response(transcript.data)


class Items(ConversationView):
    serializer_class = ItemSerializer
    pagination_class = ItemPages

    @extend_schema(operation_id="list_conversation_items", parameters=[PageQuery], responses=ItemSerializer(many=True))
    def get(self, request: Request, session_id: str) -> Response:
        """All items of one conversation in the order in which they came, a page at a time.

        `previous_item_id` says where the conversation has each.
        """
        self.read_query(PageQuery)
        conversation = self.find(session_id)
        with reading_items():
            items = queries.list_items(conversation)
        return answer_page(self, items, ItemSerializer)
