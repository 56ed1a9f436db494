"""Voice activity of all calls of a process, scored together on one thread.

A call's audio is only appended on the event loop; the thread resamples it and scores every window that is ready, of all
streams, in one inference as soon as it is free. So batches grow with the load, by themselves, and a lone caller waits
for nothing. Results come back on the loop, in order for each stream.

Rules:
1. A round takes at most one window of each stream, and resamples at most what that window needs, 100 ms at a time. So a
   caller with minutes of audio waiting holds up nobody else.
2. What breaks for one stream breaks that stream only; its next push says so. Nothing ends the thread but ``stop``.

There is no cheaper gate in front: Silero carries a state from window to window, and a window left out would change what
the later ones get.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable

import numpy as np
import soxr
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge, Histogram

from speech.audio import to_float
from speech.engines import STT_HZ, TTS_HZ, Pcm, SpeechFailed, VoiceActivity
from speech.logs import kind_and_place
from speech.vad.silero import CONTEXT_SAMPLES, WINDOW_SAMPLES

log = logging.getLogger(__name__)

Scored = Callable[[int, float], None]

BACKLOG_S = 5.0
RESAMPLED_AT_ONCE_SAMPLES = TTS_HZ // 10

OVERLOADS = Counter("agentvoicebox_vad_overloads", "Streams whose backlog was full")
BREAKS = Counter("agentvoicebox_vad_breaks", "Streams that broke, by what was done to them", ["step"])
STREAMS = Gauge("agentvoicebox_vad_streams", "Streams that are being listened to")
BATCH_SIZE = Histogram("agentvoicebox_vad_batch_windows", "Windows in a batch", buckets=(1, 4, 16, 64, 256, 1024))


class ListeningFailed(SpeechFailed):
    """A call cannot be listened to any more. ``code``: ``listening_overloaded`` or ``listening_failed``."""


class _Stream:
    """One caller. The loop appends to ``waiting`` and counts ``pushed_samples``; ``rest`` and what follows belong to
    the thread."""

    def __init__(self, listening: "BatchedListening", scored: Scored, backlog_s: float) -> None:
        self.scored = scored
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self.broken = ""
        self.waiting: deque[Pcm] = deque()
        self.pushed_samples = 0
        self.rest: NDArray[np.float32] = np.zeros(CONTEXT_SAMPLES, np.float32)
        # In floats: soxr adds dither to integers, which would be heard where there is silence.
        self.resampler = soxr.ResampleStream(TTS_HZ, STT_HZ, 1, dtype="float32", quality="LQ")
        self.state: NDArray[np.float32] = np.zeros((2, 128), np.float32)
        self.scored_samples = 0
        self._listening = listening
        self._backlog_s = backlog_s

    def push(self, pcm_24khz: Pcm) -> None:
        """Never blocks. Raises ListeningFailed when the backlog is full or scoring broke; closed, it takes no more."""
        if self.closed:
            return
        if self.broken:
            raise ListeningFailed("listening_failed", f"voice activity detection broke: {self.broken}")
        # Each of the two counts has one writer, so their difference needs no lock.
        unscored_samples = self.pushed_samples - self.scored_samples * TTS_HZ // STT_HZ
        if unscored_samples + len(pcm_24khz) > self._backlog_s * TTS_HZ:
            OVERLOADS.inc()
            message = f"more than {self._backlog_s:g} s of audio wait for voice activity detection"
            raise ListeningFailed("listening_overloaded", message)
        self.pushed_samples += len(pcm_24khz)
        self._listening.append(self, pcm_24khz)

    def close(self) -> None:
        """No result comes after this."""
        if not self.closed:
            self.closed = True
            STREAMS.dec()
            self._listening.forget(self)

    def fail(self, step: str, error: Exception) -> None:
        """From the thread or the loop: no window is scored or told any more."""
        if not self.broken:
            self.broken = type(error).__name__
            BREAKS.labels(step).inc()
            self._listening.forget(self)

    def absorb(self, arrived: list[Pcm]) -> None:
        """Resample what has come, behind what is left from before. ``rest`` begins with the context."""
        pcm = arrived[0] if len(arrived) == 1 else np.concatenate(arrived)
        self.rest = np.concatenate([self.rest, self.resampler.resample_chunk(to_float(pcm))])

    @property
    def ready(self) -> bool:
        return len(self.rest) >= CONTEXT_SAMPLES + WINDOW_SAMPLES


class BatchedListening:
    """Implements the runtime's ``Listening``. One per process; ``stop`` ends its thread."""

    def __init__(self, engine: VoiceActivity, *, backlog_s: float = BACKLOG_S) -> None:
        self._engine = engine
        self._backlog_s = backlog_s
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._fresh: set[_Stream] = set()
        self._active: list[_Stream] = []
        self._thread = threading.Thread(target=self._run, name="listening", daemon=True)
        self._thread.start()

    def open(self, scored: Scored) -> _Stream:
        """A stream whose windows are told to ``scored`` on the running loop: (last sample at 16 kHz, probability)."""
        stream = _Stream(self, scored, self._backlog_s)
        STREAMS.inc()
        return stream

    def stop(self) -> None:
        """End the thread; what has not been scored is dropped."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def append(self, stream: _Stream, pcm: Pcm) -> None:
        with self._lock:
            stream.waiting.append(pcm)
            self._fresh.add(stream)
        self._wake.set()

    def forget(self, stream: _Stream) -> None:
        """Drop what waits for a stream that is closed or broken."""
        with self._lock:
            self._fresh.discard(stream)
            stream.waiting.clear()

    def _run(self) -> None:
        while True:
            if not self._active:
                self._wake.wait()
            self._wake.clear()
            if self._stopping:
                return
            try:
                self._gather()
                if self._active:
                    self._score(self._active)
            except Exception as error:
                # Nobody knows which of them were scored, so none goes on with a gap that it does not know of.
                log.error("voice activity detection broke for %d streams: %s", len(self._active), kind_and_place(error))
                for stream in self._active:
                    stream.fail("scoring", error)
            self._active = [stream for stream in self._active if stream.ready or stream.waiting]

    def _gather(self) -> None:
        """Leave in ``_active`` the streams that have a window ready."""
        with self._lock:
            fresh, self._fresh = self._fresh, set()
        known = set(self._active)
        self._active += [stream for stream in fresh if stream not in known]
        ready = []
        for stream in self._active:
            if stream.closed or stream.broken:
                continue
            try:
                while not stream.ready and (arrived := self._take(stream)):
                    stream.absorb(arrived)
            except Exception as error:
                log.error("audio of a call cannot be resampled: %s", kind_and_place(error))
                stream.fail("resampling", error)
                continue
            if stream.ready:
                ready.append(stream)
        self._active = ready

    def _take(self, stream: _Stream) -> list[Pcm]:
        """The oldest audio that waits, as much as is resampled at once."""
        arrived: list[Pcm] = []
        wanted = RESAMPLED_AT_ONCE_SAMPLES
        with self._lock:
            while wanted > 0 and stream.waiting:
                pcm = stream.waiting.popleft()
                if len(pcm) > wanted:
                    stream.waiting.appendleft(pcm[wanted:])
                    pcm = pcm[:wanted]
                arrived.append(pcm)
                wanted -= len(pcm)
        return arrived

    def _score(self, streams: list[_Stream]) -> None:
        """One window of each stream."""
        span = CONTEXT_SAMPLES + WINDOW_SAMPLES
        windows = np.stack([stream.rest[:span] for stream in streams])
        states = np.stack([stream.state for stream in streams], axis=1)
        probabilities, states = self._engine.score(windows, states)
        BATCH_SIZE.observe(len(streams))
        results: dict[asyncio.AbstractEventLoop, list[tuple[_Stream, int, float]]] = {}
        for place, (stream, probability) in enumerate(zip(streams, probabilities.tolist(), strict=True)):
            stream.rest = stream.rest[WINDOW_SAMPLES:]
            stream.state = states[:, place]
            stream.scored_samples += WINDOW_SAMPLES
            results.setdefault(stream.loop, []).append((stream, stream.scored_samples, probability))
        for loop, told in results.items():
            try:
                loop.call_soon_threadsafe(_tell, told)
            except RuntimeError:
                # That loop is closed: its calls are over, though nobody closed their streams.
                for stream, _, _ in told:
                    stream.close()


def _tell(results: list[tuple[_Stream, int, float]]) -> None:
    for stream, last_sample, probability in results:
        if stream.closed or stream.broken:
            continue
        try:
            stream.scored(last_sample, probability)
        except Exception as error:
            log.error("a call did not take its voice activity: %s", kind_and_place(error))
            stream.fail("telling", error)
