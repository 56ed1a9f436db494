"""One tape on a clock of the test's, without a call around it."""

from pathlib import Path

import numpy as np

from agents.spec import AgentSpec
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.config import SessionConfig
from realtime.recordings.journal import Journal, read_journal
from realtime.runtime.recorder import CallSheet, Spool
from speech.audio import to_bytes
from speech.engines import Pcm

HZ = 24_000
AGENT = AgentSpec(slug="test", name="Test", instructions="", record=True)
CONFIG = SessionConfig.realtime(session_id="sess_1", model="agent:test", expires_at=1, agent=AGENT)
SHEET = CallSheet(tenant="acme", session_id="sess_1", started_at=1_800_000_000.0)
FRAME_MS = 20


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> float:
        return self.now_ms / 1000

    def sleep(self, ms: int) -> None:
        self.now_ms += ms


def tone(ms: int, level: int) -> Pcm:
    """Every sample differs from the next: a place cannot be mistaken for another."""
    return (np.arange(ms * 24) % 1000 + level).astype(np.int16)


class Stage:
    """One tape on a clock of the test's, and what its journal amounts to."""

    def __init__(self, root: Path, *, max_bytes: int = 1 << 30, memory_bytes: int = 1 << 22) -> None:
        self.root = root
        self.clock = Clock()
        self.spool = Spool(root, max_bytes=max_bytes, memory_bytes=memory_bytes)
        self.tape = self.spool.open(SHEET, self.clock)

    @property
    def directory(self) -> Path:
        return self.root / "acme" / "sess_1"

    def hear(self, pcm: Pcm, *, frame_ms: int = FRAME_MS) -> None:
        """A microphone: each frame comes when it has been spoken."""
        step = frame_ms * 24
        for start in range(0, len(pcm), step):
            self.clock.sleep(frame_ms)
            self.append(pcm[start : start + step])

    def append(self, pcm: Pcm) -> None:
        self.tape.take(ev.InputAudioAppend(audio=to_bytes(pcm)), [], CONFIG)

    def speak(self, pcm: Pcm, *, item: str = "item_a", response: str = "resp_a") -> None:
        delta = ev.OutputAudioDelta(response_id=response, output_index=0, item_id=item, content_index=0, delta=b"")
        self.tape.take(ev.ReplyAudio(response_id=response, pcm_24khz=pcm), [do.Send(delta), do.Send(delta)], CONFIG)

    def effects(self, *effects: do.Effect) -> None:
        self.tape.take(ev.InputAudioClear(), list(effects), CONFIG)

    def barge_in(self) -> None:
        self.effects(do.Send(ev.SpeechStarted(audio_start_ms=0, item_id="item_u")))

    def truncate(self, ms: int, *, item: str = "item_a") -> None:
        self.effects(do.Send(ev.ItemTruncated(item_id=item, content_index=0, audio_end_ms=ms)))

    def finish(self) -> Journal:
        self.tape.close()
        self.spool._round()
        self.spool._round()
        return read_journal(self.directory)

    def tracks(self) -> tuple[Pcm, Pcm]:
        journal = self.finish()
        rendered = journal.render(0, journal.length)
        return rendered[:, 0], rendered[:, 1]
