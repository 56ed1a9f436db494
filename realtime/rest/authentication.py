"""Whose request it is: ``Authorization: Bearer`` with an API key or an access token, else the session of a person who
is signed in; and nothing that a caller may choose beside it.

A key that is known in Redis costs no query; what the request counts, one round trip more.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.http import HttpRequest
from django_tenants.utils import schema_context

from realtime.rest.errors import ApiError
from realtime.rest.people import find_person
from realtime.rest.ports import installed
from realtime.runtime.door import END_USER_HEADER, Refusal, check_end_user, mask
from realtime.runtime.door import find_key as find_bearer
from realtime.runtime.keys import TooManyUnknown
from realtime.runtime.passes import MESSAGES, Pass
from tenants.addresses import request_address
from tenants.keys.credential import Credential, Kind
from tenants.keys.operations import note_address
from tenants.keys.refusals import AddressRefused, InvalidKey, KeyRefused, ScopeMissing
from tenants.limits.allowance import Party
from tenants.limits.counters import Answer
from tenants.limits.headers import openai_headers, retry_headers, tightest_of
from tenants.limits.queries import end_user_limits
from tenants.limits.throttle import access_note
from tenants.permissions import Scope
from tenants.principal import Principal

Read = TypeVar("Read")

NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY)."
)
KEY_HEADERS = ("authorization", "api-key")
KINDS = {
    "requests_per_minute": ("requests", "requests per min (RPM)"),
    "tokens_per_minute": ("tokens", "tokens per min (TPM)"),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """``tenant`` is the schema name, as in every Redis key; ``kind`` and ``key_id`` are those of the credential;
    ``agent`` the slug of the key's default agent, or empty. ``party`` is whose limits count."""

    tenant: str
    kind: Kind
    key_id: str
    agent: str
    party: Party
    entered: Pass
    scopes: frozenset[str] = frozenset()

    def require_open(self) -> None:
        """Long answers ask this on their way. Raises ApiError once the key opens nothing any more."""
        if self.entered.ended is not None:
            reason = self.entered.ended.reason
            raise ApiError(401, MESSAGES[reason], code=reason)


async def authenticate(request: HttpRequest, scope: Scope | None) -> KeyHolder:
    """Whose request it is, and that the request is within their limits; None asks for no scope in particular. Raises
    ApiError, LimitsUnavailable and django.db.Error."""
    address = request_address(request)
    person = await _find_person(request, address)
    secret = "" if person else await _find_secret(request, address)
    try:
        end_user = check_end_user(request.headers.get(END_USER_HEADER, ""))
    except Refusal as refusal:
        raise ApiError(400, refusal.message, code=refusal.code) from refusal
    try:
        credential = person or await installed().keys.find(secret, address)
        credential.require(scope, address)
    except TooManyUnknown as refusal:
        raise too_many(refusal.answer) from refusal
    except (ScopeMissing, AddressRefused) as refusal:
        words = refusal.message
        if isinstance(refusal, ScopeMissing):
            words = f"You have insufficient permissions for this operation. Missing scopes: {scope}."
        raise ApiError(403, words, code=refusal.code) from refusal
    except KeyRefused as refusal:
        words = refusal.message if type(refusal) is not InvalidKey else f"Incorrect API key provided: {mask(secret)}."
        raise ApiError(401, words, code=refusal.code) from refusal
    limits = await _read_end_user_limits(credential, end_user)
    party = credential.party(end_user, limits)
    await _count(request, credential, party, scope, address)
    entered = installed().passes.enter((credential.kind, credential.tenant, credential.id, scope or ""))
    scopes = credential.scopes
    return KeyHolder(credential.tenant, credential.kind, credential.id, credential.agent, party, entered, scopes)


async def _find_person(request: HttpRequest, address: str) -> Credential | None:
    """Whose session came with the request; a key beside it counts before any cookie. Raises ApiError and
    LimitsUnavailable."""
    if any(name in request.headers for name in KEY_HEADERS):
        return None
    try:
        return await find_person(request)
    except ApiError:
        await count_anonymous(address)
        raise


async def _find_secret(request: HttpRequest, address: str) -> str:
    """The key or token that came with the request. Raises ApiError and LimitsUnavailable."""
    try:
        return find_bearer({name: request.headers.get(name, "") for name in KEY_HEADERS}, ())
    except Refusal as refusal:
        await count_anonymous(address)
        raise ApiError(401, NO_KEY) from refusal


async def count_anonymous(address: str) -> None:
    """A request without a key, or for an address that does not exist. Raises ApiError and LimitsUnavailable."""
    ports = installed()
    answer = await ports.limiter.ask([ports.anonymous(address)])
    if answer.refused is not None:
        raise too_many(answer)


async def _read_end_user_limits(credential: Credential, end_user: str) -> dict[str, int]:
    if not end_user:
        return {}
    found: dict[str, int] = await database_sync_to_async(_read_in_tenant)(
        credential.tenant, lambda: end_user_limits(end_user)
    )
    return found


async def _count(request: Any, credential: Credential, party: Party, scope: Scope | None, address: str) -> None:
    """One request; the answer tells what is left. Raises ApiError and LimitsUnavailable."""
    counters = party.counters("requests_per_minute", 1)
    if scope == Scope.SPEECH:
        counters += party.counters("audio_minutes_per_day", 1)
    shown = party.counters("tokens_per_minute", 0, refuses=False)
    note = access_note(party.tenant, party.key_id, address)
    answer = await installed().limiter.ask([*counters, *shown, note])
    request.limit_headers = openai_headers(answer.standings)
    if answer.refused is not None:
        raise too_many(answer)
    if answer.standings[-1].used and credential.kind == "key":
        who = Principal("key", credential.id, credential.name, credential.tenant, credential.scopes, address)
        await note_use(who)


async def note_use(principal: Principal) -> None:
    """For the audit: a key came from a new address. Without a database it is only logged."""
    try:
        await database_sync_to_async(note_address)(principal=principal)
    except DatabaseError as error:
        log.warning("the use of key %s from a new address is not in the audit: %s", principal.id, type(error).__name__)


def too_many(answer: Answer) -> ApiError:
    """A refusal in OpenAI's words."""
    refused = answer.refused
    assert refused is not None  # noqa: S101 - only refusals have words
    kind, title = KINDS.get(refused.name, ("requests", refused.name))
    standing = tightest_of([one for one in answer.standings if one.counter == refused], refused.name)
    used = standing.used if standing is not None else refused.limit
    headers = retry_headers(answer)
    return ApiError(
        429,
        f"Rate limit reached on {title}: Limit {refused.limit}, Used {used}, Requested {refused.cost}. "
        f"Please try again in {headers['Retry-After-Ms']}ms.",
        code="rate_limit_exceeded",
        kind=kind,
        headers=headers,
    )


async def read_in_tenant(holder: KeyHolder, read: Callable[[], Read]) -> Read:
    """What ``read`` gives inside the tenant's schema and one transaction."""
    found: Read = await database_sync_to_async(_read_in_tenant)(holder.tenant, read)
    return found


def _read_in_tenant(tenant: str, read: Callable[[], Read]) -> Read:
    with schema_context(tenant), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = %s", [settings.POSTGRES_READ_TIMEOUT_MS])
        return read()
