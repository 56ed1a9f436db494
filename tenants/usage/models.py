"""What a tenant used: an append-only ledger, and what is maintained beside it so that reports stay cheap.

``Entry`` is the truth. ``Day`` and ``Call`` are written in the same statement as the entries they sum up
(``tenants.usage.operations``), and can be computed from them at any time.
"""

import uuid
from decimal import Decimal

from django.core.validators import MinValueValidator
from django.db import models

from tenants.usage.meters import Meter

METERS = [(meter.value, meter.value) for meter in Meter]
QUANTITY = {"max_digits": 20, "decimal_places": 3}


class Entry(models.Model):
    """One meter's count of one thing: a response, an utterance, a request. ``key`` makes it count once.

    Never changed or removed; only ``end_user`` may be emptied, when a person is forgotten.
    """

    key = models.TextField(unique=True, help_text="session / source / meter / provider / model")
    at = models.DateTimeField()
    meter = models.CharField(max_length=32, choices=METERS)
    quantity = models.DecimalField(**QUANTITY)
    provider = models.TextField(blank=True)
    model = models.TextField(blank=True)
    agent = models.TextField(blank=True, help_text="The agent's slug at the time.")
    key_id = models.TextField(blank=True)
    end_user = models.TextField(blank=True)
    session_id = models.TextField(blank=True, help_text="sess_… of a call, req_… of a request.")

    class Meta:
        verbose_name_plural = "entries"
        ordering = ["at", "id"]
        indexes = [
            models.Index(fields=["at", "id"], name="usage_by_time"),
            models.Index(fields=["session_id"], name="usage_by_call"),
            models.Index(fields=["end_user", "at"], name="usage_by_end_user", condition=~models.Q(end_user="")),
        ]

    def __str__(self) -> str:
        return self.key


class Day(models.Model):
    """The sum of one UTC day's entries that share everything but their time, call and end user."""

    day = models.DateField()
    meter = models.CharField(max_length=32, choices=METERS)
    provider = models.TextField(blank=True)
    model = models.TextField(blank=True)
    agent = models.TextField(blank=True)
    key_id = models.TextField(blank=True)
    quantity = models.DecimalField(**QUANTITY)
    entries = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["day", "meter", "provider", "model", "agent", "key_id"], name="one_sum_per_day"
            )
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.meter}"


class Call(models.Model):
    """A call, or a REST request, that has used something: what a report by call pages over."""

    session_id = models.TextField(primary_key=True)
    began_at = models.DateTimeField(help_text="Of its first entry.")
    agent = models.TextField(blank=True)
    key_id = models.TextField(blank=True)
    end_user = models.TextField(blank=True)

    class Meta:
        ordering = ["-began_at", "-session_id"]
        indexes = [
            models.Index(fields=["-began_at", "-session_id"], name="usage_call_by_time"),
            models.Index(fields=["agent", "-began_at", "-session_id"], name="usage_call_by_agent"),
            models.Index(fields=["key_id", "-began_at", "-session_id"], name="usage_call_by_key"),
            models.Index(
                fields=["end_user", "-began_at"], name="usage_call_by_end_user", condition=~models.Q(end_user="")
            ),
        ]

    def __str__(self) -> str:
        return self.session_id


class Budget(models.Model):
    """An amount for each calendar month (UTC), for all of the tenant's use or that of one agent."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200)
    amount = models.DecimalField(max_digits=14, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))])
    currency = models.CharField(max_length=3)
    thresholds = models.JSONField(help_text="Per cent of the amount, rising.")
    agent = models.CharField(max_length=63, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return self.name


class BudgetAlert(models.Model):
    """A budget's threshold was passed in a month: said once. ``told_at`` is empty until the mail is out."""

    budget = models.ForeignKey(Budget, models.CASCADE, related_name="alerts")
    month = models.DateField(help_text="Its first day.")
    threshold = models.PositiveIntegerField()
    spent = models.DecimalField(max_digits=20, decimal_places=6)
    at = models.DateTimeField(auto_now_add=True)
    told_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["budget", "month", "threshold"], name="one_alert_per_threshold_and_month")
        ]

    def __str__(self) -> str:
        return f"{self.threshold} % in {self.month:%Y-%m}"


class MeterEvent(models.Model):
    """What Stripe is told: the sum of one UTC day's entries of a meter, provider and model that no other event holds.

    ``identifier`` is what Stripe knows it by, however often it is sent. ``unsure_since``: the first time that it was
    sent and no answer came, so Stripe may have it already.
    """

    identifier = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    meter = models.CharField(max_length=32, choices=METERS)
    provider = models.TextField(blank=True)
    model = models.TextField(blank=True)
    day = models.DateField()
    quantity = models.DecimalField(**QUANTITY)
    created_at = models.DateTimeField(auto_now_add=True)
    attempts = models.PositiveIntegerField(default=0)
    send_after = models.DateTimeField()
    unsure_since = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    parked_at = models.DateTimeField(null=True, help_text="Left to a person: why is in 'parked_reason'.")
    parked_reason = models.TextField(blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["send_after"],
                name="usage_meter_events_to_send",
                condition=models.Q(sent_at=None, parked_at=None),
            )
        ]

    def __str__(self) -> str:
        return str(self.identifier)


class MeteredEntry(models.Model):
    """An entry is in this event, and so in no other."""

    entry = models.OneToOneField(Entry, models.PROTECT, primary_key=True, related_name="+")
    event = models.ForeignKey(MeterEvent, models.PROTECT, related_name="entries")

    def __str__(self) -> str:
        return str(self.pk)
