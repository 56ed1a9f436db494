"""Stripe is told each use exactly once, against a server that fails, breaks off, is slow and repeats."""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from django_tenants.utils import tenant_context

from celery_workers import usage as worker
from tenants.prices.models import StripeCustomer
from tenants.usage import metering
from tenants.usage.models import Entry, MeteredEntry, MeterEvent
from tenants.usage.operations import Use, store_uses
from tests.record.stripe_server import StripeServer
from tests.record.world import World

NOW = timezone.now().replace(microsecond=0)
BAD_REQUEST = {"type": "invalid_request_error", "code": "resource_missing", "message": "No such customer."}


@pytest.fixture
def stripe_server(settings: Any) -> Iterator[StripeServer]:
    with StripeServer() as server:
        settings.STRIPE_API_KEY = "sk_test_local"
        settings.STRIPE_URL = server.url
        settings.STRIPE_TIMEOUT_S = 1
        yield server


@pytest.fixture
def customer(world: World) -> Iterator[StripeCustomer]:
    customer = StripeCustomer.objects.create(
        tenant=world.alpha.tenant, customer_id="cus_alpha", metered_from=NOW - timedelta(days=40)
    )
    with tenant_context(world.alpha.tenant):
        yield customer


def spend(*quantities: str, meter: str = "llm_tokens_in", at: datetime = NOW, **fields: str) -> None:
    before = Entry.objects.count()
    store_uses(
        Use(at=at, session_id="sess_s", source=str(before + n), quantities={meter: Decimal(quantity)}, **fields)
        for n, quantity in enumerate(quantities)
    )


def send(customer: StripeCustomer, *, now: datetime | None = None, most: int = 100) -> int:
    metering.gather_events(customer=customer, now=now or timezone.now())
    return metering.send_events(customer=customer, client=metering.connect(), most=most, now=now)


def told(server: StripeServer) -> dict[str, int]:
    total: Counter[str] = Counter()
    for event in server.taken.values():
        total[event["event_name"]] += int(event["payload[value]"])
    return dict(total)


def test_what_was_used_is_told_by_meter_model_and_day(customer: StripeCustomer, stripe_server: StripeServer) -> None:
    spend("5", "7", provider="openai", model="m")
    spend("1", provider="groq", model="n")
    spend("2", at=NOW - timedelta(days=1), provider="openai", model="m")
    spend("1.250", "0.5", meter="audio_seconds_in")
    assert send(customer) == 4
    assert told(stripe_server) == {"avb_llm_tokens_in": 15, "avb_audio_milliseconds_in": 1750}
    assert send(customer) == 0
    spend("3", provider="openai", model="m")
    assert send(customer) == 1
    assert told(stripe_server)["avb_llm_tokens_in"] == 18
    event = next(event for event in stripe_server.requests if event["payload[model]"] == "n")
    assert event["payload[stripe_customer_id]"] == "cus_alpha"
    assert int(event["timestamp"]) <= timezone.now().timestamp() + 1
    earlier = next(event for event in stripe_server.requests if event["payload[value]"] == "2")
    assert datetime.fromtimestamp(int(earlier["timestamp"]), UTC).date() == (NOW - timedelta(days=1)).date()
    assert stripe_server.idempotency_keys == [event["identifier"] for event in stripe_server.requests]
    assert MeteredEntry.objects.count() == Entry.objects.count()


def test_failures_break_offs_and_delays_are_tried_again_and_count_once(
    customer: StripeCustomer, stripe_server: StripeServer
) -> None:
    dice = random.Random(7)
    steps: list[Any] = ["ok", "lost", (500, {"error": {"type": "api_error"}}), (429, {"error": {"type": "rate_limit"}})]
    stripe_server.script = lambda number: "slow" if number == 3 else dice.choice(steps)
    for day in range(3):
        for model in "abcdefgh":
            spend("1", "2.000", at=NOW - timedelta(days=day), model=model)
    now = timezone.now()
    for _ in range(40):
        now += timedelta(hours=1)
        send(customer, now=min(now, NOW + timedelta(hours=20)))
        if not MeterEvent.objects.filter(sent_at=None).exists():
            break
        MeterEvent.objects.filter(sent_at=None).update(send_after=NOW - timedelta(hours=1))
    assert told(stripe_server) == {"avb_llm_tokens_in": 72}
    assert len(stripe_server.requests) > 24
    assert not MeterEvent.objects.filter(parked_at__isnull=False).exists()
    for identifier, first in stripe_server.taken.items():
        again = [event for event in stripe_server.requests if event["identifier"] == identifier]
        assert all(event == first for event in again), "a repeated event is the same event"


