"""The gateway process: everything a live call needs, put together once, started and stopped with the server."""

import asyncio
import gc
import logging
import os
import secrets
import socket
import time

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import Error as DatabaseError

from agents.llm.choice import choose
from agents.queries import AgentUnknown, KeyRefused, admit
from agents.spec import Caller
from celery_workers.app import QUEUE_DEFAULT, submit
from realtime.archive.events import TASK_DRAIN
from realtime.archive.sink import RedisArchive
from realtime.runtime.budget import TokenBudgets
from realtime.runtime.door import CLOSE_TRY_AGAIN, CLOSE_UNAUTHENTICATED, Refusal, Visit, unknown_model, wrong_key
from realtime.runtime.ports import Ports
from realtime.transports.websocket import VoiceGateway
from speech import models
from speech.remote import RemoteSpeech
from speech.turn.judge import TurnJudge
from speech.turn.smart_turn import SmartTurn
from speech.vad.listening import BatchedListening
from speech.vad.silero import Silero

log = logging.getLogger(__name__)


class Gateway:
    """``voice`` is there between ``start`` and ``stop``."""

    voice: VoiceGateway

    async def start(self) -> None:
        """Raises what stops a start: a model that is missing or wrong, an environment that contradicts itself."""
        gateway_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.model = await asyncio.to_thread(choose, os.environ)
        silero = await asyncio.to_thread(lambda: Silero(models.path("silero-vad")))
        self.listening = BatchedListening(silero, backlog_s=settings.CALL_LIMITS.input_audio_s)
        self.judge = TurnJudge(await asyncio.to_thread(lambda: SmartTurn(models.path("smart-turn-v3.2"))))
        self.speech = RemoteSpeech(settings.REDIS_URL, submit, gateway_id)
        self.archive = RedisArchive(
            settings.REDIS_URL,
            lambda tenant: submit(TASK_DRAIN, QUEUE_DEFAULT, {"tenant": tenant}),
            settings.STATE_DIR / "archive",
            memory_events=settings.ARCHIVE_MEMORY_EVENTS,
            write_timeout_s=settings.REDIS_WRITE_TIMEOUT_S,
        )
        await self.speech.start()
        await self.archive.start()
        ports = Ports(
            listening=self.listening,
            hearing=self.speech,
            judging=self.judge,
            speaking=self.speech,
            model=self.model,
            archive=self.archive,
        )
        budgets = TokenBudgets(settings.TOKENS_PER_MINUTE, time.monotonic)
        self.voice = VoiceGateway(ports, self._admit, settings.CALL_LIMITS, settings.CALL_RUNNER, budgets)
        # What start-up made lives as long as the process: collections need not walk over it.
        gc.collect()
        gc.freeze()
        log.info("gateway is ready; language model: %s", self.model.name)

    async def stop(self) -> None:
        await self.speech.stop()
        await self.archive.stop()
        await asyncio.to_thread(self.listening.stop)
        await asyncio.to_thread(self.judge.stop)

    async def _admit(self, visit: Visit) -> Caller:
        if not self.speech.connected:
            raise Refusal(
                "service_unavailable",
                "The server cannot take new sessions at the moment. Please try again.",
                CLOSE_TRY_AGAIN,
                kind="server_error",
            )
        try:
            caller: Caller = await database_sync_to_async(admit)(visit.key, visit.agent)
        except AgentUnknown:
            raise unknown_model(visit.model or f"agent:{visit.agent}") from None
        except KeyRefused as error:
            if error.code == "invalid_api_key":
                raise wrong_key(visit.key) from None
            raise Refusal(error.code, error.message, CLOSE_UNAUTHENTICATED) from None
        except DatabaseError as error:
            log.warning("no call can be let in: PostgreSQL does not answer (%s)", type(error).__name__)
            raise Refusal(
                "service_unavailable",
                "The server cannot take new sessions at the moment. Please try again.",
                CLOSE_TRY_AGAIN,
                kind="server_error",
            ) from error
        return caller
