"""What hearing costs beside the plain way: noise suppression for each 20 ms, and words told while they are said.

    .venv/bin/python bench/hearing.py

Both figures are of one call. Noise suppression runs on the gateway's event loop; guesses run on the recogniser's
worker, and their seconds of CPU are for each second of speech.
"""

import itertools
import time

import numpy as np
from product import REPOSITORY, describe_machine

from agents.spec import AgentSpec
from realtime.protocol import effects as do
from realtime.protocol import events as ev
from realtime.protocol.config import SessionConfig
from realtime.protocol.session import Session
from speech import models
from speech.audio import read_wav, resample
from speech.engines import STT_HZ, TTS_HZ, Pcm
from speech.noise import LEVELS, NoiseSuppressor
from speech.stt.whisper import Whisper

FRAME_SAMPLES = TTS_HZ // 50
PAUSE = np.zeros(TTS_HZ * 7 // 10, np.int16)
LIVE = {"transcription": {"model": "gpt-live-transcribe"}, "turn_detection": None}


def read_clip(name: str) -> Pcm:
    pcm, hz = read_wav(REPOSITORY / "tests" / "clips" / name)
    return resample(pcm, hz, TTS_HZ)


def measure_noise_suppression(pcm: Pcm) -> None:
    for field in LEVELS:
        suppressor, took_us = NoiseSuppressor(field), []
        for start in range(0, len(pcm), FRAME_SAMPLES):
            begun = time.perf_counter()
            suppressor.push(pcm[start : start + FRAME_SAMPLES])
            took_us.append((time.perf_counter() - begun) * 1e6)
        p50, p99 = np.percentile(took_us, [50, 99])
        print(f"noise suppression, {field}: p50 {p50:.0f} µs, p99 {p99:.0f} µs for 20 ms")


def measure_live_words(whisper: Whisper, pcm: Pcm) -> None:
    """A caller in real time, as far as the session can tell: a guess is answered when its inference would be done."""
    counter = itertools.count()
    agent = AgentSpec(slug="bench", name="Bench", instructions="")
    config = SessionConfig.realtime(session_id="sess_1", model="gpt-realtime", expires_at=1, agent=agent)
    config = config.updated({"type": "realtime", "audio": {"input": LIVE}})
    session = Session(config, agent, lambda prefix: f"{prefix}_{next(counter)}")
    session.open()
    answers: list[tuple[float, ev.TranscriptReady]] = []
    cpu_s, guesses, told, words = 0.0, 0, "", 0
    for start in range(0, len(pcm), FRAME_SAMPLES):
        now_ms = start * 1000 / TTS_HZ
        effects = session.receive(ev.InputAudioAppend(audio=pcm[start : start + FRAME_SAMPLES].tobytes()))
        for wanted in effects:
            if isinstance(wanted, do.Transcribe):
                begun, begun_cpu = time.perf_counter(), time.process_time()
                transcript = whisper.transcribe(resample(wanted.pcm_24khz, TTS_HZ, STT_HZ))
                cpu_s, guesses = cpu_s + time.process_time() - begun_cpu, guesses + 1
                took_ms = (time.perf_counter() - begun) * 1000
                answers.append((now_ms + took_ms, ev.TranscriptReady(job_id=wanted.job_id, transcript=transcript)))
                words = len(transcript.words)
        while answers and answers[0][0] <= now_ms:
            for said in session.receive(answers.pop(0)[1]):
                if isinstance(said, do.Send) and isinstance(said.event, ev.TranscriptionDelta):
                    told += said.event.delta
    seconds = len(pcm) / TTS_HZ
    print(
        f"words told while {seconds:.0f} s are said: {guesses} guesses, {cpu_s / max(1, guesses):.2f} s of CPU each, "
        f"{cpu_s / seconds:.2f} s for each second of speech; {len(told.split())} of about {words} words before the end"
    )


def main() -> None:
    print(describe_machine())
    measure_noise_suppression(np.concatenate([read_clip("jfk.wav")] * 5))
    whisper = Whisper(models.path("whisper-tiny.en"), device="cpu", threads=2)
    measure_live_words(whisper, read_clip("jfk.wav"))
    measure_live_words(whisper, np.concatenate([read_clip("librivox-0870.wav"), PAUSE, read_clip("librivox-0890.wav")]))


if __name__ == "__main__":
    main()
