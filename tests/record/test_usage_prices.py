"""The price book: which price holds when and for whom, and that a past day's cost stays what it was."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from django.utils import timezone
from django_tenants.utils import tenant_context

from tenants.audit.models import Entry as AuditEntry
from tenants.keys.operations import issue_key
from tenants.lifecycle.platform_keys import issue_platform_key
from tenants.permissions import Scope
from tenants.prices.models import Price
from tenants.prices.operations import PriceInForce, PriceRefused, set_price, withdraw_price
from tenants.usage import queries
from tenants.usage.operations import Use, store_uses
from tests.record.people import PLATFORM, Person
from tests.record.world import Api, World

DAY = date(2026, 11, 10)


def put(**fields: Any) -> Price:
    """A row of the book as it stands, whatever the day."""
    return Price.objects.create(
        **{"meter": "llm_tokens_in", "currency": "EUR", "per": 1_000_000, "effective_from": date(2026, 1, 1), **fields}
    )


def cost(world: World, *uses: tuple[date, str, str, int], house: str = "alpha") -> queries.Sum:
    """What these uses (day, provider, model, tokens in) cost the tenant."""
    with tenant_context(getattr(world, house).tenant):
        store_uses(
            Use(
                at=datetime(day.year, day.month, day.day, 23, 59, tzinfo=UTC), session_id="sess_p", source=str(number),
                quantities={"llm_tokens_in": Decimal(tokens)}, provider=provider, model=model,
            )
            for number, (day, provider, model, tokens) in enumerate(uses)
        )  # fmt: skip
        [total] = queries.add_up("total", first=date(2026, 1, 1), last=date(2026, 12, 31))
        return total


def test_without_a_price_a_use_is_counted_and_said_to_be_unpriced(world: World) -> None:
    total = cost(world, (DAY, "openai", "m", 5))
    assert (total.quantities, total.costs, total.unpriced) == ({"llm_tokens_in": Decimal(5)}, {}, {"llm_tokens_in"})


def test_each_use_has_the_price_of_its_own_day(world: World) -> None:
    put(amount=Decimal(1))
    put(amount=Decimal(2), effective_from=DAY)
    put(amount=Decimal(4), effective_from=DAY + timedelta(days=1))
    days = [DAY - timedelta(days=1), DAY, DAY + timedelta(days=1), DAY + timedelta(days=9)]
    assert cost(world, *[(day, "openai", "m", 1_000_000) for day in days]).costs == {"EUR": Decimal("11.000000")}


def test_the_tenants_own_price_goes_first_then_the_model_then_the_provider(world: World) -> None:
    put(amount=Decimal(1))
    assert cost(world, (DAY, "openai", "m", 1_000_000)).costs == {"EUR": Decimal(1)}
    put(amount=Decimal(2), provider="openai")
    assert _again(world) == Decimal(2)
    put(amount=Decimal(3), provider="openai", model="m")
    assert _again(world) == Decimal(3)
    put(amount=Decimal(4), provider="openai", model="other")
    assert _again(world) == Decimal(3)
    put(amount=Decimal(5), tenant=world.beta.tenant, provider="openai", model="m")
    assert _again(world) == Decimal(3)
    put(amount=Decimal(6), tenant=world.alpha.tenant)
    assert _again(world) == Decimal(6)
    put(amount=None, tenant=world.alpha.tenant, effective_from=DAY)
    assert _again(world) == Decimal(3), "taken out: the next rule holds"
    assert cost(world, (DAY, "openai", "m", 1_000_000), house="beta").costs == {"EUR": Decimal(5)}


def _again(world: World) -> Decimal:
    with tenant_context(world.alpha.tenant):
        [total] = queries.add_up("total", first=DAY, last=DAY)
        return total.costs["EUR"]


def test_nothing_is_rounded_before_the_end(world: World) -> None:
    put(amount=Decimal("0.000000001"), per=3)
    total = cost(world, *[(DAY + timedelta(days=day), "p", f"m{model}", 1) for day in range(10) for model in range(30)])
    assert total.costs == {"EUR": queries.to_amount(Fraction(300) * Fraction(Decimal("0.000000001")) / 3)}
    put(amount=Decimal("333333333.333333333"), per=1, effective_from=date(2026, 2, 1))
    assert total.costs == {"EUR": Decimal("0.000000")}
    with tenant_context(world.alpha.tenant):
        [total] = queries.add_up("total", first=date(2026, 1, 1), last=date(2026, 12, 31))
    assert total.costs == {"EUR": Decimal("99999999999.999999900").quantize(Decimal("0.000001"))}


def test_currencies_are_not_mixed(world: World) -> None:
    put(amount=Decimal(1), provider="a")
    put(amount=Decimal(2), provider="b", currency="USD")
    total = cost(world, (DAY, "a", "m", 1_000_000), (DAY, "b", "m", 1_000_000))
    assert total.costs == {"EUR": Decimal(1), "USD": Decimal(2)}


def today() -> date:
    return timezone.now().astimezone(UTC).date()


def test_a_price_in_force_stays(world: World) -> None:
    with pytest.raises(PriceRefused, match="today"):
        set_price(meter="llm_tokens_in", currency="EUR", amount=Decimal(1), effective_from=today() - timedelta(days=1))
    held = set_price(meter="llm_tokens_in", currency="EUR", amount=Decimal(1), effective_from=today())
    with pytest.raises(PriceInForce):
        withdraw_price(price=held)
    with pytest.raises(PriceRefused, match="already"):
        set_price(meter="llm_tokens_in", currency="EUR", amount=Decimal(2), effective_from=today())
    coming = set_price(
        meter="llm_tokens_in", currency="EUR", amount=Decimal(2), effective_from=today() + timedelta(days=1)
    )
    withdraw_price(price=coming)
    assert list(Price.objects.values_list("amount", flat=True)) == [Decimal(1)]
    assert list(AuditEntry.objects.filter(action__startswith="price.").values_list("action", flat=True)) == [
        "price.withdrawn", "price.set", "price.set",
    ]  # fmt: skip


@pytest.fixture
def operator(world: World) -> Api:
    _, secret = issue_platform_key(name="tests", scopes=[Scope.PLATFORM_PLANS])
    return Api(secret)


def new(**fields: Any) -> dict[str, Any]:
    return {
        "meter": "llm_tokens_in", "currency": "EUR", "amount": "0.15", "per": 1_000_000,
        "effective_from": str(today()), **fields,
    }  # fmt: skip


def test_an_operator_keeps_the_book(world: World, operator: Api) -> None:
    status, answer = operator("POST", "prices/", new(tenant="alpha", provider="openai", model="gpt-4o-mini"))
    assert status == 201, answer
    price = answer["data"]
    assert (price["amount"], price["per"], price["tenant"]) == ("0.150000000", 1_000_000, "alpha")
    assert operator("GET", f"prices/{price['id']}/")[1]["data"] == price
    assert operator("POST", "prices/", new())[0] == 201
    assert [row["tenant"] for row in operator("GET", "prices/")[1]["data"]["results"]] == [None, "alpha"]
    assert len(operator("GET", "prices/?tenant=alpha")[1]["data"]["results"]) == 1
    assert len(operator("GET", "prices/?tenant=")[1]["data"]["results"]) == 1
    assert operator("GET", "prices/?meter=stt_seconds")[1]["data"]["results"] == []
    status, answer = operator("DELETE", f"prices/{price['id']}/")
    assert (status, answer["error"]["code"]) == (409, "price_in_force")
    later = operator("POST", "prices/", new(effective_from=str(today() + timedelta(days=3))))[1]["data"]
    assert operator("DELETE", f"prices/{later['id']}/") == (204, None)
    assert operator("GET", f"prices/{later['id']}/")[0] == 404
    with tenant_context(world.alpha.tenant):
        own = AuditEntry.objects.get(action="price.set")
        assert own.after["amount"] == "0.150000000"
        assert own.actor_kind == "operator"
    with tenant_context(world.beta.tenant):
        assert not AuditEntry.objects.filter(action="price.set").exists()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"meter": "minutes"}, "meter"),
        ({"meter": None}, "meter"),
        ({"currency": "eur"}, "currency"),
        ({"currency": "EURO"}, "currency"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": "Infinity"}, "amount"),
        ({"amount": "0.0000000001"}, "amount"),
        ({"amount": "1e12"}, "amount"),
        ({"amount": "much"}, "amount"),
        ({"per": 0}, "per"),
        ({"per": 10**10}, "per"),
        ({"per": 1.5}, "per"),
        ({"effective_from": "2020-01-01"}, "effective_from"),
        ({"effective_from": "tomorrow"}, "effective_from"),
        ({"model": "m"}, "provider"),
        ({"provider": "p" * 101}, "provider"),
        ({"tenant": "nobody"}, "tenant"),
        ({"tenant": 5}, "tenant"),
        ({"id": 7}, "id"),
        ({"valid_until": "2027-01-01"}, "valid_until"),
    ],
)
def test_a_wrong_price_is_refused_by_name(operator: Api, fields: dict[str, Any], param: str) -> None:
    status, answer = operator("POST", "prices/", new(**fields))
    assert status == 400, answer
    assert answer["error"]["param"] == param
    assert not Price.objects.exists()


ROUTES = [
    ("GET", "prices/", None),
    ("POST", "prices/", new()),
    ("GET", "prices/1/", None),
    ("DELETE", "prices/1/", None),
    ("GET", "tenants/alpha/stripe/", None),
    ("PUT", "tenants/alpha/stripe/", {"customer_id": "cus_1"}),
    ("DELETE", "tenants/alpha/stripe/", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_only_operators_reach_the_book(world: World, method: str, path: str, body: Any) -> None:
    for house in (world.alpha, world.beta):
        for someone in (house.owner, house.member):
            assert Person(someone, house.host).api(method, path, body)[0] == 403
        assert Api(house.key)(method, path, body)[0] == 403
    assert Person(world.outsider, PLATFORM).api(method, path, body)[0] == 403
    assert Api(None)(method, path, body)[0] == 401
    _, reader = issue_platform_key(name="audit only", scopes=[Scope.PLATFORM_AUDIT])
    assert Api(reader)(method, path, body)[0] == 403
    _, secret = issue_key(tenant=world.alpha.tenant, name="all")
    assert Api(secret)(method, path, body)[0] == 403
    assert Person(world.operator, PLATFORM).api(method, path, body)[0] in (200, 201, 204, 404)


def test_whom_stripe_bills(world: World, operator: Api) -> None:
    assert operator("GET", "tenants/alpha/stripe/")[0] == 404
    status, answer = operator("PUT", "tenants/alpha/stripe/", {"customer_id": "cus_alpha"})
    assert (status, answer["data"]["customer_id"]) == (200, "cus_alpha")
    began = answer["data"]["metered_from"]
    again = operator("PUT", "tenants/alpha/stripe/", {"customer_id": "cus_other"})[1]["data"]
    assert again == {"customer_id": "cus_other", "metered_from": began}
    status, answer = operator("PUT", "tenants/beta/stripe/", {"customer_id": "cus_other"})
    assert (status, answer["error"]["param"]) == (400, "customer_id")
    assert operator("DELETE", "tenants/alpha/stripe/") == (204, None)
    assert operator("DELETE", "tenants/alpha/stripe/")[0] == 404
    assert operator("GET", "tenants/nobody/stripe/")[0] == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "customer_id"),
        ({"customer_id": "alpha"}, "customer_id"),
        ({"customer_id": "cus_ä"}, "customer_id"),
        ({"customer_id": "cus_1", "metered_from": "now"}, "metered_from"),
        ({"customer_id": "cus_1", "tenant": "beta"}, "tenant"),
    ],
)
def test_a_wrong_customer_is_refused_by_name(operator: Api, body: dict[str, Any], param: str) -> None:
    status, answer = operator("PUT", "tenants/alpha/stripe/", body)
    assert (status, answer["error"]["param"]) == (400, param)
