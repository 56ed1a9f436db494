"""Reading the price book. All of it reads the shared schema."""

from django.db.models import QuerySet

from tenants.models import Tenant
from tenants.prices.models import Price, StripeCustomer

RULES = """
    LEFT JOIN LATERAL (
        SELECT currency, amount, per FROM (
            SELECT DISTINCT ON (price.tenant_id, price.provider, price.model) price.*
            FROM public.prices_price AS price
            WHERE price.meter = kind.meter AND price.effective_from <= kind.day
                AND price.provider IN ('', kind.provider) AND price.model IN ('', kind.model)
                AND (price.tenant_id IS NULL OR price.tenant_id = (
                    SELECT id FROM public.tenants_tenant WHERE schema_name = current_schema()
                ))
            ORDER BY price.tenant_id, price.provider, price.model, price.effective_from DESC
        ) AS latest
        WHERE amount IS NOT NULL
        ORDER BY tenant_id IS NULL, provider = '', model = ''
        LIMIT 1
    ) AS rule ON TRUE
"""
"""Joins to each ``kind`` (day, meter, provider, model) the one price that holds, inside a tenant's schema: the
tenant's own before the one for all, then the model's, then the provider's, then the one for any; of each its latest
row as of that day, and where that takes the rule out, the next rule."""


class PriceUnknown(Exception):
    """The book has no such row."""

    def __init__(self, identity: int) -> None:
        super().__init__(f"There is no price {identity}.")
        self.message = str(self)


def list_prices(*, tenant: str | None = None, meter: str | None = None) -> QuerySet[Price]:
    """Newest first. ``tenant`` is a slug; the empty one asks for what holds for all."""
    found = Price.objects.select_related("tenant")
    if tenant is not None:
        found = found.filter(tenant__slug=tenant) if tenant else found.filter(tenant=None)
    if meter is not None:
        found = found.filter(meter=meter)
    return found


def find_price(identity: int) -> Price:
    """Raises PriceUnknown."""
    price = Price.objects.select_related("tenant").filter(pk=identity).first()
    if price is None:
        raise PriceUnknown(identity)
    return price


def find_stripe_customer(tenant: Tenant) -> StripeCustomer | None:
    return StripeCustomer.objects.filter(tenant=tenant).first()
