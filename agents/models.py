"""An agent: who speaks on a call, and how."""

import uuid
from collections.abc import Collection
from typing import Any

from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from agents.validators import check_turn_detection, check_voice

INSTRUCTIONS_CHARACTERS = 64_000
GREETING_CHARACTERS = 2_000


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
        blank=True, validators=[MaxLengthValidator(INSTRUCTIONS_CHARACTERS)], help_text="The system prompt."
    )
    greeting = models.TextField(
        blank=True,
        validators=[MaxLengthValidator(GREETING_CHARACTERS)],
        help_text="What the agent says first; empty to wait for the caller.",
    )
    voice = models.CharField(
        max_length=64,
        default="alloy",
        validators=[
            RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9_-]*\Z", "A voice name has letters, digits, '-' and '_'."),
            check_voice,
        ],
    )
    speed = models.FloatField(default=1.0, validators=[MinValueValidator(0.25), MaxValueValidator(1.5)])
    language = models.CharField(
        max_length=2,
        blank=True,
        validators=[RegexValidator(r"^[a-z]{2}\Z", "Use a two-letter ISO 639-1 code such as 'en'; empty detects.")],
        help_text="ISO 639-1; empty to detect what the caller speaks.",
    )
    model = models.CharField(max_length=200, blank=True, help_text="The provider's model name; empty for the default.")
    temperature = models.FloatField(default=0.7, validators=[MinValueValidator(0), MaxValueValidator(2)])
    turn_detection = models.JSONField(
        null=True,
        blank=True,
        default=default_turn_detection,
        validators=[check_turn_detection],
        help_text="As OpenAI's audio.input.turn_detection; null for push-to-talk.",
    )
    record = models.BooleanField(default=False, help_text="Record its calls. Telling callers so is yours to do.")
    is_default = models.BooleanField(default=False)
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

    def validate_constraints(self, exclude: Collection[str] | None = None) -> None:
        """A second default is no conflict: saving it takes the place of the first."""
        super().validate_constraints(exclude={*(exclude or ()), "is_default"})
