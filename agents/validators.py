"""Which voices there are, and what ``turn_detection`` may look like: OpenAI's ``audio.input.turn_detection``."""

import zoneinfo
from typing import Any

from django.core.exceptions import ValidationError

from speech.tts.voices import OPENAI_VOICES, VOICES

RANGES = {
    "threshold": (0.0, 1.0),
    "prefix_padding_ms": (0, 5_000),
    "silence_duration_ms": (0, 10_000),
    "idle_timeout_ms": (5_000, 30_000),
}
COMMON = {"type", "create_response", "interrupt_response"}
FIELDS = {"server_vad": COMMON | RANGES.keys(), "semantic_vad": COMMON | {"eagerness"}}
EAGERNESS = ("low", "medium", "high", "auto")


def check_voice(value: str) -> None:
    """Raises ValidationError unless something here speaks with that voice."""
    if value not in VOICES and len(value) <= 64:  # longer ones have their own error
        known = ", ".join(sorted(OPENAI_VOICES))
        raise ValidationError(f"There is no voice {value!r}. Use one of {known}, or a Kokoro voice such as af_heart.")


def check_time_zone(value: str) -> None:
    """Raises ValidationError unless the IANA database has a zone of that name."""
    if value not in zoneinfo.available_timezones():
        raise ValidationError(f"There is no time zone {value[:64]!r}. Use a name such as Europe/Berlin.")


def check_turn_detection(value: Any) -> None:
    """Raises ValidationError naming the field at fault and what it may be. None is push-to-talk."""
    if value is None:
        return
    if not isinstance(value, dict):
        raise ValidationError("turn_detection is an object, or null for push-to-talk.")
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in FIELDS:
        raise ValidationError(f"turn_detection.type is server_vad or semantic_vad; got {kind!r}.")
    for name, entry in value.items():
        if name not in FIELDS[kind]:
            raise ValidationError(f"turn_detection of type {kind} has no field {name!r}.")
        if name in RANGES:
            _check_number(name, entry)
        elif name in ("create_response", "interrupt_response") and not isinstance(entry, bool):
            raise ValidationError(f"turn_detection.{name} is true or false; got {entry!r}.")
        elif name == "eagerness" and entry not in EAGERNESS:
            raise ValidationError(f"turn_detection.eagerness is one of {', '.join(EAGERNESS)}; got {entry!r}.")


def _check_number(name: str, entry: Any) -> None:
    low, high = RANGES[name]
    if entry is None and name == "idle_timeout_ms":
        return
    if isinstance(entry, bool) or not isinstance(entry, int | float) or not low <= entry <= high:
        raise ValidationError(f"turn_detection.{name} is a number from {low} to {high}; got {entry!r}.")
    if name.endswith("_ms") and not isinstance(entry, int):
        raise ValidationError(f"turn_detection.{name} is a whole number of milliseconds; got {entry!r}.")
