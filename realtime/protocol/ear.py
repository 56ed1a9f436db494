"""The caller's side of a session: the input audio buffer, and turns by voice activity."""

from typing import Protocol

from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.call import Call
from realtime.protocol.config import SessionConfig
from realtime.protocol.input_audio import HZ, SAMPLES_PER_MS, InputAudio, InputDecoder
from realtime.protocol.item import Item, item_from_wire
from realtime.protocol.recognition import Dictation, Recognition
from realtime.protocol.shapes import Invalid
from realtime.protocol.turns import Began, Ended, Paused, Resumed, TurnDetector, TurnTaking, Waiting
from realtime.protocol.wire import decode_audio
from speech.engines import STT_HZ, TURN_WINDOW_S, Pcm
from speech.noise import NoiseSuppressor

MIN_COMMIT_MS = 100
APPEND_MS = 400
"""How much of one append is filtered at once: about a millisecond of work."""


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


class _Turn:
    """The caller is speaking: where the item will begin, and its words as far as they are known ahead of its end."""

    def __init__(self, item_id: str, start: int) -> None:
        self.item_id = item_id
        self.start = start
        self.interrupts = False
        self.judgement_id: str | None = None
        self.dictation = Dictation(item_id, start)


class Ear:
    answering: Answering

    def __init__(self, call: Call) -> None:
        self.call = call
        self.input = InputAudio()
        self.recognition = Recognition(call, self.input, lambda item: self.answering.words_settled(item))
        self._jobs = self.recognition.jobs
        self._decoder = InputDecoder(call.config.input_format)
        self._noise: NoiseSuppressor | None = None
        self._detector: TurnDetector | None = None
        self._generation = 0
        self._listening_from = 0
        self._turn: _Turn | None = None
        self._judged_to = 0
        self._choose_noise_reduction()

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

    @property
    def coming_id(self) -> str | None:
        """Id of the item that what is being said will be; the client may know it already."""
        return None if self._turn is None else self._turn.item_id

    def _drop_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            self.recognition.drop(turn.dictation)

    def adapt(self, before: SessionConfig) -> None:
        """The session's configuration has changed."""
        after = self.call.config
        if after.noise_reduction != before.noise_reduction:
            self._choose_noise_reduction()
        if after.input_format != before.input_format:
            self._decoder = InputDecoder(after.input_format)
        vad = after.turn_taking
        if vad is not None and self._detector is not None:
            self._detector.vad = vad  # what is being said goes on
        elif vad != before.turn_taking:
            self.listen_anew()

    def append(self, event: ev.InputAudioAppend) -> None:
        try:
            if self._is_too_much(event):
                limit_s = self.call.limits.input_audio_s
                raise Invalid(
                    "input_audio_buffer_full",
                    f"Error appending audio: the input audio buffer holds at most {limit_s} s. "
                    "Commit or clear it first.",
                )
            pcm = self._decoder.decode(event.audio)
        except ValueError as error:
            raise Invalid("invalid_value", f"Invalid 'audio': {error}. Append one packet at a time.", "audio") from None
        self._take(pcm if self._noise is None else self._noise.push(pcm))
        self._guess()

    def divide(self, event: ev.InputAudioAppend) -> list[ev.InputAudioAppend]:
        """A long append as short ones, so that nobody waits while it is filtered; whole where it will be refused."""
        if self._decoder.format == "audio/opus":
            return [event]
        step = self._decoder.bytes_of(APPEND_MS)
        if len(event.audio) <= step or self._is_too_much(event):
            return [event]
        return [
            ev.InputAudioAppend(audio=event.audio[start : start + step], event_id=event.event_id)
            for start in range(0, len(event.audio), step)
        ]

    def _is_too_much(self, event: ev.InputAudioAppend) -> bool:
        return len(self.input) / HZ + self._decoder.seconds(event.audio) > self.call.limits.input_audio_s

    def _take(self, pcm: Pcm) -> None:
        """Audio as voice activity, the judge of turns, the recogniser and a client that retrieves it get it."""
        self.input.append(pcm)
        self.call.heard_samples = self.input.end
        if self._detector is not None and len(pcm):
            self.call.do(do.Listen(pcm))

    def _take_all(self) -> None:
        """Also what the noise suppressor holds back: what comes next is about all that has been appended."""
        if self._noise is not None:
            self._take(self._noise.flush())

    def _choose_noise_reduction(self) -> None:
        wanted = self.call.config.noise_reduction
        if wanted is not None and self._noise is not None and self._noise.field == wanted[0]:
            self._noise.strength = wanted[1]
            return
        self._take_all()
        self._noise = None if wanted is None else NoiseSuppressor(*wanted)

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
                case Resumed(after_ms):
                    self._speech_resumed(after_ms)
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
        if self._turn is not None:
            self.recognition.read_ahead(self._turn.dictation, heard)
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

    def _speech_resumed(self, after_ms: float) -> None:
        turn = self._turn
        if turn is None:
            return
        turn.judgement_id = None
        self.recognition.resume(turn.dictation, after_ms)

    def _guess(self) -> None:
        """Words that are told while they are said need a turn to be told of, also where only the client ends turns."""
        if self.recognition.guesses and self._turn is None and self._detector is None and len(self.input):
            self._turn = _Turn(self.call.new_id("item"), self.input.start)
        if self._turn is not None:
            self.recognition.guess(self._turn.dictation)

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
        self._take_all()
        if turn is not None and self._detector is not None:
            self._commit(turn, self.input.end)
        elif turn is not None:
            self.recognition.drop_guess(turn.dictation)

    def commit_asked(self, event: ev.InputAudioCommit) -> None:
        self._take_all()
        turn = self._turn or _Turn(self.call.new_id("item"), self.input.start)
        buffered = self.input.end - turn.start
        if buffered < MIN_COMMIT_MS * SAMPLES_PER_MS:
            raise Invalid(
                "input_audio_buffer_commit_empty",
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
                f"but buffer only has {buffered / SAMPLES_PER_MS:.2f}ms of audio.",
            )
        self.check_room()
        self._turn = None
        if self._detector is not None:
            self.listen_anew()
        self.recognition.reopen(turn.dictation)  # what began at a pause lacks what came after it
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
            heard=(turn.start, end),
        )
        previous = self.call.conversation.append(item)
        self.call.say(ev.Committed(previous_item_id=previous, item_id=item.id))
        self.call.say(ev.ItemAdded(previous_item_id=previous, item=item.wire()))
        self.call.say(ev.ItemDone(previous_item_id=previous, item=item.wire()))
        self.call.store(item)
        self.recognition.finish(turn.dictation, item, end)
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
        self._take_all()
        self.input.discard_before(self.input.end)
        self._drop_turn()
        if self._detector is not None:
            self.listen_anew()
        self.call.say(ev.Cleared())

    def item(self, wire: ev.JsonObject, item_id: str) -> Item:
        """An item as a client gave it, its audio decoded. Raises Invalid."""
        item = item_from_wire(wire, item_id, wire.get("call_id") or self.call.new_id("call"))
        for index, part in enumerate(wire.get("content", ())):
            if part["type"] == "input_audio":
                path = f"item.content[{index}].audio"
                if self.call.config.input_format == "audio/opus":
                    message = f"Invalid '{path}': Opus is for the input audio buffer, packet by packet."
                    raise Invalid("invalid_value", message, path)
                audio = decode_audio(part["audio"], path)
                item.audio.append(InputDecoder(self.call.config.input_format).decode_all(audio))
                item.awaiting_transcript = part.get("transcript") is None and self.call.wants_transcript
        return item

    def hear(self, item: Item) -> None:
        """Have the recogniser read an item that came as audio."""
        self.recognition.hear(item)
