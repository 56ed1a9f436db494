"""What is counted. No Django here: live calls name the meters."""

from enum import StrEnum


class Meter(StrEnum):
    """Each in the unit that its name says; seconds to the millisecond, everything else whole.

    ``llm_tokens_in`` are those that the provider had not cached: with ``llm_tokens_cached`` they are the
    ``input_tokens`` that a client is told. ``stt_seconds`` are whole for each utterance or recording, as clients are
    told. ``stored_byte_days`` has one entry a day: what was kept then.
    """

    AUDIO_SECONDS_IN = "audio_seconds_in"
    AUDIO_SECONDS_OUT = "audio_seconds_out"
    STT_SECONDS = "stt_seconds"
    TTS_CHARACTERS = "tts_characters"
    LLM_TOKENS_IN = "llm_tokens_in"
    LLM_TOKENS_CACHED = "llm_tokens_cached"
    LLM_TOKENS_OUT = "llm_tokens_out"
    TELEPHONY_SECONDS = "telephony_seconds"
    STORED_BYTE_DAYS = "stored_byte_days"


def to_ms(samples: int, hz: int) -> int:
    """Whole milliseconds, as the protocol counts the audio of an item."""
    return samples * 1000 // hz
