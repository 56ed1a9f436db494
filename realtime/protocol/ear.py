"""The caller's side of a session: the input audio buffer, turns by voice activity, and the recogniser's words."""

import math
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np

from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Call
from realtime.protocol.config import SessionConfig
from realtime.protocol.conversation import Item, item_from_wire
from realtime.protocol.input_audio import HZ, SAMPLES_PER_MS, InputAudio, InputDecoder
from realtime.protocol.shapes import Invalid
from realtime.protocol.turns import Began, Ended, Paused, Resumed, TurnDetector, TurnTaking, Waiting
from realtime.protocol.wire import decode_audio
from speech.engines import STT_HZ, TURN_WINDOW_S, Pcm, Transcript

MIN_COMMIT_MS = 100
DIARIZING_MODEL = "gpt-4o-transcribe-diarize"


class Answering(Protocol):
    """What the ear tells the other side."""

    def interrupt(self) -> bool:
        """The caller speaks: end the answer under way. Says whether there was one."""
        ...

    def turn_ended(self, item: Item) -> None:
        """The caller has finished and an answer is wanted."""
        ...

    def words_settled(self, item: Item) -> None:
        """An item's words are known, or known to be lost."""
        ...


@dataclass
class _Turn:
    """The caller is speaking: where the item will begin, and the transcription that runs ahead of its end."""

    item_id: str
    start: int
    interrupts: bool = False
    job_id: str | None = None
    judgement_id: str | None = None


@dataclass
class _Job:
    """A transcription under way. Until the turn ends there is no ``item``, and the result waits here."""

    item: Item | None = None
    transcript: Transcript | None = None
    failure: tuple[str, str] | None = None


def logprobs(transcript: Transcript) -> list[ev.JsonObject]:
    """The recogniser's confidence, word by word; a word stands for its tokens."""
    return [
        {"token": word.text, "logprob": math.log(max(word.probability, 1e-9)), "bytes": list(word.text.encode())}
        for word in transcript.words
    ]


