"""One reply: a language model's tokens, or words that are there already, become phrases, phrases become audio, all of
it in order.

The next phrase is synthesised while the one before it is on its way; no more than ``PHRASES_AHEAD`` are in hand at
once, and the model is read no faster than that.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from agents.llm.degraded import Degraded
from agents.llm.types import Delta, Finished, LlmError, TextDelta, ToolCallDelta
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.runtime.metrics import DEGRADED
from realtime.runtime.ports import Ports, SpokenChunk
from speech.engines import SpeechFailed
from speech.phrases import PhraseSplitter

PHRASES_AHEAD = 2
CHUNKS_AHEAD = 64

log = logging.getLogger(__name__)

_Chunks = asyncio.Queue[SpokenChunk | SpeechFailed | None]
_Piece = tuple[str, _Chunks] | ev.Result | None


class Reply:
    """Answers one ``StartReply``. ``feed`` takes results; ``mark(stage)`` notes first_token and first_audio;
    ``characters`` counts those of phrases that were spoken, by engine and model."""

    def __init__(
        self,
        start: do.StartReply,
        ports: Ports,
        *,
        tenant: str,
        session_id: str,
        feed: Callable[[ev.Result], None],
        mark: Callable[[str], None],
    ) -> None:
        self._start = start
        self._ports = ports
        self._tenant = tenant
        self._session_id = session_id
        self._feed = feed
        self._mark = mark
        self.characters: Counter[tuple[str, str]] = Counter()
        self._pieces: asyncio.Queue[_Piece] = asyncio.Queue()
        self._slots = asyncio.Semaphore(PHRASES_AHEAD)

    async def run(self) -> None:
        """To the end; the last result fed is ReplyFinished or ReplyFailed. Cancelling stops all parts."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._think(group))
                group.create_task(self._deliver())
        except* LlmError as errors:
            error = errors.exceptions[0]
            code, message = (error.code, error.message) if isinstance(error, LlmError) else ("llm_unavailable", "")
            self._feed(ev.ReplyFailed(response_id=self._start.response_id, code=code, message=message))

    async def _think(self, group: asyncio.TaskGroup) -> None:
        """Read the model; hand on phrases, tool calls and the end in the order in which they came."""
        response_id, speaks = self._start.response_id, self._start.modality == "audio"
        splitter = PhraseSplitter()
        began, finished = False, Finished("stop")
        async with aclosing(self._deltas()) as deltas:
            async for delta in deltas:
                if isinstance(delta, Finished):
                    finished = delta
                    break
                if isinstance(delta, ToolCallDelta):
                    await self._speak(splitter.flush(), group)
                    self._pieces.put_nowait(
                        ev.ReplyToolCall(
                            response_id=response_id,
                            index=delta.index,
                            arguments=delta.arguments,
                            call_id=delta.call_id,
                            name=delta.name,
                        )
                    )
                    continue
                if delta.text and not began:
                    began = True
                    self._pieces.put_nowait(ev.ReplyBegan(response_id=response_id))
                if speaks:
                    await self._speak(splitter.push(delta.text), group)
                elif delta.text:
                    self._pieces.put_nowait(ev.ReplyText(response_id=response_id, text=delta.text))
        await self._speak(splitter.flush(), group)
        degraded = finished.provider == Degraded.name
        if degraded:
            DEGRADED.labels("llm").inc()
        self._pieces.put_nowait(
            ev.ReplyFinished(
                response_id=response_id,
                reason=finished.reason,
                input_tokens=finished.input_tokens,
                output_tokens=finished.output_tokens,
                cached_tokens=finished.cached_tokens,
                provider=finished.provider,
                model=finished.model,
                degraded=degraded,
            )
        )
        self._pieces.put_nowait(None)

    async def _deltas(self) -> AsyncGenerator[Delta, None]:
        if self._start.request is None:
            yield TextDelta(self._start.words)
            return
        async with aclosing(self._ports.model.stream(self._start.request)) as deltas:
            async for delta in deltas:
                self._mark("first_token")
                yield delta

    async def _speak(self, phrases: list[str], group: asyncio.TaskGroup) -> None:
        for phrase in phrases:
            await self._slots.acquire()
            chunks: _Chunks = asyncio.Queue(CHUNKS_AHEAD)
            self._pieces.put_nowait((phrase, chunks))
            group.create_task(self._synthesise(phrase, chunks))

    async def _synthesise(self, phrase: str, chunks: _Chunks) -> None:
        stream = self._ports.speaking.synthesise(
            phrase,
            tenant=self._tenant,
            session_id=self._session_id,
            voice=self._start.voice,
            speed=self._start.speed,
        )
        try:
            async with aclosing(stream):
                charged = False
                async for chunk in stream:
                    if not charged:
                        charged = True
                        self.characters[chunk.engine, chunk.model] += len(phrase)
                    await chunks.put(chunk)
        except SpeechFailed as error:
            await chunks.put(error)
        await chunks.put(None)

    async def _deliver(self) -> None:
        while (piece := await self._pieces.get()) is not None:
            if isinstance(piece, tuple):
                await self._deliver_phrase(*piece)
                self._slots.release()
            else:
                self._feed(piece)

    async def _deliver_phrase(self, phrase: str, chunks: _Chunks) -> None:
        """A phrase's words go out just before its audio; without audio they go alone: nothing is left unsaid."""
        response_id, said = self._start.response_id, False
        while (chunk := await chunks.get()) is not None:
            if not said:
                said = True
                self._feed(ev.ReplyText(response_id=response_id, text=phrase))
            if isinstance(chunk, SpeechFailed):
                DEGRADED.labels("tts").inc()
                log.warning("phrase goes out as text only: %s", chunk.code)
                continue
            if chunk.degraded:
                DEGRADED.labels("tts").inc()
            self._mark("first_audio")
            self._feed(ev.ReplyAudio(response_id=response_id, pcm_24khz=chunk.pcm))
        if not said:
            self._feed(ev.ReplyText(response_id=response_id, text=phrase))
