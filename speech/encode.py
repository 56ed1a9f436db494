"""Audio files: what speech is sent as, encoded while it is still being spoken, and what people upload.

FFmpeg's libraries do the work, through PyAV. Calls into them take milliseconds: run them off the event loop.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, cast

import av
import numpy as np
from av.error import ArgumentError, FFmpegError, PatchWelcomeError

from speech import audio
from speech.engines import STT_HZ, TTS_HZ, Pcm

UNKNOWN_LENGTH = 0xFFFFFFFF
DEFAULT_BIT_RATES = {"mp3": 64_000, "aac": 64_000, "opus": 32_000}

# What may be uploaded: containers that hold their own audio. Playlists and the like, which would make FFmpeg open other
# files and addresses, are not among them.
UPLOAD_CONTAINERS = "aac,aiff,amr,caf,flac,matroska,mov,mp3,mpeg,ogg,w64,wav"
SLOWEST_HZ, FASTEST_HZ = 4_000, 384_000
MOST_CHANNELS = 16
MOST_CHANGES = 1_000
UNSUPPORTED = (
    "Audio file might be corrupted or unsupported. "
    "Supported formats: flac, m4a, mp3, mp4, mpeg, mpga, oga, ogg, wav and webm."
)


class UploadRefused(ValueError):
    """A file cannot be heard; the message says why and what would be right."""


class Encoder(Protocol):
    """One stream of speech at 24 kHz on its way into one file. ``push`` and ``flush`` give the bytes that are ready."""

    content_type: str

    def push(self, pcm_24khz: Pcm) -> bytes: ...

    def flush(self) -> bytes:
        """The last bytes; the file is at its end."""
        ...


class RawEncoder:
    """PCM16, little-endian, 24 kHz, without a header."""

    content_type = "audio/pcm"

    def push(self, pcm_24khz: Pcm) -> bytes:
        return audio.to_bytes(pcm_24khz)

    def flush(self) -> bytes:
        return b""


class WavEncoder:
    """WAV whose header says that its length is not known: the end of the stream is the end of the audio."""

    content_type = "audio/wav"

    def __init__(self) -> None:
        self._header = _wav_header()

    def push(self, pcm_24khz: Pcm) -> bytes:
        header, self._header = self._header, b""
        return header + audio.to_bytes(pcm_24khz)

    def flush(self) -> bytes:
        header, self._header = self._header, b""
        return header


@dataclass(frozen=True, slots=True)
class Codec:
    content_type: str
    container: str
    codec: str
    options: dict[str, str]


CODECS = {
    # A header with the length would have to be written last, at the beginning of what has been sent already.
    "mp3": Codec("audio/mpeg", "mp3", "libmp3lame", {"write_xing": "0", "id3v2_version": "0"}),
    "opus": Codec("audio/opus", "ogg", "libopus", {"page_duration": "100000"}),
    "flac": Codec("audio/flac", "flac", "flac", {}),
    "aac": Codec("audio/aac", "adts", "aac", {}),
}


class CodecEncoder:
    """Whatever FFmpeg encodes; packets leave as soon as the codec gives them."""

    def __init__(self, name: str) -> None:
        codec = CODECS[name]
        self.content_type = codec.content_type
        self._sink = _Sink()
        self._container: Any = av.open(
            self._sink, "w", format=codec.container, options={**codec.options, "flush_packets": "1"}
        )
        self._stream = cast("Any", self._container.add_stream(codec.codec, rate=TTS_HZ, layout="mono"))
        if name in DEFAULT_BIT_RATES:
            self._stream.bit_rate = DEFAULT_BIT_RATES[name]
        self._samples = 0

    def push(self, pcm_24khz: Pcm) -> bytes:
        if len(pcm_24khz):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm_24khz).reshape(1, -1), "s16", "mono")
            frame.sample_rate = TTS_HZ
            frame.pts = self._samples
            self._samples += len(pcm_24khz)
            self._container.mux(self._stream.encode(frame))
        return self._sink.take()

    def flush(self) -> bytes:
        if self._samples:
            self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()


class _Sink:
    """A file that can only be written, so that FFmpeg never goes back in it."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")