class Ear:
    answering: Answering

    def __init__(self, call: Call) -> None:
        self.call = call
        self.input = InputAudio()
        self._decoder = InputDecoder(call.config.input_format)
        self._detector: TurnDetector | None = None
        self._generation = 0
        self._listening_from = 0
        self._turn: _Turn | None = None
        self._jobs: dict[str, _Job] = {}
        self._judged_to = 0

    def listen_anew(self) -> None:
        """Begin voice activity detection at what comes next, or end it, as the session now says."""
        self._drop_turn()
        self._generation += 1
        vad = self.call.config.turn_taking
        if vad is None:
            if self._detector is not None:
                self.call.do(do.CloseListening())
            self._detector = None
            return
        self._detector = TurnDetector(vad, self.call.limits.pause_ms)
        self._listening_from = self.input.end
        self.call.do(do.OpenListening(self._generation))

    def _drop_turn(self) -> None:
        if self._turn is not None and self._turn.job_id is not None:
            self._drop_job(self._turn.job_id)
        self._turn = None

    def _drop_job(self, job_id: str) -> None:
        if self._jobs.pop(job_id, None) is not None:
            self.call.do(do.DropTranscription(job_id))

    def adapt(self, before: SessionConfig) -> None:
        """The session's configuration has changed."""
        after = self.call.config
        if after.input_format != before.input_format:
            self._decoder = InputDecoder(after.input_format)
        vad = after.turn_taking
        if vad is not None and self._detector is not None:
            self._detector.vad = vad  # what is being said goes on
        elif vad != before.turn_taking:
            self.listen_anew()

    def append(self, event: ev.InputAudioAppend) -> None:
        limit_s = self.call.limits.input_audio_s
        if len(self.input) / HZ + self._decoder.seconds(event.audio) > limit_s:
            raise Invalid(
                "input_audio_buffer_full",
                f"Error appending audio: the input audio buffer holds at most {limit_s} s. Commit or clear it first.",
            )
        pcm = self._decoder.decode(event.audio)
        self.input.append(pcm)
        self.call.heard_samples = self.input.end
        if self._detector is not None and len(pcm):
            self.call.do(do.Listen(pcm))

    def window_scored(self, window: ev.WindowScored) -> None:
        if window.generation != self._generation or self._detector is None:
            return
        heard = self._listening_from + window.end_sample_16khz * HZ // STT_HZ
        for turn in self._detector.step(heard / SAMPLES_PER_MS, window.probability):
            match turn:
                case Began(at_ms):
                    self._speech_began(at_ms)
                case Paused():
                    self._speech_paused(heard)
                case Waiting():
                    self._judge(heard)
                case Resumed():
                    self._speech_resumed()
                case Ended():
                    self._speech_ended(heard)
        if self._turn is not None and heard - self._turn.start >= self.call.limits.turn_s * HZ:
            self._detector.end()
            self._speech_ended(heard)
        if self._turn is None:
            self._watch_idleness(self._detector.vad, heard)
            padding = (self._detector.vad.prefix_padding_ms + MIN_COMMIT_MS) * SAMPLES_PER_MS
            self.input.discard_before(heard - padding)

    def _speech_began(self, at_ms: float) -> None:
        assert self._detector is not None  # noqa: S101 - only a detector finds speech
        vad = self._detector.vad
        start = max(int((at_ms - vad.prefix_padding_ms) * SAMPLES_PER_MS), self.input.start, 0)
        turn = self._turn = _Turn(self.call.new_id("item"), start)
        self.call.quiet_from = None
        self.call.say(ev.SpeechStarted(audio_start_ms=start // SAMPLES_PER_MS, item_id=turn.item_id))
        if vad.interrupt_response:
            turn.interrupts = self.answering.interrupt()

    def _speech_paused(self, heard: int) -> None:
        turn = self._turn
        if turn is not None and self.call.wants_transcript and heard - turn.start <= self.call.limits.ahead_s * HZ:
            turn.job_id = self._transcribe(self.input.read(turn.start, heard), None)
        self._judge(heard)

    def _judge(self, heard: int) -> None:
        """Ask the end-of-turn model, where the session wants one."""
        if self._turn is None or self._detector is None or self._detector.vad.complete is None:
            return
        self._turn.judgement_id = self.call.new_id("turn")
        self._judged_to = heard
        start = max(self._turn.start, heard - int(TURN_WINDOW_S * HZ))
        self.call.do(do.JudgeTurn(self._turn.judgement_id, self.input.read(start, heard)))

    def turn_judged(self, judged: ev.TurnJudged) -> None:
        turn, detector = self._turn, self._detector
        if turn is None or detector is None or turn.judgement_id != judged.judgement_id or not detector.paused:
            return
        if detector.vad.complete is not None and judged.probability >= detector.vad.complete:
            detector.end()
            self._speech_ended(self._judged_to)

    def _watch_idleness(self, vad: TurnTaking, heard: int) -> None:
        """A caller who says nothing for long after an answer is asked whether they are still there."""
        since = self.call.quiet_from
        if vad.idle_timeout_ms is None or since is None or heard - since < vad.idle_timeout_ms * SAMPLES_PER_MS:
            return
        self.call.quiet_from = None
        turn = _Turn(self.call.new_id("item"), since)
        self.call.say(
            ev.TimeoutTriggered(
                audio_start_ms=since // SAMPLES_PER_MS, audio_end_ms=heard // SAMPLES_PER_MS, item_id=turn.item_id
            )
        )
        self.answering.turn_ended(self._commit(turn, heard, silent=True))

    def _speech_resumed(self) -> None:
        if self._turn is not None and self._turn.job_id is not None:
            self._drop_job(self._turn.job_id)
            self._turn.job_id = None
        if self._turn is not None:
            self._turn.judgement_id = None

    def _speech_ended(self, heard: int) -> None:
        turn, self._turn = self._turn, None
        if turn is None or self._detector is None:
            return
        vad = self._detector.vad
        self.call.do(do.Mark("speech_stopped"))
        self.call.say(ev.SpeechStopped(audio_end_ms=heard // SAMPLES_PER_MS, item_id=turn.item_id))
        item = self._commit(turn, heard)
        if vad.create_response and not self.call.config.is_transcription:
            self.answering.turn_ended(item)

    def hang_up(self) -> None:
        """Words that nobody will answer are words all the same."""
        turn, self._turn = self._turn, None
        if turn is not None:
            self._commit(turn, self.input.end)

    def commit_asked(self, event: ev.InputAudioCommit) -> None:
        turn = self._turn or _Turn(self.call.new_id("item"), self.input.start)
        buffered = self.input.end - turn.start
        if buffered < MIN_COMMIT_MS * SAMPLES_PER_MS:
            raise Invalid(
                "input_audio_buffer_commit_empty",
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
                f"but buffer only has {buffered / SAMPLES_PER_MS:.2f}ms of audio.",
            )
        self.check_room()
        if self._detector is not None:
            self.listen_anew()
        turn.job_id = None  # a transcription that began at a pause lacks what came after it
        self.call.do(do.Mark("speech_stopped"))
        self._commit(turn, self.input.end)

    def _commit(self, turn: _Turn, end: int, *, silent: bool = False) -> Item:
        pcm = self.input.read(turn.start, end)
        self.input.discard_before(end)
        item = Item(
            turn.item_id,
            "message",
            role="user",
            content=[{"type": "input_audio", "transcript": "" if silent else None}],
            audio=[pcm],
            awaiting_transcript=self.call.wants_transcript and not silent,
            interrupts=turn.interrupts,
            silent=silent,
        )
        previous = self.call.conversation.append(item)
        self.call.say(ev.Committed(previous_item_id=previous, item_id=item.id))
        self.call.say(ev.ItemAdded(previous_item_id=previous, item=item.wire()))
        self.call.say(ev.ItemDone(previous_item_id=previous, item=item.wire()))
        self.call.store(item)
        job = self._jobs.get(turn.job_id) if turn.job_id is not None else None
        if job is None:
            self.hear(item)
        else:
            job.item = item
            self._settle(turn.job_id or "", job)
        self.call.conversation.forget_old_audio()
        return item

    def check_room(self) -> None:
        """For one more item of the client's. Raises Invalid."""
        limits = self.call.limits
        if len(self.call.conversation) >= limits.items:
            raise Invalid(
                "conversation_too_long",
                f"Error adding item: the conversation already holds {limits.items} items. Delete some first.",
            )
        if len(self._jobs) >= limits.transcriptions:
            raise Invalid(
                "too_many_transcriptions",
                f"Error adding item: {limits.transcriptions} items are being transcribed already. "
                "Wait for their words.",
            )

    def clear(self, _: ev.InputAudioClear) -> None:
        self.input.discard_before(self.input.end)
        if self._detector is not None:
            self.listen_anew()
        self.call.say(ev.Cleared())

    def _transcribe(self, pcm: Pcm, item: Item | None) -> str:
        job_id = self.call.new_id("stt")
        self._jobs[job_id] = _Job(item)
        asked = self.call.config.input_transcription or {}
        language = asked.get("language") or self.call.agent.language
        self.call.do(do.Transcribe(job_id, pcm, language, asked.get("prompt")))
        return job_id

    def transcript_ready(self, result: ev.TranscriptReady) -> None:
        job = self._jobs.get(result.job_id)
        if job is not None:
            job.transcript = result.transcript
            self._settle(result.job_id, job)

    def transcript_failed(self, result: ev.TranscriptFailed) -> None:
        job = self._jobs.get(result.job_id)
        if job is not None:
            job.failure = (result.code, result.message)
            self._settle(result.job_id, job)

    def _settle(self, job_id: str, job: _Job) -> None:
        """Once there are both an item and its words, or the word that they are lost, bring them together."""
        item = job.item
        if item is None or (job.transcript is None and job.failure is None):
            return
        del self._jobs[job_id]
        item.awaiting_transcript = False
        if job.transcript is not None:
            item.transcript = job.transcript.text
        self.call.do(do.Mark("transcript"))
        if item.id in self.call.conversation:
            if self.call.config.input_transcription is not None:
                self._say_transcript(item, job)
            self.call.store(item)
        self.answering.words_settled(item)

    def _say_transcript(self, item: Item, job: _Job) -> None:
        if job.transcript is None:
            code, message = job.failure or ("stt_failed", "Transcription failed.")
            self.call.say(
                ev.TranscriptionFailed(
                    item_id=item.id,
                    error={"type": "transcription_error", "code": code, "message": message, "param": None},
                )
            )
            return
        asked = self.call.config.input_transcription or {}
        if asked.get("model") == DIARIZING_MODEL and job.transcript.text:
            # One caller, one speaker: the whole turn is one segment.
            self.call.say(
                ev.TranscriptionSegment(
                    item_id=item.id,
                    id=self.call.new_id("seg"),
                    text=job.transcript.text,
                    speaker="A",
                    start=0.0,
                    end=job.transcript.audio_s,
                )
            )
        if job.transcript.text:
            self.call.say(ev.TranscriptionDelta(item_id=item.id, delta=job.transcript.text))
        self.call.say(
            ev.TranscriptionCompleted(
                item_id=item.id,
                transcript=job.transcript.text,
                usage={"type": "duration", "seconds": -(-item.audio_ms // 1000)},
                logprobs=logprobs(job.transcript) if self.call.config.wire["include"] else msgspec.UNSET,
            )
        )

    def item(self, wire: ev.JsonObject, item_id: str) -> Item:
        """An item as a client gave it, its audio decoded. Raises Invalid."""
        item = item_from_wire(wire, item_id, wire.get("call_id") or self.call.new_id("call"))
        for index, part in enumerate(wire.get("content", ())):
            if part["type"] == "input_audio":
                audio = decode_audio(part["audio"], f"item.content[{index}].audio")
                item.audio.append(InputDecoder(self.call.config.input_format).decode_all(audio))
                item.awaiting_transcript = part.get("transcript") is None and self.call.wants_transcript
        return item

    def hear(self, item: Item) -> None:
        """Have the recogniser read an item that came as audio."""
        if item.awaiting_transcript:
            self._transcribe(np.concatenate(item.audio), item)
