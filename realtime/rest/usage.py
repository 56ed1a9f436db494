"""Usage as OpenAI counts it. Nothing here is billed; clients that add up what they used get steady numbers.

Audio has a token for each 100 ms heard and each 50 ms spoken, as OpenAI documents for its realtime models. Text is
estimated: no tokenizer of the model is at hand, and English has about four bytes to a token.
"""

import math
from typing import Any

HEARD_MS_PER_TOKEN = 100
SPOKEN_MS_PER_TOKEN = 50
BYTES_PER_TOKEN = 4


def text_tokens(text: str) -> int:
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)


def speech_usage(text: str, spoken_s: float) -> dict[str, Any]:
    """Of text to speech."""
    heard, spoken = text_tokens(text), math.ceil(spoken_s * 1000 / SPOKEN_MS_PER_TOKEN)
    return {"input_tokens": heard, "output_tokens": spoken, "total_tokens": heard + spoken}


def transcription_usage(prompt: str, text: str, audio_s: float) -> dict[str, Any]:
    """Of speech to text, where it is counted in tokens."""
    audio, prompted, said = math.ceil(audio_s * 1000 / HEARD_MS_PER_TOKEN), text_tokens(prompt), text_tokens(text)
    return {
        "type": "tokens",
        "input_tokens": audio + prompted,
        "input_token_details": {"text_tokens": prompted, "audio_tokens": audio},
        "output_tokens": said,
        "total_tokens": audio + prompted + said,
    }


def duration_usage(audio_s: float) -> dict[str, Any]:
    """Of speech to text, where it is counted in seconds."""
    return {"type": "duration", "seconds": math.ceil(audio_s)}
