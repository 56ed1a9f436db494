"""Encoded speech, uploads, pauses and tempo."""

import io
import itertools
import wave

import av
import numpy as np
import pytest

from speech import encode
from speech.encode import FORMATS, UploadRefused, decode_upload, open_encoder
from speech.engines import STT_HZ, TTS_HZ, Pcm
from speech.pauses import split_at_pauses
from speech.tempo import change_tempo


def tone(seconds: float, hz: int, pitch_hz: float = 440.0) -> Pcm:
    return (8000 * np.sin(2 * np.pi * pitch_hz / hz * np.arange(int(seconds * hz)))).astype(np.int16)


def pitch_of(pcm: Pcm, hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return float(np.argmax(spectrum)) * hz / len(pcm)


def wav_of(pcm: Pcm, hz: int, channels: int = 1) -> bytes:
    """The same in every channel."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as wav:
        wav.setnchannels(channels)
        wav.setsampwidth(2)
        wav.setframerate(hz)
        wav.writeframes(np.repeat(pcm, channels).tobytes())
    return stream.getvalue()


def encoded(container: str, codec: str, seconds: float, hz: int, layout: str = "mono") -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as sink:
        track = sink.add_stream(codec, rate=hz, layout=layout)
        pcm = np.repeat(tone(seconds, hz), 2 if layout == "stereo" else 1)
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), "s16", layout)
        frame.sample_rate = hz
        sink.mux(track.encode(frame))
        sink.mux(track.encode(None))
    return stream.getvalue()


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "pcm"])
def test_what_is_encoded_can_be_decoded(name: str) -> None:
    encoder, pcm, pieces = open_encoder(name), tone(3, TTS_HZ), []
    for start in range(0, len(pcm), 4800):
        pieces.append(encoder.push(pcm[start : start + 4800]))
    heard = decode_upload(b"".join(pieces) + encoder.flush(), longest_s=10)
    assert len(heard) / STT_HZ == pytest.approx(3, abs=0.1)
    assert pitch_of(heard, STT_HZ) == pytest.approx(440, abs=2)
    # Audio leaves while it is still being spoken: two thirds of the speech bring more than half of the file.
    assert sum(map(len, pieces[:10])) > 0.5 * sum(map(len, pieces))


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_spoken_is_an_empty_file(name: str) -> None:
    assert len(open_encoder(name).flush()) <= 64


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(ValueError, match="'ogg'; use one of mp3"):
        open_encoder("ogg")


def test_stereo_at_another_rate_becomes_mono_at_16_khz() -> None:
    heard = decode_upload(wav_of(tone(1, 44_100), 44_100, channels=2), longest_s=10)
    assert len(heard) == pytest.approx(STT_HZ, abs=50)
    assert pitch_of(heard, STT_HZ) == pytest.approx(440, abs=2)


def test_a_file_that_breaks_off_is_heard_as_far_as_it_goes() -> None:
    encoder = open_encoder("mp3")
    data = encoder.push(tone(4, TTS_HZ)) + encoder.flush()
    assert 1.5 < len(decode_upload(data[: len(data) // 2], longest_s=10)) / STT_HZ < 2.5


def test_a_long_recording_in_a_small_file_is_refused_while_it_is_read() -> None:
    encoder = open_encoder("flac")
    data = encoder.push(np.zeros(600 * TTS_HZ, np.int16)) + encoder.flush()
    assert len(data) < 200_000
    with pytest.raises(UploadRefused, match="longer than 60 seconds"):
        decode_upload(data, longest_s=60)


@pytest.mark.parametrize("hz", [1, 8, 3_999, 384_001])
def test_a_rate_that_nobody_records_at_is_refused(hz: int) -> None:
    """At 8 Hz these 8 kB would become 16 MB, and a FLAC file of that size gigabytes."""
    with pytest.raises(UploadRefused, match=f"sample rate of {hz} Hz. Use one from 4000 to 384000 Hz"):
        decode_upload(wav_of(np.zeros(4_096, np.int16), hz), longest_s=3_600)


@pytest.mark.parametrize("hz", [4_000, 384_000])
def test_the_slowest_and_the_fastest_rate(hz: int) -> None:
    assert len(decode_upload(wav_of(tone(1, hz), hz), longest_s=10)) == pytest.approx(STT_HZ, abs=50)


@pytest.mark.parametrize("channels", [16, 17])
def test_channels(channels: int) -> None:
    data = wav_of(tone(1, STT_HZ), STT_HZ, channels)
    if channels <= 16:
        assert len(decode_upload(data, longest_s=10)) == pytest.approx(STT_HZ, abs=50)
    else:
        with pytest.raises(UploadRefused, match=r"17 channels\. Use at most 16"):
            decode_upload(data, longest_s=10)


def test_a_recording_is_measured_before_it_is_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    def resample(self: object, frame: av.AudioFrame) -> list[av.AudioFrame]:
        raise AssertionError("16 s of it came here")

    monkeypatch.setattr("speech.encode.av.AudioResampler", type("Untouched", (), {
        "__init__": lambda self, **form: None, "resample": resample,
    }))  # fmt: skip
    with pytest.raises(UploadRefused, match=r"longer than 0\.01 seconds"):
        decode_upload(wav_of(tone(16, 4_000), 4_000), longest_s=0.01)


@pytest.mark.parametrize(("container", "codec"), [("mp3", "libmp3lame"), ("adts", "aac")])
def test_joined_recordings_are_heard_to_their_end(container: str, codec: str) -> None:
    parts = [(44_100, "stereo"), (24_000, "mono"), (44_100, "mono")]
    data = b"".join(encoded(container, codec, 2, hz, layout) for hz, layout in parts)
    heard = decode_upload(data, longest_s=10)
    assert len(heard) / STT_HZ == pytest.approx(6, abs=0.3)
    for second in (0.5, 2.7, 4.9):
        part = heard[int(second * STT_HZ) :][: STT_HZ // 2]
        assert pitch_of(part, STT_HZ) == pytest.approx(440, abs=4)
    with pytest.raises(UploadRefused, match="longer than 5 seconds"):
        decode_upload(data, longest_s=5)


def test_a_recording_may_change_its_form_only_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded("adts", "aac", 1, 44_100) + encoded("adts", "aac", 1, 24_000) + encoded("adts", "aac", 1, 48_000)
    monkeypatch.setattr(encode, "MOST_CHANGES", 2)
    assert len(decode_upload(data, longest_s=10)) / STT_HZ == pytest.approx(3, abs=0.3)
    monkeypatch.setattr(encode, "MOST_CHANGES", 1)
    with pytest.raises(UploadRefused, match="more than 1 times"):
        decode_upload(data, longest_s=10)


def test_chained_ogg_is_read_whole_or_refused() -> None:
    same = encoded("ogg", "libopus", 1, 48_000) + encoded("ogg", "libopus", 2, 48_000)
    assert len(decode_upload(same, longest_s=10)) / STT_HZ == pytest.approx(3, abs=0.1)
    mixed = encoded("ogg", "libopus", 1, 48_000, "stereo") + encoded("ogg", "libopus", 2, 48_000)
    with pytest.raises(UploadRefused, match=r"joined into one\. Send them one by one"):
        decode_upload(mixed, longest_s=10)


def test_damage_in_the_midst_is_passed_over() -> None:
    encoder = open_encoder("mp3")
    data = bytearray(encoder.push(tone(6, TTS_HZ)) + encoder.flush())
    middle = len(data) // 2
    data[middle : middle + 2_000] = b"\xff" * 2_000
    assert 5.0 < len(decode_upload(bytes(data), longest_s=10)) / STT_HZ < 6.2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1000,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '/etc/hostname'\n",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 5004 RTP/AVP 0\r\n",
    ],
)
def test_what_is_no_recording_opens_nothing(data: bytes) -> None:
    with pytest.raises(UploadRefused):
        decode_upload(data, longest_s=60)


def test_pieces_are_the_whole_recording_cut_where_it_is_quiet() -> None:
    loud, quiet = tone(9, STT_HZ), np.zeros(STT_HZ, np.int16)
    pcm = np.concatenate([np.concatenate([loud, quiet])] * 10)
    pieces = split_at_pauses(pcm, STT_HZ)
    assert pieces[0][0] == 0
    assert pieces[-1][1] == len(pcm)
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(pieces))
    assert all(0 < end - start <= 30 * STT_HZ for start, end in pieces)
    assert all((end / STT_HZ) % 10 >= 9 for _, end in pieces[:-1])


@pytest.mark.parametrize("seconds", [0.0, 0.5, 30.0])
def test_a_short_recording_is_one_piece(seconds: float) -> None:
    pcm = tone(seconds, STT_HZ)
    assert split_at_pauses(pcm, STT_HZ) == [(0, len(pcm))]


@pytest.mark.parametrize("factor", [0.5, 1.25, 2.0])
def test_tempo_changes_the_length_and_not_the_pitch(factor: float) -> None:
    pcm = change_tempo(tone(2, TTS_HZ), TTS_HZ, factor)
    assert len(pcm) / TTS_HZ == pytest.approx(2 / factor, rel=0.05)
    assert pitch_of(pcm, TTS_HZ) == pytest.approx(440, abs=4)


def test_tempo_one_changes_nothing() -> None:
    pcm = tone(1, TTS_HZ)
    assert change_tempo(pcm, TTS_HZ, 1.0) is pcm
