"""The JSON shapes of trials and releases. Rules live in the operations; here only types."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from agents.trials.assignment import Arm
from agents.trials.models import Release, ReleaseStatus, Trial, TrialStatus
from agents.trials.operations import FEWEST_CALLS, HIGHEST_ALPHA, HIGHEST_WEIGHT, MOST_ARMS, MOST_CALLS
from agents.trials.queries import compare
from tenants.api.shapes import PageQuery, StrictSerializer

MOST = 2_147_483_647
ARMS = [{"version": 3, "weight": 80}, {"version": 4, "weight": 20}]
STARTED = {"arms": ARMS, "auto_rollback": True, "alpha": 0.01, "min_calls": 20}
TRIAL = {
    "id": "5b1c8f0e-7f0a-4d58-9a55-0c1de0a9f0b7",
    **STARTED,
    "control": 3,
    "status": "running",
    "end_reason": "",
    "started_by": "Ada Lovelace",
    "started_at": "2027-01-15T08:00:00Z",
    "ended_at": None,
}
FAILED = {"value": 0.05, "low": 0.0272, "high": 0.0902}
NO_CHANGE = {"value": 0.0, "low": -0.05, "high": 0.07}
LASTED = {"value": 61.2, "low": 55.0, "high": 67.4}
REPORT = {
    "version": 4,
    "weight": 20,
    "calls": 200,
    "ended": 200,
    "failed": {"estimate": FAILED, "difference": NO_CHANGE},
    "hung_up": {"estimate": FAILED, "difference": NO_CHANGE},
    "duration_s": {"estimate": LASTED, "difference": {"value": 1.2, "low": -5.5, "high": 7.9}},
    "turns": {
        "estimate": {"value": 4.1, "low": 3.8, "high": 4.4},
        "difference": {"value": 0.2, "low": -0.2, "high": 0.6},
    },
    "verdict": "no_difference",
    "words": "No difference is seen, in failures or in hang-ups.",
}
RELEASE = {
    "version": 4,
    "replaced": 3,
    "status": "watching",
    "looks": 2,
    "since": "2027-01-15T08:00:00Z",
    "ended_at": None,
}


class TrialArmSerializer(StrictSerializer):
    version = serializers.IntegerField(min_value=1, max_value=MOST, help_text="The number of a published version.")
    weight = serializers.IntegerField(
        min_value=1, max_value=HIGHEST_WEIGHT, help_text="Its part of the sum of all weights."
    )


@extend_schema_serializer(examples=[OpenApiExample("sent", STARTED, request_only=True)])
class TrialStartSerializer(StrictSerializer):
    arms = TrialArmSerializer(
        many=True, help_text=f"2 to {MOST_ARMS} versions; the live one is among them, and the control."
    )
    auto_rollback = serializers.BooleanField(
        default=True, help_text="End it when a version fails, or is hung up on, significantly more often."
    )
    alpha = serializers.FloatField(
        required=False,
        min_value=0,
        max_value=HIGHEST_ALPHA,
        help_text="The chance to end it wrongly, over all looks; `AVB_AGENT_WATCH_ALPHA` when not given.",
    )
    min_calls = serializers.IntegerField(
        required=False,
        min_value=FEWEST_CALLS,
        max_value=MOST_CALLS,
        help_text="Ended calls of each side before the first look; `AVB_AGENT_WATCH_MIN_CALLS` when not given.",
    )

    def validate_arms(self, arms: list[dict[str, int]]) -> list[Arm]:
        return [Arm(**arm) for arm in arms]


@extend_schema_serializer(examples=[OpenApiExample("sent", {"promote": 4}, request_only=True)])
class TrialEndSerializer(StrictSerializer):
    promote = serializers.IntegerField(
        required=False,
        allow_null=True,
        default=None,
        min_value=1,
        max_value=MOST,
        help_text="Make this version live; null: the control stays.",
    )


@extend_schema_serializer(examples=[OpenApiExample("answered", TRIAL)])
class TrialSerializer(serializers.ModelSerializer):
    arms = TrialArmSerializer(many=True)

    class Meta:
        model = Trial
        fields = [
            "id", "arms", "control", "status", "end_reason", "auto_rollback", "alpha", "min_calls", "started_by",
            "started_at", "ended_at",
        ]  # fmt: skip


class TrialIntervalSerializer(serializers.Serializer):
    """``low`` and ``high`` hold the true value with a confidence of 95 %; null: too little is known."""

    value = serializers.FloatField()
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)


class TrialMeasureSerializer(serializers.Serializer):
    estimate = TrialIntervalSerializer(allow_null=True, help_text="A rate from 0 to 1, or a mean; null without calls.")
    difference = TrialIntervalSerializer(allow_null=True, help_text="To the control's; null for the control itself.")


class TrialReportSerializer(serializers.Serializer):
    version = serializers.IntegerField()
    weight = serializers.IntegerField()
    calls = serializers.IntegerField(help_text="That have begun.")
    ended = serializers.IntegerField(help_text="Of those, that are over.")
    failed = TrialMeasureSerializer(help_text="Calls in which an answer could not be given, or only the degraded one.")
    hung_up = TrialMeasureSerializer(help_text="Calls that the caller left before or in the middle of an answer.")
    duration_s = TrialMeasureSerializer()
    turns = TrialMeasureSerializer()
    verdict = serializers.ChoiceField(["control", "too_few_calls", "no_difference", "better", "worse", "mixed"])
    words = serializers.CharField(help_text="The verdict, for people.")


@extend_schema_serializer(examples=[OpenApiExample("answered", TRIAL | {"comparison": [REPORT]})])
class TrialDetailSerializer(TrialSerializer):
    """A trial with its versions side by side."""

    comparison = serializers.SerializerMethodField()

    class Meta(TrialSerializer.Meta):
        fields = [*TrialSerializer.Meta.fields, "comparison"]

    def get_comparison(self, trial: Trial) -> TrialReportSerializer(many=True):  # type: ignore[valid-type]
        return TrialReportSerializer(compare(trial), many=True).data


class TrialQuery(PageQuery):
    status = serializers.ChoiceField(TrialStatus.choices, required=False)


@extend_schema_serializer(examples=[OpenApiExample("answered", RELEASE)])
class ReleaseSerializer(serializers.ModelSerializer):
    class Meta:
        model = Release
        fields: Any = ["version", "replaced", "status", "looks", "since", "ended_at"]


class ReleaseQuery(PageQuery):
    status = serializers.ChoiceField(ReleaseStatus.choices, required=False)
