"""The recorded utterances under tests/clips, and words made comparable."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from speech.audio import read_wav
from speech.engines import Pcm

CLIPS = Path(__file__).resolve().parents[1] / "clips"
NUMBERS = "zero one two three four five six seven eight nine ten".split()  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class Clip:
    file: str
    text: str

    @property
    def pcm_16khz(self) -> Pcm:
        pcm, hz = read_wav(CLIPS / self.file)
        assert hz == 16_000
        return pcm


def load_clips() -> list[Clip]:
    return [Clip(row["file"], row["text"]) for row in json.loads((CLIPS / "transcripts.json").read_text())]


def plain_words(text: str) -> str:
    """Lower case, without punctuation, small numbers in words, titles in full."""
    words = re.sub(r"[^\w\s']", " ", text.lower()).split()
    words = [NUMBERS[int(word)] if word.isdigit() and int(word) <= 10 else word for word in words]
    return " ".join("mister" if word == "mr" else word for word in words)
