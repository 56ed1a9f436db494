"""The gateway process: everything a live call needs, put together once, started and stopped with the server."""

import asyncio
import gc
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Collection

from channels.db import database_sync_to_async
from django.conf import settings

from agents.egress.breaker import RedisBreakers
from agents.egress.config import EgressConfig
from agents.llm.failover import build
from agents.queries import find_credential
from agents.tools.python import list_python_tools
from agents.tools.toolbox import LiveToolbox
from agentvoicebox.admission import Admissions, try_again
from agentvoicebox.directory import AgentDirectory
from celery_workers.app import QUEUE_DEFAULT, submit
from realtime.archive.events import TASK_DRAIN
from realtime.archive.sink import RedisArchive
from realtime.rest import ports as rest
from realtime.rest.capacity import Capacity
from realtime.runtime.active_agents import ActiveAgents
from realtime.runtime.budget import Budgets
from realtime.runtime.door import Admission, ConnectGate, Visit
from realtime.runtime.keys import Keys
from realtime.runtime.passes import Passes, Who
from realtime.runtime.ports import Ports
from realtime.runtime.recorder import Spool
from realtime.runtime.register import SessionRegister
from realtime.runtime.secrets import ClientSecrets
from realtime.transports.websocket import VoiceGateway
from speech import models
from speech.remote import Patience, RemoteSpeech
from speech.turn.judge import TurnJudge
from speech.turn.smart_turn import SmartTurn
from speech.vad.listening import BatchedListening
from speech.vad.silero import Silero
from tenants.encryption.keyring import current_master_key
from tenants.ended import AccessEnded
from tenants.keys.credential import Credential
from tenants.keys.queries import find_ended_access
from tenants.limits.counters import Limiter
from tenants.limits.throttle import anonymous_counter

log = logging.getLogger(__name__)


