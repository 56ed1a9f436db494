"""Deterministic engines without models, for tests, load and demonstrations.

Hearing: audio made by ``spoken_as`` carries its text in its samples and is understood word for word; any other audio is
"utterance of N ms". Speaking: a tone, 60 ms for each character. End of turn: one that trails off is not over. All take
delays, and faults by a rule such as ``raise:0.01`` (one job in a hundred, by hash) or ``raise:*`` (every one) or
``raise-first`` (a text's first try).
"""

import hashlib
import threading
import zlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from speech.audio import from_bytes, to_float, to_pcm
from speech.engines import STT_HZ, TTS_HZ, EngineError, Heard, Pcm, Segment, Stop, Transcript, Word
from speech.phrases import speakable
from speech.stop import StopSignal
from speech.tts.voices import VOICES

MARK = b"avb1"
MS_PER_CHARACTER = 60
CHUNK_SAMPLES = TTS_HZ // 5
TONE_HZ = 220.0
AUDIBLE = 10 ** (-60 / 20)
FIRM = 10 ** (-26 / 20)


def spoken_as(text: str, duration_ms: int, hz: int = STT_HZ) -> Pcm:
    """A faint tone of that length with the text in its first samples, which ``ScriptedHearing`` reads back.

    The text survives copying but no resampling; it must fit: ValueError when ``duration_ms`` is too short.
    """
    raw = text.encode()
    header = MARK + len(raw).to_bytes(4, "little") + zlib.crc32(raw).to_bytes(4, "little") + raw
    header += b"\0" * (len(header) % 2)
    samples = hz * duration_ms // 1000
    if len(header) // 2 > samples:
        raise ValueError(f"{duration_ms} ms at {hz} Hz hold {samples * 2} bytes, the text needs {len(header)}")
    pcm = tone(samples, hz)
    pcm[: len(header) // 2] = from_bytes(header)
    return pcm


def trailing_off(pcm: Pcm, hz: int = STT_HZ) -> Pcm:
    """The same with its last 300 ms four times softer: to ``ScriptedEndOfTurn`` a pause. Keep a carried text before."""
    softer = pcm.copy()
    softer[-hz * 3 // 10 :] //= 4
    return softer


def tone(samples: int, hz: int, start: int = 0) -> Pcm:
    """220 Hz at -20 dBFS, beginning at the phase that sample ``start`` has."""
    phase = 2 * np.pi * TONE_HZ / hz * np.arange(start, start + samples, dtype=np.float64)
    return to_pcm((0.1 * np.sin(phase)).astype(np.float32))


class Faults:
    """When a scripted engine fails. ValueError for a rule that it does not know."""

    def __init__(self, rule: str = "") -> None:
        kind, _, share = rule.partition(":")
        if kind not in ("", "raise", "raise-first"):
            raise ValueError(f"there is no scripted fault {rule!r}; use raise:0.01, raise:* or raise-first")
        self._share = 1.0 if kind == "raise" and share in ("", "*") else float(share or 0)
        self._first = kind == "raise-first"
        self._seen: set[bytes] = set()
        self._lock = threading.Lock()

    def strike(self, content: bytes) -> None:
        """Raises EngineError when the rule says so for this content."""
        digest = hashlib.sha256(content).digest()
        with self._lock:
            again = digest in self._seen
            if self._first:
                self._seen.add(digest)
        if int.from_bytes(digest[:4], "little") / 2**32 < self._share or (self._first and not again):
            raise EngineError("a scripted fault")


class ScriptedHearing:
    name = "scripted"
    device = "cpu"

    def __init__(self, *, delay_ms: int = 0, text: str = "", fault: str = "") -> None:
        """``text`` is what every utterance says; empty means: what it carries, else its length. Each sentence is a
        segment."""
        self._delay_s = delay_ms / 1000
        self._text = text
        self._faults = Faults(fault)

    def transcribe(
        self,
        pcm_16khz: Pcm,
        *,
        language: str | None = None,
        prompt: str | None = None,
        translate: bool = False,
        heard: Heard | None = None,
    ) -> Transcript:
        threading.Event().wait(self._delay_s)
        self._faults.strike(pcm_16khz.tobytes())
        audio_s = len(pcm_16khz) / STT_HZ
        text = self._text or _carried_text(pcm_16khz) or f"utterance of {round(audio_s * 1000)} ms"
        spoken = text.split()
        step_s = audio_s / max(1, len(spoken))
        words = tuple(Word(word, index * step_s, (index + 1) * step_s, 1.0) for index, word in enumerate(spoken))
        if heard is not None:
            ends = [index + 1 for index, word in enumerate(spoken) if word[-1] in ".?!"]
            for start, end in pairwise([0, *(end for end in ends if end < len(spoken))]):
                heard(Segment((" " if start else "") + " ".join(spoken[start:end]), words[start:end]))
        return Transcript(text=" ".join(spoken), language=language or "en", audio_s=audio_s, words=words)


def _carried_text(pcm: Pcm) -> str:
    raw = pcm.tobytes()
    if raw[:4] != MARK:
        return ""
    length = int.from_bytes(raw[4:8], "little")
    text = raw[12 : 12 + length]
    return text.decode() if zlib.crc32(text) == int.from_bytes(raw[8:12], "little") else ""


class ScriptedSpeaking:
    name = "scripted"
    device = "cpu"
    voices = frozenset(VOICES)

    def __init__(self, *, first_chunk_ms: int = 0, chunk_ms: int = 0, fault: str = "") -> None:
        """Waits ``first_chunk_ms`` before the first chunk of 200 ms and ``chunk_ms`` before each later one."""
        self._first_chunk_s = first_chunk_ms / 1000
        self._chunk_s = chunk_ms / 1000
        self._faults = Faults(fault)

    def synthesise(self, text: str, *, voice: str, speed: float = 1.0, stop: Stop | None = None) -> Iterator[Pcm]:
        spoken = speakable(text)
        stop = stop or StopSignal()
        self._faults.strike(spoken.encode())
        total = int(len(spoken) * MS_PER_CHARACTER * TTS_HZ / 1000 / speed)
        for start in range(0, total, CHUNK_SAMPLES):
            if stop.wait(self._chunk_s if start else self._first_chunk_s):
                return
            yield tone(min(CHUNK_SAMPLES, total - start), TTS_HZ, start)


class ScriptedEndOfTurn:
    """A turn is over (0.9) unless it trails off (0.1).

    It trails off when the last 200 ms of its sound stay below -26 dBFS; the sound ends with its last sample above
    -60 dBFS. Silence has no sound and is over. ``trailing_off`` makes such a turn.
    """

    name = "scripted"

    def __init__(self, *, delay_ms: int = 0, fault: str = "") -> None:
        self._delay_s = delay_ms / 1000
        self._faults = Faults(fault)

    def probability_complete(self, pcm_16khz: Pcm) -> float:
        threading.Event().wait(self._delay_s)
        self._faults.strike(pcm_16khz.tobytes())
        level = np.abs(to_float(pcm_16khz))
        audible = np.flatnonzero(level > AUDIBLE)
        if not len(audible):
            return 0.9
        end = int(audible[-1]) + 1
        return 0.1 if level[max(0, end - STT_HZ // 5) : end].max() < FIRM else 0.9
