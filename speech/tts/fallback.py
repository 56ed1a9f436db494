"""The second voice: when the first engine cannot speak, the next one does, and says that it is not the first choice."""

import logging
from collections.abc import Iterator, Sequence

from speech.engines import EngineError, EngineRefused, SpokenChunk, Stop, TextToSpeech

log = logging.getLogger(__name__)


class FallbackSpeech:
    """Engines in order of preference. ``degraded``: the first choice did not even load."""

    def __init__(self, engines: Sequence[TextToSpeech], *, degraded: bool = False) -> None:
        if not engines:
            raise EngineError("no engine that speaks could be loaded")
        self._engines = tuple(engines)
        self.degraded = degraded

    def synthesise(self, text: str, *, voice: str, speed: float, stop: Stop) -> Iterator[SpokenChunk]:
        """Chunks from the first engine that manages. One that fails after its first chunk is not replaced: nobody
        changes voice within a word. Raises the last EngineError, and EngineRefused at once."""
        failure: EngineError | None = None
        for place, engine in enumerate(self._engines):
            heard = False
            try:
                for pcm in engine.synthesise(text, voice=voice, speed=speed, stop=stop):
                    heard = True
                    yield SpokenChunk(pcm, engine.name, self.degraded or place > 0)
                return
            except EngineRefused:
                raise
            except EngineError as error:
                if heard:
                    raise
                log.warning("%s cannot speak: %s", engine.name, error)
                failure = error
        assert failure is not None  # noqa: S101 - every engine either returned or failed
        raise failure