def test_tries_are_spaced(customer: StripeCustomer, stripe_server: StripeServer) -> None:
    stripe_server.script = lambda _: (500, {"error": {"type": "api_error"}})
    spend("1")
    now = timezone.now()
    metering.gather_events(customer=customer, now=now)
    for _ in range(600):
        now += timedelta(seconds=30)
        metering.send_events(customer=customer, client=metering.connect(), most=1, now=now)
    event = MeterEvent.objects.get()
    assert len(stripe_server.requests) == event.attempts
    assert 8 <= event.attempts <= 14, "within five hours"


def test_a_crash_between_the_try_and_its_answer_counts_once(
    customer: StripeCustomer, stripe_server: StripeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    spend("9")

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(metering, "_settle", die)
        with pytest.raises(Killed):
            send(customer)
    event = MeterEvent.objects.get()
    assert event.unsure_since is not None
    assert send(customer) == 0, "not before its time"
    assert send(customer, now=timezone.now() + timedelta(minutes=2)) == 1
    assert told(stripe_server) == {"avb_llm_tokens_in": 9}
    assert len(stripe_server.requests) == 2


def test_what_could_not_be_confirmed_in_a_day_is_left_to_a_person(
    customer: StripeCustomer, stripe_server: StripeServer, caplog: pytest.LogCaptureFixture
) -> None:
    stripe_server.script = lambda _: "lost"
    spend("1")
    send(customer)
    send(customer, now=timezone.now() + timedelta(hours=24))
    event = MeterEvent.objects.get()
    assert event.parked_reason.startswith("unconfirmed")
    assert len(stripe_server.requests) == 1
    assert "needs a person" in caplog.text


def test_a_wrong_api_key_may_be_mended_after_days(customer: StripeCustomer, stripe_server: StripeServer) -> None:
    stripe_server.script = lambda _: (401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key"}})
    spend("4")
    send(customer)
    stripe_server.script = lambda _: "ok"
    assert send(customer, now=timezone.now() + timedelta(days=3)) == 1
    assert told(stripe_server) == {"avb_llm_tokens_in": 4}


def test_what_stripe_refuses_stops_no_other(customer: StripeCustomer, stripe_server: StripeServer) -> None:
    stripe_server.script = lambda number: (400, {"error": BAD_REQUEST}) if number == 0 else "ok"
    spend("1", model="a")
    spend("2", model="b")
    assert send(customer) == 1
    parked = MeterEvent.objects.get(sent_at=None)
    assert parked.parked_reason == "refused: resource_missing"
    assert send(customer, now=timezone.now() + timedelta(hours=2)) == 0
    assert len(stripe_server.requests) == 2


def test_that_stripe_has_it_already_is_as_good(customer: StripeCustomer, stripe_server: StripeServer) -> None:
    known = {"type": "invalid_request_error", "message": "An event already exists with identifier x."}
    stripe_server.script = lambda _: (400, {"error": known})
    spend("1")
    assert send(customer) == 1
    assert MeterEvent.objects.get().sent_at is not None


def test_use_from_before_and_what_is_too_old_is_not_told(customer: StripeCustomer, stripe_server: StripeServer) -> None:
    spend("1", at=NOW - timedelta(days=50))
    spend("2", at=NOW - timedelta(days=36))
    spend("3")
    assert send(customer) == 1
    assert told(stripe_server) == {"avb_llm_tokens_in": 3}
    assert MeterEvent.objects.get(sent_at=None).parked_reason.startswith("too old")


def test_a_late_entry_of_a_lower_number_is_not_forgotten(customer: StripeCustomer, stripe_server: StripeServer) -> None:
    spend("1")
    [entry] = Entry.objects.all()
    spend("2")
    send(customer)
    MeteredEntry.objects.filter(entry=entry).delete()  # as if it had been committed only now
    assert send(customer) == 1


def test_one_round_sends_only_so_many(customer: StripeCustomer, stripe_server: StripeServer) -> None:
    for model in "abcde":
        spend("1", model=model)
    assert [send(customer, most=2) for _ in range(4)] == [2, 2, 1, 0]


def test_the_worker_tells_of_those_whom_stripe_bills_and_of_nobody_without_a_key(
    committed: World, stripe_server: StripeServer, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = timezone.now()
    StripeCustomer.objects.create(tenant=committed.beta.tenant, customer_id="cus_beta", metered_from=begin)
    with tenant_context(committed.beta.tenant):
        spend("6", at=begin + timedelta(seconds=1))
    asked: list[Any] = []
    monkeypatch.setattr(worker, "submit", lambda *message: asked.append(message))
    settings.STRIPE_API_KEY = ""
    worker.meter()
    worker.meter_one(tenant="beta")
    assert (asked, stripe_server.requests) == ([], [])
    settings.STRIPE_API_KEY = "sk_test_local"
    worker.meter()
    assert asked == [(worker.TASK_METER_ONE, "default", {"tenant": "beta"})]
    worker.meter_one(tenant="alpha")
    assert stripe_server.requests == []
    worker.meter_one(tenant="beta")
    assert told(stripe_server) == {"avb_llm_tokens_in": 6}
