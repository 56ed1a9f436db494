"""Changing the price book. Each function is one transaction in the shared schema; refusals are named exceptions.

A price that holds today or held before is never changed or taken away, so the cost of a past day stays what it was.
"""

import re
from datetime import UTC, date, datetime
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.utils import timezone

from tenants.audit.operations import record
from tenants.errors import TenancyError
from tenants.models import Tenant
from tenants.prices.models import Price, StripeCustomer
from tenants.usage.meters import Meter

CURRENCY = re.compile(r"[A-Z]{3}")
HIGHEST = Decimal(10) ** 9
SMALLEST = Decimal("1e-9")
PER_HIGHEST = 1_000_000_000
CUSTOMER = re.compile(r"cus_[A-Za-z0-9_]{1,96}")


class PriceRefused(TenancyError):
    """The price cannot be in the book."""


class PriceInForce(TenancyError):
    """The price holds or has held, so costs were told by it."""


class CustomerRefused(TenancyError):
    """This cannot be whom Stripe bills for the tenant."""


def check_currency(currency: str, param: str = "currency") -> None:
    """Raises PriceRefused."""
    if not CURRENCY.fullmatch(currency):
        raise PriceRefused(f"A currency has three capital letters, such as EUR; got {currency[:20]!r}.", param)


@transaction.atomic
def set_price(
    *,
    meter: str,
    currency: str,
    amount: Decimal | None,
    effective_from: date,
    per: int = 1,
    provider: str = "",
    model: str = "",
    tenant: Tenant | None = None,
) -> Price:
    """From that UTC day on; None as amount takes a rule out, so that the next one holds. Raises PriceRefused."""
    if meter not in set(Meter):
        raise PriceRefused(f"There is no meter {meter[:50]!r}; there are {', '.join(Meter)}.", "meter")
    check_currency(currency)
    if amount is not None and not (
        amount.is_finite() and 0 <= amount < HIGHEST and amount == amount.quantize(SMALLEST)
    ):
        raise PriceRefused("An amount is a number from 0 up, with at most nine decimals, or null.", "amount")
    if not 1 <= per <= PER_HIGHEST:
        raise PriceRefused(f"'per' is a number of units from 1 to {PER_HIGHEST}.", "per")
    if model and not provider:
        raise PriceRefused("The price of a model names its provider too.", "provider")
    today = timezone.now().astimezone(UTC).date()
    if effective_from < today:
        words = f"A price begins today ({today}) or later: what was used before keeps its cost."
        raise PriceRefused(words, "effective_from")
    try:
        with transaction.atomic():
            price = Price.objects.create(
                tenant=tenant, meter=meter, provider=provider, model=model, currency=currency, amount=amount,
                per=per, effective_from=effective_from,
            )  # fmt: skip
    except IntegrityError as error:
        words = f"There is a price from {effective_from} on already. Take it out first, or begin on another day."
        raise PriceRefused(words, "effective_from") from error
    _record("price.set", price)
    return price


@transaction.atomic
def withdraw_price(*, price: Price) -> None:
    """Take out one that has not begun. Raises PriceInForce."""
    price = Price.objects.select_for_update().get(pk=price.pk)
    if price.effective_from <= timezone.now().astimezone(UTC).date():
        raise PriceInForce(
            f"It holds since {price.effective_from}. Set another price, or null, from a later day on.", "effective_from"
        )
    _record("price.withdrawn", price)
    price.delete()


@transaction.atomic
def set_stripe_customer(*, tenant: Tenant, customer_id: str, metered_from: datetime | None = None) -> StripeCustomer:
    """Whom Stripe bills; use before ``metered_from`` (now, when not given) is not told. Raises CustomerRefused."""
    if not CUSTOMER.fullmatch(customer_id):
        raise CustomerRefused(f"A Stripe customer is named cus_…; got {customer_id[:20]!r}.", "customer_id")
    if StripeCustomer.objects.filter(customer_id=customer_id).exclude(tenant=tenant).exists():
        raise CustomerRefused("Another tenant is billed as this customer.", "customer_id")
    before = StripeCustomer.objects.select_for_update().filter(tenant=tenant).first()
    begins = metered_from or (before.metered_from if before else timezone.now())
    customer, _ = StripeCustomer.objects.update_or_create(
        tenant=tenant, defaults={"customer_id": customer_id, "metered_from": begins}
    )
    record(
        action="stripe_customer.set",
        target=tenant.slug,
        before={"customer_id": before.customer_id, "metered_from": before.metered_from} if before else None,
        after={"customer_id": customer_id, "metered_from": begins},
    )
    return customer


@transaction.atomic
def remove_stripe_customer(*, tenant: Tenant) -> bool:
    """Nothing more is told to Stripe. False when nothing was."""
    customer = StripeCustomer.objects.filter(tenant=tenant).first()
    if customer is None:
        return False
    before = {"customer_id": customer.customer_id, "metered_from": customer.metered_from}
    customer.delete()
    record(action="stripe_customer.removed", target=tenant.slug, before=before)
    return True


def _record(action: str, price: Price) -> None:
    shown = {
        "tenant": price.tenant.slug if price.tenant else "",
        "meter": price.meter,
        "provider": price.provider,
        "model": price.model,
        "currency": price.currency,
        "amount": price.amount,
        "per": price.per,
        "effective_from": price.effective_from,
    }
    change = {"after": shown} if action == "price.set" else {"before": shown}
    if price.tenant:
        record(action=action, target=price.meter, tenant=price.tenant.schema_name, **change)
    record(action=action, target=price.meter, **change)
