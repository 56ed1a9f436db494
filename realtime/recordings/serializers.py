"""The JSON shapes of recordings, of the filters that a list takes, and of the tenant's policy."""

from rest_framework import serializers

from realtime.recordings.models import Part, Recording, RecordingState, Whose
from tenants.api.shapes import PageQuery, StrictSerializer


class PartSerializer(serializers.ModelSerializer):
    class Meta:
        model = Part
        fields = ["index", "samples", "bytes", "sha256", "key_version"]


class RecordingSerializer(serializers.ModelSerializer):
    """``id`` is the call's, as in ``/api/v1/conversations/``."""

    id = serializers.CharField(source="pk", read_only=True)
    duration_ms = serializers.IntegerField(read_only=True, help_text="Of the parts that are stored.")

    class Meta:
        model = Recording
        fields = ["id", "state", "started_at", "duration_ms", "sample_rate_hz", "channels", "bytes"]


class RecordingDetailSerializer(RecordingSerializer):
    parts = PartSerializer(many=True, read_only=True)

    class Meta(RecordingSerializer.Meta):
        fields = [*RecordingSerializer.Meta.fields, "parts"]


class RecordingQuery(PageQuery):
    conversation = serializers.CharField(required=False, help_text="The call's id, sess_….")
    state = serializers.ChoiceField(RecordingState.choices, required=False)
    started_after = serializers.DateTimeField(required=False, help_text="At or after this time.")
    started_before = serializers.DateTimeField(required=False, help_text="Before this time.")


class ContentQuery(serializers.Serializer):
    format = serializers.ChoiceField(
        ["wav", "flac"], required=False, help_text="Without it the header Accept decides, and WAV when that does not."
    )


class PolicySerializer(StrictSerializer):
    record = serializers.ChoiceField(
        Whose.choices, help_text="`agent`: each agent's own `record` decides; `all`, `none`: of all calls, or of none."
    )
