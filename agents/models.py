"""An agent: who speaks on a call, and how. Its row is the draft; calls are taken by its versions."""

import uuid
from collections.abc import Collection
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from agents import shapes
from agents.validators import check_time_zone, check_turn_detection, check_voice

INSTRUCTIONS_CHARACTERS = 64_000
GREETING_CHARACTERS = 2_000
NOTE_CHARACTERS = 1_000


def default_turn_detection() -> dict[str, Any]:
    return {"type": "server_vad", "silence_duration_ms": 500}


class Agent(models.Model):
    """One agent of the tenant. At most one is the default, which answers callers who name none."""

    # Admin's log is shared between tenants and refers to rows by id alone, so ids never repeat across schemas.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.CharField(
        max_length=63,
        unique=True,
        validators=[
            RegexValidator(
                r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z",
                "Use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends.",
            )
        ],
        help_text="How callers name the agent.",
    )
    name = models.CharField(max_length=200)
    instructions = models.TextField(
        blank=True,
        validators=[MaxLengthValidator(INSTRUCTIONS_CHARACTERS)],
        help_text="The system prompt, a template: {{ caller.name }} is filled in.",
    )
    greeting = models.TextField(
        blank=True,
        validators=[MaxLengthValidator(GREETING_CHARACTERS)],
        help_text="What the agent says first, a template; empty to wait for the caller.",
    )
    variables = models.JSONField(
        blank=True, default=list, help_text="What templates may use; a default of null must be brought by each call."
    )
    voice = models.CharField(
        max_length=64,
        default="alloy",
        validators=[
            RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9_-]*\Z", "A voice name has letters, digits, '-' and '_'."),
            check_voice,
        ],
    )
    voices = models.JSONField(blank=True, default=dict, help_text="For some languages another voice, by ISO 639-1.")
    speed = models.FloatField(default=1.0, validators=[MinValueValidator(0.25), MaxValueValidator(1.5)])
    language = models.CharField(
        max_length=2,
        blank=True,
        validators=[RegexValidator(r"^[a-z]{2}\Z", "Use a two-letter ISO 639-1 code such as 'en'; empty detects.")],
        help_text="ISO 639-1; empty to detect what the caller speaks.",
    )
    languages = models.JSONField(
        blank=True, default=list, help_text="What it may be spoken to in, the first when in doubt; empty for any."
    )
    time_zone = models.CharField(
        max_length=64, default="UTC", validators=[check_time_zone], help_text="Of call.date and call.time."
    )
    model = models.CharField(
        max_length=200, blank=True, help_text="provider/model, a provider, or a model's name; empty for the default."
    )
    fallback_models = models.JSONField(blank=True, default=list, help_text="Who is asked when `model` fails, in order.")
    temperature = models.FloatField(default=0.7, validators=[MinValueValidator(0), MaxValueValidator(2)])
    turn_detection = models.JSONField(
        null=True,
        blank=True,
        default=default_turn_detection,
        validators=[check_turn_detection],
        help_text="As OpenAI's audio.input.turn_detection; null for push-to-talk.",
    )
    tools = models.JSONField(blank=True, default=list, help_text="What it can do, by reference.")
    colleagues = models.JSONField(blank=True, default=list, help_text="Other agents it may hand over to, or ask.")
    filler = models.JSONField(blank=True, default=dict, help_text="What is said while a tool keeps the caller waiting.")
    limits = models.JSONField(blank=True, default=dict, help_text="Bounds of one call.")
    guard_rails = models.JSONField(blank=True, default=list, help_text="What must not be said or asked.")
    record = models.BooleanField(default=False, help_text="Record its calls. Telling callers so is yours to do.")
    is_default = models.BooleanField(default=False)
    live = models.ForeignKey(
        "AgentVersion", models.SET_NULL, null=True, editable=False, related_name="+",
        help_text="The version that takes calls; null: none does.",
    )  # fmt: skip
    standby = models.ForeignKey(
        "AgentVersion", models.SET_NULL, null=True, editable=False, related_name="+",
        help_text="The version before that: a rollback swaps the two.",
    )  # fmt: skip
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=models.Q(is_default=True), name="one_default_agent_per_tenant"
            )
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Each error is at its column, and names the place in it as ``params["path"]``."""
        errors: dict[str, list[ValidationError]] = {}
        for column in shapes.SCHEMAS:
            for path, words in shapes.find_faults(column, getattr(self, column)):
                errors.setdefault(column, []).append(at(path, words))
        for number, colleague in enumerate(self.colleagues if "colleagues" not in errors else ()):
            if colleague["agent"] == self.slug:
                words = "An agent is no colleague of itself."
                errors.setdefault("colleagues", []).append(at(f"colleagues[{number}].agent", words))
        if errors:
            raise ValidationError(errors)

    def validate_constraints(self, exclude: Collection[str] | None = None) -> None:
        """A second default is no conflict: saving it takes the place of the first."""
        super().validate_constraints(exclude={*(exclude or ()), "is_default"})


def at(path: str, words: str) -> ValidationError:
    """``words`` about the place ``path`` of a JSON column. Of a code that forms know they would say their own words."""
    return ValidationError("%(path)s: %(words)s", "wrong_place", {"path": path, "words": words})


class AgentVersion(models.Model):
    """What was published, as it was: never changed, gone only with its agent. The database refuses an UPDATE."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    agent = models.ForeignKey(Agent, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    definition = models.JSONField(help_text="The draft's fields; its tools with what they were then.")
    note = models.TextField(blank=True, validators=[MaxLengthValidator(NOTE_CHARACTERS)])
    published_by = models.CharField(max_length=300)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["agent_id", "-number"]
        constraints = [models.UniqueConstraint(fields=["agent", "number"], name="one_version_per_number")]

    def __str__(self) -> str:
        return f"{self.agent.slug}@{self.number}"
