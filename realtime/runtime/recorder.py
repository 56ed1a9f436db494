"""Recording calls: what both sides were heard to say, journalled to a spool directory by a thread of its own.

A ``Tape`` sees a call's inputs and effects on the event loop and only appends to memory. ``Spool`` writes, and nothing
it meets (a full disk, a slow one) reaches the call: the recording ends, with a state that says why.

The journal says what happened rather than what was heard: agent audio is sent faster than it is played, and only a
barge-in or a truncation, later, tells how much of it was. ``realtime.recordings.journal`` makes one of the other.

Times are samples at 24 kHz since the recording began, on one clock for both sides. The caller's audio runs on without
a gap as long as it comes within ``GAP``; the agent's begins where the protocol takes it to begin: when it is sent, or
behind what was sent before.

    {spool}/{tenant}/{session_id}/call.json      ``CallSheet``, padded so that its state can be rewritten on a full disk
    {spool}/{tenant}/{session_id}/000000.pcm …   records, each ``RECORD`` and the PCM16 of its samples

While a call is recorded its writer holds a lock (flock) on call.json, which the kernel lifts when the process is gone.
"""

import errno
import fcntl
import logging
import os
import struct
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from enum import IntEnum
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from prometheus_client import Counter, Gauge

from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.config import SessionConfig
from realtime.protocol.input_audio import InputDecoder
from speech.audio import to_bytes
from speech.engines import TTS_HZ, Pcm
from speech.logs import kind_and_place

HZ = TTS_HZ
SAMPLES_PER_MS = HZ // 1000
GAP = 200 * SAMPLES_PER_MS
"""Audio that comes later than this behind the caller's last is taken to follow a silence, not a slow network."""
BURST = 100 * SAMPLES_PER_MS
"""How long what comes behind such a gap is gathered: a network that stalled delivers all it held at once."""
EARLIEST = 5 * HZ
"""How far back in time a burst may reach: what is older may have been stored already."""
WORDS_S = 60.0
"""How long after a turn its words may come: the recogniser has been given up by then."""
ITEMS = 64
"""How many items back a truncation is still understood."""
STRETCHES = 4096
"""How many stretches back the caller's audio is still found, where it came with gaps."""

RECORD = struct.Struct("<B3xIIqqq")
"""Kind, item number, samples, the call's clock, where it starts, and where that is in its item."""
ALL_ITEMS = 0xFFFF_FFFF
SHEET = "call.json"
SHEET_BYTES = 4096
SUFFIX = ".pcm"
ROTATE_BYTES = 2 * 1024 * 1024
FLUSH_S = 0.1
SCAN_S = 2.0
STOP_S = 5.0

SpoolState = Literal["recording", "complete", "spool_full", "disk_full", "disk_slow", "fault"]

RECORDINGS = Counter("agentvoicebox_recordings_total", "Recordings by how their capture ended", ["state"])
ACTIVE = Gauge("agentvoicebox_recordings_active", "Calls that are being recorded")
SPOOL_BYTES = Gauge("agentvoicebox_recording_spool_bytes", "Audio in the spool directory, not yet stored")
SPOOL_WAITING = Gauge("agentvoicebox_recording_waiting_bytes", "Audio in memory, not yet in the spool")

log = logging.getLogger(__name__)


class Kind(IntEnum):
    """``CALLER`` and ``AGENT`` carry audio; ``CUT``: the item falls silent at ``start``; ``TRUNCATED``: of the item
    ``offset`` samples were heard; ``END``: the recording ends at ``start``. ``SILENT``: nothing of the caller is kept
    from ``start`` to ``offset``; ``SILENT_ITEM``: nothing of the item, from sample ``start`` of it to ``offset``."""

    CALLER = 1
    AGENT = 2
    CUT = 3
    TRUNCATED = 4
    END = 5
    SILENT = 6
    SILENT_ITEM = 7


class CallSheet(msgspec.Struct, frozen=True, kw_only=True):
    """Whose recording it is. ``started_at`` is Unix time in seconds; for ``hold_s`` after something was said it may yet
    turn out that it is to be silent."""

    tenant: str
    session_id: str
    started_at: float
    state: SpoolState = "recording"
    hold_s: float = 0.0


encode_sheet = msgspec.json.Encoder().encode
decode_sheet = msgspec.json.Decoder(CallSheet).decode


