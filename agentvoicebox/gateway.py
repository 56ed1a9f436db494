"""The gateway process: everything a live call needs, put together once, started and stopped with the server."""

import asyncio
import gc
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import Error as DatabaseError

from agents.llm.choice import choose
from agents.queries import AgentUnknown, KeyRefused, admit, admit_key_id
from celery_workers.app import QUEUE_DEFAULT, submit
from realtime.archive.events import TASK_DRAIN
from realtime.archive.sink import RedisArchive
from realtime.rest import ports as rest
from realtime.rest.capacity import Capacity
from realtime.runtime.budget import TokenBudgets
from realtime.runtime.door import (
    CLOSE_TRY_AGAIN,
    CLOSE_UNAUTHENTICATED,
    Admission,
    Refusal,
    Visit,
    admit_with_secret,
    unknown_model,
    wrong_key,
)
from realtime.runtime.ports import Ports
from realtime.runtime.register import SessionRegister
from realtime.runtime.secrets import ClientSecrets, SecretsUnavailable, is_client_secret
from realtime.transports.websocket import VoiceGateway
from speech import models
from speech.remote import Patience, RemoteSpeech
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
        self.listening = BatchedListening(silero, backlog_s=2 * settings.CALL_LIMITS.input_audio_s)
        self.judge = TurnJudge(
            await asyncio.to_thread(lambda: SmartTurn(models.path("smart-turn-v3.2"))),
            waiting_max=settings.TURN_WAITING,
        )
        self.speech = RemoteSpeech(
            settings.REDIS_URL, submit, gateway_id, Patience(read_s=settings.REDIS_READ_TIMEOUT_S)
        )
        self.register = SessionRegister(settings.REDIS_URL, gateway_id, write_timeout_s=settings.REDIS_WRITE_TIMEOUT_S)
        self.archive = RedisArchive(
            settings.REDIS_URL,
            lambda tenant: submit(TASK_DRAIN, QUEUE_DEFAULT, {"tenant": tenant}),
            settings.STATE_DIR / "archive",
            memory_events=settings.ARCHIVE_MEMORY_EVENTS,
            memory_bytes=settings.ARCHIVE_MEMORY_BYTES,
            write_timeout_s=settings.REDIS_WRITE_TIMEOUT_S,
        )
        self.secrets = ClientSecrets(
            settings.REDIS_URL, settings.REDIS_WRITE_TIMEOUT_S, settings.CLIENT_SECRETS_PER_KEY
        )
        await self.speech.start()
        await self.archive.start()
        await self.register.start()
        ports = Ports(
            listening=self.listening,
            hearing=self.speech,
            judging=self.judge,
            speaking=self.speech,
            model=self.model,
            archive=self.archive,
            register=self.register,
        )
        budgets = TokenBudgets(settings.TOKENS_PER_MINUTE, time.monotonic)
        self.voice = VoiceGateway(
            ports, self._admit, settings.CALL_LIMITS, settings.CALL_RUNNER, budgets, settings.REALTIME_BETA
        )
        capacity = Capacity(
            recordings=settings.TRANSCRIPTION_MAX_RECORDINGS,
            pieces=settings.TRANSCRIPTION_MAX_PIECES,
            wait_s=settings.TRANSCRIPTION_WAIT_S,
        )
        rest.install(rest.RestPorts(self.speech, self.speech, self.secrets, capacity))
        # What start-up made lives as long as the process: collections need not walk over it.
        gc.collect()
        gc.freeze()
        log.info("gateway is ready; language model: %s", self.model.name)

    async def stop(self) -> None:
        """All parts, whatever happens to one of them; the archive last, so that it gets what the calls still say."""
        steps: tuple[Callable[[], Awaitable[object]], ...] = (
            self.speech.stop,
            self.secrets.stop,
            self.register.stop,
            lambda: asyncio.to_thread(self.listening.stop),
            lambda: asyncio.to_thread(self.judge.stop),
            self.archive.stop,
        )
        for step in steps:
            try:
                await step()
            except Exception:
                log.exception("a part of the gateway did not stop cleanly")

    async def _admit(self, visit: Visit) -> Admission:
        if not self.speech.connected:
            raise _try_again()
        try:
            if is_client_secret(visit.key):
                return await self._admit_with_secret(visit)
            caller = await database_sync_to_async(admit)(visit.key, visit.agent)
        except AgentUnknown as error:
            raise unknown_model(visit.model or f"agent:{error.slug}") from None
        except KeyRefused as error:
            if error.code == "invalid_api_key":
                raise wrong_key(visit.key) from None
            raise Refusal(error.code, error.message, CLOSE_UNAUTHENTICATED) from None
        except DatabaseError as error:
            log.warning("no call can be let in: PostgreSQL does not answer (%s)", type(error).__name__)
            raise _try_again() from error
        except SecretsUnavailable as error:
            raise _try_again() from error
        return Admission(caller, visit.model, visit.transcription)

    async def _admit_with_secret(self, visit: Visit) -> Admission:
        secret = await self.secrets.find(visit.key)
        if secret is None:
            raise wrong_key(visit.key)
        caller = await database_sync_to_async(admit_key_id)(secret.key_id, secret.agent)
        return admit_with_secret(visit, secret, caller)


def _try_again() -> Refusal:
    return Refusal(
        "service_unavailable",
        "The server cannot take new sessions at the moment. Please try again.",
        CLOSE_TRY_AGAIN,
        kind="server_error",
    )
