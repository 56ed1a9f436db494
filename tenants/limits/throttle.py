"""Throttling of the platform API: one round trip to Redis for each request, and headers that tell what is left.

Programs count in their tenant's limits, and in their key's where it has lower ones. People count for themselves: what
the programs of a tenant do locks nobody out who came to stop them. Whoever brings no good key counts by IP address.
"""

import hashlib
from dataclasses import replace
from http import HTTPStatus

from django.conf import settings
from rest_framework.exceptions import APIException

from tenants.keys.networks import subscriber_of
from tenants.keys.operations import note_address
from tenants.limits.allowance import Allowance, Party, fingerprint
from tenants.limits.counter import Counter
from tenants.limits.counters import Answer, BlockingLimiter, LimitsUnavailable, blocking_limiter
from tenants.limits.headers import ratelimit_headers, retry_headers
from tenants.limits.names import MINUTE_S
from tenants.limits.queries import find_tenant, tenant_limits
from tenants.principal import Principal

REQUESTS = "requests_per_minute"
KNOWN_S = 3_600
"""How long a key is known to be good where it was good."""


class TooManyRequests(APIException):
    status_code = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, answer: Answer) -> None:
        self.headers = retry_headers(answer) | ratelimit_headers(answer)
        super().__init__(refusal_words(answer), "rate_limit_exceeded")


class Unavailable(APIException):
    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    headers = {"Retry-After": "2"}

    def __init__(self) -> None:
        super().__init__("The server cannot count requests at the moment; try again shortly.", "service_unavailable")


def limiter() -> BlockingLimiter:
    return blocking_limiter(settings.REDIS_URL, settings.REDIS_WRITE_TIMEOUT_S)


def refuse_guesses(brought: bytes, address: str) -> None:
    """Before what was brought (the header ``Authorization``) is looked up. Raises TooManyRequests and Unavailable."""
    counter = anonymous_counter(address)
    try:
        if limiter().ask([replace(counter, cost=0, kind="charge")]).standings[0].remaining:
            return
        if limiter().is_noted(known_note(brought, address)):
            return
    except LimitsUnavailable as error:
        raise Unavailable from error
    throttle(None, address)


def throttle(principal: Principal | None, address: str, brought: bytes = b"") -> dict[str, str]:
    """Counts one request, and notes that what was brought is good. Gives the headers for its answer; raises
    TooManyRequests and Unavailable."""
    counters = [anonymous_counter(address)] if principal is None else principal_counters(principal)
    notes = []
    if principal is not None and brought:
        notes.append(known_note(brought, address))
    if principal is not None and principal.kind == "key":
        notes.append(access_note(principal.tenant, principal.id, address))
    answer = require_room([*counters, *notes])
    if principal is not None and principal.kind == "key" and answer.standings[-1].used:
        note_address(principal=principal)
    return ratelimit_headers(answer)


def require_room(counters: list[Counter]) -> Answer:
    """Counts in all of them, or in none. Raises TooManyRequests and Unavailable."""
    try:
        answer = limiter().ask(counters)
    except LimitsUnavailable as error:
        raise Unavailable from error
    if answer.refused is not None:
        raise TooManyRequests(answer)
    return answer


def anonymous_counter(address: str) -> Counter:
    """Whoever brings no good key. Before the tenant is known, so no tenant is in its name."""
    return Counter(
        name="anonymous_requests_per_minute",
        level="address",
        key=f"avb:address:{fingerprint(subscriber_of(address))}:requests_per_minute",
        limit=settings.ANONYMOUS_REQUESTS_PER_MINUTE,
        window_s=MINUTE_S,
        cost=1,
    )


def known_note(brought: bytes, address: str) -> Counter:
    """This key, or access token, was good from this address. Before the tenant is known, so no tenant is in its name;
    it is asked for only to spare the database, and opens nothing."""
    key = hashlib.sha256(brought).hexdigest()[:32]
    return Counter(
        name="known",
        level="address",
        key=f"avb:address:{fingerprint(subscriber_of(address))}:known:{key}",
        limit=1,
        window_s=KNOWN_S,
        cost=0,
        kind="note",
    )


def access_note(tenant: str, key_id: str, address: str) -> Counter:
    """Whether a key comes from an address where it had not been seen for a while."""
    return Counter(
        name="access",
        level="key",
        key=f"avb:{tenant}:key:{key_id}:from:{fingerprint(subscriber_of(address))}",
        limit=1,
        window_s=settings.KEY_ACCESS_AUDIT_S,
        cost=0,
        kind="note",
    )


def principal_counters(principal: Principal) -> list[Counter]:
    """People count for themselves; operators, and people who act in no tenant, under the platform's name."""
    if principal.allowance is not None:
        party = Party(tenant=principal.tenant, key_id=principal.id, allowance=principal.allowance)
        return party.counters(REQUESTS, 1)
    tenant = find_tenant(principal.tenant) if principal.tenant else None
    limits = tenant_limits(tenant) if tenant else dict(settings.LIMITS)
    if principal.kind in ("person", "operator") or tenant is None:
        key = f"avb:{principal.tenant or 'platform'}:limit:{REQUESTS}:{principal.kind}:{fingerprint(principal.id)}"
        return [Counter(REQUESTS, "tenant", key, limits[REQUESTS], MINUTE_S, 1)]
    return Party(tenant=principal.tenant, key_id=principal.id, allowance=Allowance(tenant=limits)).counters(REQUESTS, 1)


def refusal_words(answer: Answer) -> str:
    refused = answer.refused
    assert refused is not None  # noqa: S101 - only refusals have words
    whose = {"tenant": "the tenant's", "key": "this key's", "end_user": "this end user's", "address": "your address's"}
    wait = retry_headers(answer)["Retry-After"]
    return f"Rate limit reached: {whose[refused.level]} {refused.name} is {refused.limit}. Try again in {wait} s."
