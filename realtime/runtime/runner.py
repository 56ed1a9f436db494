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
from typing import Any, TypeVar

import msgspec

from agents.llm.types import Finished, Message
from agents.spec import AgentSpec
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.conversation import to_messages
from realtime.protocol.session import Session
from realtime.protocol.wire import GA, Dialect
from realtime.runtime.actions import Actions
from realtime.runtime.budget import Budget, Spending
from realtime.runtime.call_log import CallLog, CallRecord
from realtime.runtime.door import CLOSE_UNAUTHENTICATED, prompt_agent
from realtime.runtime.hearing import CallHearing
from realtime.runtime.metering import Metering
from realtime.runtime.metrics import FAULTS, MESSAGE_DURATION, MESSAGES, OVERLOADED
from realtime.runtime.outbox import Outbox
from realtime.runtime.ports import Ports, PromptRefused, Recorder, Transport
from realtime.runtime.recorder import WORDS_S, CallSheet, Tape
from realtime.runtime.speaking import Reply
from realtime.runtime.timings import Timings
from realtime.runtime.work import Work
from speech.logs import kind_and_place

CLOSE_NORMAL = 1000
CLOSE_OVERLOADED = 1008
CLOSE_BROKEN = 1011
CLOSE_GRACE_S = 1.0
SLICE_S = 0.001
HISTORY_ITEMS = 50
"""What a colleague who is consulted may be told of the call."""
SORRY = "The server had an error while processing your request. Sorry about that!"
OTHER_PROMPT = "With a client secret a prompt is that of the agent, or the one, which the secret was made for."
RATE_LIMITED = "rate_limit_exceeded"
AGENT_ENDED = "agent_ended"
LAST_EFFECTS = (do.Store, do.Forget, do.Transcribe, do.DropTranscription, do.CountTokens, do.Mark)
"""What a session still asks for when nobody is there to be told."""
LARGE_FRAME = 256 * 1024
"""Frames beyond this many characters are parsed in a thread: they would hold the loop for more than 2 ms."""

__all__ = ["CallOver", "CallRecord", "Runner", "RunnerConfig", "Transport"]