def open_encoder(name: str) -> Encoder:
    """For one of ``FORMATS``; ValueError for any other."""
    if name == "pcm":
        return RawEncoder()
    if name == "wav":
        return WavEncoder()
    if name not in CODECS:
        raise ValueError(f"there is no audio format {name!r}; use one of {', '.join(FORMATS)}")
    return CodecEncoder(name)


def decode_upload(data: bytes, *, longest_s: float) -> Pcm:
    """A recording in any usual container as mono PCM at 16 kHz; video and pictures in it are passed over.

    So is damage, and what is read before a file breaks off is kept. Raises UploadRefused, for one longer than
    ``longest_s`` too.
    """
    if not data:
        raise UploadRefused("The file is empty.")
    try:
        with av.open(io.BytesIO(data), "r", options={"format_whitelist": UPLOAD_CONTAINERS}) as container:
            if not container.streams.audio:
                raise UploadRefused("The file holds no audio track.")
            chunks = list(_resample(_frames(container), longest_s))
    except UploadRefused:
        raise
    except (FFmpegError, ValueError) as error:
        raise UploadRefused(UNSUPPORTED) from error
    if not chunks:
        raise UploadRefused("The file holds no audio.")
    return np.concatenate(chunks)


def _resample(frames: Iterator[Any], longest_s: float) -> Iterator[Pcm]:
    """Recordings joined into one file may change their form on the way: each stretch has a resampler of its own."""
    heard_s = 0.0
    for changes, ((hz, channels, _, _), stretch) in enumerate(groupby(frames, _form)):
        if changes > MOST_CHANGES:
            raise UploadRefused(
                f"The recording changes its sample rate or channels more than {MOST_CHANGES} times. Send it in parts."
            )
        # A rate in a header is anybody's claim: at 8 Hz a few kilobytes would become hours, and gigabytes.
        if not SLOWEST_HZ <= hz <= FASTEST_HZ:
            raise UploadRefused(
                f"The recording has a sample rate of {hz} Hz. Use one from {SLOWEST_HZ} to {FASTEST_HZ} Hz."
            )
        if channels > MOST_CHANNELS:
            raise UploadRefused(f"The recording has {channels} channels. Use at most {MOST_CHANNELS}.")
        resampler, samples = av.AudioResampler(format="s16", layout="mono", rate=STT_HZ), 0
        for frame in stretch:
            samples += frame.samples
            if heard_s + samples / hz > longest_s:
                raise UploadRefused(
                    f"The recording is longer than {longest_s:g} seconds, which is the maximum. Send it in parts."
                )
            yield from _pcm(resampler.resample(frame))
        yield from _pcm(resampler.resample(None))
        heard_s += samples / hz


def _form(frame: Any) -> tuple[int, int, str, str]:
    return frame.sample_rate, frame.layout.nb_channels, frame.layout.name, frame.format.name


def _pcm(frames: list[Any]) -> Iterator[Pcm]:
    for frame in frames:
        yield audio.from_bytes(frame.to_ndarray().tobytes())


def _frames(container: Any) -> Iterator[Any]:
    """A packet that cannot be decoded is passed over: joined files have headers in their midst. Where the container
    itself cannot be read any further, the recording ends, unless something else than audio of this form begins there.
    """
    decoded, damage = 0, None
    try:
        for packet in container.demux(audio=0):
            try:
                frames = packet.decode()
            except FFmpegError as error:
                damage = error
                continue
            for frame in frames:
                decoded += frame.samples
                frame.pts = None  # gaps in the time stamps are not silence
                yield frame
    except (ArgumentError, PatchWelcomeError) as error:
        raise UploadRefused(
            "The file is several recordings of different kinds joined into one. Send them one by one."
            if decoded
            else UNSUPPORTED
        ) from error
    except FFmpegError as error:
        damage = error
    if damage is not None and not decoded:
        raise damage


def _wav_header() -> bytes:
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, TTS_HZ, TTS_HZ * 2, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", UNKNOWN_LENGTH, b"WAVE") + fmt + struct.pack("<4sI", b"data", UNKNOWN_LENGTH)
