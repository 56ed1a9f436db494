"""The JSON shapes of the archive, and of the filters that a list takes."""

from rest_framework import serializers

from realtime.archive.models import Conversation, Item


class ConversationSerializer(serializers.ModelSerializer):
    class Meta:
        model = Conversation
        fields = [
            "id", "conversation_id", "agent", "channel", "key_id", "end_user", "model", "started_at", "ended_at",
            "end_reason", "duration_s", "item_count",
        ]  # fmt: skip


class ItemSerializer(serializers.ModelSerializer):
    """``content`` is the item as the Realtime API shows it; ``text`` is what was said or written."""

    id = serializers.CharField(source="item_id")
    timings_ms = serializers.DictField(child=serializers.FloatField())

    class Meta:
        model = Item
        fields = [
            "id", "previous_item_id", "type", "role", "status", "text", "content", "response_id", "audio_ms",
            "timings_ms", "created_at", "updated_at",
        ]  # fmt: skip


class TranscriptSerializer(ConversationSerializer):
    """A conversation with its items in the order of the conversation; the latest ones when there are very many."""

    items = ItemSerializer(many=True)
    items_left_out = serializers.IntegerField(help_text="How many earlier items are not shown.")

    class Meta(ConversationSerializer.Meta):
        fields = [*ConversationSerializer.Meta.fields, "items", "items_left_out"]


class FilterSerializer(serializers.Serializer):
    agent = serializers.CharField(required=False, help_text="The agent's slug.")
    channel = serializers.CharField(required=False)
    started_after = serializers.DateTimeField(required=False, help_text="At or after this time.")
    started_before = serializers.DateTimeField(required=False, help_text="Before this time.")
    limit = serializers.IntegerField(required=False, min_value=1, help_text="Conversations per page.")
    cursor = serializers.CharField(required=False, help_text="From `next` or `previous` of another page.")
