"""The recogniser's side of a session: what it is asked to read and when, and what a client is told of its answers.

It knows nothing of turns: whoever listens begins a ``Dictation`` when somebody speaks, tells it of their pauses, and
finishes or drops it.
"""

import math
from collections.abc import Callable, Iterable

import msgspec
import numpy as np

from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Call
from realtime.protocol.input_audio import HZ, SAMPLES_PER_MS, InputAudio
from realtime.protocol.item import Item
from realtime.protocol.wording import Stretch, Wording
from speech.engines import Pcm, Transcript, Word

DIARIZING_MODEL = "gpt-4o-transcribe-diarize"
KEPT_STRETCH_MS = 8_000
KEPT_PAUSE_MS = 320
"""In a long turn, what was recognised at a pause this long is kept, and the rest recognised by itself."""
LONGEST_GUESS_S = 28.0
"""What the recogniser hears at once; beyond it a guess would cost twice as much, and is left out until a pause."""


class Dictation:
    """What somebody says from sample ``start`` on, on its way to become the words of an item."""

    def __init__(self, item_id: str, start: int) -> None:
        self.wording = Wording(item_id, [Stretch(start)])
        self.guess_id: str | None = None
        self.guessed_to = self.guess_due = start


def logprobs(words: Iterable[Word]) -> list[ev.JsonObject]:
    """The recogniser's confidence, word by word; a word stands for its tokens."""
    return [
        {"token": word.text, "logprob": math.log(max(word.probability, 1e-9)), "bytes": list(word.text.encode())}
        for word in words
    ]


