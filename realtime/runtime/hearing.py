"""The caller's side of one call at work: the stream that is listened to, transcriptions, and judgements of turns."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial

from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.runtime.ports import ListeningStream, Ports
from speech.engines import TTS_HZ, Pcm, Segment, SpeechFailed

LAST_WORDS_S = 12.0
GUESS_S = 3.0

log = logging.getLogger(__name__)


class CallHearing:
    """``feed`` takes results; ``note_fault(where, error)`` counts what should not happen."""

    def __init__(
        self,
        ports: Ports,
        *,
        tenant: str,
        session_id: str,
        feed: Callable[[ev.Result], None],
        note_fault: Callable[[str, Exception], None],
    ) -> None:
        self._ports = ports
        self._tenant = tenant
        self._session_id = session_id
        self._feed = feed
        self._note_fault = note_fault
        self._stream: ListeningStream | None = None
        self.jobs: dict[str, asyncio.Task[None]] = {}

    # ---- listening ----

    def listen(self, pcm_24khz: Pcm) -> None:
        if self._stream is None:
            return
        try:
            self._stream.push(pcm_24khz)
        except SpeechFailed as error:
            log.error("call ended: %s", error.message)
            self._feed(ev.ListeningFailed(code=error.code, message=error.message))

    def open(self, generation: int) -> None:
        self.close()

        def scored(end_sample_16khz: int, probability: float) -> None:
            self._feed(
                ev.WindowScored(generation=generation, end_sample_16khz=end_sample_16khz, probability=probability)
            )

        self._stream = self._ports.listening.open(scored)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    # ---- words ----

    def transcribe(self, wanted: do.Transcribe) -> None:
        """Not in the call's group: it may outlast the connection, though not the call."""
        task = asyncio.get_running_loop().create_task(self._transcribe(wanted))
        self.jobs[wanted.job_id] = task
        task.add_done_callback(lambda _: self.jobs.pop(wanted.job_id, None))

    def drop(self, job_id: str) -> None:
        if job_id in self.jobs:
            self.jobs.pop(job_id).cancel()

    async def hear_out(self) -> None:
        """Until all that was said is written down, or for ``LAST_WORDS_S``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                while self.jobs:  # what fails may be asked again
                    await asyncio.wait(self.jobs.values())

    def stop(self) -> None:
        for task in list(self.jobs.values()):
            task.cancel()

    async def _transcribe(self, wanted: do.Transcribe) -> None:
        try:
            transcript = await self._ports.hearing.transcribe(
                wanted.pcm_24khz,
                tenant=self._tenant,
                session_id=self._session_id,
                sample_rate_hz=TTS_HZ,
                language=wanted.language,
                prompt=wanted.prompt,
                answer_s=GUESS_S if wanted.guess else None,
                heard=partial(self._understood, wanted.job_id) if wanted.segments else None,
            )
        except SpeechFailed as error:
            self._feed(ev.TranscriptFailed(job_id=wanted.job_id, code=error.code, message=error.message))
        except Exception as error:
            self._note_fault("transcribe", error)
            self._feed(ev.TranscriptFailed(job_id=wanted.job_id, code="server_error", message="Transcription failed."))
        else:
            self._feed(ev.TranscriptReady(job_id=wanted.job_id, transcript=transcript))

    def _understood(self, job_id: str, segment: Segment) -> None:
        self._feed(ev.SegmentReady(job_id=job_id, segment=segment))

    async def judge(self, wanted: do.JudgeTurn) -> None:
        try:
            probability = await self._ports.judging.judge(wanted.pcm_24khz)
        except Exception as error:
            # The longest wait of the session's eagerness ends the turn all the same.
            self._note_fault("judge", error)
            return
        self._feed(ev.TurnJudged(judgement_id=wanted.judgement_id, probability=probability))
