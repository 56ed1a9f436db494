"""A caller at the other end of the public WebSocket: a microphone that never stops, a loudspeaker, and barge-in.

It knows only the protocol, as any client does. The command ``call``, the benchmarks and the tests speak through it.
"""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import numpy as np
import websockets

from speech.audio import Resampler, decode_alaw, decode_ulaw, encode_alaw, encode_ulaw, from_bytes, to_bytes
from speech.engines import TTS_HZ, Pcm
from speech.opus import OpusDecoder, OpusEncoder

FRAME_MS = 20
PHONE_HZ = 8_000
SETTLE_S = 0.3
SPEECH_LEVEL = 500
"""Peak of a 20 ms frame, of 32,768, above which a recording is taken to be speech."""
PHONE = {"audio/pcmu": (encode_ulaw, decode_ulaw), "audio/pcma": (encode_alaw, decode_alaw)}


class CallFailed(Exception):
    """The call could not go on; the message says why."""


@dataclass
class Turn:
    """One thing said and its answer. Times in seconds of ``time.monotonic``; None: did not happen.

    A pause in what is said may end a turn for the server: then times are those of its last part, ``said`` is all of it.
    """

    speech_end: float | None = None
    said: str = ""
    answer: str = ""
    status: str = ""
    stopped_at: float | None = None
    transcript_at: float | None = None
    first_token_at: float | None = None
    first_audio_at: float | None = None
    done_at: float | None = None
    interrupted_after_ms: int | None = None
    audio: list[Pcm] = field(default_factory=list)

    def stages_ms(self) -> dict[str, float | None]:
        """Milliseconds from the end of speech to each stage."""
        stages = {
            "turn_end": self.stopped_at,
            "transcript": self.transcript_at,
            "first_token": self.first_token_at,
            "first_audio": self.first_audio_at,
        }
        return {
            name: None if at is None or self.speech_end is None else round((at - self.speech_end) * 1000, 1)
            for name, at in stages.items()
        }

    @property
    def pcm(self) -> Pcm:
        """What was heard of the answer, at 24 kHz."""
        whole = np.concatenate(self.audio) if self.audio else np.empty(0, np.int16)
        return whole if self.interrupted_after_ms is None else whole[: self.interrupted_after_ms * TTS_HZ // 1000]


class Loudspeaker:
    """Plays at real pace: knows how much of the current answer has been heard."""

    def __init__(self) -> None:
        self.item_id = ""
        self._began = 0.0
        self._samples = 0

    def play(self, item_id: str, samples: int, now: float) -> None:
        if item_id != self.item_id or now > self.ends_at:
            # Another answer, or a gap: what comes plays from now on.
            self._samples = samples if item_id != self.item_id else self._samples + samples
            self._began = now - (self._samples - samples) / TTS_HZ
            self.item_id = item_id
        else:
            self._samples += samples

    @property
    def ends_at(self) -> float:
        return self._began + self._samples / TTS_HZ if self.item_id else 0.0

    def heard_ms(self, now: float) -> int:
        return int(max(0.0, min(now - self._began, self._samples / TTS_HZ)) * 1000)

    def stop(self) -> None:
        self.item_id = ""


def with_query(url: str, asked: dict[str, str]) -> str:
    """``asked`` beside what the address asks for already; what both name is the address's."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode(asked | dict(parse_qsl(parts.query)))))


class Caller:
    """``async with Caller(url, key, model) as caller: turn = await caller.speak(pcm)``.

    ``on_event`` sees every server event as it comes; ``format`` is audio/pcm, audio/pcmu, audio/pcma or audio/opus;
    ``end_user`` is whom the call is for.
    """

    def __init__(
        self,
        url: str,
        key: str,
        model: str,
        *,
        format: str = "audio/pcm",  # noqa: A002 - the wire's word
        end_user: str = "",
        on_event: Callable[[dict[str, Any]], None] = lambda event: None,
    ) -> None:
        self._url = with_query(url, {"model": model} | ({"user": end_user} if end_user else {}))
        self._key = key
        self._format = format
        self._on_event = on_event
        self._down, self._up = Resampler(TTS_HZ, PHONE_HZ), Resampler(PHONE_HZ, TTS_HZ)
        self._opus_out, self._opus_in = OpusEncoder(FRAME_MS), OpusDecoder()
        self._microphone: asyncio.Queue[tuple[Pcm, asyncio.Future[float]]] = asyncio.Queue()
        self._loudspeaker = Loudspeaker()
        self._tasks: list[asyncio.Task[None]] = []
        self._turns: dict[str, Turn] = {}
        self._changed = asyncio.Event()
        self._failure: Exception | None = None
        self._speaking = False
        self._open_responses: set[str] = set()
        self.session: dict[str, Any] = {}
        self.errors: list[dict[str, Any]] = []
        self.turn = Turn()

    async def __aenter__(self) -> "Caller":
        try:
            self._socket = await websockets.connect(
                self._url, additional_headers={"Authorization": f"Bearer {self._key}"}, max_size=None, compression=None
            )
        except (OSError, websockets.WebSocketException) as error:
            raise CallFailed(f"{self._url} cannot be reached: {error}") from error
        self._tasks = [asyncio.create_task(self._listen())]
        await self._until(lambda: bool(self.session))
        spoken = {"type": "audio/pcm", "rate": TTS_HZ} if self._format == "audio/pcm" else {"type": self._format}
        audio = {"input": {"format": spoken, "transcription": {"model": "whisper-1"}}, "output": {"format": spoken}}
        await self.send({"type": "session.update", "session": {"type": "realtime", "audio": audio}})
        self._tasks.append(asyncio.create_task(self._speak_into_microphone()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._socket.close()

    async def send(self, event: dict[str, Any]) -> None:
        await self._socket.send(json.dumps(event))

    # ---- speaking ----

    async def say(self, pcm_24khz: Pcm) -> Turn:
        """Speak at real pace; returns when the last sample is out. The turn's answer may still be to come."""
        self.turn = turn = Turn()
        said: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        loud = np.flatnonzero(np.abs(pcm_24khz.astype(np.int32)) > SPEECH_LEVEL)
        trailing_s = (len(pcm_24khz) - int(loud[-1]) - 1) / TTS_HZ if len(loud) else 0.0
        self._microphone.put_nowait((pcm_24khz, said))
        self._tasks.append(waiting := asyncio.create_task(self._wait(said)))
        await self._until(waiting.done)
        turn.speech_end = said.result() - trailing_s
        return turn

    async def _wait(self, said: asyncio.Future[float]) -> None:
        await said
        self._changed.set()

    async def speak(self, pcm_24khz: Pcm, *, timeout_s: float = 60.0) -> Turn:
        """Speak, and hear the answer to its end. Raises CallFailed when none comes in time."""
        turn = await self.say(pcm_24khz)
        await self.hear_out(turn, timeout_s=timeout_s)
        return turn

    async def hear_out(self, turn: Turn, *, timeout_s: float = 60.0) -> None:
        """Until the answer has been given and played, and the server has had time to take a pause for the end.

        Raises CallFailed when the server says nothing for ``timeout_s`` seconds.
        """
        await asyncio.sleep(self._silence_s + SETTLE_S)
        await self._until(
            lambda: turn.done_at is not None and not self._speaking and not self._open_responses, timeout_s
        )
        await asyncio.sleep(max(0.0, self._loudspeaker.ends_at - time.monotonic()))

    @property
    def _silence_s(self) -> float:
        """How much silence the session takes for the end of a turn."""
        detection = self.session["audio"]["input"]["turn_detection"] or {}
        return float(detection.get("silence_duration_ms", 0)) / 1000

    async def hear_first(self, turn: Turn, heard_ms: int, *, timeout_s: float = 60.0) -> None:
        """Until this much of the answer has been played, or all of it."""
        await self._until(lambda: turn.first_audio_at is not None or turn.done_at is not None, timeout_s)
        while self._loudspeaker.heard_ms(now := time.monotonic()) < heard_ms:
            if turn.done_at is not None and now > self._loudspeaker.ends_at:
                return
            await asyncio.sleep(FRAME_MS / 1000)

    def stop_playing(self) -> None:
        """The loudspeaker falls silent; the server is not told."""
        self._loudspeaker.stop()

    async def _speak_into_microphone(self) -> None:
        """A frame every 20 ms for as long as the call lasts: what is to be said, else silence."""
        samples = TTS_HZ * FRAME_MS // 1000
        silence, speaking, at = np.zeros(samples, np.int16), None, 0
        due = time.monotonic()
        while True:
            if speaking is None and not self._microphone.empty():
                speaking, at = self._microphone.get_nowait(), 0
            frame = silence
            if speaking is not None:
                frame = speaking[0][at : at + samples]
                frame = np.concatenate([frame, silence[len(frame) :]])
                at += samples
            for audio in self._encode(frame):
                await self.send({"type": "input_audio_buffer.append", "audio": base64.b64encode(audio).decode()})
            if speaking is not None and at >= len(speaking[0]):
                speaking[1].set_result(time.monotonic())
                speaking = None
            due += FRAME_MS / 1000
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _encode(self, pcm_24khz: Pcm) -> list[bytes]:
        """As it is appended; of Opus a packet at a time."""
        if self._format == "audio/opus":
            return self._opus_out.push(pcm_24khz)
        if self._format in PHONE:
            return [PHONE[self._format][0](self._down.push(pcm_24khz))]
        return [to_bytes(pcm_24khz)]

    def _decode(self, delta: str) -> Pcm:
        raw = base64.b64decode(delta)
        if self._format == "audio/opus":
            return self._opus_in.decode(raw)
        if self._format in PHONE:
            return self._up.push(PHONE[self._format][1](raw))
        return from_bytes(raw)

    # ---- hearing ----

    async def _until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        while not condition():
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                told = "".join(f"; its last error: {error['message']}" for error in self.errors[-1:])
                raise CallFailed(f"the server said nothing for {timeout_s:g} s{told}") from None

    async def _listen(self) -> None:
        try:
            async for frame in self._socket:
                event = json.loads(frame)
                await self._hear(event, time.monotonic())
                self._on_event(event)
                self._changed.set()
            self._failure = self._hung_up()
        except websockets.ConnectionClosedError as error:
            self._failure = self._hung_up() if error.rcvd is not None else CallFailed(f"the connection broke: {error}")
        finally:
            self._changed.set()

    def _hung_up(self) -> CallFailed:
        said = "".join(f": {error['message']}" for error in self.errors[-1:])
        closed = f"{self._socket.close_code} {self._socket.close_reason}".rstrip()
        return CallFailed(f"the other side hung up ({closed}){said}")

    async def _hear(self, event: dict[str, Any], now: float) -> None:
        match event["type"]:
            case "session.created" | "session.updated":
                self.session = event["session"]
            case "error":
                self.errors.append(event["error"])
            case "input_audio_buffer.speech_started":
                self._speaking = True
                await self._barge_in(now)
            case "input_audio_buffer.speech_stopped":
                self._turns[event["item_id"]] = self.turn
                self._speaking, self.turn.stopped_at = False, now
            case "conversation.item.input_audio_transcription.completed":
                turn = self._turns.get(event["item_id"], self.turn)
                turn.said, turn.transcript_at = f"{turn.said} {event['transcript']}".strip(), now
            case "response.created":
                self._open_responses.add(event["response"]["id"])
                self._turns[event["response"]["id"]] = self.turn
                # What was answered to an earlier part of what is being said was not this turn's answer.
                self.turn.done_at, self.turn.answer, self.turn.audio = None, "", []
                self.turn.first_token_at = self.turn.first_audio_at = None
            case "response.output_item.added":
                turn = self._turns[event["response_id"]]
                turn.first_token_at = turn.first_token_at or now
            case "response.output_audio_transcript.delta" | "response.output_text.delta":
                self._turns[event["response_id"]].answer += event["delta"]
            case "response.output_audio.delta":
                turn = self._turns[event["response_id"]]
                pcm = self._decode(event["delta"])
                turn.first_audio_at = turn.first_audio_at or now
                turn.audio.append(pcm)
                self._turns[event["item_id"]] = turn
                self._loudspeaker.play(event["item_id"], len(pcm), now)
            case "response.done":
                turn = self._turns[event["response"]["id"]]
                self._open_responses.discard(event["response"]["id"])
                turn.status, turn.done_at = event["response"]["status"], now

    async def _barge_in(self, now: float) -> None:
        """The caller speaks over the answer: the loudspeaker falls silent and the server learns what was heard."""
        loudspeaker = self._loudspeaker
        if not loudspeaker.item_id or now >= loudspeaker.ends_at:
            return
        heard_ms = loudspeaker.heard_ms(now)
        self._turns[loudspeaker.item_id].interrupted_after_ms = heard_ms
        await self.send(
            {
                "type": "conversation.item.truncate",
                "item_id": loudspeaker.item_id,
                "content_index": 0,
                "audio_end_ms": heard_ms,
            }
        )
        loudspeaker.stop()