class Recognition:
    """``jobs`` are the transcriptions under way, guesses not among them. ``words_settled`` is told of every item whose
    words are known, or known to be lost."""

    def __init__(self, call: Call, audio: InputAudio, words_settled: Callable[[Item], None]) -> None:
        self.call = call
        self.audio = audio
        self.jobs: dict[str, tuple[Wording, Stretch]] = {}
        self._words_settled = words_settled
        self._guessing: Dictation | None = None

    # ---- while somebody speaks ----

    @property
    def guesses(self) -> bool:
        """Whether the session wants words while they are said."""
        return bool(self.call.limits.guess_ms) and self.call.config.streams_words

    def guess(self, dictation: Dictation) -> None:
        """More has been said: what does it sound like so far, if the session wants words then?

        One guess at a time, and the next not before as much has been said as this one took: where the recogniser is
        slow, guesses become few.
        """
        if not self.guesses or dictation.guess_id is not None or dictation.wording.last.job_id is not None:
            return
        end, start = self.audio.end, dictation.wording.last.start
        new_ms, long_s = (end - dictation.guessed_to) / SAMPLES_PER_MS, (end - start) / HZ
        patience_ms = self.call.limits.guess_ms * self.call.config.patience
        if new_ms < patience_ms or end < dictation.guess_due or long_s > LONGEST_GUESS_S:
            return
        self._guessing = dictation
        dictation.guess_id, dictation.guessed_to = self.call.new_id("stt"), end
        self._ask(dictation.guess_id, self.audio.read(start, end), guess=True)

    def read_ahead(self, dictation: Dictation, end: int) -> None:
        """They pause: if this is the end, its words are to be there soon."""
        stretch = dictation.wording.last
        if self.call.wants_transcript and end - stretch.start <= self.call.limits.ahead_s * HZ:
            self.drop_guess(dictation)
            self._transcribe(dictation.wording, stretch, self.audio.read(stretch.start, end), end)

    def resume(self, dictation: Dictation, after_ms: float) -> None:
        """They go on, after a pause of ``after_ms``."""
        wording, stretch = dictation.wording, dictation.wording.last
        if stretch.job_id is None:
            return
        long = stretch.end - stretch.start >= KEPT_STRETCH_MS * SAMPLES_PER_MS
        if long and after_ms >= KEPT_PAUSE_MS and stretch.failure is None:
            # Its words stand: only what comes now is recognised at the end of the turn.
            stretch.closed = True
            wording.stretches.append(Stretch(stretch.end))
            dictation.guessed_to = dictation.guess_due = stretch.end
            self._settle(wording)
        elif self.call.config.streams_words and stretch.job_id in self.jobs:
            del self.jobs[stretch.job_id]
            self._guessing, dictation.guess_id, dictation.guessed_to = dictation, stretch.job_id, stretch.end
            stretch.reopen()
        else:
            self._drop_jobs([stretch])
            if self.call.config.streams_words and stretch.transcript is not None:
                stretch.guess(stretch.transcript)
            stretch.reopen()
            self._settle(wording)

    def reopen(self, dictation: Dictation) -> None:
        """More belongs to it than what was recognised at the last pause."""
        self._drop_jobs([dictation.wording.last])
        dictation.wording.last.reopen()

    def drop_guess(self, dictation: Dictation) -> None:
        if dictation.guess_id is not None:
            self.call.do(do.DropTranscription(dictation.guess_id))
            self._guessing = dictation.guess_id = None

    def drop(self, dictation: Dictation) -> None:
        """Nobody wants its words."""
        self.drop_guess(dictation)
        self._drop_jobs(dictation.wording.stretches)

    def _drop_jobs(self, stretches: Iterable[Stretch]) -> None:
        for stretch in stretches:
            if self.jobs.pop(stretch.job_id or "", None) is not None:
                self.call.do(do.DropTranscription(stretch.job_id or ""))

    # ---- once there is an item ----

    def finish(self, dictation: Dictation, item: Item, end: int) -> None:
        """All is said, up to sample ``end``, and is the audio of ``item``: its words follow, if they are awaited."""
        if not item.awaiting_transcript:
            self.drop(dictation)
            return
        self.drop_guess(dictation)
        wording = dictation.wording
        if wording.last.job_id is None:
            [pcm] = item.audio
            self._transcribe(wording, wording.last, pcm[wording.last.start - wording.start :], end)
        self._await_words(wording, item)

    def hear(self, item: Item) -> None:
        """Read an item that came as audio."""
        if item.awaiting_transcript:
            pcm = np.concatenate(item.audio)
            wording = Wording(item.id, [Stretch(0)])
            self._transcribe(wording, wording.last, pcm, len(pcm))
            self._await_words(wording, item)

    def _await_words(self, wording: Wording, item: Item) -> None:
        wording.item, wording.last.closed = item, True
        self._settle(wording)

    # ---- what the recogniser is asked, and answers ----

    def _transcribe(self, wording: Wording, stretch: Stretch, pcm: Pcm, end: int) -> None:
        stretch.job_id, stretch.end = self.call.new_id("stt"), end
        self.jobs[stretch.job_id] = (wording, stretch)
        self._ask(stretch.job_id, pcm)

    def _ask(self, job_id: str, pcm: Pcm, *, guess: bool = False) -> None:
        asked = self.call.config.input_transcription
        hints = asked or {}
        [only] = hints["languages"] if len(hints.get("languages") or ()) == 1 else [None]
        language = hints.get("language") or only or self.call.agent.language
        expected = [hints.get("prompt"), ", ".join(hints.get("keywords") or ())]
        # Where words are guessed, segments of what is recognised at the end would come twice.
        segments = asked is not None and not guess and not self.call.config.streams_words
        self.call.do(do.Transcribe(job_id, pcm, language, " ".join(filter(None, expected)) or None, segments, guess))

    def segment_ready(self, result: ev.SegmentReady) -> None:
        wording, stretch = self.jobs.get(result.job_id, (None, None))
        if wording is not None and stretch is not None:
            stretch.heard.append(result.segment)
            self._settle(wording)

    def transcript_ready(self, result: ev.TranscriptReady) -> None:
        if self._guessing is not None and self._guessing.guess_id == result.job_id:
            self._guessed(self._guessing, result.transcript)
            return
        wording, stretch = self.jobs.pop(result.job_id, (None, None))
        if wording is not None and stretch is not None:
            stretch.transcript = result.transcript
            if result.transcript.text:  # the language of a noise is anybody's guess
                self.call.language = result.transcript.language
            self._settle(wording)

    def transcript_failed(self, result: ev.TranscriptFailed) -> None:
        if self._guessing is not None and self._guessing.guess_id == result.job_id:
            self._guessed(self._guessing, None)
            return
        wording, stretch = self.jobs.pop(result.job_id, (None, None))
        if wording is not None and stretch is not None and not self._join(wording, stretch):
            stretch.failure = (result.code, result.message)
            self._settle(wording)

    def _join(self, wording: Wording, stretch: Stretch) -> bool:
        """A stretch that cannot be recognised by itself: perhaps it can with all that was said after it.

        The cut was ours, so it must cost no words. Says whether it is tried: the last stretch has nothing after it.
        What came after has not been told yet, since words are told in order.
        """
        item, last = wording.item, wording.last
        if stretch is last or (item is not None and not (self._is_kept(item) and item.audio)):
            return False
        if self._guessing is not None and self._guessing.wording is wording:
            self.drop_guess(self._guessing)
        behind = wording.stretches.index(stretch) + 1
        self._drop_jobs(wording.stretches[behind:])
        del wording.stretches[behind:]
        stretch.reopen()
        stretch.closed = item is not None
        if item is not None:
            pcm = np.concatenate(item.audio)[stretch.start - wording.start : last.end - wording.start]
            self._transcribe(wording, stretch, pcm, last.end)
        elif last.job_id is not None:  # they pause: this may be the end
            self._transcribe(wording, stretch, self.audio.read(stretch.start, last.end), last.end)
        return True

    def _guessed(self, dictation: Dictation, transcript: Transcript | None) -> None:
        self._guessing = dictation.guess_id = None
        dictation.guess_due = self.audio.end + self.audio.end - dictation.guessed_to
        if transcript is not None:
            dictation.wording.last.guess(transcript)
            self._settle(dictation.wording)

    # ---- what the client is told ----

    def _settle(self, wording: Wording) -> None:
        """Tell what may be told; once there are both an item and its words, or the word that they are lost, bring them
        together."""
        wording.advance()
        item, asked = wording.item, self.call.config.input_transcription is not None
        if asked and (self._is_kept(item) if item is not None else self.call.config.streams_words):
            self._say_words(wording)
        if item is None or not item.awaiting_transcript or not (wording.done or wording.failure):
            return
        self._drop_jobs(wording.stretches)
        item.awaiting_transcript = False
        if wording.failure is None:
            item.transcript = wording.text
            if item.heard is not None:
                item.word_places = wording.places()
        recognised_ms = item.audio_ms if wording.failure is None else 0
        self.call.do(do.Mark("transcript", item.id, recognised_ms, *wording.recognised_by))
        if self._is_kept(item):
            if asked:
                self._say_outcome(item, wording)
            self.call.store(item)
        self._words_settled(item)

    def _is_kept(self, item: Item) -> bool:
        """Not deleted. A client may since have given its id to another item."""
        return self.call.conversation.get(item.id) is item

    def _say_words(self, wording: Wording) -> None:
        asked = self.call.config.input_transcription or {}
        parts = list(wording.parts())
        for stretch, part in parts[wording.told :]:
            if asked.get("model") == DIARIZING_MODEL:
                offset_s = (stretch.start - wording.start) / HZ
                until_s = (stretch.end - wording.start) / HZ
                self.call.say(
                    ev.TranscriptionSegment(
                        item_id=wording.item_id,
                        id=self.call.new_id("seg"),
                        text=part.text.strip(),
                        speaker="A",  # one caller, one speaker
                        start=round(offset_s + part.words[0].start_s, 2) if part.words else round(offset_s, 2),
                        end=round(min(offset_s + part.words[-1].end_s, until_s) if part.words else until_s, 2),
                    )
                )
            self.call.say(
                ev.TranscriptionDelta(
                    item_id=wording.item_id,
                    delta=part.text,
                    logprobs=logprobs(part.words) if self.call.config.wire["include"] else msgspec.UNSET,
                )
            )
        wording.told = len(parts)

    def _say_outcome(self, item: Item, wording: Wording) -> None:
        if wording.failure is not None:
            code, message = wording.failure
            self.call.say(
                ev.TranscriptionFailed(
                    item_id=item.id,
                    error={"type": "transcription_error", "code": code, "message": message, "param": None},
                )
            )
            return
        self.call.say(
            ev.TranscriptionCompleted(
                item_id=item.id,
                transcript=wording.text,
                usage={"type": "duration", "seconds": -(-item.audio_ms // 1000)},
                logprobs=logprobs(wording.words) if self.call.config.wire["include"] else msgspec.UNSET,
            )
        )
