"""Opus (RFC 6716) packet by packet, without a container, as it travels in the events of a WebSocket: libopus through
PyAV. Speech at 24 kHz takes about 3 kB a second, a seventeenth of PCM16."""

from typing import Any, cast

import av
import numpy as np
from av.error import FFmpegError

from speech.audio import Resampler
from speech.engines import TTS_HZ, Pcm

DECODED_HZ = 48_000
"""libopus decodes at this rate, whatever was encoded."""
PACKET_MS = 120
"""The longest that Opus knows: what an event costs beside its audio is paid eight times a second."""
BIT_RATE = 24_000
MAX_PACKET_MS = 120
MAX_PACKET_BYTES = 48 * 1275 + 100
"""48 frames, the most that fit into 120 ms, of the most bytes that one may have, and their lengths."""

# RFC 6716, 3.1: the first byte's upper five bits say how long each frame is, in ms.
_FRAME_MS = (
    *(10, 20, 40, 60) * 3,  # SILK
    *(10, 20) * 2,  # hybrid
    *(2.5, 5, 10, 20) * 4,  # CELT
)


def packet_ms(packet: bytes) -> float:
    """How long a packet's audio lasts. Raises ValueError for what is no Opus packet."""
    if not packet:
        raise ValueError("an Opus packet has at least one byte")
    if len(packet) > MAX_PACKET_BYTES:
        raise ValueError(f"an Opus packet has at most {MAX_PACKET_BYTES} bytes; got {len(packet)}")
    code = packet[0] & 3
    if code == 3 and len(packet) < 2:
        raise ValueError("the packet ends before the number of its frames")
    frames = (1, 2, 2)[code] if code < 3 else packet[1] & 63
    length_ms = frames * _FRAME_MS[packet[0] >> 3]
    if not 0 < length_ms <= MAX_PACKET_MS:
        raise ValueError(f"an Opus packet lasts at most {MAX_PACKET_MS} ms; got {length_ms:g} ms")
    return length_ms


class OpusDecoder:
    """One stream of packets, mono or stereo, as PCM at 24 kHz."""

    def __init__(self) -> None:
        self._codec = cast("Any", av.CodecContext.create("libopus", "r"))
        self._resampler = Resampler(DECODED_HZ, TTS_HZ)

    def decode(self, packet: bytes) -> Pcm:
        """Raises ValueError for what is no Opus packet; the stream goes on."""
        packet_ms(packet)
        try:
            frames = self._codec.decode(av.Packet(packet))
        except FFmpegError as error:
            raise ValueError("the packet cannot be decoded") from error
        if not frames:
            raise ValueError("the packet cannot be decoded")
        # FFmpeg's libopus gives two channels interleaved.
        both = [frame.to_ndarray().reshape(-1, len(frame.layout.channels)) for frame in frames]
        mono = np.concatenate(both).astype(np.int32).mean(axis=1).astype(np.int16)
        return self._resampler.push(mono)


class OpusEncoder:
    """One stream of PCM at 24 kHz as packets of ``packet_ms`` (a length that Opus knows), the last of them filled up
    with silence."""

    def __init__(self, packet_ms: int = PACKET_MS) -> None:
        codec = cast("Any", av.CodecContext.create("libopus", "w"))
        codec.sample_rate, codec.layout, codec.format, codec.bit_rate = TTS_HZ, "mono", "s16", BIT_RATE
        codec.options = {"application": "voip", "frame_duration": str(packet_ms), "compression_level": "5"}
        codec.open()
        self._codec = codec
        self._packet_samples = TTS_HZ * packet_ms // 1000
        self._waiting: Pcm = np.empty(0, np.int16)
        self._samples = 0

    def push(self, pcm_24khz: Pcm) -> list[bytes]:
        """Packets that are full."""
        pcm = np.concatenate([self._waiting, pcm_24khz])
        whole = len(pcm) // self._packet_samples * self._packet_samples
        self._waiting = pcm[whole:]
        return [
            packet
            for start in range(0, whole, self._packet_samples)
            for packet in self._encode(pcm[start : start + self._packet_samples])
        ]

    def flush(self) -> list[bytes]:
        """The last packets, with what the codec holds back. The stream is at its end."""
        packets: list[bytes] = []
        if len(self._waiting):
            packets = self._encode(np.pad(self._waiting, (0, self._packet_samples - len(self._waiting))))
            self._waiting = self._waiting[:0]
        return packets + [bytes(packet) for packet in self._codec.encode(None)] if self._samples else packets

    def _encode(self, pcm: Pcm) -> list[bytes]:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm).reshape(1, -1), "s16", "mono")
        frame.sample_rate, frame.pts = TTS_HZ, self._samples
        self._samples += len(pcm)
        return [bytes(packet) for packet in self._codec.encode(frame)]
