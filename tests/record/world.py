"""Two tenants with their people, made once per test process and committed; what a test changes is rolled back."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.hashers import make_password
from django.db import connection, transaction
from django.test import Client
from django_tenants.utils import tenant_context
from pytest_django import DjangoDbBlocker

from agents.models import Agent
from agents.operations import create_agent, publish_agent
from agents.providers.models import Provider
from agents.trials.models import CallOutcome
from realtime.archive.events import CallEnded, CallStarted, ItemStored
from realtime.archive.models import Conversation
from realtime.archive.operations import apply_events
from realtime.privacy.models import ErasedCall, Erasure, Export, LegalHold, SubjectKey
from realtime.recordings.models import Part, Policy, Recording, RecordingState
from realtime.recordings.operations import end_recording, store_part
from realtime.recordings.storage import Storage, storage
from realtime.runtime.recorder import CallSheet
from tenants.encryption import data_keys
from tenants.keys.operations import issue_key
from tenants.lifecycle.operations import create_tenant
from tenants.models import Tenant, User
from tenants.people.operations import add_member
from tenants.permissions import Role

PASSWORD = "a-long-enough-password"
BEGUN = 1_800_000_000.0
BEEP = np.tile(np.array([[300, -300]], np.int16), (24_000, 1))


@dataclass(frozen=True)
class House:
    """One tenant of the tests: its owner, a member who may not enter the admin, and its keys."""

    tenant: Tenant
    host: str
    key: str = field(repr=False)
    owner: User
    member: User
    session_id: str
    agent: str


@dataclass(frozen=True)
class World:
    alpha: House
    beta: House
    operator: User
    outsider: User


def call(session_id: str, agent: str, words: list[str], *, begun: float = BEGUN, end_user: str = "") -> list[Any]:
    """The events of a short finished call."""
    events: list[Any] = [
        CallStarted(
            session_id=session_id, seq=1, at=begun, conversation_id=f"conv_{session_id}", agent=agent,
            channel="websocket", key_id="key_1", end_user=end_user, model="m",
        )
    ]  # fmt: skip
    previous = None
    for position, text in enumerate(words):
        role = ("user", "assistant")[position % 2]
        item = {
            "id": f"item_{position}", "type": "message", "role": role, "status": "completed",
            "content": [{"type": "input_audio" if role == "user" else "output_audio", "transcript": text}],
        }  # fmt: skip
        events.append(
            ItemStored(
                session_id=session_id, seq=position + 2, at=begun + position, item=item, previous_item_id=previous,
                audio_ms=900, timings_ms={"stt": 80.5},
            )
        )  # fmt: skip
        previous = item["id"]
    ended = CallEnded(session_id=session_id, seq=len(words) + 2, at=begun + 60, reason="client_closed", duration_s=60.0)
    return [*events, ended]


def build_house(name: str) -> House:
    host = f"{name}.localhost"
    tenant = create_tenant(slug=name, name=name.title(), domains=[host], adopt_schema=True)
    owner = add_member(tenant=tenant, email=f"owner@{name}.localhost", role=Role.OWNER).user
    member = add_member(tenant=tenant, email=f"viewer@{name}.localhost", role=Role.VIEWER).user
    session_id = f"sess_{name}"
    with tenant_context(tenant), transaction.atomic():
        # The schema outlives the flush that ends a test with committed rows.
        Agent.objects.all().delete()
        Recording.objects.all().delete()
        # Their sealed columns and the keys in memory belong to what the flush took.
        Policy.objects.all().delete()
        Provider.objects.all().delete()
        for model in (SubjectKey, Erasure, Export, ErasedCall, LegalHold):
            model.objects.all().delete()
        data_keys.cache.forget(tenant.schema_name)
        Conversation.objects.all().delete()
        CallOutcome.objects.all().delete()
        desk = create_agent(
            slug=f"{name}-desk", name=f"{name.title()} desk", instructions=f"Secret of {name}", is_default=True
        )
        publish_agent(agent=desk)
        apply_events(call(session_id, f"{name}-desk", [f"hello from {name}", f"welcome to {name}"]))
        sheet = CallSheet(tenant=tenant.schema_name, session_id=session_id, started_at=BEGUN)
        store_part(sheet=sheet, index=0, pcm=BEEP, part_samples=len(BEEP))
        end_recording(session_id=session_id, state=RecordingState.COMPLETE)
    _, secret = issue_key(tenant=tenant, name="tests")
    return House(tenant, host, secret, owner, member, session_id, f"{name}-desk")


@cache
def password_hash() -> str:
    return make_password(PASSWORD)


BUILT: list[World] = []
SOUNDS: dict[str, bytes] = {}
"""The sealed recordings of the world by their keys: what a test does to files is not rolled back."""
STORES: list[Storage] = []
"""Where they lie. A test may set another place for its own."""


def build_world() -> World:
    """The world that is committed, built anew when a test's flush took it away."""
    if not BUILT or not Tenant.objects.filter(pk=BUILT[-1].alpha.tenant.pk).exists():
        outsider = User.objects.create_user("outsider@elsewhere.localhost")
        operator = User.objects.create_superuser("operator@platform.localhost")
        built = World(build_house("alpha"), build_house("beta"), operator, outsider)
        User.objects.update(password=password_hash())
        for house in (built.alpha, built.beta):
            house.owner.refresh_from_db()
            house.member.refresh_from_db()
        operator.refresh_from_db()
        outsider.refresh_from_db()
        BUILT.append(built)
        SOUNDS.clear()
        STORES[:] = [storage()]
        for house in (built.alpha, built.beta):
            with tenant_context(house.tenant), transaction.atomic():
                keys = list(Part.objects.filter(recording=house.session_id).values_list("object_key", flat=True))
            SOUNDS.update({key: storage().get(key) for key in keys})
    (kept,) = STORES
    for key in [key for name in ("alpha/", "beta/") for key in kept.keys(name) if key not in SOUNDS]:
        kept.delete(key)
    for key, sealed in SOUNDS.items():
        if not kept.has(key) or kept.get(key) != sealed:
            kept.put(key, sealed)
    return BUILT[-1]


@pytest.fixture(scope="session")
def _committed_world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    with django_db_blocker.unblock():
        build_world()


@pytest.fixture
def world(_committed_world: None, db: None, valkey_url: str) -> Iterator[World]:
    """Whatever the test changes is rolled back; Valkey, which counts requests, begins empty."""
    yield build_world()
    assert connection.schema_name == "public", "a test, or what it called, left the connection in a tenant's schema"


@pytest.fixture
def committed(transactional_db: None, valkey_url: str) -> World:
    """No transaction around the test: other processes see what it writes."""
    return build_world()


class Api:
    """The platform API as one key sees it."""

    def __init__(self, secret: str | None) -> None:
        headers = {"Authorization": f"Bearer {secret}"} if secret is not None else {}
        self.client = Client(headers=headers, raise_request_exception=False)

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status, and the parsed answer."""
        data = body if isinstance(body, str | bytes) else "" if body is None else json.dumps(body)
        response = self.client.generic(method, f"/api/v1/{path}", data, content_type="application/json")
        return response.status_code, json.loads(response.content) if response.content else None


@pytest.fixture
def alpha_api(world: World) -> Api:
    return Api(world.alpha.key)


@pytest.fixture
def beta_api(world: World) -> Api:
    return Api(world.beta.key)
