"""What a second of speech costs in each audio format: bytes on the wire and CPU on the event loop, both ways.

    .venv/bin/python bench/formats.py

A recorded sentence goes through a session as the protocol has it, in JSON and base64; PCM is what the others are
compared with. ``deflated`` is the same under permessage-deflate, as a client may ask for it.
"""

import statistics
import sys
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from realtime.protocol import events as ev
from realtime.protocol.input_audio import HZ, InputDecoder
from realtime.protocol.output_audio import OutputAudio
from realtime.protocol.wire import GA
from speech.audio import read_wav, resample
from speech.engines import Pcm

FORMATS = ("audio/pcm", "audio/pcmu", "audio/pcma", "audio/opus")
CLIP = Path(__file__).resolve().parents[1] / "tests" / "clips" / "jfk.wav"
CHUNK = HZ // 5
ROUNDS = 7


def frames(deltas: list[bytes]) -> list[bytes]:
    place = {"event_id": f"event_{1:021x}", "response_id": f"resp_{1:021x}", "item_id": f"item_{1:021x}"}
    return [
        GA.encode(ev.OutputAudioDelta(**place, output_index=0, content_index=0, delta=delta)).encode()
        for delta in deltas
    ]


def deflated(sent: list[bytes]) -> int:
    codec = zlib.compressobj(wbits=-15)
    return sum(len(codec.compress(frame)) + len(codec.flush(zlib.Z_SYNC_FLUSH)) for frame in sent)


def encode(kind: str, pcm: Pcm) -> tuple[list[bytes], float]:
    """The deltas, and ms."""
    began, output = time.perf_counter(), OutputAudio(kind)
    deltas = [delta for start in range(0, len(pcm), CHUNK) for delta in output.encode(pcm[start : start + CHUNK])]
    deltas += output.flush()
    return deltas, (time.perf_counter() - began) * 1000


def decode(kind: str, deltas: list[bytes]) -> float:
    began, decoder = time.perf_counter(), InputDecoder(kind)
    for delta in deltas:
        decoder.decode(delta)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    clip, hz = read_wav(CLIP)
    pcm = resample(clip, hz, HZ)
    seconds = len(pcm) / HZ
    print("for each second of speech        audio kB   wire kB   ratio   deflated kB   encode ms   decode ms")
    baseline = 0.0
    for kind in FORMATS:
        rounds = [encode(kind, pcm) for _ in range(ROUNDS)]
        deltas = rounds[0][0]
        sent = frames(deltas)
        wire = sum(map(len, sent)) / seconds
        baseline = baseline or wire
        encoded = statistics.median(ms for _, ms in rounds) / seconds
        decoded = statistics.median(decode(kind, deltas) for _ in range(ROUNDS)) / seconds
        print(
            f"  {kind:30}{sum(map(len, deltas)) / seconds / 1000:9.1f}{wire / 1000:10.1f}{baseline / wire:8.1f}"
            f"{deflated(sent) / seconds / 1000:14.1f}{encoded:12.2f}{decoded:12.2f}"
        )


if __name__ == "__main__":
    main()