class Gateway:
    """``voice`` is there between ``start`` and ``stop``."""

    voice: VoiceGateway

    async def start(self) -> None:
        """Raises what stops a start: a model that is missing or wrong, an environment that contradicts itself, no
        master key."""
        if not settings.DEV:
            await asyncio.to_thread(current_master_key)
        gateway_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        egress = EgressConfig.from_environ()
        self.breakers = RedisBreakers(settings.REDIS_URL, settings.REDIS_READ_TIMEOUT_S)
        self.model = await asyncio.to_thread(build, os.environ, self.breakers, egress=egress)
        await self.model.start()
        await asyncio.to_thread(list_python_tools)  # their packages are imported before the first call needs one
        self.active = ActiveAgents(settings.REDIS_URL, settings.REDIS_READ_TIMEOUT_S, settings.ACTIVE_AGENT_S)
        silero = await asyncio.to_thread(lambda: Silero(models.path("silero-vad")))
        self.listening = BatchedListening(silero, backlog_s=2 * settings.CALL_LIMITS.input_audio_s)
        self.judge = TurnJudge(
            await asyncio.to_thread(lambda: SmartTurn(models.path("smart-turn-v3.2"))),
            waiting_max=settings.TURN_WAITING,
        )
        self.speech = RemoteSpeech(
            settings.REDIS_URL,
            submit,
            gateway_id,
            Patience(answer_s=settings.SPEECH_ANSWER_S, read_s=settings.REDIS_READ_TIMEOUT_S),
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
            settings.REDIS_URL,
            settings.REDIS_WRITE_TIMEOUT_S,
            settings.CLIENT_SECRETS_PER_KEY,
            settings.CLIENT_SECRET_BYTES_PER_TENANT,
        )
        self.recorder = Spool(
            settings.RECORDING_SPOOL_DIR,
            max_bytes=settings.RECORDING_SPOOL_MAX_BYTES,
            memory_bytes=settings.RECORDING_MEMORY_BYTES,
        )
        self.recorder.start()
        await self.speech.start()
        await self.archive.start()
        await self.register.start()
        self.limiter = Limiter(settings.REDIS_URL, settings.REDIS_WRITE_TIMEOUT_S)
        self.tools = LiveToolbox(egress, self.breakers, self.limiter, calls_per_tenant=settings.TOOL_CALLS_PER_TENANT)
        ports = Ports(
            listening=self.listening,
            hearing=self.speech,
            judging=self.judge,
            speaking=self.speech,
            model=self.model,
            archive=self.archive,
            register=self.register,
            tools=self.tools,
            directory=AgentDirectory(self.model, self.active, route_s=settings.ROUTING_WAIT_S),
            recorder=self.recorder,
        )
        self.keys = Keys(
            settings.REDIS_URL,
            settings.REDIS_WRITE_TIMEOUT_S,
            look_up=_look_up,
            limiter=self.limiter,
            unknown=anonymous_counter,
            ttl_s=settings.KEY_CACHE_S,
        )
        self.budgets = Budgets(
            self.limiter, tokens_reserved=settings.TOKENS_RESERVED, wait_s=settings.REDIS_READ_TIMEOUT_S
        )
        self.passes = Passes(settings.REDIS_URL, _find_ended, recheck_s=settings.KEY_RECHECK_S)
        self.admissions = Admissions(self.keys, self.secrets, self.limiter, self.active)
        await self.budgets.start()
        await self.passes.start()
        self.voice = VoiceGateway(
            ports=ports,
            admit=self._admit,
            budgets=self.budgets,
            passes=self.passes,
            gate=ConnectGate(settings.CONNECTIONS_PER_SECOND, settings.CONNECTIONS_PER_SECOND_PER_ADDRESS),
            limits=settings.CALL_LIMITS,
            runner=settings.CALL_RUNNER,
            beta=settings.REALTIME_BETA,
            trusted_proxies=settings.TRUSTED_PROXIES,
        )
        capacity = Capacity(
            recordings=settings.TRANSCRIPTION_MAX_RECORDINGS,
            pieces=settings.TRANSCRIPTION_MAX_PIECES,
            wait_s=settings.TRANSCRIPTION_WAIT_S,
        )
        rest.install(
            rest.RestPorts(
                hearing=self.speech,
                speaking=self.speech,
                secrets=self.secrets,
                capacity=capacity,
                archive=self.archive,
                keys=self.keys,
                limiter=self.limiter,
                passes=self.passes,
                budgets=self.budgets,
                anonymous=anonymous_counter,
            )
        )
        # What start-up made lives as long as the process: collections need not walk over it.
        gc.collect()
        gc.freeze()
        log.info("gateway is ready; language model: %s", self.model.name)

    async def stop(self) -> None:
        """All parts, whatever happens to one of them; the archive last, so that it gets what the calls still say."""
        steps: tuple[Callable[[], Awaitable[object]], ...] = (
            self.speech.stop,
            self.model.aclose,
            self.tools.stop,
            self.active.stop,
            self.breakers.stop,
            self.secrets.stop,
            self.keys.stop,
            self.passes.stop,
            self.budgets.stop,
            self.limiter.stop,
            self.register.stop,
            lambda: asyncio.to_thread(self.listening.stop),
            lambda: asyncio.to_thread(self.judge.stop),
            lambda: asyncio.to_thread(self.recorder.stop),
            self.archive.stop,
        )
        for step in steps:
            try:
                await step()
            except Exception:
                log.exception("a part of the gateway did not stop cleanly")

    async def _admit(self, visit: Visit, session_id: str) -> Admission:
        if not self.speech.connected:
            raise try_again()
        return await self.admissions.admit(visit, session_id)


async def _look_up(secret: str, address: str) -> Credential:
    found: Credential = await database_sync_to_async(find_credential)(secret, address)
    return found


async def _find_ended(inside: Collection[Who]) -> list[AccessEnded]:
    ended: list[AccessEnded] = await database_sync_to_async(find_ended_access)(inside)
    return ended