Asked = TypeVar("Asked", ev.SessionUpdate, ev.ResponseCreate)

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
        self._work = Work()
        self._hearing = CallHearing(
            self.ports,
            tenant=self.record.tenant,
            session_id=self.session_id,
            feed=self.feed,
            note_fault=self._note_fault,
        )
        self._timings = Timings(self.clock)
        self._tape: Tape | None = None
        self._log = CallLog(self.record, self.session_id, self.ports, self.now)
        self._metering = Metering(self._log.meter, self.ports.model.name, self.ports.model.model)
        self._spending = Spending(self.budget)
        self._actions = Actions(
            self.ports,
            self.transport,
            self.record,
            self.session_id,
            self.session.call.rules,
            self._note_fault,
            self._spend,
            self._history,
        )
        self._agent = self.session.call.agent
        self._reason = "error"
        self._over = False

    @property
    def session_id(self) -> str:
        return self.session.call.config.id

    # ---- life ----

    async def run(self) -> str:
        """Until either side hangs up. Returns the reason that the archive keeps."""
        began = self.clock()
        self._ends_at = began + self.config.session_s
        self._log.start(self.session.call.conversation.id, self.session.call.config)
        if self.ports.recorder is not None and self.session.call.agent.record:
            self._tape = self._open_tape(self.ports.recorder)
        try:
            async with asyncio.TaskGroup() as group:
                self._work.begin(group)
                self._do(self.session.open())
                for event in self.dialect.opening(self.session.call.conversation.id):
                    self.session.call.say(event)
                    self._send(event)
                group.create_task(self._read())
                group.create_task(self._write())
                group.create_task(self._close())
                self._limit_duration(self._agent)
        except* CallOver as over:
            if self._reason != "broken":
                self._reason = str(over.exceptions[0])
        finally:
            duration_s = round(self.clock() - began, 3)
            self._over = True
            self._work.stop()
            self._hearing.close()
            if self._tape is not None:
                self._tape.hang_up()
            is_settled = False
            try:
                await self._hear_out()
                await self._log.settle()
                is_settled = True
            finally:
                self._close_tape(is_settled)
                self._spending.count_audio(self.session.call.heard_samples)
                self._metering.listened(self.session.call.heard_samples, over=True)
                self._metering.hung_up(self.record.channel, duration_s)
                if self._agent.slug != self.record.called:
                    self._remember()
                self._log.end(self._reason, duration_s, self.session.outcomes())
        return self._reason

    def _open_tape(self, recorder: Recorder) -> Tape:
        redaction = self._log.redaction if self.record.redaction.silence else None
        # A turn may be as long as the input buffer, and its words come a while after it.
        hold_s = self.session.call.limits.input_audio_s + WORDS_S if redaction is not None else 0.0
        tenant, started_at = self.record.tenant, self.now()
        sheet = CallSheet(tenant=tenant, session_id=self.session_id, started_at=started_at, hold_s=hold_s)
        tape = recorder.open(sheet, self.clock)
        if redaction is not None:
            redaction.silence = tape.silence
        return tape

    def _close_tape(self, is_settled: bool) -> None:
        """``is_settled``: all that is to be silent was told."""
        if self._tape is None:
            return
        if self._tape.sheet.hold_s:
            for item in self.session.call.conversation:
                if item.awaiting_transcript and item.heard is not None:
                    self._tape.silence(item.id, [item.heard], True)
        self._tape.close(broken=self._reason == "broken" or not is_settled)

    async def _hear_out(self) -> None:
        """What was said last is still written down: the recogniser may finish, and nobody waits for anything else."""
        try:
            if self._reason == "broken":
                return
            self._do(self.session.hang_up(by_caller=self._reason == "client_closed"))
            await self._hearing.hear_out()
        except Exception as error:
            self._note_fault("hang_up", error)
        finally:
            self._hearing.stop()

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
            ready = await self._prepare(event)
            if ready is None:
                continue
            *parts, last = self.session.divide(ready)
            for part in parts:
                self.feed(part)
                await asyncio.sleep(0)
            self.feed(last)
            self._spending.give_back()
            MESSAGES.labels("in").inc()
            MESSAGE_DURATION.observe(self.clock() - began)
            await self._log.make_room()
        raise self._end(self.transport.gone)

    async def _prepare(self, event: ev.ClientEvent) -> ev.ClientEvent | None:
        """What the session cannot ask for itself is asked first; where it is refused the client is told so, and the
        call goes on."""
        if isinstance(event, ev.SessionUpdate) and event.session.get("prompt") is not None:
            return await self._fill_in(event, event.session["prompt"], "session.prompt")
        if isinstance(event, ev.ResponseCreate):
            if event.response.get("prompt") is not None:
                filled_in = await self._fill_in(event, event.response["prompt"], "response.prompt")
                if filled_in is None:
                    return None
                event = filled_in
            return event if await self._afford(event) else None
        return event

    async def _fill_in(self, event: Asked, prompt: ev.JsonObject, param: str) -> Asked | None:
        """With the instructions of the stored prompt."""
        if self.record.prompts is not None and prompt_agent(prompt) not in self.record.prompts:
            # Whoever has a client secret may be anybody: what other agents are told is none of their business.
            self._refuse(event, "invalid_request_error", "agent_not_found", OTHER_PROMPT, f"{param}.id")
            return None
        try:
            words = await self.ports.directory.prompt(
                self.record.tenant, prompt, self.record.values, param, subject=self._actions.subject
            )
        except PromptRefused as refusal:
            self._refuse(event, "invalid_request_error", refusal.code, str(refusal), refusal.param)
            return None
        except Exception as fault:
            self._note_fault("prompt", fault)
            self._refuse(event, "server_error", "server_error", SORRY, param)
            return None
        return msgspec.structs.replace(event, instructions=words)

    async def _afford(self, asked: ev.ResponseCreate) -> bool:
        """A ticket for the response that the client asks for; without one it is told so, and the call goes on."""
        refusal = await self._spending.ask()
        if refusal is None:
            return True
        self._refuse(asked, "rate_limit_error", RATE_LIMITED, refusal.message)
        return False

    def _refuse(self, event: ev.ClientEvent, kind: str, code: str, message: str, param: str | None = None) -> None:
        body = ev.ErrorBody(type=kind, code=code, message=message, param=param, event_id=event.event_id)
        self._send(ev.Error(event_id=self.session.call.new_id("event"), error=body))

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
        """Who hangs up on an agent that has said goodbye does not end the call: the agent has."""
        self._over = True
        self._work.end()
        return CallOver(self._reason if self._reason == AGENT_ENDED else reason)

    def _limit_duration(self, agent: AgentSpec) -> None:
        """The platform's longest call, or what is left of the agent's."""
        left_s = self._ends_at - self.clock()
        if agent.limits.duration_s is not None:
            left_s = min(left_s, agent.limits.duration_s)
        self._work.after(left_s, "expiry", self._expire)

    def _expire(self) -> None:
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
        self._work.cancel_all()

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
            if isinstance(entering, ev.ReplyFinished):
                self._metering.reply_finished(entering)
        try:
            effects = self.session.receive(entering)
            if self.session.call.agent is not self._agent:
                self._serve(self.session.call.agent)
            # Whoever is only listened to gets no response that would tell.
            self._metering.listened(self.session.call.heard_samples)
            self._spending.count_audio(self.session.call.heard_samples)
            if self._tape is not None:
                self._tape.take(entering, effects, self.session.call.config)
            self._do(effects)
        except Exception as error:
            self._break(error)

    def _serve(self, agent: AgentSpec) -> None:
        """Another agent has taken the call over."""
        self._agent = agent
        self._log.serve(agent.slug)
        self._limit_duration(agent)
        self._remember()

    def _remember(self) -> None:
        """Whoever calls the same agent again soon is taken by the one who serves them now."""
        record = self.record
        if record.end_user:
            self.ports.directory.remember(
                record.tenant, record.end_user, record.channel, record.called, self._agent.slug
            )

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
                    if not self._closing.done():
                        self._hearing.listen(pcm)
                case do.OpenListening(generation):
                    self._hearing.open(generation)
                case do.CloseListening():
                    self._hearing.close()
                case do.Transcribe():
                    self._hearing.transcribe(effect)
                case do.JudgeTurn(judgement_id):
                    self._work.spawn(judgement_id, self._hearing.judge(effect))
                case do.CountTokens(tokens, response_id):
                    self._timings.forget(response_id)
                    self._spending.settle(response_id, tokens, self.feed)
                case do.DropTranscription(job_id):
                    self._hearing.drop(job_id)
                case do.StartReply(response_id):
                    self._timings.reply_started(response_id)
                    source = self._metering.reply_started(response_id)
                    self._work.spawn(response_id, self._reply(effect, source))
                case do.CancelReply(response_id):
                    self._work.cancel(response_id)
                case do.RunTool(run_id):
                    self._work.spawn(run_id, self._give(self._actions.run_tool(effect, self.session.call.agent)))
                case do.CancelTool(run_id):
                    self._work.cancel(run_id)
                case do.ListTools(list_id):
                    self._work.spawn(list_id, self._give(self._actions.list_tools(effect)))
                case do.HandOff(run_id):
                    self._work.spawn(run_id, self._give(self._actions.hand_off(effect)))
                case do.Route():
                    self._work.spawn("route", self._give(self._actions.route(effect, self.session.call.agent)))
                case do.Remind(reminder_id, after_ms):
                    reminded = ev.Reminded(reminder_id=reminder_id)
                    self._work.after(after_ms / 1000, f"reminder {reminder_id}", partial(self.feed, reminded))
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
            self._metering.response_done(event.response["id"])
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
        if close.code == CLOSE_NORMAL:
            self._reason = AGENT_ENDED
        if close.after_ms:
            then = partial(self._ask_to_close, do.Close(close.code, close.reason))
            self._work.after(close.after_ms / 1000, "close", then)
        elif not self._closing.done():
            self._closing.set_result(close)

    # ---- work under way ----

    def _spend(self, source: str, used: Finished) -> None:
        """A colleague was asked; no response shows what that took."""
        self._metering.think(source, used)
        self._spending.charge(used.input_tokens + used.output_tokens)

    def _history(self) -> tuple[Message, ...]:
        return to_messages(list(self.session.call.conversation)[-HISTORY_ITEMS:])

    async def _give(self, action: Coroutine[Any, Any, ev.Result]) -> None:
        self.feed(await action)

    async def _reply(self, start: do.StartReply, source: str) -> None:
        response_id = start.response_id
        if start.request is not None:
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
            self._metering.replied(response_id, source, reply.characters)