class Tape:
    """One call's recording on the event loop. Never blocks, never raises.

    ``memory_bytes`` bounds what may wait for the disk; ``clock`` gives seconds.
    """

    def __init__(self, sheet: CallSheet, clock: Callable[[], float], memory_bytes: int) -> None:
        self.sheet = sheet
        self.state: SpoolState = "recording"
        self._clock = clock
        self._began = clock()
        self._memory_bytes = memory_bytes
        self._waiting: deque[bytes] = deque()
        self._taken_bytes = self.written_bytes = 0
        self._decoder = InputDecoder("audio/pcm")
        self._caller_end = self._agent_end = self._lead = 0
        # Where the caller's samples, counted as the session counts them, lie in the recording: (from, place, samples).
        self._placed: deque[tuple[int, int, int]] = deque(maxlen=STRETCHES)
        self._placed_samples = 0
        self._is_over = False
        self._burst: list[Pcm] = []
        self._burst_samples = self._burst_began = self._burst_at = 0
        self._items: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._latest: dict[str, str] = {}
        # What an answer brought until a delta tells that it goes out: a codec may wait for a packet to be full.
        self._held: dict[str, list[Pcm]] = {}
        self._numbers = 0

    # ---- what the runner tells ----

    def take(self, entering: ev.Input, effects: list[do.Effect], config: SessionConfig) -> None:
        """An input, and what the session asks for because of it."""
        self._guard(lambda: self._take(entering, effects, config))

    def silence(self, item_id: str, stretches: Iterable[tuple[int, int]], by_caller: bool) -> None:
        """Nothing of these is kept: of the caller as samples of the call, of an agent as samples of its item."""
        self._guard(lambda: self._silence(item_id, stretches, by_caller))

    def hang_up(self) -> None:
        """Nothing more is heard; what of it is to be silent may still be told."""
        self._guard(self._end)

    def close(self, *, broken: bool = False) -> None:
        """The call is over. ``broken``: nobody knows what of its end was to be silent."""
        self._guard(lambda: self._finish("fault" if broken and self.sheet.hold_s else "complete"))

    def _guard(self, step: Callable[[], None]) -> None:
        """Whatever goes wrong here ends the recording alone."""
        if self.state != "recording":
            return
        try:
            step()
        except Exception as error:
            log.error("a recording ends: unexpected fault: %s", kind_and_place(error))
            self.state = "fault"

    def _end(self) -> None:
        if not self._is_over:
            self._settle_burst()
            self._put(Kind.END, start=self.position)
            self._is_over = True

    def _finish(self, state: SpoolState) -> None:
        self._end()
        if self.state == "recording":
            self.state = state

    def _take(self, entering: ev.Input, effects: list[do.Effect], config: SessionConfig) -> None:
        if self._is_over:
            return
        if isinstance(entering, ev.InputAudioAppend):
            # What the session refuses it does not count either.
            if not any(isinstance(effect, do.Send) and isinstance(effect.event, ev.Error) for effect in effects):
                self._hear(entering.audio, config.input_format)
        elif isinstance(entering, ev.ReplyAudio):
            self._held.setdefault(entering.response_id, []).append(entering.pcm_24khz)
            if len(self._held) > ITEMS:
                del self._held[next(iter(self._held))]
        for effect in effects:
            match effect:
                case do.Send(ev.OutputAudioDelta() as delta):
                    if held := self._held.pop(delta.response_id, None):
                        self._speak(delta.response_id, delta.item_id, np.concatenate(held))
                case do.Send(ev.SpeechStarted()) if config.turn_taking is not None:
                    if config.turn_taking.interrupt_response:
                        self._cut(ALL_ITEMS)
                case do.Send(ev.ItemTruncated(item_id=item_id, audio_end_ms=audio_end_ms)):
                    self._truncate(item_id, audio_end_ms)
                case do.CancelReply(response_id):
                    item = self._items.get(self._latest.pop(response_id, ""))
                    if item is not None:
                        self._cut(item[0])

    # ---- the caller ----

    @property
    def position(self) -> int:
        """The call's clock. A client may send faster than time goes by; then the clock leaps to where its audio ends,
        and goes on from there."""
        passed = int((self._clock() - self._began) * HZ)
        self._lead = max(self._lead, self._caller_end - passed)
        return passed + self._lead

    def _hear(self, audio: bytes, format: str) -> None:  # noqa: A002 - the wire's word
        if format != self._decoder.format:
            self._decoder = InputDecoder(format)
        pcm = self._decoder.decode(audio)
        if not len(pcm):
            return
        now = self.position
        is_late = self._caller_end == 0 or now - len(pcm) - self._caller_end > GAP
        if not self._burst and not is_late:
            self._place(self._caller_end, pcm)
            return
        if not self._burst:
            self._burst_began = now
        self._burst.append(pcm)
        self._burst_samples += len(pcm)
        self._burst_at = now
        if now - self._burst_began >= BURST or self._burst_samples * 2 > self._memory_bytes // 4:
            self._settle_burst()

    def _settle_burst(self) -> None:
        if not self._burst:
            return
        start = self._burst_at - min(self._burst_samples, EARLIEST)
        if start - self._caller_end <= GAP and self._caller_end:
            start = self._caller_end
        burst, self._burst, self._burst_samples = self._burst, [], 0
        self._place(max(start, self._caller_end), np.concatenate(burst))

    def _place(self, start: int, pcm: Pcm) -> None:
        self._put(Kind.CALLER, start=start, pcm=pcm)
        self._caller_end = start + len(pcm)
        known = self._placed[-1] if self._placed else None
        if known is not None and known[1] + known[2] == start:
            self._placed[-1] = (known[0], known[1], known[2] + len(pcm))
        else:
            self._placed.append((self._placed_samples, start, len(pcm)))
        self._placed_samples += len(pcm)

    def _silence(self, item_id: str, stretches: Iterable[tuple[int, int]], by_caller: bool) -> None:
        self._settle_burst()
        for first, last in stretches:
            if not by_caller:
                if item_id in self._items:
                    self._put(Kind.SILENT_ITEM, item=self._items[item_id][0], start=first, offset=last)
                continue
            for begin, place, samples in self._placed:
                low, high = max(first, begin), min(last, begin + samples)
                if low < high:
                    self._put(Kind.SILENT, start=place + low - begin, offset=place + high - begin)

    # ---- the agent ----

    def _speak(self, response_id: str, item_id: str, pcm: Pcm) -> None:
        self._settle_burst()
        number, offset = self._items.get(item_id, (self._numbers, 0))
        if not offset:
            self._numbers += 1
        start = max(self._agent_end, self.position)
        self._put(Kind.AGENT, item=number, start=start, offset=offset, pcm=pcm)
        self._agent_end = start + len(pcm)
        self._items[item_id] = (number, offset + len(pcm))
        self._latest[response_id] = item_id
        while len(self._items) > ITEMS:
            self._items.popitem(last=False)
        while len(self._latest) > ITEMS:
            del self._latest[next(iter(self._latest))]

    def _cut(self, item: int) -> None:
        position = self.position
        if position < self._agent_end:
            self._put(Kind.CUT, item=item, start=position)
            if item in (ALL_ITEMS, self._numbers - 1):
                self._agent_end = position

    def _truncate(self, item_id: str, audio_end_ms: int) -> None:
        if item_id in self._items:
            self._put(Kind.TRUNCATED, item=self._items[item_id][0], offset=audio_end_ms * SAMPLES_PER_MS)

    # ---- to the writer ----

    def _put(self, kind: Kind, *, item: int = 0, start: int = 0, offset: int = 0, pcm: Pcm | None = None) -> None:
        samples = 0 if pcm is None else len(pcm)
        waiting = self._taken_bytes - self.written_bytes + RECORD.size + 2 * samples
        if waiting > self._memory_bytes:
            log.error("a recording ends: the spool is too slow, %d bytes would wait for it", waiting)
            self.state = "disk_slow"
            return
        header = RECORD.pack(kind, item, samples, self.position, start, offset)
        self._taken_bytes += RECORD.size + 2 * samples
        self._waiting.append(header if pcm is None else header + to_bytes(pcm))

    @property
    def waiting_bytes(self) -> int:
        return self._taken_bytes - self.written_bytes

    def drain(self) -> list[bytes]:
        """For the writer's thread: what waits, in order."""
        return [self._waiting.popleft() for _ in range(len(self._waiting))]


