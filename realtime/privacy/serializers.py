"""The JSON shapes of data protection. The end user is only ever sent, in a body, and shown again in a hold alone."""

from rest_framework import serializers

from realtime.privacy.holds import REASON_CHARACTERS
from realtime.privacy.models import Erasure, Export, LegalHold
from realtime.privacy.subjects import END_USER_CHARACTERS
from tenants.api.shapes import StrictSerializer

END_USER = {"max_length": END_USER_CHARACTERS, "trim_whitespace": False, "help_text": "As calls name the end user."}


class SubjectRequest(StrictSerializer):
    end_user = serializers.CharField(**END_USER)


class ReasonRequest(StrictSerializer):
    reason = serializers.CharField(max_length=REASON_CHARACTERS, help_text="Why it must be kept.")


class HoldRequest(ReasonRequest):
    end_user = serializers.CharField(**END_USER)


class HoldSerializer(serializers.ModelSerializer):
    class Meta:
        model = LegalHold
        fields = ["id", "session_id", "end_user", "reason", "placed_at"]


class JobSerializer(serializers.ModelSerializer):
    """``subject`` stands for the end user; ``counts`` says how much of each kind there was."""

    counts = serializers.DictField(child=serializers.IntegerField())


class ErasureSerializer(JobSerializer):
    class Meta:
        model = Erasure
        fields = ["id", "subject", "state", "requested_at", "ended_at", "counts", "refusal", "fault"]


class ExportSerializer(JobSerializer):
    class Meta:
        model = Export
        fields = [
            "id", "subject", "state", "requested_at", "ended_at", "done", "total", "counts", "bytes", "expires_at",
            "fault",
        ]  # fmt: skip
