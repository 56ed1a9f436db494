"""Telling Stripe what a tenant used, as Billing Meter Events. Off unless ``STRIPE_API_KEY`` is set.

First entries are gathered into events, in one transaction: an entry is in one event and stays there. Then events are
sent, each under its own identifier, which Stripe takes once however often it comes. Each try is written down before it
is made, so that a crash leaves no doubt behind. Stripe remembers identifiers for 24 hours: an event that may have
arrived and could not be confirmed in that time is left to a person, since another try might count it twice.
"""

import logging
from datetime import UTC, datetime, time, timedelta
from functools import cache

import stripe
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from tenants.prices.models import StripeCustomer
from tenants.usage.models import MeterEvent

GATHER_ENTRIES = 20_000
CONFIRM_WITHIN = timedelta(hours=23)
OLDEST = timedelta(days=34)
"""Stripe takes what is at most 35 days old."""
BACK_OFF_S = (30, 60, 120, 300, 900, 1_800, 3_600)
KNOWN_ALREADY = {"duplicate_meter_event", "resource_already_exists"}

GATHER = """
WITH fresh AS (
    SELECT entry.id, entry.meter, entry.provider, entry.model, (entry.at AT TIME ZONE 'UTC')::date AS day,
        entry.quantity
    FROM usage_entry AS entry
    WHERE entry.id > %s AND entry.at >= %s
        AND NOT EXISTS (SELECT 1 FROM usage_meteredentry AS metered WHERE metered.entry_id = entry.id)
    ORDER BY entry.id LIMIT %s
), events AS (
    INSERT INTO usage_meterevent (identifier, meter, provider, model, day, quantity, created_at, attempts, send_after,
        parked_reason)
    SELECT gen_random_uuid(), meter, provider, model, day, sum(quantity), %s, 0, %s, ''
    FROM fresh GROUP BY meter, provider, model, day
    RETURNING identifier, meter, provider, model, day
)
INSERT INTO usage_meteredentry (entry_id, event_id)
SELECT fresh.id, events.identifier FROM fresh JOIN events USING (meter, provider, model, day)
"""

log = logging.getLogger(__name__)


@cache
def _connect(api_key: str, url: str, timeout_s: float) -> stripe.StripeClient:
    return stripe.StripeClient(
        api_key,
        base_addresses={"api": url},
        http_client=stripe.RequestsClient(timeout=timeout_s),
        max_network_retries=0,
    )


def connect() -> stripe.StripeClient:
    return _connect(settings.STRIPE_API_KEY, settings.STRIPE_URL, settings.STRIPE_TIMEOUT_S)


@transaction.atomic
def gather_events(*, customer: StripeCustomer, now: datetime | None = None) -> int:
    """Put the entries that are in no event into new ones; how many entries. Runs inside the tenant's schema."""
    now = now or timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"usage-metering:{connection.schema_name}"]
        )
        # Numbers are given before they are committed, so a lower one may come late: within a day, no transaction
        # lasting longer. What lies further back need not be looked at again.
        cursor.execute(
            "SELECT coalesce(max(entry_id), 0) FROM usage_meteredentry JOIN usage_meterevent ON identifier = event_id"
            " WHERE created_at < %s",
            [now - timedelta(days=1)],
        )
        seen = cursor.fetchone()[0]
        cursor.execute(GATHER, [seen, customer.metered_from, GATHER_ENTRIES, now, now])
        return int(cursor.rowcount)


def send_events(
    *, customer: StripeCustomer, client: stripe.StripeClient, most: int, now: datetime | None = None
) -> int:
    """Send what is due, at most so many; how many Stripe has now. Runs inside the tenant's schema, and in a
    transaction only while it writes: never while it waits for Stripe."""
    arrived = 0
    for _ in range(most):
        taken = _take(now or timezone.now())
        if taken is None:
            break
        arrived += _send(*taken, customer, client)
    return arrived


@transaction.atomic
def _take(now: datetime) -> tuple[MeterEvent, bool] | None:
    """The next event that is due, its try written down: nobody else takes it before its next time. True: no try before
    this one may have arrived."""
    due = MeterEvent.objects.filter(sent_at=None, parked_at=None, send_after__lte=now)
    while event := due.select_for_update(skip_locked=True).order_by("send_after", "identifier").first():
        if event.unsure_since and event.unsure_since < now - CONFIRM_WITHIN:
            _park(event, now, "unconfirmed: Stripe may have it, look there before it is sent again")
        elif timestamp(event) < now - OLDEST:
            _park(event, now, "too old: Stripe takes what is at most 35 days old")
        else:
            first = event.unsure_since is None
            event.send_after = now + timedelta(seconds=BACK_OFF_S[min(event.attempts, len(BACK_OFF_S) - 1)])
            event.attempts += 1
            event.unsure_since = event.unsure_since or now
            event.save(update_fields=["send_after", "attempts", "unsure_since"])
            return event, first
    return None


def _send(event: MeterEvent, first: bool, customer: StripeCustomer, client: stripe.StripeClient) -> bool:
    identifier = str(event.identifier)
    try:
        client.v1.billing.meter_events.create(
            {
                "event_name": event_name(event.meter),
                "identifier": identifier,
                "timestamp": int(timestamp(event).timestamp()),
                "payload": {
                    "stripe_customer_id": customer.customer_id,
                    "value": value_of(event),
                    "provider": event.provider,
                    "model": event.model,
                },
            },
            {"idempotency_key": identifier},
        )
    except stripe.InvalidRequestError as error:
        if not (error.code in KNOWN_ALREADY or "already exists" in str(error)):
            log.error("a meter event is refused by Stripe", extra={"meter": event.meter, "code": error.code or ""})
            _settle(event, parked_at=timezone.now(), parked_reason=f"refused: {error.code or 'invalid request'}")
            return False
    except stripe.StripeError as error:
        log.warning("Stripe did not take a meter event: %s", type(error).__name__)
        if first and isinstance(error, stripe.AuthenticationError | stripe.PermissionError | stripe.RateLimitError):
            _settle(event, unsure_since=None)
        return False
    _settle(event, sent_at=timezone.now(), unsure_since=None)
    return True


@transaction.atomic
def _settle(event: MeterEvent, **fields: object) -> None:
    MeterEvent.objects.filter(pk=event.pk).update(**fields)


def _park(event: MeterEvent, now: datetime, reason: str) -> None:
    log.error("a meter event needs a person: %s", reason, extra={"meter": event.meter})
    event.parked_at, event.parked_reason = now, reason
    event.save(update_fields=["parked_at", "parked_reason"])


def event_name(meter: str) -> str:
    """The name of the meter at Stripe, such as ``avb_llm_tokens_in``; seconds are told as milliseconds there."""
    return settings.STRIPE_EVENT_PREFIX + meter.replace("seconds", "milliseconds")


def value_of(event: MeterEvent) -> str:
    """A whole number."""
    return str(int(event.quantity * (1000 if "seconds" in event.meter else 1)))


def timestamp(event: MeterEvent) -> datetime:
    """Within the event's day and never ahead of the event itself; the same at each try."""
    last = datetime.combine(event.day + timedelta(days=1), time(), UTC) - timedelta(seconds=1)
    return min(last, event.created_at)
