"""One call: inputs in, effects done. A runner owns every task of its call, and none outlives it.

``feed`` is synchronous: what an input changes and what that asks for happen before the next input, so the order of
events on the wire is the order of states.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.session import Session
from realtime.protocol.wire import GA, Dialect
from realtime.runtime.budget import Budget, Spending
from realtime.runtime.call_log import CallLog, CallRecord
from realtime.runtime.door import CLOSE_UNAUTHENTICATED
from realtime.runtime.metering import Metering
from realtime.runtime.metrics import FAULTS, MESSAGE_DURATION, MESSAGES, OVERLOADED
from realtime.runtime.outbox import Outbox
from realtime.runtime.ports import ListeningStream, Ports, Transport
from realtime.runtime.recorder import CallSheet, Tape
from realtime.runtime.speaking import Reply
from realtime.runtime.timings import Timings
from speech.engines import TTS_HZ, Pcm, Segment, SpeechFailed
from speech.logs import kind_and_place

CLOSE_OVERLOADED = 1008
CLOSE_BROKEN = 1011
CLOSE_GRACE_S = 1.0
SLICE_S = 0.001
LAST_WORDS_S = 12.0
GUESS_S = 3.0
SORRY = "The server had an error while processing your request. Sorry about that!"
RATE_LIMITED = "rate_limit_exceeded"
LAST_EFFECTS = (do.Store, do.Forget, do.Transcribe, do.DropTranscription, do.CountTokens, do.Mark)
"""What a session still asks for when nobody is there to be told."""
LARGE_FRAME = 256 * 1024
"""Frames beyond this many characters are parsed in a thread: they would hold the loop for more than 2 ms."""

__all__ = ["CallOver", "CallRecord", "Runner", "RunnerConfig", "Transport"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunnerConfig:
    """``outbox_bytes``: what may wait for a slow reader; ``session_s``: a call's longest life."""

    outbox_bytes: int = 16 * 1024 * 1024
    session_s: float = 3600.0


class CallOver(Exception):
    """The call has ended; carries the reason for the archive."""


