"""What recording adds to a call, on the event loop and in the worker.

    .venv/bin/python bench/recording.py

A call's session is fed 20 ms frames, with and without a tape; the writer thread writes to a temporary directory
meanwhile. Then parts of 109 s of speech are rendered, encoded, decoded.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agents.spec import AgentSpec
from realtime.protocol import events as ev
from realtime.protocol.config import SessionConfig
from realtime.protocol.session import Session
from realtime.recordings import flac
from realtime.recordings.journal import read_journal
from realtime.runtime.door import id_source
from realtime.runtime.recorder import HZ, CallSheet, Spool
from speech.audio import encode_ulaw, read_wav, resample, to_bytes

FRAMES = 20_000
AGENT = AgentSpec(slug="bench", name="Bench", instructions="", turn_detection=None)
CLIP = Path(__file__).resolve().parents[1] / "tests" / "clips" / "jfk.wav"
PART = 10 * 1024 * 1024 // 4


def measure(kind: str, frame: bytes, spool: Spool | None) -> list[float]:
    """µs of each ``receive``, with what the runner does for a tape."""
    config = SessionConfig.realtime(session_id=f"sess_{kind[6:]}", model="m", expires_at=1, agent=AGENT)
    config = config.updated(
        {"type": "realtime", "audio": {"input": {"format": {"type": kind}, "turn_detection": None}}},
        assistant_has_spoken=False,
    )
    session = Session(config, AGENT, id_source())
    sheet = CallSheet(tenant="bench", session_id=config.id, started_at=time.time())
    tape = spool.open(sheet, time.monotonic) if spool is not None else None
    event = ev.InputAudioAppend(audio=frame)
    times = []
    for number in range(FRAMES):
        if number % 1000 == 0:
            session.receive(ev.InputAudioClear())
            time.sleep(0.3)  # more than the writer's round: 20 s of audio in 0.3 s is no call
        began = time.perf_counter()
        effects = session.receive(event)
        if tape is not None:
            tape.take(event, effects, session.call.config)
        times.append((time.perf_counter() - began) * 1e6)
    if tape is not None:
        tape.close()
        assert tape.state == "complete", tape.state
    return times


def main() -> None:
    said = read_wav(CLIP)
    voice = resample(said[0], said[1], HZ)
    pcm = to_bytes(voice[HZ : HZ + 480])
    phone = encode_ulaw(resample(voice, HZ, 8000)[8000:8160])
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), max_bytes=1 << 32, memory_bytes=1 << 24)
        spool.start()
        print("µs per 20 ms frame on the event loop     p50     p99")
        for kind, frame in (("audio/pcm", pcm), ("audio/pcmu", phone)):
            for name, used in (("not recorded", None), ("recorded", spool)):
                times = sorted(measure(kind, frame, used))
                print(f"  {kind + ', ' + name:36}{statistics.median(times):7.1f}{times[int(len(times) * 0.99)]:8.1f}")
        spool.stop()
        began = time.perf_counter()
        journal = read_journal(Path(folder) / "bench" / "sess_pcm")
        print(f"reading a journal of {journal.length / HZ:.0f} s: {(time.perf_counter() - began) * 1000:.0f} ms")
        began = time.perf_counter()
        journal.render(0, PART)
        print(f"rendering a part: {(time.perf_counter() - began) * 1000:.0f} ms")
    left = np.resize(voice, PART)
    stereo = np.stack([left, np.roll(left, 99_999)], axis=1)
    began = time.perf_counter()
    file = flac.encode(stereo, HZ)
    encoded = time.perf_counter()
    flac.decode(file)
    print(
        f"a part of {PART / HZ:.0f} s, {stereo.nbytes / 1e6:.1f} MB: encoded in {(encoded - began) * 1000:.0f} ms to "
        f"{len(file) / 1e6:.1f} MB, decoded in {(time.perf_counter() - encoded) * 1000:.0f} ms"
    )


if __name__ == "__main__":
    main()
