"""The endpoints as a client sees them: the real HTTP layer, two real tenants, speech that is scripted."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from dataclasses import dataclass, field

import httpx2
import numpy as np
import pytest
from channels.db import database_sync_to_async
from django.core.asgi import get_asgi_application
from openai import AsyncOpenAI

from agents.queries import find_credential
from realtime.rest.capacity import Capacity
from realtime.rest.limits import BodyLimit
from realtime.rest.ports import RestPorts, install
from realtime.runtime.budget import Budgets
from realtime.runtime.keys import Keys
from realtime.runtime.passes import Passes, Who
from realtime.runtime.secrets import ClientSecrets
from speech.engines import TTS_HZ, Pcm, SpeechFailed, SpokenChunk, Transcript, Word
from speech.jobs import WorkerState
from tenants.ended import AccessEnded
from tenants.keys.credential import Credential
from tenants.keys.queries import find_ended_access
from tenants.limits.counters import Limiter
from tenants.limits.throttle import anonymous_counter
from tests.record.world import World, _committed_world, world
from tests.runtime.ports import Archive

__all__ = ["_committed_world", "world"]


@dataclass
class Speech:
    """Speaks 100 ms a character and hears ``said`` in the pieces it is given, one after another."""

    said: list[str] = field(default_factory=lambda: ["Hello there. How are you?"])
    fails: str = ""
    fails_from: int = 0
    model: str = "whisper-tiny.en"
    spoken: list[tuple[str, str, str, float]] = field(default_factory=list)
    heard: list[dict[str, object]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def synthesise(
        self, text: str, *, tenant: str, session_id: str, voice: str, speed: float
    ) -> AsyncGenerator[SpokenChunk, None]:
        self.spoken.append((tenant, text.strip(), voice, speed))
        if self.fails and len(self.spoken) > self.fails_from:
            raise SpeechFailed(self.fails, "no engine")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            for _ in text:
                await asyncio.sleep(0)
                yield SpokenChunk(np.full(TTS_HZ // 10, 1000, np.int16), "scripted", model="voice-1")
        finally:
            self.at_once -= 1

    async def transcribe(self, pcm: Pcm, **job: object) -> Transcript:
        self.heard.append({"samples": len(pcm), **job})
        if self.fails and len(self.heard) > self.fails_from:
            raise SpeechFailed(self.fails, "no engine")
        text = self.said[min(len(self.heard), len(self.said)) - 1]
        words = tuple(Word(word, n * 0.5, n * 0.5 + 0.4, 0.5) for n, word in enumerate(text.split()))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return Transcript(text, "en", len(pcm) / 16_000, words, "whisper", self.model)

    async def live_workers(self, queue: str) -> list[WorkerState]:
        state = WorkerState(
            worker="w", pid=1, engine="faster-whisper", model=self.model, device="cpu", busy=0, concurrency=1
        )
        return [state] if queue == "stt" else []


@pytest.fixture
def speech() -> Speech:
    return Speech()


@pytest.fixture
async def secrets(valkey_url: str) -> AsyncIterator[ClientSecrets]:
    secrets = ClientSecrets(valkey_url, timeout_s=1.0, per_key=1_000)
    yield secrets
    await secrets.stop()


async def look_up(secret: str, address: str) -> Credential:
    found: Credential = await database_sync_to_async(find_credential)(secret, address)
    return found


async def find_ended(inside: Collection[Who]) -> list[AccessEnded]:
    ended: list[AccessEnded] = await database_sync_to_async(find_ended_access)(inside)
    return ended


Connect = Callable[[str | None], httpx2.AsyncClient]


@pytest.fixture
def capacity() -> Capacity:
    return Capacity(recordings=4, pieces=2, wait_s=0.05)


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
async def limiter(valkey_url: str) -> AsyncIterator[Limiter]:
    limiter = Limiter(valkey_url, timeout_s=1.0)
    yield limiter
    await limiter.stop()


@pytest.fixture
async def keys(valkey_url: str, limiter: Limiter) -> AsyncIterator[Keys]:
    keys = Keys(valkey_url, 1.0, look_up=look_up, limiter=limiter, unknown=anonymous_counter, ttl_s=60)
    yield keys
    await keys.stop()


@pytest.fixture
async def passes(valkey_url: str) -> AsyncIterator[Passes]:
    passes = Passes(valkey_url, find_ended, recheck_s=60)
    await passes.start()
    yield passes
    await passes.stop()


@pytest.fixture
async def budgets(limiter: Limiter) -> AsyncIterator[Budgets]:
    budgets = Budgets(limiter, tokens_reserved=1_000)
    await budgets.start()
    yield budgets
    await budgets.stop()


@pytest.fixture
async def connect(
    speech: Speech,
    secrets: ClientSecrets,
    capacity: Capacity,
    archive: Archive,
    keys: Keys,
    limiter: Limiter,
    passes: Passes,
    budgets: Budgets,
    world: World,
) -> AsyncIterator[Connect]:
    """``connect(key)`` gives an HTTP client that comes with this key, or without one."""
    install(
        RestPorts(
            hearing=speech,
            speaking=speech,
            secrets=secrets,
            capacity=capacity,
            archive=archive,
            keys=keys,
            limiter=limiter,
            passes=passes,
            budgets=budgets,
            anonymous=anonymous_counter,
        )
    )
    transport = httpx2.ASGITransport(app=BodyLimit(get_asgi_application()))
    clients: list[httpx2.AsyncClient] = []

    def connect(key: str | None) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        clients.append(httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers))
        return clients[-1]

    yield connect
    for client in clients:
        await client.aclose()


@pytest.fixture
def http(connect: Connect, world: World) -> httpx2.AsyncClient:
    """As the first tenant."""
    return connect(world.alpha.key)


@pytest.fixture
def sdk(connect: Connect, world: World) -> AsyncOpenAI:
    """The stock SDK, as the first tenant."""
    return AsyncOpenAI(
        api_key=world.alpha.key, base_url="http://localhost/v1", http_client=connect(None), max_retries=0
    )
