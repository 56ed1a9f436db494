"""The JSON shapes of the archive, and of the filters that a list takes."""

import math
from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from realtime.archive.models import Conversation, Item
from tenants.api.shapes import PageQuery

CONVERSATION = {
    "id": "sess_4m1Qd7Zk",
    "conversation_id": "conv_8sHq2LxT",
    "agent": "front-desk",
    "agent_version": 3,
    "trial": "",
    "channel": "websocket",
    "key_id": "key_5f0c9a1b2d3e4f5061728394",
    "end_user": "customer-4711",
    "model": "gpt-4o-mini",
    "started_at": "2027-01-15T08:00:00Z",
    "ended_at": "2027-01-15T08:01:00Z",
    "end_reason": "client_closed",
    "duration_s": 60.0,
    "item_count": 1,
}
ITEM = {
    "id": "item_2bX9",
    "previous_item_id": None,
    "type": "message",
    "role": "user",
    "status": "completed",
    "text": "Do you have a room for tonight?",
    "content": {
        "id": "item_2bX9",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": "Do you have a room for tonight?"}],
    },
    "response_id": "",
    "audio_ms": 1800,
    "timings_ms": {"stt": 80.5},
    "agent": "front-desk",
    "agent_version": 3,
    "receipt": None,
    "created_at": "2027-01-15T08:00:02Z",
    "updated_at": "2027-01-15T08:00:02Z",
}


@extend_schema_serializer(examples=[OpenApiExample("answered", CONVERSATION)])
class ConversationSerializer(serializers.ModelSerializer):
    class Meta:
        model = Conversation
        fields = [
            "id", "conversation_id", "agent", "agent_version", "trial", "channel", "key_id", "end_user", "model",
            "started_at", "ended_at", "end_reason", "duration_s", "item_count",
        ]  # fmt: skip


@extend_schema_serializer(examples=[OpenApiExample("answered", ITEM)])
class ItemSerializer(serializers.ModelSerializer):
    """``content`` is the item as the Realtime API shows it; ``text`` is what was said or written; ``agent`` made it, or
    was there when it was said; ``receipt`` is what a tool call did: asked, sent, answered, how long it took."""

    id = serializers.CharField(source="item_id")
    content = serializers.DictField()
    timings_ms = serializers.DictField(
        child=serializers.FloatField(), help_text="How long each stage of the turn took."
    )
    receipt = serializers.DictField(allow_null=True)

    class Meta:
        model = Item
        fields = [
            "id", "previous_item_id", "type", "role", "status", "text", "content", "response_id", "audio_ms",
            "timings_ms", "agent", "agent_version", "receipt", "created_at", "updated_at",
        ]  # fmt: skip


@extend_schema_serializer(examples=[OpenApiExample("answered", {**CONVERSATION, "items": [ITEM], "items_left_out": 0})])
class TranscriptSerializer(ConversationSerializer):
    """A conversation with its items in the order of the conversation; the latest ones when there are very many."""

    items = ItemSerializer(many=True)
    items_left_out = serializers.IntegerField(help_text="How many earlier items are not shown.")

    class Meta(ConversationSerializer.Meta):
        fields = [*ConversationSerializer.Meta.fields, "items", "items_left_out"]


class ConversationQuery(PageQuery):
    agent = serializers.CharField(required=False, help_text="The agent's slug.")
    agent_version = serializers.IntegerField(
        required=False, min_value=0, max_value=2**31 - 1, help_text="The version that began it; 0: no published one."
    )
    trial = serializers.CharField(required=False, help_text="The A/B trial that chose the version, by id.")
    channel = serializers.CharField(required=False, help_text="How the call came in, such as websocket.")
    end_user = serializers.CharField(required=False, help_text="Whom the caller's key named as the end user.")
    key_id = serializers.CharField(required=False, help_text="The API key of the call.")
    end_reason = serializers.CharField(required=False, help_text="Why it ended, such as client_closed.")
    started_after = serializers.DateTimeField(required=False, help_text="At or after this time.")
    started_before = serializers.DateTimeField(required=False, help_text="Before this time.")
    min_duration_s = serializers.FloatField(required=False, min_value=0, help_text="At least so many seconds long.")
    max_duration_s = serializers.FloatField(required=False, min_value=0, help_text="At most so many seconds long.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("min_duration_s", 0) > attrs.get("max_duration_s", math.inf):
            raise serializers.ValidationError({"max_duration_s": "It is below 'min_duration_s'."}, "invalid")
        return attrs