class _Page:
    """One call's files, for the writer's thread alone. All of it raises OSError."""

    def __init__(self, root: Path, tape: Tape) -> None:
        self.tape = tape
        self._directory = root / tape.sheet.tenant / tape.sheet.session_id
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Locked before it has its name: whoever finds a sheet without a writer may take it.
        fresh = self._directory / (SHEET + ".new")
        self._sheet = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = -1
        self._number = self._size = 0
        try:
            fcntl.flock(self._sheet, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.say("recording")
            fresh.rename(self._directory / SHEET)
            self._turn()
        except OSError:
            self.close()
            raise

    def say(self, state: SpoolState) -> None:
        sheet = encode_sheet(msgspec.structs.replace(self.tape.sheet, state=state))
        os.pwrite(self._sheet, sheet.ljust(SHEET_BYTES), 0)

    def _turn(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        name = self._directory / f"{self._number:06d}{SUFFIX}"
        self._file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._number += 1
        self._size = 0

    def write(self, buffers: list[bytes]) -> int:
        data = b"".join(buffers)
        if self._size and self._size + len(data) > ROTATE_BYTES:
            self._turn()
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._size += len(data)
        return len(data)

    def close(self) -> None:
        for descriptor in (self._file, self._sheet):
            if descriptor >= 0:
                os.close(descriptor)


class Spool(threading.Thread):
    """Writes the tapes of one process. ``open`` is called on the event loop; ``stop`` is not.

    ``max_bytes`` is what the whole directory may hold, ``memory_bytes`` what one call may have waiting for it.
    """

    def __init__(self, root: Path, *, max_bytes: int, memory_bytes: int, clock: Callable[[], float] = time.monotonic):
        super().__init__(name="recordings", daemon=True)
        self._root = root
        self._max_bytes = max_bytes
        self._memory_bytes = memory_bytes
        self._clock = clock
        self._opened: deque[Tape] = deque()
        self._pages: list[_Page] = []
        self._used_bytes = 0
        self._scanned_at = -SCAN_S
        self._stopping = threading.Event()

    def open(self, sheet: CallSheet, clock: Callable[[], float]) -> Tape:
        """A tape for a call that begins now."""
        tape = Tape(sheet, clock, self._memory_bytes)
        self._opened.append(tape)
        return tape

    def stop(self) -> None:
        """Write what is left. A tape that nobody closed is stored as interrupted."""
        self._stopping.set()
        if self.is_alive():
            self.join(STOP_S)

    def run(self) -> None:
        while not self._stopping.wait(FLUSH_S):
            self._round()
        self._round()
        for page in self._pages:
            page.close()

    def _round(self) -> None:
        try:
            self._scan()
            while self._opened:
                self._begin(self._opened.popleft())
            self._pages = [page for page in self._pages if self._advance(page)]
            ACTIVE.set(len(self._pages))
            SPOOL_WAITING.set(sum(page.tape.waiting_bytes for page in self._pages))
        except Exception as error:
            log.error("a round of the recordings' writer broke: %s", kind_and_place(error))

    def _begin(self, tape: Tape) -> None:
        try:
            self._pages.append(_Page(self._root, tape))
        except OSError as error:
            tape.state = _state_of(error)
            self._note_end(tape, str(error))

    def _advance(self, page: _Page) -> bool:
        """Whether the recording goes on."""
        tape = page.tape
        state = tape.state  # before the drain: a tape that is complete puts nothing more
        buffers = tape.drain()
        why = ""
        if buffers and self._used_bytes + tape.waiting_bytes > self._max_bytes:
            state, why = "spool_full", f"{self._used_bytes} of {self._max_bytes} bytes are used"
        elif buffers:
            try:
                written = page.write(buffers)
                tape.written_bytes += written
                self._used_bytes += written
            except OSError as error:
                state, why = _state_of(error), str(error)
        if state == "recording":
            return True
        tape.state = state
        try:
            page.say(state)
        except OSError as error:
            why = f"{why}; its state cannot be written: {error}"
        page.close()
        self._note_end(tape, why)
        return False

    def _note_end(self, tape: Tape, why: str) -> None:
        RECORDINGS.labels(tape.state).inc()
        if tape.state != "complete":
            names = {"tenant_id": tape.sheet.tenant, "session_id": tape.sheet.session_id}
            log.error("a recording ended before its call: %s (%s)", tape.state, why, extra=names)

    def _scan(self) -> None:
        now = self._clock()
        if now - self._scanned_at >= SCAN_S:
            self._scanned_at = now
            self._used_bytes = used_bytes(self._root)
            SPOOL_BYTES.set(self._used_bytes)


def _state_of(error: OSError) -> SpoolState:
    return "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "fault"


def used_bytes(root: Path) -> int:
    """All audio in the spool, of all processes; what disappears meanwhile counts for nothing."""
    total = 0
    for directory, _, names in os.walk(root):
        for name in names:
            if name.endswith(SUFFIX):
                try:
                    total += os.stat(os.path.join(directory, name)).st_size
                except FileNotFoundError:
                    continue
    return total
