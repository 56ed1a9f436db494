"""How much of what was meant was said."""

import jiwer

from speech.audio import resample
from speech.engines import STT_HZ, TTS_HZ, Pcm
from speech.stt.whisper import Whisper
from tests.speech.clips import CLIPS, load_clips, plain_words

TEXTS = {clip.file: clip.text for clip in load_clips()}


def word_error_rate(meant: list[str], said: list[str]) -> float:
    return float(jiwer.wer([plain_words(text) for text in meant], [plain_words(text) for text in said]))


def clip_24khz(file: str) -> Pcm:
    """A recorded clip as a microphone at 24 kHz would give it."""
    clip = next(clip for clip in load_clips() if clip.file == file)
    return resample(clip.pcm_16khz, STT_HZ, TTS_HZ)


def hear(whisper: Whisper, pcm_24khz: Pcm) -> str:
    return whisper.transcribe(resample(pcm_24khz, TTS_HZ, STT_HZ)).text


__all__ = ["CLIPS", "TEXTS", "clip_24khz", "hear", "word_error_rate"]
