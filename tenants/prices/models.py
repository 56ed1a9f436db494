"""The price book, in the shared schema: what a unit of each meter costs, from which day on."""

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from tenants.models import Tenant
from tenants.usage.meters import Meter


class Price(models.Model):
    """``amount`` for each ``per`` units of a meter, from the UTC day ``effective_from`` until a later row of the same
    tenant, meter, provider and model takes its place. Rows that have taken effect are never changed.

    No tenant: for all. An empty provider or model: for any. ``amount`` empty: from that day on there is no price of
    its own here, and the next rule holds (``tenants.prices.queries`` says which).
    """

    tenant = models.ForeignKey(Tenant, models.CASCADE, null=True, blank=True, related_name="prices")
    meter = models.CharField(max_length=32, choices=[(meter.value, meter.value) for meter in Meter])
    provider = models.CharField(max_length=100, blank=True)
    model = models.CharField(max_length=200, blank=True)
    currency = models.CharField(max_length=3)
    amount = models.DecimalField(
        max_digits=18, decimal_places=9, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    per = models.PositiveIntegerField(default=1, help_text="How many units the amount is for, such as 1000000.")
    effective_from = models.DateField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-effective_from", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "meter", "provider", "model", "effective_from"],
                name="one_price_per_day",
                nulls_distinct=False,
            ),
            models.CheckConstraint(condition=Q(per__gt=0), name="price_per_units"),
            models.CheckConstraint(condition=Q(amount=None) | Q(amount__gte=0), name="price_not_negative"),
            # Of a model nobody can know the price without its provider.
            models.CheckConstraint(condition=Q(model="") | ~Q(provider=""), name="price_model_has_provider"),
        ]

    def __str__(self) -> str:
        return f"{self.meter} from {self.effective_from}"


class StripeCustomer(models.Model):
    """Whom Stripe bills for a tenant's use."""

    tenant = models.OneToOneField(Tenant, models.CASCADE, primary_key=True, related_name="stripe_customer")
    customer_id = models.CharField(max_length=100, unique=True)
    metered_from = models.DateTimeField(help_text="Earlier use is not told to Stripe.")

    def __str__(self) -> str:
        return self.customer_id