@dataclass
class Runner:
    session: Session
    ports: Ports
    transport: Transport
    record: CallRecord
    budget: Budget
    config: RunnerConfig = field(default_factory=RunnerConfig)
    dialect: Dialect = GA
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._outbox = Outbox()
        self._closing: asyncio.Future[do.Close] = asyncio.get_running_loop().create_future()
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._hearing: dict[str, asyncio.Task[None]] = {}
        self._stream: ListeningStream | None = None
        self._timings = Timings(self.clock)
        self._tape: Tape | None = None
        self._log = CallLog(self.record, self.session_id, self.ports, self.now)
        self._metering = Metering(self._log.meter, self.ports.model.name, self.ports.model.model)
        self._spending = Spending(self.budget)
        self._reason = "error"
        self._over = False

    @property
    def session_id(self) -> str:
        return self.session.call.config.id

    # ---- life ----

    async def run(self) -> str:
        """Until either side hangs up. Returns the reason that the archive keeps."""
        began = self.clock()
        self._log.start(self.session.call.conversation.id, self.session.call.config)
        if self.ports.recorder is not None and self.session.call.agent.record:
            sheet = CallSheet(tenant=self.record.tenant, session_id=self.session_id, started_at=self.now())
            self._tape = self.ports.recorder.open(sheet, self.clock)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._do(self.session.open())
                for event in self.dialect.opening(self.session.call.conversation.id):
                    self.session.call.say(event)
                    self._send(event)
                group.create_task(self._read())
                group.create_task(self._write())
                group.create_task(self._close())
                group.create_task(self._expire())
        except* CallOver as over:
            if self._reason != "broken":
                self._reason = str(over.exceptions[0])
        finally:
            duration_s = round(self.clock() - began, 3)
            self._over = True
            self._close_listening()
            if self._tape is not None:
                self._tape.close()
            try:
                await self._hear_out()
            finally:
                self._spending.count_audio(self.session.call.heard_samples)
                self._metering.listened(self.session.call.heard_samples, over=True)
                self._metering.hung_up(self.record.channel, duration_s)
                self._log.end(self._reason, duration_s)
        return self._reason

    async def _hear_out(self) -> None:
        """What was said last is still written down: the recogniser may finish, and nobody waits for anything else."""
        try:
            if self._reason == "broken":
                return
            self._do(self.session.hang_up())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    while self._hearing:  # what fails may be asked again
                        await asyncio.wait(self._hearing.values())
        except Exception as error:
            self._note_fault("hang_up", error)
        finally:
            for task in list(self._hearing.values()):
                task.cancel()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        yielded = self.clock()
        while (frame := await self.transport.receive()) is not None:
            began = self.clock()
            if began - yielded > SLICE_S:
                # Frames that wait already come without suspending: other calls must have their turn.
                await asyncio.sleep(0)
                yielded = began = self.clock()
            if len(frame) > LARGE_FRAME:
                event = await loop.run_in_executor(None, self.dialect.parse, frame)
            else:
                event = self.dialect.parse(frame)
            if isinstance(event, ev.ResponseCreate) and not await self._afford(event):
                continue
            *parts, last = self.session.divide(event)
            for part in parts:
                self.feed(part)
                await asyncio.sleep(0)
            self.feed(last)
            self._spending.give_back()
            MESSAGES.labels("in").inc()
            MESSAGE_DURATION.observe(self.clock() - began)
        raise self._end(self.transport.gone)

    async def _afford(self, asked: ev.ResponseCreate) -> bool:
        """A ticket for the response that the client asks for; without one it is told so, and the call goes on."""
        refusal = await self._spending.ask()
        if refusal is None:
            return True
        body = ev.ErrorBody(
            type="rate_limit_error", code=RATE_LIMITED, message=refusal.message, event_id=asked.event_id
        )
        self._send(ev.Error(event_id=self.session.call.new_id("event"), error=body))
        return False

    async def _write(self) -> None:
        try:
            await self._outbox.write(self.transport.send)
        except ConnectionError:
            raise self._end(self.transport.gone) from None

    async def _close(self) -> None:
        """Once somebody asked for it: what was said first goes out first, unless the other side does not read."""
        closing = await self._closing
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_GRACE_S):
                await self._outbox.wait_empty()
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(CLOSE_GRACE_S):
                await self.transport.close(closing.code, closing.reason)
        raise self._end(self._reason)

    def _end(self, reason: str) -> CallOver:
        self._over = True
        return CallOver(reason)

    async def _expire(self) -> None:
        await asyncio.sleep(self.config.session_s)
        self._reason = "expired"
        self.feed(ev.SessionExpired())

    def end_access(self, code: str, message: str) -> None:
        """The key that opened this call opens nothing any more: the client is told why, and nothing else follows."""
        if self._over or self._closing.done():
            return
        body = ev.ErrorBody(type="invalid_request_error", code=code, message=message)
        self._send(ev.Error(event_id=self.session.call.new_id("event"), error=body))
        self._reason = "access_ended"
        self._ask_to_close(do.Close(CLOSE_UNAUTHENTICATED, f"invalid_request_error.{code}"))
        for task in list(self._tasks.values()):
            task.cancel()

    # ---- inputs and effects ----

    def feed(self, entering: ev.Input) -> None:
        """Never raises. Only last words enter a call that is over, or is being closed for what it cannot bear."""
        last_words = isinstance(entering, ev.SegmentReady | ev.TranscriptReady | ev.TranscriptFailed)
        leaving = self._over or self._reason in ("overloaded", "access_ended")
        if self._reason == "broken" or (leaving and not last_words):
            return
        if isinstance(entering, ev.ReplyAudio):
            self._spending.speak(len(entering.pcm_24khz))
            self._metering.speak(entering.response_id, len(entering.pcm_24khz))
        elif isinstance(entering, ev.ReplyFinished | ev.ReplyFailed):
            self._spending.told(entering.response_id)
        try:
            effects = self.session.receive(entering)
            # Whoever is only listened to gets no response that would tell.
            self._metering.listened(self.session.call.heard_samples)
            self._spending.count_audio(self.session.call.heard_samples)
            if self._tape is not None:
                self._tape.take(entering, effects, self.session.call.config)
            self._do(effects)
        except Exception as error:
            self._break(error)

    def _break(self, error: Exception) -> None:
        """A fault of ours: this call ends, with an error that says so, and no other call is touched."""
        self._note_fault("session", error)
        body = ev.ErrorBody(type="server_error", code="server_error", message=SORRY)
        self._send(ev.Error(event_id=f"event_{self._log.seq:021x}", error=body))
        self._reason = "broken"
        self._ask_to_close(do.Close(CLOSE_BROKEN, "server_error"))

    def _note_fault(self, where: str, error: Exception) -> None:
        """Counted and logged by kind and place only: an exception's message may hold what was said."""
        FAULTS.labels(where).inc()
        log.error("unexpected fault in %s: %s", where, kind_and_place(error))

    def _do(self, effects: list[do.Effect]) -> None:
        for effect in effects:
            if self._over and not isinstance(effect, LAST_EFFECTS):
                continue  # nobody is there to be told, or to be answered
            match effect:
                case do.Send(event):
                    self._send(event)
                case do.Listen(pcm):
                    self._listen(pcm)
                case do.OpenListening(generation):
                    self._open_listening(generation)
                case do.CloseListening():
                    self._close_listening()
                case do.Transcribe(job_id):
                    # Not a task of the group: it may outlast the connection, though not the call.
                    task = asyncio.get_running_loop().create_task(self._transcribe(effect))
                    self._hearing[job_id] = task
                    task.add_done_callback(partial(self._heard, job_id))
                case do.JudgeTurn(judgement_id):
                    self._spawn(judgement_id, self._judge(effect))
                case do.CountTokens(tokens, response_id):
                    self._spending.settle(response_id, tokens, self.feed)
                case do.DropTranscription(job_id):
                    if job_id in self._hearing:
                        self._hearing.pop(job_id).cancel()
                case do.StartReply(response_id):
                    self._timings.reply_started(response_id)
                    self._metering.reply_started(response_id, effect.request.model)
                    self._spawn(response_id, self._reply(effect))
                case do.CancelReply(response_id):
                    self._cancel(response_id)
                    self._timings.forget(response_id)
                case do.Store():
                    self._log.store(effect, self._timings.stages_ms(effect.response_id) if effect.response_id else {})
                case do.Forget(item_id):
                    self._log.forget(item_id)
                case do.Mark("speech_stopped"):
                    self._timings.turn_ended()
                case do.Mark("transcript", item_id, audio_ms, engine, model):
                    self._timings.transcript()
                    self._metering.heard(item_id, audio_ms, engine, model)
                case do.Close():
                    self._ask_to_close(effect)

    def _send(self, event: ev.ServerEvent) -> None:
        if isinstance(event, ev.SessionUpdated):
            self._log.change(self.session.call.config)
        if isinstance(event, ev.ResponseDone):
            self._metering.response_done(event.response)
        if isinstance(event, ev.ResponseCreated):
            self._spending.begin(event.response["id"])
        frame = self.dialect.encode(event)
        if not frame:
            return
        self._outbox.put(frame)
        MESSAGES.labels("out").inc()
        waiting = self._outbox.waiting_bytes
        if waiting > self.config.outbox_bytes and not self._closing.done():
            OVERLOADED.inc()
            log.warning("call ended: its client reads too slowly, %d bytes were waiting", waiting)
            self._reason = "overloaded"
            self._ask_to_close(do.Close(CLOSE_OVERLOADED, "outbox_overflow: the client reads too slowly"))

    def _ask_to_close(self, close: do.Close) -> None:
        if not self._closing.done():
            self._closing.set_result(close)

    def _listen(self, pcm_24khz: Pcm) -> None:
        if self._stream is None or self._closing.done():
            return
        try:
            self._stream.push(pcm_24khz)
        except SpeechFailed as error:
            log.error("call ended: %s", error.message)
            self.feed(ev.ListeningFailed(code=error.code, message=error.message))

    def _open_listening(self, generation: int) -> None:
        self._close_listening()

        def scored(end_sample_16khz: int, probability: float) -> None:
            self.feed(
                ev.WindowScored(generation=generation, end_sample_16khz=end_sample_16khz, probability=probability)
            )

        self._stream = self.ports.listening.open(scored)

    def _close_listening(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    # ---- work under way ----

    def _heard(self, job_id: str, _: object) -> None:
        self._hearing.pop(job_id, None)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        assert self._group is not None  # noqa: S101 - effects are done inside ``run``
        if self._over:
            work.close()
            return
        task = self._group.create_task(work)
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    def _cancel(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()

    async def _transcribe(self, wanted: do.Transcribe) -> None:
        try:
            transcript = await self.ports.hearing.transcribe(
                wanted.pcm_24khz,
                tenant=self.record.tenant,
                session_id=self.session_id,
                sample_rate_hz=TTS_HZ,
                language=wanted.language,
                prompt=wanted.prompt,
                answer_s=GUESS_S if wanted.guess else None,
                heard=partial(self._understood, wanted.job_id) if wanted.segments else None,
            )
        except SpeechFailed as error:
            self.feed(ev.TranscriptFailed(job_id=wanted.job_id, code=error.code, message=error.message))
        except Exception as error:
            self._note_fault("transcribe", error)
            self.feed(ev.TranscriptFailed(job_id=wanted.job_id, code="server_error", message="Transcription failed."))
        else:
            self.feed(ev.TranscriptReady(job_id=wanted.job_id, transcript=transcript))

    def _understood(self, job_id: str, segment: Segment) -> None:
        self.feed(ev.SegmentReady(job_id=job_id, segment=segment))

    async def _judge(self, wanted: do.JudgeTurn) -> None:
        try:
            probability = await self.ports.judging.judge(wanted.pcm_24khz)
        except Exception as error:
            # The longest wait of the session's eagerness ends the turn all the same.
            self._note_fault("judge", error)
            return
        self.feed(ev.TurnJudged(judgement_id=wanted.judgement_id, probability=probability))

    async def _reply(self, start: do.StartReply) -> None:
        response_id = start.response_id
        if (refusal := await self._spending.afford(response_id)) is not None:
            self.feed(ev.ReplyFailed(response_id=response_id, code=RATE_LIMITED, message=refusal.message))
            return
        self._spending.read(response_id, sum(len(message.text) for message in start.request.messages))
        reply = Reply(
            start,
            self.ports,
            tenant=self.record.tenant,
            session_id=self.session_id,
            feed=self.feed,
            mark=lambda stage: self._timings.stage(response_id, stage),
        )
        try:
            await reply.run()
        except Exception as error:
            self._note_fault("reply", error)
            self.feed(ev.ReplyFailed(response_id=response_id, code="server_error", message=SORRY))
        finally:
            self._timings.forget(response_id)
            self._metering.replied(response_id, reply.characters)
