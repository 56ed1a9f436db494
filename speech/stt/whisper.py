"""faster-whisper: one utterance at a time, greedy, without memory of the one before. Int8 on CPU, float16 on CUDA."""

from pathlib import Path

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.transcribe import Segment as WhisperSegment

from speech import audio
from speech.engines import STT_HZ, EngineError, EngineRefused, Heard, Pcm, Segment, Transcript, Word

# Whisper writes something for silence too. Below these it is taken to have heard nothing.
SILENCE_RMS = 0.0005
SHORTEST_S = 0.1
NO_SPEECH_PROBABILITY = 0.6
LOWEST_LOG_PROBABILITY = -1.0
# Callers do repeat themselves: what compresses well is only taken for a loop when the model is unsure of it.
SURE_LOG_PROBABILITY = -0.5
HIGHEST_COMPRESSION = 2.4
PROMPT_CHARACTERS = 600


class Whisper:
    """A loaded and warmed Whisper model; ``transcribe`` may be called from several threads."""

    name = "faster-whisper"

    def __init__(self, model: Path, *, device: str = "auto", threads: int = 4, concurrency: int = 1) -> None:
        """``model`` is a CTranslate2 directory. Raises EngineError when it or the device cannot be used."""
        has_cuda = ctranslate2.get_cuda_device_count() > 0
        if device == "cuda" and not has_cuda:
            raise EngineError("AVB_STT_DEVICE is cuda, but no CUDA device is there")
        self.device = "cuda" if has_cuda and device != "cpu" else "cpu"
        self.compute_type = "float16" if self.device == "cuda" else "int8"
        try:
            self._model = WhisperModel(
                str(model),
                device=self.device,
                compute_type=self.compute_type,
                cpu_threads=threads,
                num_workers=concurrency,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(f"the Whisper model at {model.name} does not load: {error}") from error
        # The first inference allocates; a caller shall not wait for it. Noise, so that it is not gated as silence.
        self.transcribe(audio.to_pcm(np.random.default_rng(0).normal(0, 0.1, STT_HZ).astype(np.float32)), language="en")

    def transcribe(
        self,
        pcm_16khz: Pcm,
        *,
        language: str | None = None,
        prompt: str | None = None,
        translate: bool = False,
        heard: Heard | None = None,
    ) -> Transcript:
        if translate and not self._model.model.is_multilingual:
            raise EngineRefused("this Whisper model knows English only: it cannot translate")
        samples = audio.to_float(pcm_16khz)
        audio_s = len(samples) / STT_HZ
        nothing = Transcript(text="", language=language or "en", audio_s=audio_s)
        if audio_s < SHORTEST_S or float(np.sqrt(np.mean(samples**2))) < SILENCE_RMS:
            return nothing
        try:
            segments, facts = self._model.transcribe(
                samples,
                language=language if self._model.model.is_multilingual else "en",
                task="translate" if translate else "transcribe",
                initial_prompt=prompt[-PROMPT_CHARACTERS:] if prompt else None,
                beam_size=1,
                temperature=0.0,
                condition_on_previous_text=False,
                vad_filter=False,
                word_timestamps=True,
                no_speech_threshold=NO_SPEECH_PROBABILITY,
                log_prob_threshold=LOWEST_LOG_PROBABILITY,
                compression_ratio_threshold=HIGHEST_COMPRESSION,
            )
            text, words = "", list[Word]()
            told_characters = told_words = 0
            # Whisper decodes as it is read: segments of a first half minute are there before the second is begun.
            for segment in segments:
                if not _is_sure(segment):
                    continue
                if heard is not None and _says_something(known := text.rstrip()[told_characters:]):
                    heard(Segment(known, tuple(words[told_words:])))
                    told_characters, told_words = told_characters + len(known), len(words)
                text = (text + segment.text).lstrip()
                words += [
                    Word(word.word.strip(), float(word.start), float(word.end), float(word.probability))
                    for word in segment.words or ()
                ]
        except ValueError as error:
            raise EngineError(f"Whisper refuses the request: {error}") from error
        except RuntimeError as error:
            raise EngineError(f"Whisper failed: {error}") from error
        if not _says_something(text):
            return nothing
        return Transcript(text=text.rstrip(), language=facts.language, audio_s=audio_s, words=tuple(words))


def _is_sure(segment: WhisperSegment) -> bool:
    """Whether it was said, and not made up of noise or of the segment before."""
    loops = segment.compression_ratio > HIGHEST_COMPRESSION and segment.avg_logprob < SURE_LOG_PROBABILITY
    silent = segment.no_speech_prob > NO_SPEECH_PROBABILITY and segment.avg_logprob < LOWEST_LOG_PROBABILITY
    return not loops and not silent


def _says_something(text: str) -> bool:
    return any(character.isalnum() for character in text)
