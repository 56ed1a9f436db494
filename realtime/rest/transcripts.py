"""A recording's transcript put together from its pieces, and the files that people ask it as."""

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import get_language_info

from realtime.rest.usage import duration_usage
from speech.engines import Transcript, Word

# Subtitles: two lines of 42 characters, seven seconds; a longer pause than this ends one too.
LONGEST_SEGMENT_S = 7.0
LONGEST_SEGMENT_CHARACTERS = 84
SEGMENT_PAUSE_S = 0.6
SENTENCE_END = re.compile(r"[.?!…。？！।؟][\"'”’)\]]*\Z")
# Whisper counts places in a recording in hundredths of a second.
SEEK_HZ = 100
LANGUAGE_NAMES = {"zh": "chinese", "yue": "cantonese"}


@dataclass(frozen=True, slots=True)
class Segment:
    """Some words that belong together. ``piece_s`` is where the piece that they were recognised in begins."""

    text: str
    start_s: float
    end_s: float
    piece_s: float
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """``words`` and ``segments`` count their times from the recording's start."""

    text: str
    language: str
    audio_s: float
    words: tuple[Word, ...]
    segments: tuple[Segment, ...]


def join(pieces: list[tuple[float, Transcript]], audio_s: float) -> Recording:
    """``pieces``: where each begins, in seconds, and what was said in it."""
    segments = [segment for start_s, transcript in pieces for segment in _segments(start_s, transcript)]
    spoken = [transcript for _, transcript in pieces if transcript.text]
    return Recording(
        text=" ".join(transcript.text for transcript in spoken),
        language=spoken[0].language if spoken else "en",
        audio_s=audio_s,
        words=tuple(word for segment in segments for word in segment.words),
        segments=tuple(segments),
    )


def _segments(start_s: float, transcript: Transcript) -> list[Segment]:
    if not transcript.words:
        if not transcript.text:
            return []
        return [Segment(transcript.text, start_s, start_s + transcript.audio_s, start_s, ())]
    segments, begun, behind = [], 0, 0
    ends = _word_ends(transcript)
    for index, word in enumerate(transcript.words):
        last = index == len(transcript.words) - 1
        if last or _ends_segment(transcript, begun, index, ends[index] - behind):
            words = tuple(
                Word(part.text, start_s + part.start_s, start_s + part.end_s, part.probability)
                for part in transcript.words[begun : index + 1]
            )
            text = transcript.text[behind : None if last else ends[index]].strip()
            segments.append(Segment(text, words[0].start_s, start_s + word.end_s, start_s, words))
            begun, behind = index + 1, ends[index]
    return segments


def _word_ends(transcript: Transcript) -> list[int]:
    """Where each word ends in the text, whose spacing is the language's own."""
    ends, at = [], 0
    for word in transcript.words:
        found = transcript.text.find(word.text, at)
        at = found + len(word.text) if found >= 0 else at
        ends.append(at)
    return ends


def _ends_segment(transcript: Transcript, begun: int, index: int, characters: int) -> bool:
    first, word, following = transcript.words[begun], transcript.words[index], transcript.words[index + 1]
    return bool(
        SENTENCE_END.search(word.text)
        or following.start_s - word.end_s >= SEGMENT_PAUSE_S
        or following.end_s - first.start_s > LONGEST_SEGMENT_S
        or characters + len(following.text) >= LONGEST_SEGMENT_CHARACTERS
    )


def to_json(recording: Recording, *, with_logprobs: bool) -> dict[str, Any]:
    answer = {"text": recording.text, "usage": duration_usage(recording.audio_s)}
    if with_logprobs:
        answer["logprobs"] = logprobs(recording.words)
    return answer


def to_verbose_json(recording: Recording, *, task: str, granularities: Sequence[str]) -> dict[str, Any]:
    """Whisper's tokens are not kept, so ``tokens`` is empty; pieces in which it heard no speech are not among the
    segments, so ``no_speech_prob`` is 0."""
    language = "english" if task == "translate" else language_name(recording.language)
    answer: dict[str, Any] = {
        "task": task,
        "language": language,
        "duration": round(recording.audio_s, 3),
        "text": recording.text,
    }
    if "segment" in granularities or not granularities:
        answer["segments"] = [_segment_object(index, segment) for index, segment in enumerate(recording.segments)]
    if "word" in granularities:
        answer["words"] = [
            {"word": word.text, "start": round(word.start_s, 3), "end": round(word.end_s, 3)}
            for word in recording.words
        ]
    return answer | {"usage": duration_usage(recording.audio_s)}


def _segment_object(index: int, segment: Segment) -> dict[str, Any]:
    raw = segment.text.encode()
    log_probabilities = [_logprob(word) for word in segment.words]
    return {
        "id": index,
        "seek": round(segment.piece_s * SEEK_HZ),
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": f" {segment.text}",
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": sum(log_probabilities) / len(log_probabilities) if log_probabilities else 0.0,
        "compression_ratio": len(raw) / len(zlib.compress(raw)),
        "no_speech_prob": 0.0,
    }


def to_srt(recording: Recording) -> str:
    return "".join(
        f"{number}\n{_clock(segment.start_s, ',')} --> {_clock(segment.end_s, ',')}\n{segment.text}\n\n"
        for number, segment in enumerate(recording.segments, 1)
    )


def to_vtt(recording: Recording) -> str:
    return "WEBVTT\n\n" + "".join(
        f"{_clock(segment.start_s, '.')} --> {_clock(segment.end_s, '.')}\n{segment.text}\n\n"
        for segment in recording.segments
    )


def logprobs(words: tuple[Word, ...]) -> list[dict[str, Any]]:
    """One entry a word, which is as fine as the recogniser tells."""
    return [
        {"token": word.text, "logprob": _logprob(word), "bytes": list(word.text.encode())}
        for word in words
    ]  # fmt: skip


def language_name(code: str) -> str:
    """In English and lower case, as Whisper's own names are; an unknown code stays itself."""
    if code in LANGUAGE_NAMES:
        return LANGUAGE_NAMES[code]
    try:
        return str(get_language_info(code)["name"]).lower()
    except KeyError:
        return code


def _logprob(word: Word) -> float:
    return math.log(max(word.probability, 1e-10))


def _clock(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
